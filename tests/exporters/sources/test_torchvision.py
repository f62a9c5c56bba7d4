"""Exported networks of torchvision give the same features as torchvision, starting from the image file."""

import pickle
import sys
import zipfile
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penult.errors import BackboneError, InputError, MissingFileError, UnknownNameError
from penult.exporters import Backbone
from penult.exporters.exporting import export
from penult.exporters.requests import ExportRequest, Hints, parse_taps
from penult.exporters.sources.norm_calibration import calibrate_torch, calibration_batch
from penult.pipeline.images.decode import decode
from tests.exporters.torchvision_shim import import_or_skip

import_or_skip("torch", "torchvision")
pytestmark = pytest.mark.usefixtures("torchvision")

Session = Callable[[Backbone, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def squeezenet(shared_data: Path) -> Backbone:
    return export(
        f"torchvision:squeezenet1_1@{shared_data / 'weights' / 'squeezenet1_1_torchvision.pth'}", decode=decode
    )


def test_tracing_names_the_values_of_modules_without_keeping_them() -> None:
    import torch

    from penult.exporters.sources.torch.tracing import export_torch, tappable_modules, traceable_module

    network = torch.nn.Sequential()
    parts = {"first": torch.nn.Conv2d(3, 4, 3), "relu": torch.nn.ReLU(inplace=True), "last": torch.nn.Conv2d(4, 5, 3)}
    for name, part in parts.items():
        network.add_module(name, part)
    sample = torch.zeros(2, 3, 9, 9)
    names = tappable_modules(network, sample)
    scores, *values = traceable_module(network, names)(sample)
    assert scores.numel() == 2 * 5 * 5 * 5
    assert [value.numel() for value in values] == [0] * len(names)
    graph = export_torch(traceable_module(network, names), ["scores", *names], sample, what="three layers").graph
    assert [node.op_type for node in graph.node] == ["Conv", "Relu", "Conv"]
    assert [graph.node[1].output[0], graph.output[0].name] == ["relu", "scores"]


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return export("torchvision:resnet18@random", decode=decode)


class TestSqueezeNetWithItsWeights:
    def test_it_classifies_photos(
        self, squeezenet: Backbone, labelled_photos: list[tuple[Path, int]], run_all: Session
    ) -> None:
        preprocessing = squeezenet.card.preprocessing
        assert (preprocessing.resize, preprocessing.crop, preprocessing.interpolation) == (256, (224, 224), "bilinear")
        pixels = np.stack([decode(path.read_bytes(), preprocessing) for path, _ in labelled_photos])
        best = run_all(squeezenet, pixels)["logits"].argmax(axis=1)
        # torchvision itself gives the same count on the same files.
        assert (best == [label for _, label in labelled_photos]).sum() == 60

    def test_its_taps_have_the_names_of_modules(self, squeezenet: Backbone) -> None:
        assert [(tap.name, tap.tensor, tap.width) for tap in squeezenet.card.taps] == [
            ("stage1", "features.1", 64),
            ("stage2", "features.4", 128),
            ("stage3", "features.7", 256),
            ("penultimate", "features", 512),
        ]
        assert set(squeezenet.card.proof["outputs"]) == {"stage1", "stage2", "stage3", "penultimate", "logits"}
        assert max(each["relative_error"] for each in squeezenet.card.proof["outputs"].values()) < 1e-5

    def test_the_card_describes_its_origin(self, squeezenet: Backbone) -> None:
        assert squeezenet.card.weights["file"] == "squeezenet1_1_torchvision.pth"
        assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in squeezenet.card.notes[0]
        assert squeezenet.card.licence == "unknown"

    def test_other_weights_have_another_fingerprint(
        self, squeezenet: Backbone, shared_data: Path, tmp_path: Path
    ) -> None:
        import torch

        state = torch.load(shared_data / "weights" / "squeezenet1_1_torchvision.pth", weights_only=True)
        same, other = tmp_path / "same.pth", tmp_path / "other.pth"
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, same)
        state["features.3.squeeze.bias"][0] += 1e-3
        torch.save(state, other)
        assert export(f"torchvision:squeezenet1_1@{same}", decode=decode).fingerprint == squeezenet.fingerprint
        assert export(f"torchvision:squeezenet1_1@{other}", decode=decode).fingerprint != squeezenet.fingerprint


class TestRandomWeights:
    def test_the_penultimate_vector_matches_torchvisions_own_extractor(
        self, resnet: Backbone, run_all: Session, tmp_path: Path
    ) -> None:
        """A third way to compute the features, next to the export and its proof."""
        import torch
        from torchvision.models import ResNet18_Weights, resnet18
        from torchvision.models.feature_extraction import create_feature_extractor

        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = resnet18(weights=None).eval()
        calibrate_torch(network, calibration_batch((224, 224), resnet.card.normalisation))
        extractor = create_feature_extractor(network, {"flatten": "penultimate", "layer2": "stage3"})
        pixels = np.random.default_rng(1).integers(0, 256, (300, 401, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noise.png")
        with Image.open(tmp_path / "noise.png") as image, torch.no_grad():
            wanted = extractor(ResNet18_Weights.DEFAULT.transforms()(image)[None])
        given = run_all(resnet, decode((tmp_path / "noise.png").read_bytes(), resnet.card.preprocessing)[None])
        np.testing.assert_allclose(given["penultimate"], wanted["penultimate"].numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(given["stage3"], wanted["stage3"].mean(dim=(2, 3)).numpy(), rtol=1e-4, atol=1e-5)

    def test_the_card_notes_them_and_exports_are_reproducible(self, resnet: Backbone) -> None:
        assert "random" in resnet.card.notes[0]
        assert resnet.card.weights == {"name": "random"}
        assert resnet.card.classes is None  # random weights predict no classes
        assert resnet.name == "resnet18-random"
        request = ExportRequest(weights="random", size=64)
        once, again = (export("torchvision:resnet18", request, decode=decode) for _ in range(2))
        assert once.fingerprint == again.fingerprint != resnet.fingerprint

    def test_batchnorm_and_sizes_are_folded(self, resnet: Backbone) -> None:
        kinds = {node.op_type for node in resnet.model(["penultimate"]).graph.node}
        assert kinds <= {"Transpose", "Cast", "Sub", "Conv", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Flatten"}

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "width", "stages"),
        [("mobilenet_v3_small", 1024, 5), ("shufflenet_v2_x0_5", 1024, 5)],
    )
    def test_other_families_have_the_expected_taps(self, name: str, width: int, stages: int) -> None:
        backbone = export(f"torchvision:{name}@random", decode=decode)
        assert backbone.tap("penultimate").width == width
        assert [tap.stage for tap in backbone.card.taps] == [*range(1, stages + 1), None]
        assert set(backbone.card.proof["outputs"]) == {*backbone.outputs}

    def test_another_size_and_taps_by_module_name(self) -> None:
        request = ExportRequest(size=112, weights="random", taps=parse_taps("layer3:gem,features=layer4:flatten"))
        backbone = export("torchvision:resnet18", request, decode=decode)
        assert (backbone.card.preprocessing.resize, backbone.input_size) == (128, (112, 112))
        assert [(t.name, t.width) for t in backbone.card.taps] == [
            ("layer3", 256), ("features", 512 * 4 * 4), ("penultimate", 512),
        ]  # fmt: skip
        assert set(backbone.card.proof["outputs"]) == {"layer3", "features", "penultimate", "logits"}

    @pytest.mark.slow
    def test_hints_override_the_preprocessing(self) -> None:
        hints = Hints(family="tf", interpolation="bicubic", resize=240)
        request = ExportRequest(weights="random", hints=hints, taps=parse_taps("penultimate"))
        card = export("torchvision:resnet18", request, decode=decode).card
        assert card.normalisation.mean == (127.5, 127.5, 127.5)
        assert (card.preprocessing.resize, card.preprocessing.interpolation) == (240, "bicubic")


class TestErrors:
    @pytest.mark.parametrize(
        ("hints", "message"),
        [
            (Hints(family="caffe"), "channels are said to be bgr"),
            (Hints(mean=(1.0, 2.0, 3.0)), "normalisation is incomplete"),
            (Hints(resize=(200, 300)), "one number each"),
            (Hints(penultimate="layer3"), "--taps NAME"),
        ],
    )
    def test_unsupported_hints_raise_an_error(self, hints: Hints, message: str) -> None:
        with pytest.raises(InputError, match=message):
            export("torchvision:resnet18", ExportRequest(weights="random", hints=hints), decode=decode)

    def test_a_build_that_does_not_match_torch_raises_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Misbuilt(MetaPathFinder):
            def find_spec(self, name: str, *_: object) -> None:
                if name == "torchvision":
                    raise RuntimeError("operator torchvision::nms does not exist")

        monkeypatch.delitem(sys.modules, "torchvision")
        monkeypatch.setattr(sys, "meta_path", [Misbuilt(), *sys.meta_path])
        with pytest.raises(BackboneError, match=r"nms does not exist.*matching builds of torch and torchvision"):
            export("torchvision:resnet18", decode=decode)

    def test_misspelt_names_get_a_suggestion(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
            export("torchvision:resnet19", decode=decode)
        with pytest.raises(UnknownNameError, match="did you mean 'IMAGENET1K_V1'"):
            export("torchvision:vgg16@IMAGENET1K_V9", decode=decode)
        with pytest.raises(InputError, match="specified twice"):
            export("torchvision:vgg16@DEFAULT", ExportRequest(weights="random"), decode=decode)

    def test_unavailable_weights_raise_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch.hub

        def offline(*_: object, **__: object) -> None:
            raise OSError("no network")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
        with pytest.raises(
            BackboneError, match=r"resnet18-\w+\.pth cannot be downloaded from https://.*torchvision:resnet18@FILE"
        ):
            export("torchvision:resnet18", decode=decode)
        with pytest.raises(MissingFileError, match=r"weights file .*gone\.pth does not exist"):
            export("torchvision:resnet18@/nowhere/gone.pth", decode=decode)

    def test_default_weights_are_recorded_by_their_full_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch
        import torch.hub
        import torchvision

        with torch.random.fork_rng():
            state = torchvision.models.squeezenet1_1(weights=None).state_dict()
        asked: list[tuple[str, Any]] = []

        def online(url: str, **options: Any) -> Any:
            asked.append((url, options["weights_only"]))
            return state

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", online)
        card = export("torchvision:squeezenet1_1@DEFAULT", decode=decode).card
        assert card.weights["name"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
        assert card.classes is not None
        assert card.classes[0] == "tench"
        assert asked == [(card.weights["url"], True)]

    def test_code_in_a_file_raises_an_error_and_does_not_run(self, tmp_path: Path) -> None:
        import torch

        class Harm:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "ran",)

        torch.save({"state_dict": {"features.0.weight": Harm()}}, tmp_path / "bad.pth")
        (tmp_path / "raw.pth").write_bytes(pickle.dumps(Harm()))
        (tmp_path / "cut.pth").write_bytes((tmp_path / "bad.pth").read_bytes()[:200])
        for name in ("bad", "raw", "cut"):
            with pytest.raises(BackboneError, match="cannot be read as plain weights"):
                export(f"torchvision:squeezenet1_1@{tmp_path / name}.pth", decode=decode)
        assert not (tmp_path / "ran").exists()

    def test_a_compressed_archive_raises_an_error_before_unpacking(self, tmp_path: Path) -> None:
        import torch

        torch.save({"features.0.weight": torch.zeros(10)}, tmp_path / "small.pth")
        with (
            zipfile.ZipFile(tmp_path / "small.pth") as given,
            zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for name in given.namelist():
                bomb.writestr(name, bytes(20 << 20) if name.endswith("data/0") else given.read(name))
        with pytest.raises(BackboneError, match=r"bytes long and unpacks to 20,9"):
            export(f"torchvision:squeezenet1_1@{tmp_path / 'bomb.pth'}", decode=decode)

    def test_weights_of_another_network_raise_an_error(self, shared_data: Path) -> None:
        path = shared_data / "weights" / "squeezenet1_1_torchvision.pth"
        with pytest.raises(BackboneError, match="do not fit: Missing key"):
            export(f"torchvision:resnet18@{path}", decode=decode)
        with pytest.raises(BackboneError, match=r"features\.5\.squeeze\.weight"):
            export(f"torchvision:squeezenet1_0@{path}", decode=decode)


@pytest.mark.slow
def test_a_fine_tuned_network_keeps_its_number_of_classes(tmp_path: Path) -> None:
    import torch
    import torchvision

    with torch.random.fork_rng():
        torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), tmp_path / "mine.pth")
        torch.save(torchvision.models.squeezenet1_1(num_classes=7).state_dict(), tmp_path / "small.pth")
    for name, file in (("resnet18", "mine.pth"), ("squeezenet1_1", "small.pth")):
        backbone = export(f"torchvision:{name}@{tmp_path / file}", decode=decode)
        assert backbone.tap("penultimate").width == 512
        assert backbone.card.classes is None
        assert "logits" in backbone.card.proof["outputs"]


@pytest.mark.slow
def test_weights_with_version_metadata_load_from_a_file(tmp_path: Path) -> None:
    import torch
    import torchvision

    with torch.random.fork_rng():
        torch.save(torchvision.models.mnasnet0_5().state_dict(), tmp_path / "mine.pth")
    backbone = export(f"torchvision:mnasnet0_5@{tmp_path / 'mine.pth'}", decode=decode)
    assert backbone.tap("penultimate").width == 1280
