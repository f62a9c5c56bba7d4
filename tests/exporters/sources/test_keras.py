"""Exported networks of Keras give the same features as Keras, with the normalisation of each family."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from penult.errors import BackboneError, InputError, UnknownNameError
from penult.exporters import Backbone
from penult.exporters.exporting import export
from penult.exporters.requests import ExportRequest, Hints, parse_taps
from penult.pipeline.images.decode import decode
from tests.exporters.torchvision_shim import import_or_skip

import_or_skip("torch", "keras")

# Keras passes torch tensors to numpy this way when it saves a model.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

Session = Callable[[Backbone, Any], dict[str, Any]]
PLAIN = {"Transpose", "Cast", "Sub", "Conv", "Clip", "Add", "Pad", "GlobalAveragePool", "Flatten", "Relu", "Mul"}


@pytest.fixture(scope="module")
def weights(shared_data: Path) -> Path:
    return shared_data / "weights"


@pytest.fixture(scope="module")
def squeezenet(weights: Path) -> Backbone:
    return export(f"keras:squeezenet1_1@{weights / 'keras_squeezenet1_1_notop.h5'}", decode=decode)


class TestRealFiles:
    def test_weights_without_a_classifier(self, squeezenet: Backbone) -> None:
        assert [(tap.name, tap.tensor, tap.width) for tap in squeezenet.card.taps] == [
            ("stage1", "relu_conv1", 64),
            ("stage2", "fire3_concat", 128),
            ("stage3", "fire5_concat", 256),
            ("penultimate", "drop9", 512),
        ]
        assert squeezenet.outputs == ("stage1", "stage2", "stage3", "penultimate")
        assert squeezenet.card.normalisation.channels == "bgr"
        assert max(each["relative_error"] for each in squeezenet.card.proof["outputs"].values()) < 1e-5

    def test_a_saved_model_of_keras_2(self, weights: Path) -> None:
        path = weights / "keras_resnet8_cifar10.h5"
        with pytest.raises(InputError, match=r"pass --family, or --mean and --std, or write them into"):
            export(f"keras:{path}", decode=decode)
        backbone = export(f"keras:{path}", ExportRequest(hints=Hints(family="raw")), decode=decode)
        assert backbone.input_size == (32, 32)
        assert backbone.tap("penultimate").width == 64
        assert set(backbone.card.proof["outputs"]) >= {"stage1", "penultimate"}
        assert "logits" in backbone.outputs

    def test_weights_alone_need_their_architecture(self, weights: Path) -> None:
        with pytest.raises(InputError, match=r"keras:NAME@keras_squeezenet1_1_notop\.h5"):
            export(f"keras:{weights / 'keras_squeezenet1_1_notop.h5'}", decode=decode)
        with pytest.raises(BackboneError, match="do not fit"):
            export(f"keras:MobileNet@{weights / 'keras_squeezenet1_1_notop.h5'}", decode=decode)

    def test_layers_must_match_by_name_and_shape(self, weights: Path, tmp_path: Path) -> None:
        import shutil

        import h5py

        renamed, lacking = tmp_path / "renamed.h5", tmp_path / "lacking.h5"
        for path in (renamed, lacking):
            shutil.copyfile(weights / "keras_squeezenet1_1_notop.h5", path)
        with h5py.File(lacking, "r+") as file:
            file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if b"fire9/expand" not in name]
        with pytest.raises(BackboneError, match="lacks fire9_expand1x1, fire9_expand3x3 and adds none"):
            export(f"keras:squeezenet1_1@{lacking}", decode=decode)
        with h5py.File(renamed, "r+") as file:
            names = list(file["conv1"].attrs["weight_names"])
            file["conv1"].attrs["weight_names"] = names[::-1]
        with pytest.raises(BackboneError, match="The layer conv1"):
            export(f"keras:squeezenet1_1@{renamed}", decode=decode)


class TestModes:
    def test_every_application_has_one_of_the_known_modes(self) -> None:
        from penult.exporters.sources.keras.applications import application_names
        from penult.exporters.sources.keras.network import preprocessing_mode

        modes = {name: preprocessing_mode(name) for name in application_names()}
        assert len(modes) >= 38
        assert modes["VGG16"] == modes["ResNet50"] == "caffe"
        assert modes["DenseNet121"] == "torch"
        assert modes["ResNet50V2"] == modes["MobileNetV2"] == modes["InceptionV3"] == modes["Xception"] == "tf"
        assert modes["EfficientNetB0"] == modes["MobileNetV3Small"] == modes["ConvNeXtTiny"] == "none"

    @pytest.mark.slow
    def test_tf(self) -> None:
        request = ExportRequest(weights="random", size=96)
        backbone = export("keras:MobileNetV2", request, decode=decode)
        assert backbone.card.normalisation.mean == (127.5,) * 3
        assert [tap.tensor for tap in backbone.card.taps][:2] == ["expanded_conv_project_BN", "block_2_add"]
        assert {node.op_type for node in backbone.model(["penultimate"]).graph.node} <= PLAIN
        assert set(backbone.card.proof["outputs"]) == {*backbone.outputs}
        assert export("keras:MobileNetV2", request, decode=decode).fingerprint == backbone.fingerprint

    @pytest.mark.slow
    def test_caffe(self) -> None:
        request = ExportRequest(weights="random", size=64, taps=parse_taps("conv3_block1_out,penultimate"))
        card = export("keras:ResNet50", request, decode=decode).card
        assert card.normalisation.channels == "bgr"
        assert card.normalisation.mean == (103.939, 116.779, 123.68)
        assert card.taps[0].width == 512
        assert set(card.proof["outputs"]) == {"conv3_block1_out", "penultimate", "logits"}

    @pytest.mark.slow
    def test_networks_that_scale_pixels_themselves_take_raw_pixels(self) -> None:
        card = export("keras:MobileNetV3Small", ExportRequest(weights="random", size=96), decode=decode).card
        assert card.normalisation.mean == (0.0,) * 3
        assert card.normalisation.std == (1.0,) * 3
        assert card.taps[-1].width == 1024


def small_model(*, scaled: bool = True) -> Any:
    """A classifier of 3 with layers that are hard to convert: padding, a gate, a concatenation, a Flatten."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    image = keras.Input((20, 20, 3))
    first = layers.Rescaling(1 / 127.5, offset=-1)(image) if scaled else image
    first = layers.ZeroPadding2D(((1, 0), (0, 2)))(first)
    first = layers.Conv2D(6, 3, strides=2, use_bias=False)(first)
    first = layers.BatchNormalization(
        beta_initializer="random_normal", gamma_initializer="random_normal", moving_mean_initializer="random_normal"
    )(first)
    first = layers.Activation("swish")(first)
    gate = layers.Dense(6, activation="sigmoid")(layers.GlobalAveragePooling2D()(first))
    first = layers.Multiply()([first, layers.Reshape((1, 1, 6))(gate)])
    second = layers.SeparableConv2D(6, 3, padding="same", activation="relu")(first)
    first = layers.Concatenate(name="joined")([first, second])
    first = layers.Cropping2D(((1, 0), (0, 1)))(first)
    first = layers.LayerNormalization(name="normed")(first)
    first = layers.MaxPooling2D(2, padding="same")(first)
    first = layers.Flatten(name="flat")(first)
    return keras.Model(image, layers.Dense(3, activation="softmax")(layers.Dense(11, name="hidden")(first)))


