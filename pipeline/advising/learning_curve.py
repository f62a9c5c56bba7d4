"""The learning curve: what a head is worth when it is fitted on growing parts of the training images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.comparing.cache import KeptResults
from penult.pipeline.evaluation.intervals import Interval, wilson
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, predict_out_of_fold, training_parts
from penult.pipeline.heads.scoring import predict_in_blocks
from penult.pipeline.samples.rows import Samples
from penult.store import Space, Store
from penult.store.features import gather

if TYPE_CHECKING:
    from penult.pipeline.heads.numerics.basis import Basis

__all__ = ["LEAST_POINTS", "SHARES", "LearningCurve", "Outlook", "learning_curve", "outlook"]


SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
"""The parts of the training images that the head is fitted on."""

LEAST_IMAGES = 50
"""With fewer training images the curve would be noise."""

LEAST_A_CLASS = 3
"""A part with fewer images a class (or groups, where there are any) says nothing of the curve's shape."""


@dataclass(frozen=True)
class CurvePoint:
    """The accuracy that ``n`` training images reach, and its interval."""

    n: int
    accuracy: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"a learning curve cannot have a point at {self.n} images", expected="1 or more")


@dataclass(frozen=True)
class LearningCurve:
    """The points, the smallest part first; each judges the same ``tested`` held-out training images.

    ``params`` were chosen once, on all training images. ``fitted`` is the accuracy of the head that was fitted on all
    images on these same; ``whole`` is what was said of them held out for the last point.
    """

    head: str
    params: Mapping[str, Any]
    points: tuple[CurvePoint, ...]
    tested: int
    fitted: float
    whole: OutOfFold = field(repr=False)


def learning_curve(
    store: Store,
    spaces: Sequence[Space],
    train: Samples,
    plan: HeadPlan,
    *,
    advance: Callable[[], None] = lambda: None,
) -> LearningCurve:
    """Measures the head of ``plan`` at growing parts of the training images, every image held out once for each.

    The parts are stratified by class, groups stay together as far as that goes, and each part holds the smaller ones.
    Of few images there is only the last point. `logistic` chooses its C once, on all training images, and knows the
    axes of their features, which no label is needed for: anew for each part they would take nine tenths of the time.
    """
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    names, codes = np.unique(train.labels.astype(str), return_inverse=True)
    X = gather(spaces, train.keys)
    recipe = recipe_of(plan.head, HeadOptions(len(codes), len(names), X.shape[1], plan.seed), plan.params)
    descends = "start" in recipe.fit_arguments  # others would be wrong with axes that are not those of their very rows
    basis = _basis(store, spaces, train, X) if descends else None
    fitted = recipe.fit(X, codes, groups=train.groups, seed=plan.seed, basis=basis)
    right = predict_in_blocks(fitted.estimator.predict_proba, X).argmax(axis=1) == codes
    if descends:  # parts are too small for threads to be worth it
        plan = replace(plan, params={"n_jobs": 1, **plan.params, "C": fitted.params["C_"]})
    kept, results, sizes = KeptResults(store.path, train), [], _sizes(codes, train, plan)
    for one, _ in sizes:
        path = kept.path(spaces, one)
        result = kept.read(path, len(train), len(names))
        if result is None:
            result = predict_out_of_fold(X, codes, train.groups, one, basis=basis)
            kept.keep(path, result)
        results.append(result)
        advance()
    points = [_point(result, codes, rows) for result, (_, rows) in zip(results, sizes, strict=True)]
    whole = results[-1]
    return LearningCurve(
        plan.head, plan.params, tuple(points), int(whole.was_held_out.sum()), float(right.mean()), whole
    )


def _basis(store: Store, spaces: Sequence[Space], train: Samples, X: NDArray[np.float32]) -> "Basis | None":
    """Returns the axes of the rows, which training keeps; None where they are not of full rank."""
    from penult.pipeline.heads.basis_cache import BasisCache

    if len(X) <= X.shape[1]:
        return None
    shelf = BasisCache(store.path, [space.spec.id for space in spaces])
    basis = shelf.basis(train.keys, X, lambda keys: gather(spaces, keys), exact=True)
    return basis if basis.rank == X.shape[1] else None


