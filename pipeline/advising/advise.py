"""What to do next with a dataset: measured on its training images, and said in plain words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from penult.pipeline.advising.counsel import Advice, Commands, counsel
from penult.pipeline.advising.evidence import Measured, room_for_more, taps_of
from penult.pipeline.advising.learning_curve import SHARES, learning_curve, outlook
from penult.pipeline.advising.likeness import likeness
from penult.pipeline.comparing.compare import CompareOptions, compare
from penult.pipeline.heads.names import Task
from penult.pipeline.heads.numerics.folds import sample
from penult.pipeline.heads.out_of_fold import HeadPlan
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.samples.rows import Samples, choose_rows
from penult.pipeline.samples.targets import LABEL, labelled
from penult.store import Store, as_store
from penult.store.features import choose_spaces
from penult.store.tables.columns import missing_in

__all__ = ["AdviseOptions", "Advised", "advise"]


@dataclass(frozen=True)
class AdviseOptions:
    """The dataset's version and target, the head that is measured with its parameters, and the seed.

    ``task`` is as in `TrainOptions`. ``probe`` is the head that tries the features in the store beside each other; None
    tries none. At most ``most_rows`` training images are looked at, of each class the same share.
    """

    version: int | None = None
    target: str = LABEL
    task: Task | None = None
    head: str = HeadPlan.head
    params: Mapping[str, Any] = field(default_factory=dict)
    probe: str | None = "lda"
    most_rows: int = 20_000
    seed: int = HeadPlan.seed


@dataclass(frozen=True)
class Advised:
    """What was measured of a dataset, and the advice that follows from it, the most urgent first."""

    dataset: str
    version: int
    measured: Measured
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns what was measured and what is advised as plain data."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            **self.measured.to_json(),
            "advice": [asdict(one) for one in self.advice],
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
    """Measures whether more labels, other features or another network would help, and says what to do next.

    Only training images are used, each held out in turn: the test split is not touched. What is computed is kept in
    the store with the results of `compare`, so that a second call is quick, and the same call says the same.
    """
    options, progress = options or AdviseOptions(), progress or Silent()
    opened = as_store(store)
    table = labelled(opened.catalog.datasets.load(dataset, options.version), options.target, options.task)
    spaces = choose_spaces(opened, features, backbone)
    every = choose_rows(table).train
    train = _some(every, options.most_rows, options.seed)
    plan = HeadPlan(options.head, options.params, seed=options.seed)
    with progress.task("Learning curve", total=len(SHARES), unit="sizes") as task:
        curve = learning_curve(opened, spaces, train, plan, advance=task.advance)
    compared = None
    if options.probe is not None:
        asked = CompareOptions(version=options.version, target=options.target, task=options.task, seed=options.seed)
        compared = compare(opened, dataset=dataset, heads=[options.probe], options=asked, progress=progress)
    measured = Measured(
        spaces=tuple(space.spec for space in spaces),
        n_train=len(every),
        n_classes=len(set(every.labels.tolist())),
        n_unlabelled=0 if table.labels is None else int(missing_in(table.labels).sum()),
        curve=curve,
        outlook=outlook(curve.points, curve.tested),
        taps=taps_of(opened, spaces, every, compared),
        likeness=likeness(spaces, every.keys),
        room=room_for_more(train, curve),
    )
    return Advised(table.name, table.version, measured, counsel(measured, Commands(opened, table, options.target)))


def _some(train: Samples, most: int, seed: int) -> Samples:
    """Returns about as many samples as that, the same share of each class."""
    codes = np.unique(train.labels.astype(str), return_inverse=True)[1]
    rows = sample(codes, most, seed=seed)
    groups = None if train.groups is None else train.groups[rows]
    return Samples(train.keys[rows], train.labels[rows], tuple(train.paths[row] for row in rows), groups)