class TestSavedModels:
    def test_a_model_with_layers_that_are_hard_to_convert(self, tmp_path: Path, run_all: Session) -> None:
        model = small_model()
        model.save(tmp_path / "small.keras")
        request = ExportRequest(taps=parse_taps("joined:flatten,normed,flat,penultimate"))
        backbone = export(f"keras:{tmp_path / 'small.keras'}", request, decode=decode)
        assert "begins by scaling" in backbone.card.notes[0]
        assert set(backbone.card.proof["outputs"]) == {"joined", "normed", "flat", "penultimate"}
        assert backbone.tap("penultimate").width == 11
        pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
        scores = run_all(backbone, pixels)["logits"]
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(chances, model.predict(pixels.astype(np.float32), verbose=0), rtol=1e-4, atol=1e-6)

    def test_the_preprocessing_is_read_from_a_sidecar(self, tmp_path: Path) -> None:
        small_model(scaled=False).save(tmp_path / "small.keras")
        (tmp_path / "small.json").write_text(
            json.dumps({"family": "caffe", "classes": ["a", "b", "c"], "name": "mine"})
        )
        card = export(f"keras:{tmp_path / 'small.keras'}", decode=decode).card
        assert (card.name, card.classes, card.normalisation.channels) == ("mine", ("a", "b", "c"), "bgr")

    def test_code_in_a_file_raises_an_error_and_does_not_run(self, tmp_path: Path) -> None:
        import keras
        from keras import layers

        def touch(values: Any) -> Any:
            (tmp_path / "ran").touch()
            return values

        image = keras.Input((8, 8, 3))
        lambdas = keras.Model(image, layers.Lambda(touch)(layers.Conv2D(2, 3)(image)))
        lambdas.save(tmp_path / "bad.keras")
        (tmp_path / "ran").unlink()
        for class_name, module in (("Lambda", "keras.layers"), ("run", "os"), ("Conv2D", "os.path")):
            config = {"class_name": "Functional", "config": {"layers": [{"class_name": class_name, "module": module}]}}
            self._with_config(tmp_path / "bad.keras", tmp_path / f"{class_name}.keras", config)
        for name in ("bad", "Lambda", "run", "Conv2D"):
            with pytest.raises(BackboneError, match="which run no code from the file"):
                export(f"keras:{tmp_path / name}.keras", ExportRequest(hints=Hints(family="raw")), decode=decode)
        assert not (tmp_path / "ran").exists()

    @staticmethod
    def _with_config(source: Path, target: Path, config: object) -> None:
        with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as changed:
            for name in given.namelist():
                changed.writestr(name, json.dumps(config) if name == "config.json" else given.read(name))

    def test_links_to_other_places_raise_an_error(self, tmp_path: Path) -> None:
        import h5py

        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["secret"] = np.zeros(3)
        with h5py.File(tmp_path / "link.h5", "w") as file:
            file["conv"] = h5py.ExternalLink("other.h5", "/secret")
        (tmp_path / "raw.bin").write_bytes(bytes(80))
        with h5py.File(tmp_path / "outside.h5", "w") as file:
            file.create_dataset("conv", (10,), "f8", external=[(str(tmp_path / "raw.bin"), 0, 80)])
        with h5py.File(tmp_path / "swelling.h5", "w") as file:
            file.create_dataset("conv", (1 << 31,), "f8", chunks=(1 << 16,), compression="gzip")
        with h5py.File(tmp_path / "within.h5", "w") as file:
            file.create_group("itself")["itself"] = file["/"]
        with h5py.File(tmp_path / "twice.h5", "w") as file:
            group = file.create_group("0")
            for level in range(1, 20):
                outer = file.create_group(str(level))
                outer["left"] = outer["right"] = group
                group = outer
        (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        for name, message in (
            ("link", "leads elsewhere at 'conv'"),
            ("outside", "in other files"),
            ("swelling", "17,179,869,184 bytes"),
            ("within", "33 deep"),
            ("twice", "nested groups"),
            ("broken", "cannot be read"),
        ):
            with pytest.raises(BackboneError, match=message):
                export(f"keras:{tmp_path / name}.h5", decode=decode)
            with pytest.raises(BackboneError, match=message):
                export(f"keras:squeezenet1_1@{tmp_path / name}.h5", decode=decode)


class TestSizes:
    @pytest.mark.parametrize("kind", ["functional", "sequential"])
    def test_a_saved_model_keeps_its_weights_at_another_size(self, kind: str, tmp_path: Path, run_all: Session) -> None:
        """The features come from the saved filters, whatever the image size."""
        import keras
        from keras import layers

        keras.utils.set_random_seed(6)
        convolution = layers.Conv2D(5, 3, activation="relu", name="conv")
        parts = [convolution, layers.GlobalAveragePooling2D(), layers.Dense(3)]
        model = keras.Sequential([keras.Input((20, 20, 3)), *parts])
        if kind == "functional":
            model = keras.Model(model.inputs, model.outputs)
        model.save(tmp_path / "small.keras")
        request = ExportRequest(size=32, hints=Hints(family="raw"))
        backbone = export(f"keras:{tmp_path / 'small.keras'}", request, decode=decode)
        assert backbone.input_size == (32, 32)
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        filters, bias = (np.asarray(weight, dtype=np.float64) for weight in convolution.get_weights())
        windows = np.lib.stride_tricks.sliding_window_view(pixels.astype(np.float64), (3, 3), axis=(1, 2))
        wanted = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, filters) + bias, 0).mean(axis=(1, 2))
        np.testing.assert_allclose(run_all(backbone, pixels)["penultimate"], wanted, rtol=1e-4, atol=1e-4)

    def test_a_size_that_the_classifier_does_not_support_raises_an_error(self, tmp_path: Path) -> None:
        small_model().save(tmp_path / "small.keras")
        with pytest.raises(BackboneError, match=r"small\.keras cannot take 40 pixels"):
            export(f"keras:{tmp_path / 'small.keras'}", ExportRequest(size=40), decode=decode)


