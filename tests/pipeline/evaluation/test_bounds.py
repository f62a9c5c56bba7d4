"""Each interval holds the true value nineteen times in twenty, and none is surer than its images allow."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from penult.pipeline.evaluation.bounds import balanced_accuracy_of, bounds_of, plain_bounds
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.evaluation.roc import area_under, outranked

CLASSES = ("ant", "bee", "wasp")
DRAWS = 200


def judged(n: int, seed: int, sharpness: float = 1.3) -> Evaluation:
    """Three classes, the third rare, seen through noise by a head that is surer than it should be."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    logits = sharpness * (rng.normal(size=(n, 3)) + 1.4 * np.eye(3)[labels])
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return evaluate(rng.integers(0, 256, (n, 16), np.uint8), labels, chances, CLASSES)


@pytest.fixture(scope="module")
def covered() -> dict[str, float]:
    """For each figure how often the interval of 250 images holds what 200,000 say."""
    whole = judged(200_000, 0)
    hits = dict.fromkeys(bounds_of(judged(250, 1)), 0)
    for seed in range(1, DRAWS + 1):
        for name, figure in bounds_of(judged(250, seed)).items():
            assert figure.value == getattr(judged(250, seed), name) if seed == 1 else True
            hits[name] += figure.low <= getattr(whole, name) <= figure.high
    return {name: count / DRAWS for name, count in hits.items()}


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "calibration_error"])
def test_an_interval_holds_the_true_value_as_often_as_it_says(covered: dict[str, float], name: str) -> None:
    assert 0.9 <= covered[name] <= 0.995


@pytest.mark.parametrize("n_classes", [2, 10, 40])
def test_the_mean_recall_of_many_good_classes_is_held_as_often_as_of_two(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    labels = np.repeat(np.arange(n_classes), 20)
    names = [f"class {code}" for code in range(n_classes)]
    held = 0
    for _ in range(DRAWS):
        called = np.where(rng.random(len(labels)) < 0.95, labels, (labels + 1) % n_classes)
        figure = balanced_accuracy_of(
            evaluate(np.zeros((len(labels), 16), np.uint8), labels, np.eye(n_classes)[called], names)
        )
        held += figure.low <= 0.95 <= figure.high
    assert held / DRAWS >= 0.9


def test_without_a_mistake_no_figure_is_sure() -> None:
    labels = np.array([0, 1, 2] * 10)
    chances = np.where(np.eye(3)[labels] > 0, 0.9, 0.05)
    found = bounds_of(evaluate(np.zeros((30, 16), np.uint8), labels, chances, CLASSES))
    for name in ("balanced_accuracy", "macro_f1", "roc_auc"):
        assert (found[name].value, found[name].high) == (1.0, 1.0)
        assert 0.6 < found[name].low < 0.95, name


def test_bounds_stand_beside_their_figures_and_an_unknown_area_has_none() -> None:
    plain = plain_bounds(judged(100, 3))
    assert {name.rpartition("_")[0] for name in plain} <= judged(100, 3).summary().keys()
    assert all(plain[f"{name}_low"] < plain[f"{name}_high"] for name in ("macro_f1", "log_loss", "roc_auc"))
    one_sided = evaluate(np.zeros((2, 16), np.uint8), [0, 0], np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), CLASSES)
    assert "roc_auc" not in bounds_of(one_sided)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_the_area_is_scikit_learns_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(300) < 0.3
    scores: NDArray[Any] = (rng.integers(0, levels, 300) / levels + 0.1 * positive).astype(np.float32)
    assert area_under(scores, positive) == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-12)
    shares = outranked(scores, positive)
    assert shares[positive].mean() == pytest.approx(shares[~positive].mean()), "both count the same pairs"
