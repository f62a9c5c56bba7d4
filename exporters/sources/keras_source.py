"""The source ``keras:NAME`` or ``keras:FILE``: a network of keras.applications, or a whole model that Keras saved.

Keras runs on its torch backend. Each family of its networks takes pixels in its own way; which one is found by asking
the family's own ``preprocess_input`` and not by a table.
"""

import os
import random
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError, InputError, MissingExtraError, PenultError
from penult.exporters.card import Normalisation, Preprocessing
from penult.exporters.classes import imagenet_classes
from penult.exporters.sources.addresses import Address, file_facts, refuse_unknown
from penult.exporters.sources.hints import FAMILIES, Hints, read_sidecar
from penult.exporters.sources.keras_file import check_weights, load_whole
from penult.exporters.sources.keras_network import KerasSource, source_network
from penult.exporters.sources.plain_pixels import network_input
from penult.exporters.sources.source_network import ExportRequest, Provenance, SourceNetwork
from penult.exporters.sources.squeezenet_keras import load_by_name, squeezenet1_1
from penult.exporters.sources.torch_weights import misfit

__all__ = ["MODES", "applications", "read_keras"]

SQUEEZENET = "squeezenet1_1"
NOTOP = "notop"

MODES = {
    # Keras's own means of the Caffe networks have decimals.
    "caffe": Normalisation("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "tf": FAMILIES["tf"],
    "torch": FAMILIES["torch"],
    "none": FAMILIES["raw"],  # the network begins with layers that do it
}
_ANY_SIZE = 224  # of MobileNetV3, which takes any size and was trained at this one
_WHOLE = {".keras", ".h5", ".hdf5"}


def read_keras(rest: str, request: ExportRequest) -> SourceNetwork:
    """Reads ``NAME``, ``NAME@FILE``, ``NAME@notop`` (the weights without a classifier), or the file of a model."""
    keras = _keras_on_torch()
    keras.utils.clear_session(
        free_memory=False
    )  # layers are numbered from the start, so that names are always the same
    if Path(rest).suffix.lower() in _WHOLE and "@" not in rest:
        return _whole(Path(rest).expanduser(), request)
    address = Address.of(rest, request)
    refuse_unknown("network of keras.applications", address.name, [*applications(), SQUEEZENET])
    refuse_unknown("weights", address.weights or "imagenet", ["imagenet", NOTOP])
    model, has_classifier = _squeezenet(address, request) if address.name == SQUEEZENET else _built(address, request)
    mode = "caffe" if address.name == SQUEEZENET else _mode(address.name)
    notes: tuple[str, ...] = (f"Pixels are prepared as preprocess_input does in mode {mode!r}.",)
    if address.is_random:
        notes = ("The weights are random: only the architecture is Keras's.", *notes)
    facts: dict[str, Any] = {"name": "random" if address.is_random else "imagenet"}
    if address.file is not None:
        facts = file_facts(address.file)
    asked = request.hints.normalisation()
    source = _source(model, asked or MODES[mode], request.hints, has_classifier=has_classifier)
    named = address.file is None and not address.is_random
    return source_network(
        source,
        address.name,
        Provenance(
            source=f"keras.applications {address.name}" if address.name != SQUEEZENET else "SqueezeNet 1.1 in Keras",
            licence="Apache-2.0 (Keras); the weights were trained on ImageNet" if named else "unknown",
            weights={**facts, "classifier": has_classifier},
            notes=notes,
        ),
        imagenet_classes() if has_classifier and model.outputs[0].shape[-1] == 1000 else None,
    )


def applications() -> list[str]:
    """Gives the names of the networks of keras.applications."""
    room = _keras_on_torch().applications
    return [name for name in dir(room) if name[0].isupper() and callable(getattr(room, name))]


def _keras_on_torch() -> Any:
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
        import torch  # noqa: F401 - Keras finds out too late that it is missing
    except ImportError:
        raise MissingExtraError.of("Keras 3 on torch", "keras", "Exporting a network of Keras") from None
    if keras.backend.backend() != "torch":
        raise InputError(
            f"Keras runs on {keras.backend.backend()} in this process",
            expected="torch, through which its networks become ONNX",
            remedy="set the environment variable KERAS_BACKEND=torch before Keras is imported",
        )
    return keras


def _whole(path: Path, request: ExportRequest) -> SourceNetwork:
    """Reads a model that was saved whole; how it takes pixels must be said, unless its first layers do it."""
    if request.weights is not None:
        raise InputError(f"weights is {request.weights!r}", expected="none: the file holds its own")
    model = load_whole(path)
    hints = request.hints
    if (sidecar := path.with_suffix(".json")).is_file():
        hints = hints.over(read_sidecar(sidecar))
    normalisation, notes = hints.normalisation(), ()
    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    if normalisation is None and type(first).__name__ in ("Rescaling", "Normalization"):
        normalisation = FAMILIES["raw"]
        notes = ("The network begins by scaling pixels itself: it is given 0 to 255.",)  # type: ignore[assignment]  # longer
    if normalisation is None:
        raise InputError(
            f"{path.name} does not say how it takes pixels",
            expected="a family (torch, caffe, tf, unit, raw), or the mean and std in units of 0 to 255",
            remedy=f"give --family, or --mean and --std, or write them into {sidecar.name} beside it",
        )
    one_each = len(model.inputs) == len(model.outputs) == 1
    sides = tuple(model.inputs[0].shape[1:]) if one_each else ()
    if len(sides) != 3 or sides[2] != 3 or (None in sides[:2] and request.size is None):
        raise BackboneError(
            f"{path.name} takes {model.input_shape} and gives {model.output_shape}",
            expected="one batch of colour images (N, H, W, 3) of a known size",
            remedy="give --size where the size is free",
        )
    if request.size is not None and sides[:2] != (request.size, request.size):
        model = _resized(model, request.size, path)
    return source_network(
        _source(model, normalisation, hints, has_classifier=_classifies(model)),
        hints.name or path.stem,
        Provenance(
            source=hints.source or f"the Keras model {path.name}",
            licence=hints.licence or "unknown",
            weights=file_facts(path),
            notes=notes,
        ),
        hints.class_names(),
    )


def _classifies(model: Any) -> bool:
    return len(model.outputs[0].shape) == 2 and type(model.layers[-1]).__name__ in ("Activation", "Dense", "Softmax")


def _resized(model: Any, size: int, path: Path) -> Any:
    import keras

    try:
        image = keras.Input((size, size, 3))
        return keras.models.clone_model(model, input_tensors=image, call_function=lambda layer, *a, **k: layer(*a, **k))
    except Exception as reason:  # Keras raises whatever a layer's own code raises
        raise BackboneError(f"{path.name} cannot take {size} pixels: {reason}", expected="its own size") from reason


def _source(model: Any, normalisation: Normalisation, hints: Hints, *, has_classifier: bool) -> KerasSource:
    import keras

    high, wide = model.inputs[0].shape[1:3]
    resize = hints.resize if hints.resize is not None else (high, wide)
    preprocessing = Preprocessing(resize, (high, wide), hints.interpolation or "bilinear")

    def prepare(path: Path) -> npt.NDArray[Any]:
        if resize != (high, wide):
            return network_input(path, preprocessing, normalisation).transpose(0, 2, 3, 1)
        image = keras.utils.load_img(path, target_size=(high, wide), interpolation=preprocessing.interpolation)
        pixels = keras.utils.img_to_array(image)[None]
        channels = pixels[..., ::-1] if normalisation.channels == "bgr" else pixels
        return np.ascontiguousarray((channels - normalisation.mean) / normalisation.std, dtype=np.float32)

    return KerasSource(
        model=model,
        prepare=prepare,
        preprocessing=preprocessing,
        normalisation=normalisation,
        has_classifier=has_classifier,
        framework=f"Keras {keras.__version__} on torch",
    )


def _module(name: str) -> Any:
    import keras

    return sys.modules[getattr(keras.applications, name).__module__]


def _mode(name: str) -> str:
    """Finds what a family's own ``preprocess_input`` does to pixels."""
    probe = np.array([[[[0, 0, 0], [255, 255, 255], [10, 120, 230]]]], dtype=np.float32)
    wanted = np.asarray(_module(name).preprocess_input(probe.copy(), data_format="channels_last"))
    for mode, normalisation in MODES.items():
        channels = probe[..., ::-1] if normalisation.channels == "bgr" else probe
        if np.allclose((channels - normalisation.mean) / normalisation.std, wanted, rtol=1e-5, atol=1e-4):
            return mode
    raise BackboneError(f"preprocess_input of {name} does something unknown", expected=f"one of {', '.join(MODES)}")


def _built(address: Address, request: ExportRequest) -> tuple[Any, bool]:
    """Gives the model with its weights, and whether it has its classifier."""
    import keras

    build = getattr(keras.applications, address.name)
    shape = (request.size, request.size, 3) if request.size is not None else None

    def model(*, top: bool, weights: str | None = None) -> Any:
        raw = {"classifier_activation": None} if top else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that weights were not trained at: the card tells the size
            sides = shape or (None if top else _own_shape(build))
            network = build(include_top=top, weights=weights, input_shape=sides, **raw)
            if None in network.inputs[0].shape[1:3]:
                network = build(include_top=top, weights=weights, input_shape=(_ANY_SIZE, _ANY_SIZE, 3), **raw)
            return network

    top = address.weights != NOTOP
    try:
        if address.is_random:
            return _seeded(lambda: model(top=True)), True
        if address.file is None:
            return model(top=top, weights="imagenet"), top
    except Exception as reason:  # of the network, the disk, or a size that the network cannot take
        raise _unavailable(address, request, reason) from reason
    return _with_file(model, address.file)


def _own_shape(build: Callable[..., Any]) -> tuple[int, int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, high, wide, _ = build(weights=None).input_shape
    return high or _ANY_SIZE, wide or _ANY_SIZE, 3


def _with_file(model: Callable[..., Any], path: Path) -> tuple[Any, bool]:
    """Loads a file of weights, which may or may not hold the classifier."""
    check_weights(path)
    reasons = []
    for top in (True, False):
        network = model(top=top)
        try:
            network.load_weights(path)
        except PenultError:
            raise
        except Exception as reason:  # noqa: BLE001 - Keras raises ValueError, KeyError and others for what does not fit
            reasons.append(reason)
        else:
            return network, top
    raise misfit(path.name, reasons[0])


def _squeezenet(address: Address, request: ExportRequest) -> tuple[Any, bool]:
    side = request.size or 227
    if address.is_random:
        return _seeded(lambda: squeezenet1_1(side)), True
    if address.file is None:
        raise InputError(
            "Keras has no weights of SqueezeNet of its own",
            expected="a file of weights, or random ones",
            remedy=f"keras:{SQUEEZENET}@FILE.h5",
        )
    check_weights(address.file)
    return load_by_name(address.file, side)


def _seeded(build: Callable[[], Any]) -> Any:
    """Builds with random weights from one seed, and leaves the process's own randomness as it was."""
    import keras
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            keras.utils.set_random_seed(0)
            return build()
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


def _unavailable(address: Address, request: ExportRequest, reason: Exception) -> PenultError:
    url = re.search(r"https?://[^\s:]+", str(reason))
    if url is None:
        return InputError(
            f"keras.applications cannot build {address.name}: {str(reason).strip().splitlines()[0]}",
            expected="a size that the network takes" if request.size else "a network that Keras builds",
            remedy=f"keras:{address.name}@{NOTOP} takes other sizes" if request.size else "",
        )
    return BackboneError(
        f"The weights {url.group().rpartition('/')[2]} cannot be had from {url.group()}: {reason}",
        expected="a network connection, or the file in Keras's cache",
        remedy=f"get the file elsewhere and name it: keras:{address.name}@FILE",
    )
