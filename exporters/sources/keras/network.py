"""Turns a Keras model on torch into a source network with a channels-first graph."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError
from penult.exporters.card import LOGITS, Normalisation, Preprocessing, Tap
from penult.exporters.graph.channels_first import to_channels_first
from penult.exporters.graph.convolution_folding import fold_into_convolutions
from penult.exporters.graph.pooling import pool_in_numpy
from penult.exporters.graph.size_folding import remove_identities
from penult.exporters.graph.taps import KnownTensors
from penult.exporters.requests import FAMILIES, Hints
from penult.exporters.sources.base import Provenance, RunSource, SourceNetwork, prepare_image
from penult.exporters.sources.torch.tracing import empty_marker, export_torch

__all__ = ["MODES", "KerasSource", "make_keras_source", "preprocessing_mode", "source_network"]

# For ONNX, these need their sizes and pads as numbers; Keras computes them from shapes.
_SIZED = ("avg_pool2d", "conv2d", "layer_norm", "max_pool2d", "pad")
MODES = {
    # Keras's own means of the Caffe networks have decimals.
    "caffe": Normalisation("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "tf": FAMILIES["tf"],
    "torch": FAMILIES["torch"],
    "none": FAMILIES["raw"],  # the first layers of the network normalise
}


@dataclass(frozen=True)
class KerasSource:
    """A Keras model and its preprocessing: ``prepare`` reads an image file as a batch (1, H, W, 3)."""

    model: Any
    prepare: Callable[[Path], npt.NDArray[Any]]
    preprocessing: Preprocessing
    normalisation: Normalisation
    has_classifier: bool
    framework: str
    layers: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", _tappable_layers(self.model))

    @property
    def end(self) -> str:
        """The name of the model's output in the graph."""
        return LOGITS if self.has_classifier else str(self.model.layers[-1].name)


def source_network(
    source: KerasSource, name: str, provenance: Provenance, classes: tuple[str, ...] | None
) -> SourceNetwork:
    """Returns the traced model, with a run of Keras for the proof."""
    import torch

    source.model.trainable = False
    names = [source.end, *(layer for layer in source.layers if layer != source.end)]
    sample = torch.zeros(2, *source.preprocessing.crop, 3)
    with _sizes_as_numbers():
        model = export_torch(_traceable(source, names), names, sample, what=name)
    model = remove_identities(to_channels_first(model), names)
    return SourceNetwork(
        name=name,
        model=fold_into_convolutions(model),
        preprocessing=source.preprocessing,
        normalisation=source.normalisation,
        provenance=provenance,
        classes=classes,
        landmarks=KnownTensors(None if source.has_classifier else source.end, parts=frozenset(names)),
        run=_runner(source),
        run_with=source.framework,
    )


def _tappable_layers(model: Any) -> dict[str, Any]:
    """Returns the layers and operations that run once and return a feature map, tokens or a vector."""
    found = {}
    for layer in getattr(model, "operations", model.layers):
        nodes = getattr(layer, "_inbound_nodes", ())
        output = layer.output if len(nodes) == 1 and type(layer).__name__ != "InputLayer" else None
        if output is not None and not isinstance(output, list | tuple | dict) and len(output.shape) in (2, 3, 4):
            found[layer.name] = layer
    return found


def _with_outputs(model: Any, values: Sequence[Any]) -> Any:
    import keras

    return keras.Model(model.inputs[0], list(values))


def _traceable(source: KerasSource, names: Sequence[str]) -> Any:
    import torch

    inner = _with_outputs(source.model, [source.model.outputs[0], *(source.layers[name].output for name in names[1:])])

    class Traceable(torch.nn.Module):  # type: ignore[misc]  # torch may be absent where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, image: Any) -> tuple[Any, ...]:
            end, *rest = self.inner(image, training=False)
            return (end.clone(), *map(empty_marker, rest))

    return Traceable().eval()


@contextmanager
def _sizes_as_numbers() -> Iterator[None]:
    """Converts sizes to numbers in calls of torch's functions during tracing, where Keras passes traced values."""
    from torch.nn import functional

    real = {name: getattr(functional, name) for name in _SIZED}
    for name, function in real.items():
        setattr(functional, name, _with_numbers(function))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(functional, name, function)


def _with_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def plain(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [int(item) if isinstance(item, torch.Tensor) and item.dim() == 0 else item for item in value]

    def call(*given: Any, **named: Any) -> Any:
        return function(*map(plain, given), **{name: plain(value) for name, value in named.items()})

    return call


def _runner(source: KerasSource) -> RunSource:
    """Returns a function that runs the model with Keras's preprocessing, image by image."""

    def run(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, npt.NDArray[Any]]:
        values = {tap.name: source.layers[tap.tensor].output for tap in taps if tap.tensor in source.layers}
        wanted = {tap.name for tap in taps}
        if "penultimate" in wanted:
            values["penultimate"] = _before_classifier(source)
        if LOGITS in wanted and not _ends_in_probabilities(source.model):
            values[LOGITS] = source.model.outputs[0]
        model = _with_outputs(source.model, [*values.values()])
        pooling = {tap.name: tap.pooling for tap in taps}
        rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in values}
        for path in paths:
            outputs = model(source.prepare(path), training=False)
            for name, output in zip(values, outputs, strict=True):
                numbers = output.detach().cpu().numpy()
                first = np.moveaxis(numbers, -1, 1) if numbers.ndim == 4 else numbers
                rows[name].append(pool_in_numpy(first, pooling[name]))
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    return run


def _before_classifier(source: KerasSource) -> Any:
    """Returns the input of the last Dense or Conv2D layer, or the output of a model without a classifier."""
    if not source.has_classifier:
        return source.model.outputs[0]
    for layer in reversed(source.model.layers):
        if type(layer).__name__ in ("Conv2D", "Dense"):
            return layer.input
    raise BackboneError("The Keras model has no Dense and no Conv2D layer", expected="an image classifier")


def _ends_in_probabilities(model: Any) -> bool:
    last = model.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    return activation in ("softmax", "sigmoid") or type(last).__name__ == "Softmax"


def preprocessing_mode(name: str) -> str:
    """Returns the mode of a family's ``preprocess_input``, found by calling it."""
    import keras

    probe = np.array([[[[0, 0, 0], [255, 255, 255], [10, 120, 230]]]], dtype=np.float32)
    family = sys.modules[getattr(keras.applications, name).__module__]
    wanted = np.asarray(family.preprocess_input(probe.copy(), data_format="channels_last"))
    for mode, normalisation in MODES.items():
        channels = probe[..., ::-1] if normalisation.channels == "bgr" else probe
        if np.allclose((channels - normalisation.mean) / normalisation.std, wanted, rtol=1e-5, atol=1e-4):
            return mode
    raise BackboneError(f"preprocess_input of {name} uses an unknown mode", expected=f"one of {', '.join(MODES)}")


def make_keras_source(model: Any, normalisation: Normalisation, hints: Hints, *, has_classifier: bool) -> KerasSource:
    """Returns the model with Keras's own preprocessing, or with that of the hints."""
    import keras

    high, wide = model.inputs[0].shape[1:3]
    resize = hints.resize if hints.resize is not None else (high, wide)
    preprocessing = Preprocessing(resize, (high, wide), hints.interpolation or "bilinear")

    def prepare(path: Path) -> npt.NDArray[Any]:
        if resize != (high, wide):
            return prepare_image(path, preprocessing, normalisation).transpose(0, 2, 3, 1)
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
