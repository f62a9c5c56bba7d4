"""The geometry of the charts: the position of each mark."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log

from penult.pipeline.advising.learning_curve import CurvePoint
from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.words import counted, percent, points


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    """One bin of the reliability diagram: its position, size and figures."""

    x: float
    y: float
    radius: float
    bar: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """The accuracy of the head by its confidence, in a square of 300 units."""

    dots: tuple[Dot, ...]
    verdict: str


def reliability_of(evaluation: Evaluation) -> Reliability:
    """Returns the diagram of an evaluation, and a sentence that explains it."""
    most = max(part.count for part in evaluation.reliability)
    dots = tuple(
        Dot(
            x=round(300 * part.confidence, 1),
            y=round(300 * (1 - part.accuracy), 1),
            radius=round(4 + 8 * (part.count / most) ** 0.5, 1),
            bar=round(40 * part.count / most, 1),
            confidence=part.confidence,
            accuracy=part.accuracy,
            count=part.count,
        )
        for part in evaluation.reliability
    )
    return Reliability(dots, _verdict(evaluation))


def overconfidence_of(evaluation: Evaluation) -> float:
    """Returns the mean confidence minus the accuracy: above 0 the head is overconfident."""
    return sum(part.count * (part.confidence - part.accuracy) for part in evaluation.reliability) / evaluation.n


def tolerance_of(evaluation: Evaluation) -> float:
    """Returns the largest overconfidence that a test of this size may show by chance, at least 2 points."""
    return max(0.02, (evaluation.accuracy.high - evaluation.accuracy.low) / 2)


def _verdict(evaluation: Evaluation) -> str:
    excess = overconfidence_of(evaluation)
    confidence = evaluation.accuracy.value + excess
    figures = (
        f"The mean confidence of the head is {percent(confidence)}, its accuracy {percent(evaluation.accuracy.value)}"
    )
    if abs(excess) <= tolerance_of(evaluation):
        return f"{figures}: on average its probabilities are well calibrated."
    if excess > 0:
        return f"{figures}: it is overconfident, and its probabilities are {points(excess)} too high."
    return f"{figures}: it is underconfident, and its probabilities are {points(excess)} too low."


@dataclass(frozen=True)
class Curve:
    """The learning curve in a drawing of 640 by 300 units: line, band of the interval, points and axes."""

    line: str
    band: str
    marks: tuple[tuple[float, float, CurvePoint], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    verdict: str


def curve_of(given: Sequence[CurvePoint]) -> Curve:
    """Returns the drawing of at least one point. The axis of the number of images is logarithmic."""
    curve = sorted(given, key=lambda point: point.n)
    bottom = min(0.9, floor(20 * min(point.low for point in curve)) / 20)
    first, last = log(curve[0].n), log(curve[-1].n)

    def x(n: int) -> float:
        return round(640 * (log(n) - first) / (last - first), 1) if last > first else 320.0

    def y(share: float) -> float:
        return round(300 * (1 - (share - bottom) / (1 - bottom)), 1)

    marks = tuple((x(point.n), y(point.accuracy), point) for point in curve)
    edge = [(x(point.n), y(point.high)) for point in curve] + [(x(point.n), y(point.low)) for point in reversed(curve)]
    step = 0.05 if bottom >= 0.7 else 0.1 if bottom >= 0.4 else 0.2
    shares = [i * step for i in range(ceil(bottom / step - 1e-9), round(1 / step) + 1)]
    return Curve(
        line=" ".join(f"{a},{b}" for a, b, _ in marks),
        band=" ".join(f"{a},{b}" for a, b in edge),
        marks=marks,
        across=_apart([Tick(x(point.n), f"{point.n:,}") for point in curve]),
        up=tuple(Tick(y(share), percent(round(share, 2), 0)) for share in shares),
        verdict=_gain(curve),
    )


def _apart(ticks: list[Tick]) -> tuple[Tick, ...]:
    """Removes labels that would overlap the next one; the last is always shown."""
    kept: list[Tick] = []
    for tick in reversed(ticks):
        if not kept or kept[-1].at - tick.at > 80:
            kept.append(tick)
    return tuple(reversed(kept))


def _gain(curve: list[CurvePoint]) -> str:
    if len(curve) < 2:
        return f"With {counted(curve[0].n, 'training image')} the accuracy is {percent(curve[0].accuracy)}."
    end = curve[-1]
    earlier = min(curve[:-1], key=lambda point: abs(log(point.n * 2 / end.n)))
    gain = end.accuracy - earlier.accuracy
    text = f"From {earlier.n:,} to {counted(end.n, 'training image')} the accuracy "
    text += "stayed the same. " if abs(gain) < 5e-4 else f"{'rose' if gain > 0 else 'fell'} by {points(gain)}. "
    if gain > (end.high - end.low) / 2:
        return text + "The curve is still rising: more labelled images should help."
    if gain > 0.005:
        return text + "This may be due to chance; more images may still help a little."
    return text + "The curve is flat here: more images of the same kind will probably change little."
