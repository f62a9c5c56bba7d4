"""Reads whole models that Keras saved as ``.keras`` or ``.h5``.

Each file is checked first: it may not run code, read other files, or expand without bound.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penult.errors import BackboneError, InputError, MissingFileError, first_line
from penult.exporters.requests import FAMILIES, ExportRequest, read_sidecar
from penult.exporters.sources.base import Provenance, SourceNetwork, file_facts
from penult.exporters.sources.keras.network import make_keras_source, source_network

__all__ = ["check_weights", "load_saved_model", "read_saved_model"]

_LARGEST_BYTES = 4 << 30
_LARGEST_CONFIG = 64 << 20
_DEEPEST = 32
_MOST_GROUPS = 20_000  # the largest network of keras.applications has about 2,000
# These run code from the file, or read other files.
_REFUSED_LAYERS = {
    "FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper", "TextVectorization", "StringLookup",
    "IntegerLookup", "CategoryEncoding", "HashedCrossing", "Hashing",
}  # fmt: skip
_OTHER_CLASSES = {"Functional", "Model", "Sequential", "__keras_tensor__", "__tuple__"}


def read_saved_model(path: Path, request: ExportRequest) -> SourceNetwork:
    """Reads a saved model; hints must specify its preprocessing, unless its first layer scales pixels."""
    if request.weights is not None:
        raise InputError(f"weights is {request.weights!r}", expected="none, because the file contains its weights")
    model = load_saved_model(path)
    hints = request.hints
    if (sidecar := path.with_suffix(".json")).is_file():
        hints = hints.over(read_sidecar(sidecar))
    normalisation, notes = hints.normalisation(), ()
    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    if normalisation is None and type(first).__name__ in ("Rescaling", "Normalization"):
        normalisation = FAMILIES["raw"]
        notes = ("The network begins by scaling pixels itself: it is given 0 to 255.",)  # type: ignore[assignment]  # a longer tuple
    if normalisation is None:
        raise InputError(
            f"{path.name} does not specify its preprocessing",
            expected="a family (torch, caffe, tf, unit, raw), or the mean and std in units of 0 to 255",
            remedy=f"pass --family, or --mean and --std, or write them into {sidecar.name} next to it",
        )
    one_each = len(model.inputs) == len(model.outputs) == 1
    sides = tuple(model.inputs[0].shape[1:]) if one_each else ()
    if len(sides) != 3 or sides[2] != 3 or (None in sides[:2] and request.size is None):
        raise BackboneError(
            f"The input of {path.name} is {model.input_shape}, and its output {model.output_shape}",
            expected="one batch of colour images (N, H, W, 3) with a known size, and one output",
            remedy="pass --size if the file does not fix the size",
        )
    if request.size is not None and sides[:2] != (request.size, request.size):
        model = _resized(model, request.size, path)
    return source_network(
        make_keras_source(model, normalisation, hints, has_classifier=_classifies(model)),
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
    """Returns a copy of the model for another image size, with the same weights."""
    import keras

    try:
        image = keras.Input((size, size, 3))
        is_wrapped = isinstance(getattr(model, "input", None), list)
        clone = keras.models.clone_model(model, input_tensors=[image] if is_wrapped else image)
        clone.set_weights(model.get_weights())
    except Exception as reason:  # the code of a layer may raise any exception
        raise BackboneError(f"{path.name} cannot be resized to {size}: {reason}", expected="its own size") from reason
    return clone


def load_saved_model(path: Path) -> Any:
    """Returns the Keras model of a ``.keras`` or ``.h5`` file that contains its configuration."""
    import keras

    if not path.is_file():
        raise MissingFileError(f"The Keras model {path} does not exist")
    config = _zip_config(path) if zipfile.is_zipfile(path) else _h5_config(path)
    _check_classes(config, path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as reason:  # the code of a layer may raise any exception
        raise BackboneError(
            f"Keras cannot load {path}: {first_line(reason)}",
            expected="a whole saved model with Keras's own layers only",
        ) from reason


def check_weights(path: Path) -> None:
    """Raises BackboneError for an HDF5 file that is damaged, refers to other files, or is too large."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            total = sum(_size_bytes(dataset, path) for dataset in _datasets(file, path))
    except OSError as reason:
        raise BackboneError(f"{path} cannot be read: {first_line(reason)}", expected="a complete HDF5 file") from reason
    if total > _LARGEST_BYTES:
        raise BackboneError(f"{path} contains {total:,} bytes of weights", expected=f"at most {_LARGEST_BYTES:,}")


def _datasets(file: Any, path: Path) -> Iterator[Any]:
    import h5py

    waiting, count = [(file, 0)], 0
    while waiting:
        group, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_GROUPS:  # a group may contain itself, or be linked several times
            raise BackboneError(
                f"{path} has nested groups, {depth} levels deep after {count:,} groups",
                expected=f"at most {_DEEPEST} levels and {_MOST_GROUPS:,} groups",
            )
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise BackboneError(f"{path} links to another place at {name!r}", expected="weights inside the file")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((item, depth + 1))
            else:
                yield item


def _size_bytes(dataset: Any, path: Path) -> int:
    if dataset.external or dataset.is_virtual:
        raise BackboneError(f"{path} stores {dataset.name!r} in other files", expected="weights inside the file")
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def _zip_config(path: Path) -> Any:
    import tempfile

    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="penult-") as folder:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if sum(sizes.values()) > _LARGEST_BYTES or sizes.get("config.json", 0) > _LARGEST_CONFIG:
            raise BackboneError(
                f"{path} unpacks to {sum(sizes.values()):,} bytes", expected=f"at most {_LARGEST_BYTES:,}"
            )
        if not {"config.json", "model.weights.h5"} <= set(sizes):
            raise BackboneError(f"{path} contains {', '.join(sorted(sizes)[:5])}", expected="a model that Keras saved")
        check_weights(Path(archive.extract("model.weights.h5", folder)))
        return _parsed(archive.read("config.json"), path)


def _h5_config(path: Path) -> Any:
    import h5py

    check_weights(path)
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise InputError(
            f"{path} contains only weights, without their network",
            expected="a whole saved model",
            remedy=f"name the architecture: keras:NAME@{path.name}, such as keras:VGG16@{path.name}",
        )
    return _parsed(text, path)


def _parsed(text: str | bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise BackboneError(f"The configuration in {path} cannot be read: {first_line(reason)}") from reason


def _check_classes(config: Any, path: Path) -> None:
    """Raises BackboneError if the configuration uses classes other than Keras's own."""
    known = _known_classes()
    for item in _objects(config):
        name, module = item["class_name"], item.get("module")
        own = module is None or str(module).partition(".")[0] == "keras" or name in _OTHER_CLASSES
        if name not in known or not own:
            raise BackboneError(
                f"{path} uses {module or 'the class'} {name!r}",
                expected="Keras's own layers, which run no code from the file",
                remedy="if you trust the file, build the network in your own code and export it to ONNX there",
            )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _known_classes() -> set[str]:
    import keras

    modules = (keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.dtype_policies)
    names = {name for module in modules for name in dir(module) if isinstance(getattr(module, name), type)}
    return (names | _OTHER_CLASSES) - _REFUSED_LAYERS
