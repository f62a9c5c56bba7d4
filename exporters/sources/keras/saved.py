"""Reads a model that Keras saved whole, as ``.keras`` or ``.h5``: a network of one image batch and one output."""

from pathlib import Path
from typing import Any

from penult.errors import BackboneError, InputError
from penult.exporters.sources.addresses import file_facts
from penult.exporters.sources.hints import FAMILIES, read_sidecar
from penult.exporters.sources.keras.file import load_whole
from penult.exporters.sources.keras.network import source_network
from penult.exporters.sources.keras.pixels import keras_source
from penult.exporters.sources.source_network import ExportRequest, Provenance, SourceNetwork

__all__ = ["read_saved"]


def read_saved(path: Path, request: ExportRequest) -> SourceNetwork:
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
        keras_source(model, normalisation, hints, has_classifier=_classifies(model)),
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
    """Builds the same layers for images of another size, and gives them the same weights."""
    import keras

    try:
        image = keras.Input((size, size, 3))
        is_wrapped = isinstance(getattr(model, "input", None), list)
        clone = keras.models.clone_model(model, input_tensors=[image] if is_wrapped else image)
        clone.set_weights(model.get_weights())
    except Exception as reason:  # Keras raises whatever a layer's own code raises
        raise BackboneError(f"{path.name} cannot take {size} pixels: {reason}", expected="its own size") from reason
    return clone
