"""The source ``keras:NAME`` or ``keras:FILE``: a network of keras.applications, or a model that Keras saved.

Keras runs on its torch backend. Each family of networks has its own normalisation, which is found by calling the
family's ``preprocess_input``.
"""

from pathlib import Path
from typing import Any

from penult.errors import InputError
from penult.exporters.classes import imagenet_classes
from penult.exporters.requests import ExportRequest
from penult.exporters.sources.base import Address, Provenance, SourceNetwork, check_name, file_facts
from penult.exporters.sources.keras.applications import (
    NOTOP,
    application_names,
    build_application,
    keras_on_torch,
    seeded,
    weight_notes,
)
from penult.exporters.sources.keras.network import MODES, make_keras_source, preprocessing_mode, source_network
from penult.exporters.sources.keras.saved import check_weights, read_saved_model
from penult.exporters.sources.keras.squeezenet import load_by_name, squeezenet1_1
from penult.exporters.sources.norm_calibration import calibrate_keras, calibration_batch

__all__ = ["read_keras"]

SQUEEZENET = "squeezenet1_1"

_WHOLE = {".keras", ".h5", ".hdf5"}


def read_keras(rest: str, request: ExportRequest) -> SourceNetwork:
    """Reads ``NAME``, ``NAME@FILE``, ``NAME@notop`` (weights without a classifier), or the file of a model."""
    keras = keras_on_torch()
    request.hints.check_no_tensors("Keras")
    keras.utils.clear_session(free_memory=False)  # restarts the numbers in layer names, so that names are reproducible
    if Path(rest).suffix.lower() in _WHOLE and "@" not in rest:
        return read_saved_model(Path(rest).expanduser(), request)
    address = Address.of(rest, request)
    check_name("network of keras.applications", address.name, [*application_names(), SQUEEZENET])
    check_name("weights", address.weights or "imagenet", ["imagenet", NOTOP])
    model, has_classifier = (
        _squeezenet(address, request) if address.name == SQUEEZENET else build_application(address, request)
    )
    mode = "caffe" if address.name == SQUEEZENET else preprocessing_mode(address.name)
    notes = (*weight_notes(address), f"Pixels are prepared as preprocess_input does in mode {mode!r}.")
    facts: dict[str, Any] = {"name": "random" if address.is_random else "imagenet"}
    if address.file is not None:
        facts = file_facts(address.file)
    asked = request.hints.normalisation()
    source = make_keras_source(model, asked or MODES[mode], request.hints, has_classifier=has_classifier)
    if address.is_random:
        calibrate_keras(model, calibration_batch(source.preprocessing.crop, source.normalisation))
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


def _squeezenet(address: Address, request: ExportRequest) -> tuple[Any, bool]:
    side = request.size or 227
    if address.is_random:
        return seeded(lambda: squeezenet1_1(side)), True
    if address.file is None:
        raise InputError(
            "Keras contains no weights of SqueezeNet",
            expected="a file of weights, or random weights",
            remedy=f"keras:{SQUEEZENET}@FILE.h5",
        )
    check_weights(address.file)
    return load_by_name(address.file, side)
