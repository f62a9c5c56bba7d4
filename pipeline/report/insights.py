"""What `review`, `advise` and `compare` found out about a head's images and other choices, as a report shows it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from penult.pipeline.advising.advise import Advised, AdviseOptions, advise
from penult.pipeline.comparing.compare import Compared, CompareOptions, compare
from penult.pipeline.evaluation.measures import NAMES
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.head_card import HeadCard
from penult.pipeline.progress import Progress
from penult.pipeline.report import Comparison, CurvePoint, Group, Insights, Shown, Suspect
from penult.pipeline.reviewing.review import Reviewed, ReviewOptions, ToReview, review
from penult.store import Store

__all__ = ["comparison_of", "drawn_curve", "features_named", "insights_of", "reviewed_insights"]

PROBED_IMAGES = 1_000
"""Up to so many training images other features are tried by the way; `penult advise` tries them for any number."""


def insights_of(
    head: Head,
    store: Store,
    *,
    reviews: bool = True,
    advises: bool = True,
    compares: bool = False,
    progress: Progress | None = None,
) -> Insights:
    """Reviews the dataset that a head was trained on, by the features that it takes, advises, and compares others.

    A comparison may take minutes the first time; what was compared before is not computed again.
    """
    card, version, found = head.card, head.card.dataset_version, Insights()
    head.require_classes("a report")
    if reviews:
        options = ReviewOptions(version=version, target=card.target[0], next_images=0)
        asked = {"dataset": card.dataset, "features": features_named(card)}
        found = reviewed_insights(review(store, **asked, options=options, progress=progress))
    if advises:
        advised = _advised(card, store, progress)
        found = replace(found, learning_curve=drawn_curve(advised), advice=advised.advice)
    if compares:
        tried = CompareOptions(version=version, target=card.target[0], class_weight=card.params.get("class_weight"))
        table = comparison_of(compare(store, dataset=card.dataset, options=tried, progress=progress))
        found = replace(found, comparison=table)
    return found


def _advised(card: HeadCard, store: Store, progress: Progress | None) -> Advised:
    """Advises on the dataset of a head; a logistic head has chosen its C already."""
    chosen = card.params.get("C", card.params.get("C_"))
    is_known = card.kind == AdviseOptions.head and chosen is not None and not card.params.get("class_weight")
    options = AdviseOptions(
        version=card.dataset_version,
        target=card.target[0],
        task="classification",
        params={"C": chosen} if is_known else {},
        probe=AdviseOptions.probe if card.n_train <= PROBED_IMAGES else None,
    )
    return advise(store, dataset=card.dataset, features=features_named(card), options=options, progress=progress)


def drawn_curve(advised: Advised) -> tuple[CurvePoint, ...]:
    """Returns the points of a learning curve that are worth a drawing: two or more."""
    points = advised.measured.curve.points
    return points if len(points) > 1 else ()


def features_named(card: HeadCard) -> str:
    """Returns the features of a head in the words that `train`, `review` and `compare` take, and mean no other."""
    return ",".join(
        ":".join([space.fingerprint[:12], space.tap, *({space.view} - {"identity"}), space.dtype])
        for space in card.spaces
    )


def reviewed_insights(reviewed: Reviewed) -> Insights:
    """Returns the doubtful labels, the surest first, and the groups of like images."""
    suspects = [Suspect(one.path, one.label, one.suggested, one.score, one.split) for one in reviewed.of("label")]
    return Insights(
        leaks=_groups(reviewed.of("leak")),
        near_duplicates=_groups(reviewed.of("near-duplicate")),
        label_errors=sorted(suspects, key=lambda suspect: -suspect.probability),
    )


def _groups(found: Sequence[ToReview]) -> list[Group]:
    """Returns the groups, the most alike first."""
    grouped = [list(images) for _, images in groupby(found, key=lambda one: one.group)]
    grouped.sort(key=lambda images: -images[0].score)
    return [
        Group(
            [Shown(one.path, one.label, one.split) for one in images],
            f"their features have a cosine of {images[0].score:.3f} at least",
        )
        for images in grouped
    ]


def comparison_of(compared: Compared) -> Comparison:
    """Returns the table of a comparison, whose first row is the best."""
    rows = [
        [
            one.features,
            one.head,
            round(one.figure.value, 4),
            f"{one.figure.low:.3f} to {one.figure.high:.3f}",
            round(one.evaluation.log_loss, 4),
            round(one.fit_seconds, 2),
            "-" if one.extraction_ms is None else round(one.extraction_ms, 1),
            "best" if one is compared.best else "really worse" if one.is_worse else "not told apart",
        ]
        for one in compared.tries
    ]
    columns = (
        "features",
        "head",
        NAMES[compared.measure],
        "95 % interval",
        "log loss",
        "fit s",
        "extraction ms",
        "against the best",
    )
    return Comparison(columns, rows, 0 if compared.has_winner else None, compared.sentence)
