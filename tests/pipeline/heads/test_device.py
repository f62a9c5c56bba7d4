"""Training on a torch device equals training on the CPU, and a missing torch or device raises an error."""

import sys
from dataclasses import fields

import numpy as np
import pytest

from penult.errors import MissingExtraError, ProviderError
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.logistic.penalised import Penalised
from penult.pipeline.heads.numerics.basis import Basis, moments_of


def drawn(n: int, width: int, classes: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return (rng.normal(size=(n, width)) + rng.normal(size=(classes, width))[y] + shift).astype(np.float32), y


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_a_pass_on_a_device_equals_the_cpus(dtype: type, shift: float) -> None:
    pytest.importorskip("torch")
    X, y = drawn(400, 12, 3, shift)
    X = X.astype(dtype)
    problem = Penalised.of(X, y, Basis.of(X), np.array([1.0, 2.0, 0.5]))
    moved = problem.moved_to("cpu")
    object.__setattr__(moved.loss, "folds", np.arange(400) % 3)
    object.__setattr__(problem.loss, "folds", np.arange(400) % 3)
    models = np.random.default_rng(1).normal(size=(3, 3, problem.basis.rank + 1)) * 0.1
    for ours, theirs in zip(*(p.loss.evaluate(models, [None, 0, 2]) for p in (problem, moved)), strict=True):
        assert theirs.loss == pytest.approx(ours.loss, rel=1e-5)
        assert theirs.held_out == pytest.approx(ours.held_out, rel=1e-5)
        assert np.allclose(theirs.gradient, ours.gradient, atol=2e-5)


def test_a_head_trained_on_a_device_equals_the_cpus() -> None:
    pytest.importorskip("torch")
    X, y = drawn(9_000, 20, 3)
    here, there = LogisticPath().fit(X, y), LogisticPath(device="cpu").fit(X, y)
    assert there.C_ == here.C_
    assert there.objective_ == pytest.approx(here.objective_, rel=1e-5)
    assert np.allclose(there.predict_proba(X), here.predict_proba(X), atol=2e-3)


def test_moments_on_a_device_equal_the_cpus() -> None:
    pytest.importorskip("torch")
    from penult.pipeline.heads.logistic.device import moments_on

    X, _ = drawn(500, 20, 3, shift=100)
    for entry in fields(moments_of(X)):
        ours, theirs = getattr(moments_of(X), entry.name), getattr(moments_on("cpu", X), entry.name)
        assert np.allclose(theirs, ours, rtol=1e-9, atol=1e-6)


def test_the_error_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"Training on cuda needs torch.*penult\[torch\]"):
        LogisticPath(device="cuda").fit(*drawn(50, 4, 2))


def test_a_missing_device_raises_an_error() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ProviderError, match=r"cannot compute on 'cuda'.*omit the device"):
        LogisticPath(device="cuda").fit(*drawn(50, 4, 2))
