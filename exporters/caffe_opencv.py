"""Runs Caffe files with OpenCV, where it is installed: a reader that shares nothing with ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.exporters.caffe_net import CaffeNet
from penult.exporters.caffe_writer import PASSING
from penult.exporters.card import Normalisation, Preprocessing, Tap
from penult.exporters.plain_pixels import network_input
from penult.exporters.pooling import pool_in_numpy
from penult.exporters.source_network import RunSource

__all__ = ["opencv_runner"]


def opencv_runner(
    files: tuple[Path, Path], net: CaffeNet, preprocessing: Preprocessing, normalisation: Normalisation
) -> RunSource | None:
    """Gives the runner of (deploy.prototxt, caffemodel), or None where no OpenCV is there that reads Caffe files."""
    try:
        import cv2  # type: ignore[import-not-found,unused-ignore]  # optional
    except ImportError:
        return None
    if not hasattr(getattr(cv2, "dnn", None), "readNetFromCaffe") or preprocessing.crop != net.shape[2:]:
        return None
    writers = _writers(net)

    def run(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, npt.NDArray[Any]]:
        reader = cv2.dnn.readNetFromCaffe(str(files[0]), str(files[1]))
        reader.enableFusion(False)
        known = [tap for tap in taps if tap.tensor in writers]
        rows: dict[str, list[npt.NDArray[Any]]] = {tap.name: [] for tap in known}
        for path in paths:
            reader.setInput(network_input(path, preprocessing, normalisation))
            given = reader.forward([writers[tap.tensor] for tap in known])
            for tap, value in zip(known, given, strict=True):
                rows[tap.name].append(pool_in_numpy(value, tap.pooling))
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    return run


def _writers(net: CaffeNet) -> dict[str, str]:
    """Gives, for each value, the layer that it comes from: OpenCV asks for layers."""
    found = {}
    for layer in net.layers:
        if layer.type not in PASSING:
            for top in layer.tops:
                found[f"{top} of {layer.name}"] = found[top] = layer.name
    return found
