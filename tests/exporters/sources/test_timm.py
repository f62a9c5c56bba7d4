"""Exported networks of timm give the same features as timm, with the preprocessing of their configuration."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from penult.errors import BackboneError, InputError, UnknownNameError
from penult.exporters.exporting import export
from penult.exporters.requests import ExportRequest, Hints, parse_taps
from penult.pipeline.images.decode import decode
from tests.exporters.torchvision_shim import import_or_skip

import_or_skip("torch", "torchvision", "timm")
pytestmark = pytest.mark.usefixtures("torchvision")

PENULTIMATE = parse_taps("penultimate")


class TestPadding:
    @pytest.mark.parametrize("size", [pytest.param(112, marks=pytest.mark.slow), 133])
    def test_tensorflow_padding_matches_the_exported_size(self, size: int) -> None:
        """At an odd size, a stride of two needs other padding than at the network's own size."""
        request = ExportRequest(size=size, weights="random")
        backbone = export("timm:tf_mobilenetv3_small_minimal_100", request, decode=decode)
        assert backbone.input_size == (size, size)
        assert backbone.card.preprocessing.resize == int(size / 0.875)
        assert max(each["relative_error"] for each in backbone.card.proof["outputs"].values()) < 1e-5
        assert {"stage2", "penultimate", "logits"} <= set(backbone.card.proof["outputs"])
        kinds = {node.op_type for node in backbone.model(["penultimate"]).graph.node}
        assert not kinds & {"Shape", "Gather", "Ceil"}


class TestConfiguration:
    def test_preprocessing_is_the_networks_own(self) -> None:
        card = export("timm:resnet10t@random", ExportRequest(taps=PENULTIMATE), decode=decode).card
        assert (card.preprocessing.crop, card.preprocessing.resize) == ((176, 176), 201)
        assert card.preprocessing.interpolation == "bicubic"
        assert card.normalisation.mean == (123.675, 116.28, 103.53)
        tf = export("timm:mobilenetv3_small_050@random", ExportRequest(taps=PENULTIMATE), decode=decode).card
        assert tf.normalisation.mean == (123.675, 116.28, 103.53)

    def test_squash_works_and_other_crop_modes_raise_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        request = ExportRequest(weights="random", hints=Hints(resize=(96, 96), crop=96), taps=PENULTIMATE)
        card = export("timm:mobilenetv3_small_050", request, decode=decode).card
        assert (card.preprocessing.resize, card.preprocessing.crop) == ((96, 96), (96, 96))
        import timm.data

        real = timm.data.resolve_model_data_config

        def bordered(*given: Any, **named: Any) -> Any:
            return {**real(*given, **named), "crop_mode": "border"}

        monkeypatch.setattr(timm.data, "resolve_model_data_config", bordered)
        with pytest.raises(InputError, match=r"crop_mode 'border'.*pass --resize"):
            export("timm:mobilenetv3_small_050@random", decode=decode)

    def test_an_unsupported_crop_mode_raises_an_error_before_building(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import timm

        config = timm.models.get_pretrained_cfg("resnet10t.c3_in1k")
        bordered = dataclasses.replace(config, crop_mode="border")
        monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda _: bordered)
        monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("the network was built"))
        with pytest.raises(InputError, match="crop_mode 'border' to 176 x 176"):
            export("timm:resnet10t.c3_in1k", decode=decode)


class TestWeights:
    def test_a_local_file_may_have_its_own_number_of_classes(self, tmp_path: Path) -> None:
        import timm
        import torch
        from safetensors.torch import save_file

        with torch.random.fork_rng():
            torch.manual_seed(4)
            network = timm.create_model("mobilenetv3_small_050", num_classes=6)
        save_file(network.state_dict(), tmp_path / "mine.safetensors")
        torch.save(network.state_dict(), tmp_path / "mine.pth")
        request = ExportRequest(taps=PENULTIMATE)
        backbone = export(f"timm:mobilenetv3_small_050@{tmp_path / 'mine.safetensors'}", request, decode=decode)
        assert backbone.card.classes is None
        assert backbone.card.weights["file"] == "mine.safetensors"
        assert set(backbone.card.proof["outputs"]) == {"penultimate", "logits"}
        same = export(f"timm:mobilenetv3_small_050@{tmp_path / 'mine.pth'}", request, decode=decode)
        assert same.fingerprint == backbone.fingerprint
        with pytest.raises(BackboneError, match="do not fit"):
            export(f"timm:mobilenetv3_small_075@{tmp_path / 'mine.pth'}", decode=decode)

    def test_unavailable_weights_raise_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub
        from timm.models import _builder

        def offline(*_: object, **__: object) -> None:
            raise OSError("no network")

        def slow(*_: object, **__: object) -> None:
            pytest.fail("the hub's own client tries for a minute")

        monkeypatch.setattr(_builder, "load_state_dict_from_hf", slow)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
        with pytest.raises(
            BackboneError,
            match=r"model\.safetensors .* from https://huggingface\.co/timm/resnet10t.*: no network.*@FILE",
        ):
            export("timm:resnet10t.c3_in1k", decode=decode)

    def test_cached_weights_need_no_request_to_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub
        from timm.models import _builder

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a damaged file")

        def asked(*_: object, **__: object) -> None:
            pytest.fail("the file is there")

        monkeypatch.setattr(_builder, "load_state_dict_from_hf", broken)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", asked)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: "/cache/model.safetensors")
        with pytest.raises(BackboneError, match="a damaged file"):
            export("timm:resnet10t.c3_in1k", decode=decode)

    def test_misspelt_names_get_a_suggestion(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'convnext_atto'"):
            export("timm:convnext_ato", decode=decode)
        with pytest.raises(UnknownNameError, match=r"did you mean 'resnet10t\.c3_in1k'"):
            export("timm:resnet10t.c4_in1k", decode=decode)
        with pytest.raises(InputError, match=r"timm:resnet10t\.c3_in1k for timm's own weights"):
            export("timm:resnet10t@c3_in1k", decode=decode)


@pytest.mark.slow
def test_a_vision_transformer_supports_another_size() -> None:
    request = ExportRequest(size=96, weights="random", taps=parse_taps("penultimate,blocks.5"))
    backbone = export("timm:vit_tiny_patch16_224", request, decode=decode)
    assert [(tap.name, tap.width) for tap in backbone.card.taps] == [("penultimate", 192), ("blocks.5", 192)]
    assert set(backbone.card.proof["outputs"]) == {"penultimate", "blocks.5", "logits"}
