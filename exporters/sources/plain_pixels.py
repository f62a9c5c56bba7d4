"""Prepares an image file as a plain program would, for sources that are files and bring no preprocessing of their own.

It is written apart from the product's decoder on purpose: the proof of an export compares the two.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.exporters.card import Normalisation, Preprocessing

__all__ = ["network_input"]


def network_input(path: Path, preprocessing: Preprocessing, normalisation: Normalisation) -> npt.NDArray[Any]:
    """Gives one image as float32 (1, 3, H, W): resized, cropped, normalised."""
    from PIL import Image

    with Image.open(path) as image:
        rgb = image.convert("RGB")
    width, height = rgb.size
    if isinstance(preprocessing.resize, int):
        side = preprocessing.resize
        sides = (side, side * height // width) if width < height else (side * width // height, side)
    else:
        sides = (preprocessing.resize[1], preprocessing.resize[0])
    small = np.asarray(rgb.resize(sides, Image.Resampling[preprocessing.interpolation.upper()]), dtype=np.float64)
    high, wide = preprocessing.crop
    top, left = round((small.shape[0] - high) / 2), round((small.shape[1] - wide) / 2)
    cut = small[top : top + high, left : left + wide]
    channels = cut[:, :, ::-1] if normalisation.channels == "bgr" else cut
    normal = (channels - np.array(normalisation.mean)) / np.array(normalisation.std)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)