def _sizes(codes: NDArray[np.intp], train: Samples, plan: HeadPlan) -> list[tuple[HeadPlan, int]]:
    """Returns the parts that say something, each with the mean number of images that are fitted on."""
    sizes = []
    for share in SHARES if len(train) >= LEAST_IMAGES else SHARES[-1:]:
        one = replace(plan, share=share)
        parts = training_parts(codes, train.groups, one)
        rows = round(sum(map(len, parts)) / max(1, len(parts)))
        units = min((len(part if train.groups is None else set(train.groups[part])) for part in parts), default=0)
        if share == 1 or units >= LEAST_A_CLASS * (int(codes.max()) + 1):
            sizes.append((one, rows))
    return sizes


def _point(result: OutOfFold, codes: NDArray[np.intp], rows: int) -> CurvePoint:
    told = result.was_held_out
    right = int((result.probabilities[told].argmax(axis=1) == codes[told]).sum())
    accuracy = wilson(right, int(told.sum()))
    return CurvePoint(rows, accuracy.value, accuracy.low, accuracy.high)


LEAST_POINTS = 3
"""A power law with a floor has three parameters."""

INEXACT = 0.002
"""No learning curve is quite a power law, however many images it was measured on."""

POWERS = np.linspace(0.1, 1.5, 15)
FLOORS = np.linspace(0, 1, 21)
NO_FLOOR = 10
"""How much more a law without a floor is believed beforehand than one with any single floor: a third of all laws."""

LEVELS = np.linspace(-4, 4, 17)


@dataclass(frozen=True)
class Outlook:
    """The accuracy that ``n`` training images would reach, how much more that is than now, and what none surpass.

    Each is the median of the power laws that the points allow, with the bounds of 95 % of them.
    """

    n: int
    accuracy: Interval
    gain: Interval
    limit: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the gain is known to two points either way."""
        return self.gain.high - self.gain.low <= 0.04


def outlook(points: Sequence[CurvePoint], tested: int, *, factor: float = 2) -> Outlook | None:
    """Follows the curve to ``factor`` times its last number of images; None where it has fewer than three points.

    The error is taken to be a floor and a power of the number of images that falls: floor + b * n ** -c. Every c from
    0.1 to 1.5, every floor from 0 to the last error and every last error near the measured one is weighed by how well
    it explains all points, each of which judged ``tested`` images.
    """
    if len(points) < LEAST_POINTS or not tested:
        return None
    last = points[-1]
    errors = np.array([1 - point.accuracy for point in points])
    spreads = np.sqrt(_smoothed(errors, tested) * (1 - _smoothed(errors, tested)) / tested + INEXACT**2)
    power, floor, level = (part.ravel() for part in np.meshgrid(POWERS, FLOORS, LEVELS, indexing="ij"))
    level = errors[-1] + level * spreads[-1]
    power, floor, level = (part[(level > 0) & (level < 1)] for part in (power, floor, level))
    floor = floor * level
    fall = level - floor
    ratios = np.array([point.n / last.n for point in points])
    told = floor + fall * ratios[:, np.newaxis] ** -power
    misfit = (((told - errors[:, np.newaxis]) / spreads[:, np.newaxis]) ** 2).sum(axis=0)
    weight = np.exp(-(misfit - misfit.min()) / 2) * np.where(floor > 0, 1, NO_FLOOR)
    ahead = floor + fall * factor**-power
    return Outlook(
        round(last.n * factor),
        _interval(1 - ahead, weight),
        _interval(level - ahead, weight),
        _interval(1 - floor, weight),
    )


def _smoothed(errors: NDArray[np.float64], tested: int) -> NDArray[np.float64]:
    """Returns the errors with one mistake and one hit more, so that none is sure to the last image."""
    smoothed: NDArray[np.float64] = (errors * tested + 1) / (tested + 2)
    return smoothed


def _interval(values: NDArray[np.float64], weight: NDArray[np.float64]) -> Interval:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    low, middle, high = (float(values[order][np.searchsorted(share, at)]) for at in (0.025, 0.5, 0.975))
    return Interval(middle, low, high)
