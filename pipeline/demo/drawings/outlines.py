"""Outlines as plain points, so that every shape of the drawings is one polygon.

A drawing lives in a square from -1 to 1 with y pointing down, whatever its size in pixels.
"""

from collections.abc import Sequence
from math import cos, pi, sin

Point = tuple[float, float]
Outline = list[Point]


def oval(centre: Point, radii: Point, *, start: float = 0.0, stop: float = 360.0) -> Outline:
    """Returns points on an ellipse from the angle ``start`` to ``stop`` in degrees, clockwise on the screen."""
    (x, y), (rx, ry) = centre, radii
    count = max(8, round(abs(stop - start) / 6))
    angles = [(start + (stop - start) * i / count) * pi / 180 for i in range(count + 1)]
    return [(x + rx * cos(a), y + ry * sin(a)) for a in angles]


def box(left: float, top: float, right: float, bottom: float, *, radius: float = 0.0) -> Outline:
    """Returns the outline of an upright rectangle, its corners rounded by ``radius``."""
    if not radius:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    corners = (
        (right - radius, top + radius, 270),
        (right - radius, bottom - radius, 0),
        (left + radius, bottom - radius, 90),
        (left + radius, top + radius, 180),
    )
    return [p for x, y, start in corners for p in oval((x, y), (radius, radius), start=start, stop=start + 90)]


def spline(points: Sequence[Point], *, steps: int = 8) -> Outline:
    """Returns an open smooth curve through ``points`` (Catmull-Rom).

    >>> spline([(0.0, 0.0), (1.0, 1.0)], steps=2)
    [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]
    """
    padded = [points[0], *points, points[-1]]
    curve: Outline = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for i in range(steps):
            t = i / steps
            curve.append((_between(t, p0[0], p1[0], p2[0], p3[0]), _between(t, p0[1], p1[1], p2[1], p3[1])))
    return [*curve, points[-1]]


def _between(t: float, a: float, b: float, c: float, d: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)


def mirrored(points: Sequence[Point]) -> Outline:
    """Returns ``points`` mirrored at the y axis and in opposite order, so that the two halves join.

    >>> mirrored([(1.0, 0.0), (2.0, 1.0)])
    [(-2.0, 1.0), (-1.0, 0.0)]
    """
    return [(-x, y) for x, y in reversed(points)]


def moved(points: Sequence[Point], by: Point, *, scale: float = 1.0, degrees: float = 0.0) -> Outline:
    """Returns ``points`` turned by ``degrees``, scaled, then shifted."""
    c, s = cos(degrees * pi / 180) * scale, sin(degrees * pi / 180) * scale
    return [(by[0] + c * x - s * y, by[1] + s * x + c * y) for x, y in points]
