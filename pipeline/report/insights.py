"""Runs `review`, `advise` and `compare` for a head, and returns what they find in the form of a report."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from penult.defaults import MEASURES
from penult.pipeline.advising.advise import Advised, AdviseOptions, advise
from penult.pipeline.comparing.compare import Compared, CompareOptions, compare
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.head_card import HeadCard
from penult.pipeline.progress import Progress
from penult.pipeline.report import ComparisonTable, DoubtfulLabel, GroupImage, ImageGroup, Insights
from penult.pipeline.reviewing.review import Reviewed, ReviewItem, ReviewOptions, review
from penult.store import Store
from penult.store.features import features_text

__all__ = ["FINGERPRINT_DIGITS", "insights_of"]

# Other features are compared only for up to this many training images; `penult advise` compares them for any number.
PROBED_IMAGES = 1_000

# So many digits identify a fingerprint in a command.
FINGERPRINT_DIGITS = 12


def insights_of(
    head: Head,
    store: Store,
    *,
    reviews: bool = True,
    advises: bool = True,
    compares: bool = False,
    progress: Progress | None = None,
) -> Insights:
    """Returns a review, advice and a comparison for the dataset and the features of a head, as far as asked for.

    A comparison may take minutes the first time. Its results are cached.
    """
    card, version, found = head.card, head.card.dataset_version, Insights()
    features = features_text(card.spaces, digits=FINGERPRINT_DIGITS)
    head.require_classes("a report")
    if reviews:
        options = ReviewOptions(version=version, target=card.target[0], next_images=0)
        found = _reviewed(review(store, dataset=card.dataset, features=features, options=options, progress=progress))
    if advises:
        advised = _advised(card, features, store, progress)
        points = advised.measured.curve.points
        found = replace(found, learning_curve=points if len(points) > 1 else (), advice=advised.advice)
    if compares:
        rows = CompareOptions(version=version, target=card.target[0], class_weight=card.params.get("class_weight"))
        compared = compare(store, dataset=card.dataset, options=rows, progress=progress)
        found = replace(found, comparison=_comparison(compared))
    return found


def _advised(card: HeadCard, features: str, store: Store, progress: Progress | None) -> Advised:
    """Returns advice on the dataset of a head. The C of a logistic head is not searched again."""
    chosen = card.params.get("C", card.params.get("C_"))
    is_known = card.kind == AdviseOptions.head and chosen is not None and not card.params.get("class_weight")
    options = AdviseOptions(
        version=card.dataset_version,
        target=card.target[0],
        task="classification",
        params={"C": chosen} if is_known else {},
        probe=AdviseOptions.probe if card.n_train <= PROBED_IMAGES else None,
    )
    return advise(store, dataset=card.dataset, features=features, options=options, progress=progress)


def _reviewed(reviewed: Reviewed) -> Insights:
    """Returns the doubtful labels, the most probable first, and the groups of similar images."""
    suspects = [DoubtfulLabel(one.path, one.label, one.suggested, one.score, one.split) for one in reviewed.of("label")]
    return Insights(
        leaks=_groups(reviewed.of("leak")),
        near_duplicates=_groups(reviewed.of("near-duplicate")),
        label_errors=sorted(suspects, key=lambda suspect: -suspect.probability),
    )


def _groups(found: Sequence[ReviewItem]) -> list[ImageGroup]:
    """Returns the groups, the most similar first."""
    grouped = [list(images) for _, images in groupby(found, key=lambda one: one.group)]
    grouped.sort(key=lambda images: -images[0].score)
    return [
        ImageGroup(
            [GroupImage(one.path, one.label, one.split) for one in images],
            f"cosine similarity {images[0].score:.3f} or more",
        )
        for images in grouped
    ]


def _comparison(compared: Compared) -> ComparisonTable:
    """Returns the table of a comparison, with the best row first."""
    rows = [
        [
            one.features,
            one.head,
            round(one.figure.value, 4),
            f"{one.figure.low:.3f} to {one.figure.high:.3f}",
            round(one.evaluation.log_loss, 4),
            round(one.fit_seconds, 2),
            "-" if one.extraction_ms is None else round(one.extraction_ms, 1),
            compared.verdict_on(one),
        ]
        for one in compared.tries
    ]
    columns = (
        "features",
        "head",
        MEASURES[compared.measure],
        "95 % interval",
        "log loss",
        "fit s",
        "extraction ms",
        "against the best",
    )
    return ComparisonTable(columns, rows, 0 if compared.has_winner else None, compared.sentence)
