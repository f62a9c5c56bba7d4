"""The metrics are equal to scikit-learn's, and unusual splits are described in sentences."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from penult.errors import InputError
from penult.pipeline.evaluation.evaluation import Evaluation, evaluate
from penult.pipeline.evaluation.intervals import paired_difference, sign_test, wilson
from penult.pipeline.evaluation.measures import lead_of

CLASSES = ("ant", "bee", "wasp")


def keys_of(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (n, 16), dtype=np.uint8)


def drawn(n: int = 400, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    logits = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = np.exp(logits)
    return labels, (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)


def test_every_metric_is_equal_to_scikit_learns() -> None:
    labels, probabilities = drawn()
    result = evaluate(keys_of(400), labels, probabilities, CLASSES)
    predicted = probabilities.argmax(axis=1)
    normalised = probabilities / probabilities.astype(float).sum(axis=1, keepdims=True)
    assert result.accuracy.value == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert result.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert result.log_loss == pytest.approx(metrics.log_loss(labels, normalised), rel=1e-6)
    assert result.roc_auc == pytest.approx(metrics.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert np.array_equal(result.confusion, metrics.confusion_matrix(labels, predicted))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    for i, score in enumerate(result.per_class):
        assert (score.precision, score.recall.value, score.f1) == pytest.approx((precision[i], recall[i], f1[i]))
        assert score.support == support[i]
    assert result.majority_accuracy == np.bincount(labels).max() / 400
    assert result.statements == ()


def test_names_and_indices_give_the_same_evaluation() -> None:
    labels, probabilities = drawn()
    by_index = evaluate(keys_of(400), labels, probabilities, CLASSES)
    by_name = evaluate(keys_of(400), [CLASSES[i] for i in labels], probabilities, CLASSES)
    assert by_index.to_json() == by_name.to_json()


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.tile(np.array([0.9, 0.1, 0.0], np.float32), (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    result = evaluate(keys_of(10), labels, sure, CLASSES)
    assert result.calibration_error == pytest.approx(0.3, abs=1e-6)
    assert [(b.count, b.accuracy) for b in result.reliability] == [(10, 0.6)]


def test_only_a_well_calibrated_head_has_a_small_calibration_error() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([1, 1, 1], 20000).astype(np.float32)
    labels = np.array([rng.choice(3, p=row.astype(float) / row.astype(float).sum()) for row in probabilities])
    sharp = probabilities**4 / (probabilities**4).sum(axis=1, keepdims=True)
    assert evaluate(keys_of(20000), labels, probabilities, CLASSES).calibration_error < 0.02
    assert evaluate(keys_of(20000), labels, sharp, CLASSES).calibration_error > 0.1


def test_labels_that_are_not_in_the_training_set_are_left_out_and_reported() -> None:
    _, probabilities = drawn(4)
    predicted = probabilities.argmax(axis=1)
    names = [CLASSES[predicted[0]], "hornet", CLASSES[predicted[2]], "hornet"]
    result = evaluate(keys_of(4), names, probabilities, CLASSES)
    assert result.n == 2
    assert result.accuracy.value == 1.0
    assert result.unseen == {"hornet": 2}
    assert "2 of 4 images have a label that is not in the training set (hornet: 2)" in result.statements[0]
    assert "If they count as wrong, the accuracy is 0.5000" in result.statements[0]


def test_a_class_without_test_images_has_no_auc_and_is_reported() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], np.float32)
    result = evaluate(keys_of(2), [0, 1], probabilities, CLASSES)
    assert result.roc_auc is None
    assert result.balanced_accuracy == 1.0
    assert result.statements == ("The split has no image of wasp, so their recall is unknown.",)


def test_a_sentence_names_only_a_few_of_a_thousand_classes() -> None:
    names = [f"class {i:04}" for i in range(1000)]
    keys = np.zeros((2, 16), np.uint8)
    chances = np.full((2, 1000), 1e-3)
    absent = evaluate(keys, ["class 0003", "class 0001"], chances, names)
    assert "The split has no image of class 0000, class 0002, " in absent.statements[0]
    assert "class 0009, 990 more, so their recall" in absent.statements[0]
    with pytest.raises(InputError, match=r"images of class 0000, .*class 0007, 992 more"):
        evaluate(keys, ["wasp", "bee"], chances, names)


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        ([], np.zeros((0, 3)), "no labelled test image"),
        (["hornet"], np.ones((1, 3)) / 3, "no test image has a label that is in the training set"),
        ([3], np.ones((1, 3)) / 3, "not an index of the classes"),
        ([0], np.full((1, 3), np.nan), "not finite"),
        ([0], np.ones((1, 2)) / 2, r"the shape \(1, 2\)"),
        ([0, 1], np.ones((1, 3)) / 3, "2 labels for 1 images"),
    ],
)
def test_invalid_input_raises(labels: list[str], probabilities: NDArray[np.float64], said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(keys_of(len(probabilities)), labels, probabilities, CLASSES)


def test_the_json_round_trips() -> None:
    labels, probabilities = drawn(20)
    plain = evaluate(keys_of(20), labels, probabilities, CLASSES).to_json()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert again["rows"][3]["label"] == labels[3]
    assert bytes.fromhex(again["rows"][3]["key"]) == keys_of(20)[3].tobytes()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_wilson_intervals_contain_the_true_share_95_percent_of_the_time(share: float) -> None:
    hits = np.random.default_rng(2).binomial(200, share, 4000)
    held = np.mean([wilson(int(h), 200).low <= share <= wilson(int(h), 200).high for h in hits])
    assert 0.93 < held < 0.985


def test_wilson_intervals_of_none_and_of_all() -> None:
    assert wilson(0, 0) == wilson(0, 0).__class__(0.0, 0.0, 1.0)
    assert wilson(50, 50).high == 1.0
    assert wilson(50, 50).low == pytest.approx(0.9286, abs=1e-4)


def pair(right_first: NDArray[np.bool_], right_second: NDArray[np.bool_]) -> tuple[Evaluation, Evaluation]:
    def scored(right: NDArray[np.bool_]) -> Evaluation:
        probabilities = np.where(right[:, None], np.array([1, 0], np.float32), np.array([0, 1], np.float32))
        return evaluate(keys_of(len(right)), np.zeros(len(right), int), probabilities, ("a", "b"))

    return scored(right_first), scored(right_second)


def test_the_lead_rests_on_the_images_that_only_one_head_gets_right() -> None:
    first = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False])
    second = np.array([False] * 8 + [True] * 2 + [True] * 5 + [False])
    lead = lead_of(*pair(first, second), "accuracy")
    assert lead == paired_difference(8, 2, 16)
    assert lead.value == pytest.approx(6 / 16)
    assert lead.low < 6 / 16 < lead.high


def test_equal_heads_differ_significantly_at_most_5_percent_of_the_time() -> None:
    rng = np.random.default_rng(4)
    called = [sign_test(int(b), 60 - int(b)) < 0.05 for b in rng.binomial(60, 0.5, 3000)]
    assert np.mean(called) < 0.055


def test_the_sign_test_takes_thousands_of_differing_images() -> None:
    assert sign_test(5000, 5000) == 1.0
    assert sign_test(5600, 5000) < 1e-7
    assert paired_difference(5600, 5000, 100_000).low > 0
