"""The fast conversion equals NumPy's own bit for bit."""

import ctypes
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from penult.store.shards import cast
from penult.store.shards.cast import is_finite, widen, widen_slowly, widening

EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = EVERY_HALF[np.isfinite(EVERY_HALF)]


@pytest.mark.parametrize("count", [0, 1, 5, FINITE.size])
@pytest.mark.parametrize("piece", [7, cast.PIECE])
def test_every_finite_float16_converts_exactly(count: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cast, "PIECE", piece if count < 10 else max(piece, 1000))
    out = np.full(count, np.nan, dtype=np.float32)
    widen(FINITE[:count], out)
    assert np.array_equal(out.view(np.uint32), FINITE[:count].astype(np.float32).view(np.uint32))


def test_is_finite_finds_every_nan_and_infinity() -> None:
    for dtype, bits in ((np.float16, np.uint16), (np.float32, np.uint32)):
        values: NDArray[np.floating[Any]] = np.zeros(cast.PIECE + 10, dtype=dtype)
        assert is_finite(values)
        for place in (0, cast.PIECE - 1, cast.PIECE, cast.PIECE + 9):
            for wrong in (np.nan, np.inf, -np.inf):
                values[place] = wrong
                assert not is_finite(values)
            values[place] = np.finfo(dtype).max
        assert is_finite(values)
        values.view(bits)[3] |= bits(1)
        assert is_finite(values)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize != 16, reason="switches a bit of x86 processors")
def test_conversion_is_exact_in_a_thread_that_flushes_subnormals() -> None:
    libm = ctypes.CDLL("libm.so.6")
    environment = (ctypes.c_uint8 * 64)()
    results: list[object] = []

    def flushing() -> None:
        # The last word of fenv_t on x86-64 is MXCSR; bits 15 and 6 flush results and operands to zero.
        libm.fegetenv(environment)
        word = ctypes.cast(ctypes.addressof(environment) + 28, ctypes.POINTER(ctypes.c_uint32))
        word[0] |= 0x8040
        libm.fesetenv(environment)
        results.append(widening())
        out = np.empty(FINITE.size, dtype=np.float32)
        widening()(FINITE, out)
        results.append(out)

    thread = threading.Thread(target=flushing)
    thread.start()
    thread.join()
    if results[0] is widen:
        pytest.skip("the processor's flags could not be switched here")
    assert results[0] is widen_slowly
    assert widening() is widen
    assert np.array_equal(np.asarray(results[1]).view(np.uint32), FINITE.astype(np.float32).view(np.uint32))
