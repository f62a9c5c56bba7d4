"""Whether one head is really better than another on the same images, or only luckier."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.evaluation.evaluation import Evaluation
from penult.pipeline.evaluation.intervals import Interval, paired_difference, two_sided

__all__ = ["Comparison", "mcnemar"]


@dataclass(frozen=True)
class Comparison:
    """Two heads on the same images: where only one of them is right, and what chance alone makes of it.

    ``difference`` is the first's accuracy less the second's, with the interval of Bonett and Price (2012).
    """

    n: int
    both_right: int
    only_first: int
    only_second: int
    both_wrong: int
    difference: Interval
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether chance alone makes such a difference less than one time in twenty."""
        return self.p_value < 0.05

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as plain JSON values."""
        return {
            "n": self.n,
            "both_right": self.both_right,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "both_wrong": self.both_wrong,
            "difference": self.difference.value,
            "difference_low": self.difference.low,
            "difference_high": self.difference.high,
            "p_value": self.p_value,
        }


def mcnemar(first: Evaluation, second: Evaluation) -> Comparison:
    """Compares two evaluations image by image (exact McNemar test); both must hold the same keys, in any order."""
    order_first, order_second = (np.argsort(_as_void(part.keys), kind="stable") for part in (first, second))
    if not np.array_equal(first.keys[order_first], second.keys[order_second]):
        raise InputError(
            f"the two evaluations rest on different images ({first.n} and {second.n})",
            expected="the same keys in both",
            remedy="evaluate both heads on one split of one dataset version",
        )
    right_first = (first.predicted == first.labels)[order_first]
    right_second = (second.predicted == second.labels)[order_second]
    only_first = int((right_first & ~right_second).sum())
    only_second = int((right_second & ~right_first).sum())
    both = int((right_first & right_second).sum())
    return Comparison(
        n=first.n,
        both_right=both,
        only_first=only_first,
        only_second=only_second,
        both_wrong=first.n - both - only_first - only_second,
        difference=paired_difference(only_first, only_second, first.n),
        p_value=two_sided(only_first, only_second),
    )


def _as_void(keys: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel()
