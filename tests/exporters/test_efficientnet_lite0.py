"""The built-in backbone is the published network: it classifies photos, and its features never change."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from penult.errors import BackboneError
from penult.exporters import Backbone, Preprocessing, load_backbone
from penult.exporters import efficientnet_lite0 as lite0
from penult.exporters.reference import describe
from penult.exporters.torch_pickle import read_tensors

Run = Callable[[Backbone, npt.NDArray[np.uint8]], dict[str, npt.NDArray[np.float32]]]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lite0.build()


def test_it_is_valid_and_describes_its_outputs(backbone: Backbone) -> None:
    model = backbone.model(backbone.outputs)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert [(t.name, t.width, t.reduction, t.pooling) for t in backbone.card.taps] == [
        ("stage1", 16, 2, "avg"),
        ("stage2", 24, 4, "avg"),
        ("stage3", 40, 8, "avg"),
        ("stage4", 112, 16, "avg"),
        ("stage5", 320, 32, "avg"),
        ("penultimate", 1280, None, "none"),
    ]
    assert backbone.outputs[-1] == "logits"
    assert backbone.card.classes is not None
    assert len(backbone.card.classes) == 1000
    assert backbone.card.licence == "Apache-2.0"


def test_flops_are_counted(backbone: Backbone) -> None:
    """385 million multiply-adds in total; each tap costs more than the previous one."""
    work = [tap.flops or 0 for tap in backbone.card.taps]
    assert work == sorted(work)
    stem = 2 * 112 * 112 * 32 * 27
    block = 2 * 112 * 112 * (32 * 9 + 32 * 16)
    assert work[0] == stem + block
    assert work[-1] == pytest.approx(2 * 385e6, rel=0.01)


def test_it_computes_the_reference_vectors(backbone: Backbone, run_all: Run) -> None:
    seen = backbone.check_reference(run_all(backbone, backbone.reference_batch()))
    assert set(seen) == set(backbone.outputs)


def test_the_batch_does_not_change_rows(backbone: Backbone, run_all: Run) -> None:
    pixels = backbone.reference_batch()
    both = run_all(backbone, pixels)
    alone = run_all(backbone, pixels[1:])
    for name, rows in both.items():
        np.testing.assert_allclose(rows[1:], alone[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("photo", "wanted"),
    [
        ("china.jpg", {"bell cote", "palace", "monastery", "stupa"}),
        ("flower.jpg", {"daisy", "bee"}),
    ],
)
def test_it_classifies_photos(photo: str, wanted: set[str], backbone: Backbone, run_all: Run) -> None:
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(photo))
    left, top = (image.width - image.height) // 2, 0
    square = image.crop((left, top, left + image.height, image.height)).resize((256, 256), Image.Resampling.BICUBIC)
    logits = run_all(backbone, np.asarray(square.crop((16, 16, 240, 240)))[None])["logits"][0]
    classes = backbone.card.classes or ()
    best = [classes[index] for index in np.argsort(-logits)[:5]]
    assert best[0] in wanted
    assert len(wanted & set(best)) >= 2, best


def test_a_hundred_photos(
    backbone: Backbone, labelled_photos: list[tuple[Path, int]], hits: Callable[..., tuple[int, int]]
) -> None:
    first, fifth = hits(backbone, labelled_photos)
    assert first >= 88
    assert fifth >= 95


def test_the_mean_is_subtracted_before_padding(backbone: Backbone, run_all: Run) -> None:
    """Compares the padded corner of the stem's output with a direct computation."""
    pixels = backbone.reference_batch()[:1]
    weights = read_tensors(lite0.weights_path())
    centred = np.pad((pixels[0].astype("f8") - 127) / 128, ((0, 1), (0, 1), (0, 0)))
    corner = centred[222:225, 222:225].transpose(2, 0, 1)
    raw = (weights["_conv_stem.weight"].astype("f8") * corner).sum(axis=(1, 2, 3))
    gain = weights["_bn0.weight"] / np.sqrt(weights["_bn0.running_var"].astype("f8") + 1e-3)
    wanted = (raw - weights["_bn0.running_mean"]) * gain + weights["_bn0.bias"]

    import onnxruntime

    model = backbone.model(["logits"])
    model.graph.output.append(onnx.helper.make_tensor_value_info("stem", 1, ["N", 32, 112, 112]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (stem,) = session.run(["stem"], {"pixels": pixels})
    np.testing.assert_allclose(stem[0, :, -1, -1], wanted, rtol=1e-4, atol=1e-4)


def test_other_weights_raise_an_error_with_both_checksums(tmp_path: Path) -> None:
    data = bytearray(lite0.weights_path().read_bytes())
    data[-1] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(BackboneError) as caught:
        lite0.build_from(path)
    assert lite0.WEIGHTS_SHA256 in str(caught.value)
    assert "has the SHA-256" in str(caught.value)


def test_the_stored_reference_vectors_match(backbone: Backbone, run_all: Run) -> None:
    """The stored file has the widths and the number of images that ``describe`` returns for this graph."""
    fresh = describe(run_all(backbone, backbone.reference_batch()))
    path = Path(lite0.__file__).with_name("efficientnet_lite0_reference.json")
    stored = json.loads(path.read_text())
    assert stored["images"] == fresh["images"]
    assert {k: v["width"] for k, v in stored["outputs"].items()} == {k: v["width"] for k, v in fresh["outputs"].items()}


class TestRegistry:
    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
        return tmp_path

    def test_it_is_built_once(self, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_backbone("efficientnet-lite0")
        (file,) = own_cache.rglob("*.onnx")
        assert first.fingerprint[:16] in file.name
        monkeypatch.setattr(lite0, "build", lambda: pytest.fail("built twice"))
        assert load_backbone("efficientnet-lite0").fingerprint == first.fingerprint
        assert load_backbone(file).card == first.card
        assert load_backbone(str(file)).card == first.card

    def test_a_damaged_cache_is_rebuilt_with_a_warning(self, own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
        fingerprint = load_backbone("efficientnet-lite0").fingerprint
        (file,) = own_cache.rglob("*.onnx")
        whole = file.read_bytes()
        file.write_bytes(whole[:-100])
        assert load_backbone("efficientnet-lite0").fingerprint == fingerprint
        assert "Building" in caplog.text
        assert file.read_bytes() == whole

    def test_a_cache_that_cannot_be_written_gives_a_warning(
        self, own_cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (own_cache / "penult").write_text("a file where the folder should be")
        assert load_backbone("efficientnet-lite0").name == "efficientnet-lite0"
        assert "Cannot cache" in caplog.text


def test_preprocessing_is_the_published_one(backbone: Backbone) -> None:
    assert backbone.card.preprocessing == Preprocessing(resize=256, crop=(224, 224), interpolation="bicubic")
