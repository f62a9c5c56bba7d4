from pathlib import Path

import numpy as np
import onnx
import pytest

from penult.errors import HeadError, InputError, MissingFileError
from penult.exporters.backbone import Backbone
from penult.pipeline.images.decode import decode
from penult.pipeline.models.model import DIGEST_KEY, MODEL_VERSION, VERSION_KEY, Model, model_bytes


def test_a_model_contains_its_classes_and_preprocessing(
    model_path: Path, small_backbone: Backbone, collection: Path
) -> None:
    model = Model.load(model_path)
    assert model.classes == ("blue", "green", "red")
    assert model.preprocessing == small_backbone.card.preprocessing
    assert model.provenance["backbone"]["fingerprint"] == small_backbone.fingerprint
    assert model.proof["tolerance"] == 1e-5
    images = sorted(collection.glob("*/*.png"))
    pixels = np.stack([decode(path.read_bytes(), model.preprocessing) for path in images])
    labels, probabilities = model.predict(pixels)
    assert (labels == [path.parent.name for path in images]).mean() > 0.9
    assert probabilities.shape == (30, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_row_does_not_depend_on_its_batch(model_path: Path, small_backbone: Backbone) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, *small_backbone.input_size, 3), dtype=np.uint8)
    model = Model.load(model_path)
    _, together = model.predict(pixels)
    single = np.concatenate([model.predict(pixels[n : n + 1])[1] for n in range(9)])
    np.testing.assert_array_equal(single, together)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((1, 32, 32, 3), np.float32), np.zeros((32, 32, 3), np.uint8), np.zeros((1, 40, 32, 3), np.uint8)],
)
def test_pixels_of_another_shape_or_type_raise_an_error(pixels: np.ndarray, model_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected: uint8 \(N, 32, 32, 3\)"):
        Model.load(model_path).predict(pixels)


def test_a_missing_file_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="There is no model file"):
        Model.load(tmp_path / "model.onnx")
    with pytest.raises(HeadError, match="cannot be read"):
        Model.load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no ONNX at all", b"\x08\x08\x12\x06penult"])
def test_other_bytes_raise_an_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(HeadError, match=r"m\.onnx is"):
        Model.load(tmp_path / "m.onnx")


def test_the_file_of_a_backbone_raises_an_error(small_backbone: Backbone, tmp_path: Path) -> None:
    small_backbone.save(tmp_path / "b.onnx")
    with pytest.raises(HeadError, match="is a backbone, which has no classes"):
        Model.load(tmp_path / "b.onnx")


def test_another_onnx_file_raises_an_error(small_backbone: Backbone, tmp_path: Path) -> None:
    onnx.save(small_backbone.model(["penultimate"]), tmp_path / "other.onnx")
    with pytest.raises(HeadError, match="an ONNX file of something else"):
        Model.load(tmp_path / "other.onnx")


def test_a_flipped_or_missing_byte_raises_an_error(model_path: Path) -> None:
    whole = model_path.read_bytes()
    chance = np.random.default_rng(0)
    same = Model.parse(whole)
    for place in [*chance.integers(0, len(whole), 150), *range(40), *range(len(whole) - 120, len(whole))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(chance.integers(8))
        try:
            read = Model.parse(bytes(damaged))
        except HeadError:
            continue
        # What no digest covers changes no answer: the format's version and the producer's name.
        assert (read.classes, read.preprocessing, read.proof) == (same.classes, same.preprocessing, same.proof)
        assert _graph(bytes(damaged)) == _graph(whole)
    for length in (1, len(whole) // 2, len(whole) - 1):
        with pytest.raises(HeadError):
            Model.parse(whole[:length])


def _graph(data: bytes) -> bytes:
    model = onnx.ModelProto.FromString(data)
    return bytes(model.graph.SerializeToString(deterministic=True))


def _with_text(path: Path, key: str, value: str) -> None:
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
    onnx.save(model, path)


def test_a_newer_version_is_refused_by_its_number(model_path: Path) -> None:
    _with_text(model_path, VERSION_KEY, str(MODEL_VERSION + 1))
    with pytest.raises(HeadError, match=r"is a model of version 2\. Expected: version 1 or older\. .*upgrade penult"):
        Model.load(model_path)


@pytest.mark.parametrize("key", ["penult.classes", "penult.preprocessing", "penult.proof", DIGEST_KEY])
def test_a_changed_text_is_noticed(key: str, model_path: Path) -> None:
    _with_text(model_path, key, "{}")
    with pytest.raises(HeadError, match="is damaged, or was changed after it was written"):
        Model.load(model_path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"preprocessing": {"resize": 10**9, "crop": [32, 32]}},
        {"preprocessing": {"crop": "large"}},
        {"preprocessing": []},
        {"classes": 3},
    ],
)
def test_invalid_metadata_raises_an_error(metadata: dict[str, object], model_path: Path) -> None:
    model = Model.load(model_path)
    sound = {
        "classes": list(model.classes),
        "preprocessing": {"resize": 36, "crop": [32, 32]},
        "provenance": model.provenance,
        "proof": model.proof,
    }
    data = model_bytes(onnx.load(model_path), sound | metadata)
    with pytest.raises(HeadError, match="The metadata of the data cannot be read"):
        Model.parse(data)


def test_metadata_of_other_tools_is_ignored(model_path: Path) -> None:
    model = onnx.load(model_path)
    model.metadata_props.append(onnx.StringStringEntryProto(key="deployed.by", value="another tool"))
    onnx.save(model, model_path)
    assert Model.load(model_path).classes == ("blue", "green", "red")
