"""Sample keys: which image a row belongs to, whatever its file is called."""

from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError

KEY_BYTES = 16

Keys: TypeAlias = NDArray[np.uint8]
"""Many keys: an array (n, 16) of uint8."""


def key_of(data: bytes) -> bytes:
    """Returns the key of a file's bytes: the first 16 bytes of their SHA-256.

    >>> key_of(b"").hex()
    'e3b0c44298fc1c149afbf4c8996fb924'
    """
    return sha256(data).digest()[:KEY_BYTES]


def key_array(keys: Iterable[bytes] | Keys) -> Keys:
    """Returns many keys as one contiguous array (n, 16) of uint8, in the order given.

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
        raise InputError(f"A key has {len(wrong)} bytes", expected=f"{KEY_BYTES} bytes, as key_of() gives them")
    return np.frombuffer(b"".join(listed), dtype=np.uint8).reshape(-1, KEY_BYTES)


def halves(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Returns the keys as two integers each, whose order is the order of the bytes."""
    pairs = keys.view(">u8").astype(np.uint64)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def key_order(keys: Keys) -> NDArray[np.intp]:
    """Returns the stable order that sorts the keys bytewise."""
    high, low = halves(keys)
    order = np.argsort(high, kind="stable")
    sorted_high = high[order]
    if (sorted_high[1:] == sorted_high[:-1]).any():
        return np.lexsort((low, high))
    return order


def repeats(keys: Keys) -> NDArray[np.bool_]:
    """Marks each of the sorted ``keys`` that equals the one before it."""
    marks = np.zeros(len(keys), dtype=np.bool_)
    pairs = keys.view(np.uint64)
    marks[1:] = (pairs[1:] == pairs[:-1]).all(axis=1)
    return marks
