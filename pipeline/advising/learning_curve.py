"""The learning curve of a head on growing parts of the training images, and its extrapolation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.comparing.held_out import HeldOutCache
from penult.pipeline.evaluation.intervals import Interval, wilson
from penult.pipeline.heads.out_of_fold import HeadPlan, OutOfFold, training_parts
from penult.pipeline.heads.scoring import predict_in_blocks
from penult.store import Space
from penult.store.features import gather

if TYPE_CHECKING:
    from penult.pipeline.heads.numerics.basis import Basis

__all__ = ["SHARES", "CurvePoint", "Extrapolation", "LearningCurve", "extrapolate", "learning_curve"]

# The shares of the training images that the head is fitted on.
SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)

# With fewer training images the curve would be noise.
LEAST_IMAGES = 50

# A part with fewer images (or groups) per class does not show the shape of the curve.
LEAST_PER_CLASS = 3

# A power law with a floor has three parameters.
LEAST_POINTS = 3

# No learning curve is exactly a power law, however many images it was measured on.
INEXACT = 0.002

# The grid of power laws: exponents, floors as a share of the last error, and last errors in standard deviations.
POWERS = np.linspace(0.1, 1.5, 15)
FLOORS = np.linspace(0, 1, 21)
LEVELS = np.linspace(-4, 4, 17)

# The prior weight of laws without a floor, compared with those of one floor: a third of all laws have none.
NO_FLOOR = 10


@dataclass(frozen=True)
class CurvePoint:
    """The accuracy with ``n`` training images, and its interval."""

    n: int
    accuracy: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"a learning curve cannot have a point at {self.n} images", expected="1 or more")


@dataclass(frozen=True)
class LearningCurve:
    """The points, the smallest part first. All are measured on the same ``tested`` held-out training images.

    ``params`` were chosen once, on all training images. ``fitted`` is the accuracy on all images of a head that was
    fitted on them, and ``whole`` the held-out predictions of the last point.
    """

    head: str
    params: Mapping[str, Any]
    points: tuple[CurvePoint, ...]
    tested: int
    fitted: float
    whole: OutOfFold = field(repr=False)


def learning_curve(
    cache: HeldOutCache,
    spaces: Sequence[Space],
    plan: HeadPlan,
    *,
    advance: Callable[[], None] = lambda: None,
) -> LearningCurve:
    """Measures the head of ``plan`` on growing parts of the training images; each point holds out every image once.

    The parts are stratified by class, keep groups together as far as possible, and contain the smaller parts. With few
    images there is only the last point. `logistic` chooses C once, and uses the eigenbasis of all training images,
    which needs no labels. Computing both again for each part would take nine tenths of the time.
    """
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    codes, groups = cache.codes, cache.train.groups
    X = cache.features(spaces)
    recipe = recipe_of(plan.head, HeadOptions(len(codes), len(cache.names), X.shape[1], plan.seed), plan.params)
    descends = "start" in recipe.fit_arguments  # other heads need a basis of exactly the rows that they are fitted on
    basis = _basis(cache, spaces, X) if descends else None
    fitted = recipe.fit(X, codes, groups=groups, seed=plan.seed, basis=basis)
    correct = predict_in_blocks(fitted.estimator.predict_proba, X).argmax(axis=1) == codes
    if descends:  # the parts are too small for threads
        plan = replace(plan, params={"n_jobs": 1, **plan.params, "C": fitted.params["C_"]})
    points = []
    for part, n_images in _parts(codes, groups, plan):
        whole = cache.predictions(spaces, part, basis=basis)
        points.append(_point(whole, codes, n_images))
        advance()
    return LearningCurve(
        plan.head, plan.params, tuple(points), int(whole.was_held_out.sum()), float(correct.mean()), whole
    )


def _basis(cache: HeldOutCache, spaces: Sequence[Space], X: NDArray[np.float32]) -> "Basis | None":
    """Returns the eigenbasis of the rows, which training caches; None if it does not have full rank."""
    from penult.pipeline.heads.basis_cache import BasisCache

    if len(X) <= X.shape[1]:
        return None
    bases = BasisCache(cache.store.path, [space.spec.id for space in spaces])
    basis = bases.basis(cache.train.keys, X, lambda keys: gather(spaces, keys), exact=True)
    return basis if basis.rank == X.shape[1] else None


def _parts(codes: NDArray[np.intp], groups: NDArray[Any] | None, plan: HeadPlan) -> Iterator[tuple[HeadPlan, int]]:
    """Yields a plan for each part that is large enough, with the mean number of images that the head is fitted on."""
    for share in SHARES if len(codes) >= LEAST_IMAGES else SHARES[-1:]:
        part = replace(plan, share=share)
        folds = training_parts(codes, groups, part)
        n_units = min((len(rows if groups is None else set(groups[rows])) for rows in folds), default=0)
        if share == 1 or n_units >= LEAST_PER_CLASS * (int(codes.max()) + 1):
            yield part, round(sum(map(len, folds)) / max(1, len(folds)))


def _point(result: OutOfFold, codes: NDArray[np.intp], n_images: int) -> CurvePoint:
    held = result.was_held_out
    n_correct = int((result.probabilities[held].argmax(axis=1) == codes[held]).sum())
    accuracy = wilson(n_correct, int(held.sum()))
    return CurvePoint(n_images, accuracy.value, accuracy.low, accuracy.high)


@dataclass(frozen=True)
class Extrapolation:
    """The accuracy with ``n`` training images, its gain over now, and its limit with endless labels.

    Each is the weighted median over power laws that fit the points, with the bounds of 95 % of their weight.
    """

    n: int
    accuracy: Interval
    gain: Interval
    limit: Interval

    @property
    def is_sure(self) -> bool:
        """Whether the gain is known to within two percentage points."""
        return self.gain.high - self.gain.low <= 0.04


def extrapolate(points: Sequence[CurvePoint], tested: int, *, factor: float = 2) -> Extrapolation | None:
    """Extrapolates the curve to ``factor`` times its last number of images; None if it has fewer than three points.

    The error is modelled as floor + b * n ** -c. Laws on a grid (c from 0.1 to 1.5, floors from 0 to the last error,
    last errors near the measured one) are weighted by how well they fit all points, each measured on ``tested`` images.
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
    modelled = floor + fall * ratios[:, np.newaxis] ** -power
    misfit = (((modelled - errors[:, np.newaxis]) / spreads[:, np.newaxis]) ** 2).sum(axis=0)
    weight = np.exp(-(misfit - misfit.min()) / 2) * np.where(floor > 0, 1, NO_FLOOR)
    ahead = floor + fall * factor**-power
    return Extrapolation(
        round(last.n * factor),
        _interval(1 - ahead, weight),
        _interval(level - ahead, weight),
        _interval(1 - floor, weight),
    )


def _smoothed(errors: NDArray[np.float64], tested: int) -> NDArray[np.float64]:
    """Returns the errors with one mistake and one correct image added, so that no error is exactly 0 or 1."""
    smoothed: NDArray[np.float64] = (errors * tested + 1) / (tested + 2)
    return smoothed


def _interval(values: NDArray[np.float64], weight: NDArray[np.float64]) -> Interval:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    low, middle, high = (float(values[order][np.searchsorted(share, at)]) for at in (0.025, 0.5, 0.975))
    return Interval(middle, low, high)
