"""Exact conversion from what is stored (float16) to what is computed with (float32), faster than numpy's own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 15
INFINITE = {2: 0x7C00, 4: 0x7F800000}
SIGN_AND_REST = np.int32(0x8FFFE000 - (1 << 32))
BIAS = np.float32(2.0**112)
SMALLEST = np.array([1 << 13], dtype=np.int32)


def is_finite(values: NDArray[np.floating[Any]]) -> bool:
    """Says whether no value is NaN or infinite; ``values`` are contiguous float16 or float32."""
    bits: NDArray[np.unsignedinteger[Any]] = values.reshape(-1).view(f"u{values.itemsize}")
    mask = bits.dtype.type(INFINITE[values.itemsize])
    return not any(bool(((bits[i : i + PIECE] & mask) == mask).any()) for i in range(0, bits.size, PIECE))


def keeps_subnormals() -> bool:
    """Says whether this thread computes with subnormal float32 numbers.

    Libraries built with -ffast-math switch the processor to treating them as zero, for every library in the thread.
    """
    return bool((SMALLEST.view(np.float32) * BIAS)[0] != 0)


def widen(values: NDArray[np.float16], out: NDArray[np.float32], scratch: NDArray[np.int32]) -> None:
    """Writes finite float16 values into ``out`` as float32, exactly.

    The bits of each half move to where a float32 has them, and one multiplication corrects the bias of the exponent,
    for subnormal numbers too. All arrays are flat and contiguous; ``scratch`` holds PIECE values.
    """
    if not keeps_subnormals():
        np.copyto(out, values)
        return
    for start in range(0, values.size, PIECE):
        piece = values[start : start + PIECE].view(np.int16)
        bits = scratch[: piece.size]
        np.copyto(bits, piece)
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, SIGN_AND_REST, out=bits)
        np.multiply(bits.view(np.float32), BIAS, out=out[start : start + piece.size])