class TestNASNetMobile:
    """Keras does not support this network on torch."""

    def test_weights_of_keras_raise_an_error(self) -> None:
        with pytest.raises(BackboneError, match="its own weights gave wrong classes"):
            export("keras:NASNetMobile", decode=decode)

    @pytest.mark.slow
    def test_other_weights_are_noted_on_the_card(self) -> None:
        card = export("keras:NASNetMobile@random", ExportRequest(taps=parse_taps("penultimate")), decode=decode).card
        assert card.has_random_weights
        assert any("Keras refuses NASNetMobile" in note for note in card.notes)
        assert card.taps[-1].width == 1056


class TestErrors:
    def test_tensors_cannot_be_named(self) -> None:
        with pytest.raises(InputError, match="use --taps NAME for any other value"):
            export("keras:VGG16", ExportRequest(hints=Hints(penultimate="fc1")), decode=decode)

    def test_misspelt_names_get_a_suggestion(self) -> None:
        with pytest.raises(UnknownNameError, match="did you mean 'VGG19' or 'VGG16'"):
            export("keras:VGG17", decode=decode)
        with pytest.raises(UnknownNameError, match="one of imagenet, notop"):
            export("keras:VGG16@IMAGENET1K_V1", decode=decode)
        with pytest.raises(InputError, match=r"keras:squeezenet1_1@FILE\.h5"):
            export("keras:squeezenet1_1", decode=decode)

    def test_unavailable_weights_raise_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib

        def offline(name: str, origin: str, **_: object) -> None:
            raise OSError(f"URL fetch failure on {origin}: no network")

        module = importlib.import_module("keras.src.applications.mobilenet_v3")
        monkeypatch.setattr(module.file_utils, "get_file", offline)
        message = r"weights_mobilenet_v3_small\S+\.h5 cannot be downloaded from https://.*keras:MobileNetV3Small@FILE"
        with pytest.raises(BackboneError, match=message):
            export("keras:MobileNetV3Small", decode=decode)
