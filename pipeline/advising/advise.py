"""Measures a dataset on its training images, and advises what to do next."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penult.pipeline.advising.advice import Advice, Commands, advice_on
from penult.pipeline.advising.imagenet_distance import imagenet_distance
from penult.pipeline.advising.learning_curve import SHARES, extrapolate, learning_curve
from penult.pipeline.advising.measurements import Measured, headroom_of, taps_of
from penult.pipeline.advising.options import AdviseOptions
from penult.pipeline.comparing.compare import compare
from penult.pipeline.comparing.held_out import HeldOutCache, stratified_part
from penult.pipeline.comparing.options import CompareOptions
from penult.pipeline.heads.out_of_fold import HeadPlan
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.rows import choose_rows
from penult.pipeline.samples.targets import labelled
from penult.store import Store, as_store
from penult.store.features import choose_spaces
from penult.store.tables.columns import missing_in

__all__ = ["AdviseOptions", "Advised", "advise"]


@dataclass(frozen=True)
class Advised:
    """What was measured of a dataset, and the advice that follows from it, the most important first."""

    dataset: str
    version: int
    measured: Measured
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the measurements and the advice as plain data."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            **self.measured.to_json(),
            "advice": [asdict(each) for each in self.advice],
        }


def advise(
    store: Store | str | Path,
    *,
    dataset: str,
    features: str = "penultimate",
    backbone: str | None = None,
    options: AdviseOptions | None = None,
    progress: Progress | None = None,
) -> Advised:
    """Measures whether more labels, other features or another network would help, and advises what to do next.

    Only training images are used, each held out in turn; the test split is not. Results are cached in the store
    together with those of `compare`, so a second call is fast. The same call gives the same advice.
    """
    options, progress = options or AdviseOptions(), progress or Silent()
    opened = as_store(store)
    table = labelled(opened.catalog.datasets.load(dataset, options.version), options.target, options.task)
    spaces = choose_spaces(opened, features, backbone)
    train = choose_rows(table).train
    cache = HeldOutCache(opened, stratified_part(train, options.most_rows, seed=options.seed))
    plan = HeadPlan(options.head, options.params, seed=options.seed)
    with progress.task("Learning curve", total=len(SHARES), unit="sizes") as task:
        curve = learning_curve(cache, spaces, plan, advance=task.advance)
    compared = None
    if options.probe is not None:
        rows = CompareOptions(version=options.version, target=options.target, task=options.task, seed=options.seed)
        compared = compare(opened, dataset=dataset, heads=[options.probe], options=rows, progress=progress)
    measured = Measured(
        spaces=tuple(space.spec for space in spaces),
        n_train=len(train),
        n_classes=len(set(train.labels.tolist())),
        n_unlabelled=0 if table.labels is None else int(missing_in(table.labels).sum()),
        curve=curve,
        extrapolation=extrapolate(curve.points, curve.tested),
        taps=taps_of(opened, spaces, train, compared),
        distance=imagenet_distance(spaces, train.keys),
        headroom=headroom_of(cache, curve),
    )
    return Advised(table.name, table.version, measured, advice_on(measured, Commands(opened, table, options.target)))
