"""SqueezeNet 1.1 in Keras, which is not in ``keras.applications`` and is often distributed as a file of weights.

Layers have the names of the Caffe original, with underscores for slashes, which Keras no longer allows.
"""

from pathlib import Path
from typing import Any

from penult.errors import BackboneError

__all__ = ["load_by_name", "squeezenet1_1"]

_SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}


def squeezenet1_1(side: int = 227, *, classes: int | None = 1000) -> Any:
    """Returns the network for images (side, side, 3), without a classifier if ``classes`` is None."""
    from keras import Input, Model, layers

    image = Input((side, side, 3), name="image")
    last = layers.Conv2D(64, 3, strides=2, name="conv1")(image)
    last = layers.Activation("relu", name="relu_conv1")(last)
    last = layers.MaxPooling2D(3, strides=2, name="pool1")(last)
    for number, width in _SQUEEZED.items():
        last = _fire(last, f"fire{number}", width)
        if number in (3, 5):
            last = layers.MaxPooling2D(3, strides=2, name=f"pool{number}")(last)
    last = layers.Dropout(0.5, name="drop9")(last)
    if classes is not None:
        last = layers.Conv2D(classes, 1, name="conv10")(last)
        last = layers.Activation("relu", name="relu_conv10")(last)
        last = layers.GlobalAveragePooling2D(name="pool10")(last)
    return Model(image, last, name="squeezenet1_1")


def _fire(last: Any, name: str, width: int) -> Any:
    from keras import layers

    last = layers.Conv2D(width, 1, name=f"{name}_squeeze1x1")(last)
    last = layers.Activation("relu", name=f"{name}_relu_squeeze1x1")(last)
    sides = []
    for side in (1, 3):
        part = layers.Conv2D(4 * width, side, padding="same", name=f"{name}_expand{side}x{side}")(last)
        sides.append(layers.Activation("relu", name=f"{name}_relu_expand{side}x{side}")(part))
    return layers.Concatenate(name=f"{name}_concat")(sides)


def load_by_name(path: Path, side: int = 227) -> tuple[Any, bool]:
    """Returns the network with the weights of a Keras 2 file, and whether it has a classifier.

    The file must have exactly the layers of the network, with the same names.
    """
    import h5py
    import numpy as np

    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        stored = {}
        for name in map(_text, root.attrs.get("layer_names", ())):
            weights = [np.asarray(root[name][_text(each)]) for each in root[name].attrs["weight_names"]]
            if weights:
                stored[name.replace("/", "_")] = weights
    has_classifier = "conv10" in stored
    network = squeezenet1_1(side, classes=len(stored["conv10"][-1]) if has_classifier else None)
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    if set(layers) != set(stored):
        missing, additional = sorted(set(layers) - set(stored)), sorted(set(stored) - set(layers))
        raise BackboneError(
            f"{path.name} lacks {', '.join(missing[:3]) or 'no layer'} and adds {', '.join(additional[:3]) or 'none'}",
            expected="exactly the layers of SqueezeNet 1.1 with their names in Caffe",
        )
    for name, layer in layers.items():
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if [array.shape for array in stored[name]] != shapes:
            raise BackboneError(
                f"The layer {name} of {path.name} has weights {[array.shape for array in stored[name]]}",
                expected=f"{shapes}, the shapes in SqueezeNet 1.1",
            )
        layer.set_weights(stored[name])
    return network, has_classifier


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
