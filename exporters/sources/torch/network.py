"""Turns a torch module of torchvision or timm into a source network, with a run for the proof."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError, InputError
from penult.exporters.card import LOGITS, Normalisation, Preprocessing, Tap
from penult.exporters.graph.pooling import pool_in_numpy
from penult.exporters.graph.taps import KnownTensors
from penult.exporters.sources.base import Provenance, RunSource, SourceNetwork
from penult.exporters.sources.norm_calibration import calibrate_torch, calibration_batch
from penult.exporters.sources.torch.tracing import (
    ModuleRecorder,
    export_torch,
    module_producing,
    tappable_modules,
    traceable_module,
)

__all__ = ["TorchSource", "check_rgb", "incompatible_builds", "source_network"]


@dataclass(frozen=True)
class TorchSource:
    """A torch network with its source's own preprocessing.

    ``transform`` converts an RGB PIL image to a tensor (3, H, W); ``mean`` and ``std`` are for pixels of 0 to 1.
    ``penultimate`` returns the input of the classifier, without reading the graph. ``classifier`` names a final
    convolution that classifies; the graph alone cannot identify it if the number of classes is unusual. ``is_random``
    means random weights.
    """

    network: Any
    transform: Callable[[Any], Any]
    penultimate: Callable[[Any], Any]
    preprocessing: Preprocessing
    mean: Sequence[float]
    std: Sequence[float]
    framework: str
    classifier: str = ""
    is_random: bool = False


def source_network(
    source: TorchSource, name: str, provenance: Provenance, classes: tuple[str, ...] | None
) -> SourceNetwork:
    """Returns the traced network, with a run of the source for the proof."""
    import torch

    network, normalisation = source.network.eval(), _from_unit(source.mean, source.std)
    for weight in network.parameters():
        weight.requires_grad_(False)
    if source.is_random:
        calibrate_torch(network, calibration_batch(source.preprocessing.crop, normalisation))
    # Two images, because a batch of one could be confused with other sides of 1.
    sample = torch.zeros(2, 3, *source.preprocessing.crop)
    names = tappable_modules(network, sample)
    before = module_producing(network, sample, source.classifier, names) if source.classifier else None
    return SourceNetwork(
        name=name,
        model=export_torch(traceable_module(network, names), [LOGITS, *names], sample, what=name),
        preprocessing=source.preprocessing,
        normalisation=normalisation,
        provenance=provenance,
        classes=classes,
        landmarks=KnownTensors(before, LOGITS if before else None, frozenset(names)),
        run=_runner(source, names),
        run_with=source.framework,
    )


def check_rgb(normalisation: Normalisation) -> None:
    """Raises InputError for a channel order that torch transforms do not support."""
    if normalisation.channels != "rgb":
        raise InputError(
            f"The channel order is {normalisation.channels}", expected="rgb, the order in torchvision and timm"
        )


def incompatible_builds(library: str, reason: RuntimeError) -> BackboneError:
    """Returns the error for builds of torch and torchvision that do not match."""
    return BackboneError(
        f"{library} cannot be imported: {reason}",
        expected="matching builds of torch and torchvision: both for the CPU, or both for the same CUDA version",
        remedy="install both again from the same index",
    )


def _runner(source: TorchSource, names: Sequence[str]) -> RunSource:
    """Returns a function that runs the network with its own preprocessing, image by image."""

    def run(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, npt.NDArray[Any]]:
        import torch
        from PIL import Image

        watched = [tap.tensor for tap in taps if tap.tensor in names]
        rows: dict[str, list[npt.NDArray[Any]]] = {}
        for path in paths:
            with Image.open(path) as image, torch.no_grad():
                batch = source.transform(image.convert("RGB"))[None]
                with ModuleRecorder(source.network, watched) as recorder:
                    scores = source.network(batch)
                ends = {LOGITS: scores, "penultimate": source.penultimate(batch)}
            for tap in taps:
                value = ends.get(tap.name, recorder.outputs.get(tap.tensor))
                if value is not None:
                    rows.setdefault(tap.name, []).append(pool_in_numpy(value.numpy(), tap.pooling))
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    return run


def _from_unit(mean: Sequence[float], std: Sequence[float]) -> Normalisation:
    """Converts mean and std for pixels of 0 to 1 to those for 0 to 255; rounding removes errors of 0.485 * 255."""
    red, green, blue = (round(float(level) * 255, 9) for level in mean)
    one, two, three = (round(float(level) * 255, 9) for level in std)
    return Normalisation("rgb", (red, green, blue), (one, two, three))
