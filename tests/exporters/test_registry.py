"""Backbones are loaded by name or path, and errors suggest what to do."""

from pathlib import Path

import pytest

from penult.errors import BackboneError, MissingFileError, UnknownNameError
from penult.exporters import Backbone, load_backbone, registry


def test_a_path_is_loaded(small_backbone: Backbone, tmp_path: Path) -> None:
    small_backbone.save(tmp_path / "s.onnx")
    assert load_backbone(tmp_path / "s.onnx").fingerprint == small_backbone.fingerprint
    assert load_backbone(str(tmp_path / "s.onnx")).fingerprint == small_backbone.fingerprint


def test_wrong_names_get_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet-lite0'"):
        load_backbone("efficientnet_lite0")
    with pytest.raises(UnknownNameError, match="penult export torchvision:resnet50"):
        load_backbone("torchvision:resnet50")
    with pytest.raises(MissingFileError):
        load_backbone("some/where")
    with pytest.raises(MissingFileError):
        load_backbone("mine.onnx")
    (tmp_path / "model").write_text("x")
    with pytest.raises(BackboneError, match=r"does not end in \.onnx"):
        load_backbone("model")


def test_a_name_can_be_registered_only_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        registry.register("efficientnet-lite0", registry.Builtin("a:b", "0"))


def test_a_builtin_must_have_its_known_fingerprint(small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.exporters.efficientnet_lite0.build", lambda: small_backbone)
    with pytest.raises(BackboneError, match=small_backbone.fingerprint):
        registry.Builtin("penult.exporters.efficientnet_lite0:build", "0" * 64).build()
