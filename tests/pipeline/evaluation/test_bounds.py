"""Each 95 % interval contains the true value 95 % of the time, also for perfect predictions."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from penult.pipeline.evaluation.bounds import balanced_accuracy_of, bounds_of, plain_bounds
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.evaluation.intervals import outranked

CLASSES = ("ant", "bee", "wasp")
DRAWS = 200


def evaluated(n: int, seed: int, sharpness: float = 1.3) -> Evaluation:
    """Returns noisy predictions of three classes, one of them rare, by an overconfident head."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    logits = sharpness * (rng.normal(size=(n, 3)) + 1.4 * np.eye(3)[labels])
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return evaluate(rng.integers(0, 256, (n, 16), np.uint8), labels, chances, CLASSES)


@pytest.fixture(scope="module")
def covered() -> dict[str, float]:
    """Returns for each metric how often the interval of 250 images contains the value of 200,000 images."""
    whole = evaluated(200_000, 0)
    hits = dict.fromkeys(bounds_of(evaluated(250, 1)), 0)
    for seed in range(1, DRAWS + 1):
        for name, figure in bounds_of(evaluated(250, seed)).items():
            assert figure.value == getattr(evaluated(250, seed), name) if seed == 1 else True
            hits[name] += figure.low <= getattr(whole, name) <= figure.high
    return {name: count / DRAWS for name, count in hits.items()}


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "calibration_error"])
def test_intervals_contain_the_true_value_95_percent_of_the_time(covered: dict[str, float], name: str) -> None:
    assert 0.9 <= covered[name] <= 0.995


@pytest.mark.parametrize("n_classes", [2, 10, 40])
def test_the_interval_of_the_balanced_accuracy_is_right_for_many_classes(n_classes: int) -> None:
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


def test_the_intervals_of_perfect_predictions_have_a_width() -> None:
    labels = np.array([0, 1, 2] * 10)
    chances = np.where(np.eye(3)[labels] > 0, 0.9, 0.05)
    found = bounds_of(evaluate(np.zeros((30, 16), np.uint8), labels, chances, CLASSES))
    for name in ("balanced_accuracy", "macro_f1", "roc_auc"):
        assert (found[name].value, found[name].high) == (1.0, 1.0)
        assert 0.6 < found[name].low < 0.95, name


def test_plain_bounds_are_named_after_their_metrics() -> None:
    plain = plain_bounds(evaluated(100, 3))
    assert {name.rpartition("_")[0] for name in plain} <= evaluated(100, 3).summary().keys()
    assert all(plain[f"{name}_low"] < plain[f"{name}_high"] for name in ("macro_f1", "log_loss", "roc_auc"))
    one_sided = evaluate(np.zeros((2, 16), np.uint8), [0, 0], np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), CLASSES)
    assert "roc_auc" not in bounds_of(one_sided)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_the_area_is_equal_to_scikit_learns_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(300) < 0.3
    scores: NDArray[Any] = (rng.integers(0, levels, 300) / levels + 0.1 * positive).astype(np.float32)
    shares = outranked(scores, positive)
    assert shares[positive].mean() == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-12)
    assert shares[positive].mean() == pytest.approx(shares[~positive].mean()), "both count the same pairs"
