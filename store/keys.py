"""Keys: the hash of an image file's content, which identifies a row whatever the file is called."""

from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError

KEY_BYTES = 16

Keys: TypeAlias = NDArray[np.uint8]
"""Keys as an array (n, 16) of uint8."""

Halves: TypeAlias = NDArray[np.uint64]
"""The first or last eight bytes of keys, as integers."""

NO_KEYS: Halves = np.empty(0, dtype=np.uint64)


def key_of(data: bytes) -> bytes:
    """Returns the key of a file's bytes: the first 16 bytes of their SHA-256.

    >>> key_of(b"").hex()
    'e3b0c44298fc1c149afbf4c8996fb924'
    """
    return sha256(data).digest()[:KEY_BYTES]


def key_array(keys: Iterable[bytes] | Keys) -> Keys:
    """Returns keys as one contiguous array (n, 16) of uint8, in their order.

    >>> key_array([key_of(b"a"), key_of(b"b")]).shape
    (2, 16)
    """
    if isinstance(keys, np.ndarray):
        if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
            raise InputError(
                f"The keys are an array {keys.shape} of {keys.dtype}", expected=f"an array (n, {KEY_BYTES}) of uint8"
            )
        return np.ascontiguousarray(keys)
    listed = [bytes(key) for key in keys]
    if any(len(key) != KEY_BYTES for key in listed):
        wrong = next(key for key in listed if len(key) != KEY_BYTES)
        raise InputError(f"A key has {len(wrong)} bytes", expected=f"{KEY_BYTES} bytes, as from key_of()")
    return np.frombuffer(b"".join(listed), dtype=np.uint8).reshape(-1, KEY_BYTES)


def key_scalars(keys: Keys) -> NDArray[np.void]:
    """Returns each key as one value, for functions such as ``np.unique`` and ``np.isin``."""
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").ravel()


def halves(keys: Keys) -> tuple[Halves, Halves]:
    """Returns each key as two integers that sort like its bytes."""
    pairs = keys.view(">u8")
    return pairs[:, 0].astype(np.uint64), pairs[:, 1].astype(np.uint64)


def joined(high: Halves, low: Halves) -> Keys:
    """Returns the keys of two halves, the inverse of ``halves``.

    >>> keys = key_array([key_of(b"a"), key_of(b"b")])
    >>> bool((joined(*halves(keys)) == keys).all())
    True
    """
    pairs = np.empty((len(high), 2), dtype=">u8")
    pairs[:, 0], pairs[:, 1] = high, low
    return pairs.view(np.uint8)


def order_of(high: Halves, low: Halves) -> NDArray[np.intp]:
    """Returns the order that sorts keys bytewise; it is not stable."""
    order = np.argsort(high)
    ordered = high[order]
    if (ordered[1:] == ordered[:-1]).any():
        return np.lexsort((low, high))
    return order


def repeats(high: Halves, low: Halves) -> NDArray[np.bool_]:
    """Returns the mask of the sorted keys that equal the key before them."""
    marks = np.zeros(len(high), dtype=np.bool_)
    marks[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    return marks


def distinct(keys: Keys) -> Keys:
    """Returns the distinct keys, in the order of their first occurrence."""
    high, low = halves(keys)
    order = order_of(high, low)
    if not repeats(high[order], low[order]).any():
        return keys
    order = np.lexsort((low, high))
    first = order[~repeats(high[order], low[order])]
    return keys[np.sort(first)]


def no_keys() -> Keys:
    """Returns an empty array of keys."""
    return np.empty((0, KEY_BYTES), dtype=np.uint8)
