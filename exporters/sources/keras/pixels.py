"""How pixels reach a network of Keras: each family has a way of its own, and an image is squeezed to the size."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError
from penult.exporters.card import Normalisation, Preprocessing
from penult.exporters.sources.hints import FAMILIES, Hints
from penult.exporters.sources.keras.network import KerasSource
from penult.exporters.sources.plain_pixels import network_input

__all__ = ["MODES", "keras_source", "mode_of"]

MODES = {
    # Keras's own means of the Caffe networks have decimals.
    "caffe": Normalisation("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "tf": FAMILIES["tf"],
    "torch": FAMILIES["torch"],
    "none": FAMILIES["raw"],  # the network begins with layers that do it
}


def mode_of(name: str) -> str:
    """Finds what a family's own ``preprocess_input`` does to pixels, by asking it."""
    import keras

    probe = np.array([[[[0, 0, 0], [255, 255, 255], [10, 120, 230]]]], dtype=np.float32)
    family = sys.modules[getattr(keras.applications, name).__module__]
    wanted = np.asarray(family.preprocess_input(probe.copy(), data_format="channels_last"))
    for mode, normalisation in MODES.items():
        channels = probe[..., ::-1] if normalisation.channels == "bgr" else probe
        if np.allclose((channels - normalisation.mean) / normalisation.std, wanted, rtol=1e-5, atol=1e-4):
            return mode
    raise BackboneError(f"preprocess_input of {name} does something unknown", expected=f"one of {', '.join(MODES)}")


def keras_source(model: Any, normalisation: Normalisation, hints: Hints, *, has_classifier: bool) -> KerasSource:
    """Joins a model with the way in which its makers prepare an image file for it."""
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
