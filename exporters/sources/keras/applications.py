"""Builds the networks of keras.applications on torch, with their own, a file's, or random weights."""

import os
import random
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from penult.errors import BackboneError, InputError, MissingExtraError, PenultError, first_line
from penult.exporters.requests import ExportRequest
from penult.exporters.sources.base import Address
from penult.exporters.sources.keras.saved import check_weights
from penult.exporters.sources.torch.weights import mismatch_error

__all__ = ["NOTOP", "application_names", "build_application", "keras_on_torch", "seeded", "weight_notes"]

NOTOP = "notop"
_REFUSED = "NASNetMobile"
_NOT_TRUSTED = (
    f"Keras refuses {_REFUSED} on torch, where its own weights gave wrong classes. Built all the same, it gave with "
    "drawn weights what it gives on JAX (relative error under 1e-6)."
)
_ANY_SIZE = 224  # of MobileNetV3, which accepts any size and was trained at this one


def application_names() -> list[str]:
    """Returns the names of the networks in keras.applications."""
    module = keras_on_torch().applications
    return [name for name in dir(module) if name[0].isupper() and callable(getattr(module, name))]


def weight_notes(address: Address) -> tuple[str, ...]:
    """Returns the notes on a network and its weights for the card."""
    random = ("The weights are random: only the architecture is Keras's.",) if address.is_random else ()
    return (*random, *([_NOT_TRUSTED] if address.name == _REFUSED else []))


def build_application(address: Address, request: ExportRequest) -> tuple[Any, bool]:
    """Returns the model with its weights, and whether it has a classifier."""
    build = _builder(address)
    shape = (request.size, request.size, 3) if request.size is not None else None

    def model(*, top: bool, weights: str | None = None) -> Any:
        raw = {"classifier_activation": None} if top else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes without pretrained weights: the card shows the size
            sides = shape or (None if top else _own_shape(build))
            network = build(include_top=top, weights=weights, input_shape=sides, **raw)
            if None in network.inputs[0].shape[1:3]:
                network = build(include_top=top, weights=weights, input_shape=(_ANY_SIZE, _ANY_SIZE, 3), **raw)
            return network

    top = address.weights != NOTOP
    try:
        if address.is_random:
            return seeded(lambda: model(top=True)), True
        if address.file is None:
            return model(top=top, weights="imagenet"), top
    except Exception as reason:  # from the network connection, the disk, or an unsupported size
        raise _unavailable(address, request, reason) from reason
    return _with_file(model, address.file)


def _builder(address: Address) -> Callable[..., Any]:
    import keras

    build = getattr(keras.applications, address.name)
    if address.name != _REFUSED:
        return build  # type: ignore[no-any-return]  # Keras has no types
    if address.file is None and not address.is_random:
        raise BackboneError(
            f"Keras does not support {_REFUSED} on torch, where its own weights gave wrong classes",
            expected="random weights, or your own file",
            remedy=f"choose another network, or try keras:{_REFUSED}@FILE and check its predicted classes",
        )

    def mobile(*, include_top: bool = True, input_shape: Any = None, **given: Any) -> Any:
        """Builds the network like Keras, without its check of the backend."""
        sides = input_shape or (_ANY_SIZE, _ANY_SIZE, 3)
        return sys.modules[build.__module__].NASNet(
            sides,
            penultimate_filters=1056,
            num_blocks=4,
            stem_block_filters=32,
            skip_reduction=False,
            filter_multiplier=2,
            include_top=include_top,
            default_size=_ANY_SIZE,
            **given,
        )

    return mobile


def _own_shape(build: Callable[..., Any]) -> tuple[int, int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, high, wide, _ = build(weights=None).input_shape
    return high or _ANY_SIZE, wide or _ANY_SIZE, 3


def _with_file(model: Callable[..., Any], path: Path) -> tuple[Any, bool]:
    """Loads a file of weights, with or without the classifier."""
    check_weights(path)
    reasons = []
    for top in (True, False):
        network = model(top=top)
        try:
            network.load_weights(path)
        except PenultError:
            raise
        except Exception as reason:  # noqa: BLE001 - Keras raises ValueError, KeyError and others if weights do not fit
            reasons.append(reason)
        else:
            return network, top
    raise mismatch_error(path.name, reasons[0])


def _unavailable(address: Address, request: ExportRequest, reason: Exception) -> PenultError:
    url = re.search(r"https?://[^\s:]+", str(reason))
    if url is None:
        return InputError(
            f"keras.applications cannot build {address.name}: {first_line(reason)}",
            expected="a size that the network accepts" if request.size else "a network that Keras can build",
            remedy=f"use keras:{address.name}@{NOTOP} for other sizes" if request.size else "",
        )
    return BackboneError(
        f"The weights {url.group().rpartition('/')[2]} cannot be downloaded from {url.group()}: {reason}",
        expected="a network connection, or the file in Keras's cache",
        remedy=f"get the file elsewhere and pass keras:{address.name}@FILE",
    )


def keras_on_torch() -> Any:
    """Imports Keras, and raises InputError unless it runs on torch."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
        import torch  # noqa: F401 - Keras detects too late that it is missing
    except ImportError:
        raise MissingExtraError.of("Keras 3 on torch", "keras", "Exporting a network of Keras") from None
    if keras.backend.backend() != "torch":
        raise InputError(
            f"Keras runs on {keras.backend.backend()} in this process",
            expected="the backend torch, which can export to ONNX",
            remedy="set KERAS_BACKEND=torch before importing Keras",
        )
    return keras


def seeded(build: Callable[[], Any]) -> Any:
    """Returns a model with random weights from a fixed seed; restores the random states afterwards."""
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
