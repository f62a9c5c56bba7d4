"""Products cut into lanes give what plain products give, whatever the shapes."""

import numpy as np
import pytest

from penult.pipeline.heads.logistic.fold_losses import columns_of_rows, sums_of_rows


@pytest.mark.parametrize("n", [1, 31, 32, 33, 255, 300, 2048])
@pytest.mark.parametrize("width", [3, 64, 1280, 7000])
@pytest.mark.parametrize("n_columns", [1, 2, 10, 31, 70])
def test_lanes_change_no_product(n: int, width: int, n_columns: int) -> None:
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, width)).astype(np.float32)
    slopes = rng.normal(size=(width, n_columns)).astype(np.float32)
    weights = rng.normal(size=(n_columns, n)).astype(np.float32)
    scores, sums = columns_of_rows(rows, slopes), sums_of_rows(weights, rows)
    assert np.allclose(scores, (rows.astype(float) @ slopes).T, atol=1e-5 * width**0.5 * 10)
    assert np.allclose(sums, weights.astype(float) @ rows, atol=1e-5 * n**0.5 * 10)
    assert scores.flags.c_contiguous
