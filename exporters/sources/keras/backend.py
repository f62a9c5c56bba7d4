"""Keras as the exporters use it: on torch, and with randomness that is always the same."""

import os
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from penult.errors import InputError, MissingExtraError

__all__ = ["keras_on_torch", "seeded"]


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
