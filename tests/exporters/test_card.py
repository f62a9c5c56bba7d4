"""The card is plain data: it survives JSON, and a stranger's is checked field by field."""

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
    ("changes", "said"),
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
        ({"preprocessing": {"resize": 8, "crop": [9, 8]}}, "a crop no larger"),
        ({"preprocessing": {"resize": 8, "crop": [8, 8], "decoding": {"background": [0, 0, 256]}}}, "0 to 255"),
        ({"preprocessing": 5}, "Expected: an object"),
    ],
)
def test_a_wrong_card_is_told_where_it_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BackboneError) as told:
        Card.from_json(card(**changes))
    assert said in str(told.value)


def test_what_is_no_object_is_no_card() -> None:
    with pytest.raises(PenultError, match="an object with the fields"):
        Card.from_json([1])


def test_the_imagenet_classes_differ_and_stand_in_their_order() -> None:
    names = imagenet_classes()
    assert len({name.lower() for name in names}) == 1000
    assert [names[i] for i in (0, 134, 207, 442, 517, 985)] == [
        "tench", "crane bird", "golden retriever", "bell cote", "crane", "daisy",
    ]  # fmt: skip


def test_importing_the_room_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    heavy = ["torch", "onnxruntime", "PIL", "keras", "timm"]
    code = f"import sys, penult.exporters; print(sorted(set({heavy}) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert builtin_names() == ("efficientnet-lite0",)
