"""Exact conversion from float16 to float32, faster than NumPy's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 17
INFINITE = {2: 0x7C00, 4: 0x7F800000}
SIGN_AND_REST = np.int32(0x8FFFE000 - (1 << 32))
BIAS = np.float32(2.0**112)
SMALLEST = np.array([1 << 13], dtype=np.int32)

Widening = Callable[[NDArray[np.float16], NDArray[np.float32]], None]


def is_finite(values: NDArray[np.floating[Any]]) -> bool:
    """Returns whether all values are finite; ``values`` are contiguous float16 or float32."""
    bits: NDArray[np.unsignedinteger[Any]] = values.reshape(-1).view(f"u{values.itemsize}")
    mask = bits.dtype.type(INFINITE[values.itemsize])
    return not any(bool(((bits[i : i + PIECE] & mask) == mask).any()) for i in range(0, bits.size, PIECE))


def widen(values: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Writes finite float16 values into ``out`` as float32, exactly; both are flat and contiguous.

    The bits of each number move to their place in a float32. One multiplication then corrects the exponent's bias, also
    for subnormal numbers.
    """
    for start in range(0, values.size, PIECE):
        piece = out[start : start + PIECE]
        bits = piece.view(np.int32)
        np.copyto(bits, values[start : start + PIECE].view(np.int16))
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, SIGN_AND_REST, out=bits)
        np.multiply(piece, BIAS, out=piece)


def widen_slowly(values: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Does the same with NumPy's own conversion."""
    np.copyto(out, values)


def widening() -> Widening:
    """Returns the fastest conversion that is exact in this thread.

    A library built with -ffast-math makes the processor treat subnormal float32 numbers as zero in the whole thread.
    ``widen`` would then silently lose features below 6e-5.
    """
    keeps_subnormals = bool((SMALLEST.view(np.float32) * BIAS)[0] != 0)
    return widen if keeps_subnormals else widen_slowly
