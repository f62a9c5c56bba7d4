"""Cards survive JSON unchanged, and every field of a card is validated."""

import json
from typing import Any

import pytest

from penult.errors import BackboneError, PenultError
from penult.exporters import Card, Decoding, Normalisation, Preprocessing, Tap, builtin_names
from penult.exporters.classes import imagenet_classes


def card(**changes: Any) -> dict[str, Any]:
    plain = Card(
        name="n",
        source="s",
        licence="l",
        preprocessing=Preprocessing(resize=(20, 30), crop=(16, 24), decoding=Decoding(draft=True)),
        normalisation=Normalisation("bgr", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        taps=(Tap("penultimate", "t", 7, "gem", flops=12), Tap("stage1", "u", 3, stage=1, reduction=2)),
        classes=("a", "b"),
        weights={"file": "w"},
        notes=("one",),
    ).to_json()
    return {**json.loads(json.dumps(plain)), **changes}


def test_a_card_survives_json() -> None:
    once = Card.from_json(card())
    assert json.loads(json.dumps(once.to_json())) == card()
    assert once.preprocessing.resize == (20, 30)
    assert once.taps[1] == Tap("stage1", "u", 3, stage=1, reduction=2)
    assert once.preprocessing.decoding.draft


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int8"}, "card.precision is 'int8'. Expected: one of fp32, fp16"),
        ({"speed": 3}, "card is \"['speed']\""),
        ({"taps": [{"name": "penultimate"}]}, "lacks tensor, width"),
        ({"taps": {}}, "Expected: a list"),
        ({"taps": [{"name": "penultimate", "tensor": "t", "width": True}]}, "card.taps.width is 'True'"),
        ({"taps": [{"name": "penultimate", "tensor": "t", "width": 0}]}, "a width above 0"),
        ({"taps": [{"name": "logits", "tensor": "t", "width": 1}]}, "none of them logits"),
        ({"classes": "abc"}, "card.classes is 'abc'"),
        ({"normalisation": {"mean": [1, 2]}}, "3 values"),
        ({"normalisation": {"std": [1, 0, 1]}}, "std above 0"),
        ({"normalisation": {"mean": [1, 2, float("nan")]}}, "float"),
        ({"preprocessing": {"resize": 1 << 40, "crop": [8, 8]}}, "side of 1099511627776 pixels"),
        ({"preprocessing": {"resize": 8, "crop": [9, 8]}}, "a crop that is not larger"),
        ({"preprocessing": {"resize": 8, "crop": [8, 8], "decoding": {"background": [0, 0, 256]}}}, "0 to 255"),
        ({"preprocessing": 5}, "Expected: an object"),
    ],
)
def test_an_error_names_the_wrong_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BackboneError) as caught:
        Card.from_json(card(**changes))
    assert message in str(caught.value)


def test_a_card_must_be_an_object() -> None:
    with pytest.raises(PenultError, match="an object with the fields"):
        Card.from_json([1])


def test_the_imagenet_classes_are_unique_and_in_order() -> None:
    names = imagenet_classes()
    assert len({name.lower() for name in names}) == 1000
    assert [names[i] for i in (0, 134, 207, 442, 517, 985)] == [
        "tench", "crane bird", "golden retriever", "bell cote", "crane", "daisy",
    ]  # fmt: skip


def test_listing_names_loads_no_numerical_library() -> None:
    import subprocess
    import sys

    heavy = ["torch", "onnx", "onnxruntime", "numpy", "PIL", "keras", "timm"]
    names = "from penult.exporters import Card, Hints, builtin_names, source_names; builtin_names(); source_names()"
    code = f"import sys; {names}; print(sorted(set({heavy}) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert builtin_names() == ("efficientnet-lite0",)
