"""Names in a sentence: the first few, and how many more there are."""

from collections.abc import Sequence

__all__ = ["shortlist"]

NAMED = 8


def shortlist(names: Sequence[str], most: int = NAMED) -> str:
    """Returns the names separated by commas, the rest of them as a number: a thousand classes are no sentence.

    >>> shortlist(["ant", "bee"]), shortlist(["a", "b", "c", "d"], most=2)
    ('ant, bee', 'a, b, 2 more')
    """
    rest = len(names) - most
    return ", ".join([*names[:most], *([f"{rest:,} more"] if rest > 0 else [])])
