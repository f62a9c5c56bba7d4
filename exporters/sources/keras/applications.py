"""Builds the networks of keras.applications on torch, with their own weights, weights from a file, or random ones."""

import os
import random
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from penult.errors import BackboneError, InputError, MissingExtraError, PenultError
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
_ANY_SIZE = 224  # of MobileNetV3, which takes any size and was trained at this one


def application_names() -> list[str]:
    """Gives the names of the networks of keras.applications."""
    room = keras_on_torch().applications
    return [name for name in dir(room) if name[0].isupper() and callable(getattr(room, name))]


def weight_notes(address: Address) -> tuple[str, ...]:
    """Gives what the card must say of a network and its weights."""
    random = ("The weights are random: only the architecture is Keras's.",) if address.is_random else ()
    return (*random, *([_NOT_TRUSTED] if address.name == _REFUSED else []))


def build_application(address: Address, request: ExportRequest) -> tuple[Any, bool]:
    """Gives the model with its weights, and whether it has its classifier."""
    build = _builder(address)
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
            return seeded(lambda: model(top=True)), True
        if address.file is None:
            return model(top=top, weights="imagenet"), top
    except Exception as reason:  # of the network, the disk, or a size that the network cannot take
        raise _unavailable(address, request, reason) from reason
    return _with_file(model, address.file)


def _builder(address: Address) -> Callable[..., Any]:
    import keras

    build = getattr(keras.applications, address.name)
    if address.name != _REFUSED:
        return build  # type: ignore[no-any-return]  # Keras has no types
    if address.file is None and not address.is_random:
        raise BackboneError(
            f"Keras refuses {_REFUSED} on torch: its own weights gave wrong classes there",
            expected="random weights, or a file of yours",
            remedy=f"take another network, or try keras:{_REFUSED}@FILE and look at the classes that it gives",
        )

    def mobile(*, include_top: bool = True, input_shape: Any = None, **given: Any) -> Any:
        """Does what Keras does after it has refused torch."""
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
    raise mismatch_error(path.name, reasons[0])


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


def keras_on_torch() -> Any:
    """Imports Keras, and makes sure that it runs on torch."""
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


def seeded(build: Callable[[], Any]) -> Any:
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
