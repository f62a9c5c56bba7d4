"""What torchvision and timm have in common: a torch module that becomes a source network, and its run for the proof."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penult.errors import BackboneError, InputError
from penult.exporters.card import Normalisation, Preprocessing, Tap
from penult.exporters.graph.pooling import pool_in_numpy
from penult.exporters.graph.taps import KnownTensors
from penult.exporters.sources.base import Provenance, RunSource, SourceNetwork
from penult.exporters.sources.norm_calibration import calibrate_torch, calibration_batch
from penult.exporters.sources.torch.tracing import (
    LOGITS,
    ModuleRecorder,
    export_torch,
    module_producing,
    tappable_modules,
    traceable_module,
)

__all__ = ["TorchSource", "check_rgb", "incompatible_builds", "source_network"]


@dataclass(frozen=True)
class TorchSource:
    """A torch network with the source's own ways: ``transform`` makes a tensor (3, H, W) of a PIL image in RGB.

    ``mean`` and ``std`` are in units of 0 to 1; ``penultimate`` gives what the classifier takes, by the source's own
    knowledge and not by reading the graph. ``classifier`` names a last convolution that tells classes apart, which
    in a graph looks like any other where their number is unusual. ``is_drawn`` says that the weights are random.
    """

    network: Any
    transform: Callable[[Any], Any]
    penultimate: Callable[[Any], Any]
    preprocessing: Preprocessing
    mean: Sequence[float]
    std: Sequence[float]
    framework: str
    classifier: str = ""
    is_drawn: bool = False


def source_network(
    source: TorchSource, name: str, provenance: Provenance, classes: tuple[str, ...] | None
) -> SourceNetwork:
    """Traces the network, and gives it with a run of the source for the proof."""
    import torch

    network, normalisation = source.network.eval(), _from_unit(source.mean, source.std)
    for weight in network.parameters():
        weight.requires_grad_(False)
    if source.is_drawn:
        calibrate_torch(network, calibration_batch(source.preprocessing.crop, normalisation))
    # Two images: in a batch of one, sides of 1 and the batch could be taken for one another.
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
    """Raises where the colours are to come in another order than transforms of torch can give them."""
    if normalisation.channels != "rgb":
        raise InputError(
            f"The channels are said to be {normalisation.channels}", expected="rgb, as torchvision and timm take them"
        )


def incompatible_builds(library: str, reason: RuntimeError) -> BackboneError:
    """Makes the error for torch and torchvision that were not built for one another, which shows when they meet."""
    return BackboneError(
        f"{library} cannot be imported: {reason}",
        expected="builds of torch and torchvision that belong together: both for the CPU, or both for the same CUDA",
        remedy="install both anew from one place",
    )


def _runner(source: TorchSource, names: Sequence[str]) -> RunSource:
    """Runs the network as its makers do, image by image, and keeps what its parts give."""

    def run(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, npt.NDArray[Any]]:
        import torch
        from PIL import Image

        watched = [tap.tensor for tap in taps if tap.tensor in names]
        rows: dict[str, list[npt.NDArray[Any]]] = {}
        for path in paths:
            with Image.open(path) as image, torch.no_grad():
                batch = source.transform(image.convert("RGB"))[None]
                with ModuleRecorder(source.network, watched) as watch:
                    scores = source.network(batch)
                ends = {LOGITS: scores, "penultimate": source.penultimate(batch)}
            for tap in taps:
                value = ends.get(tap.name, watch.outputs.get(tap.tensor))
                if value is not None:
                    rows.setdefault(tap.name, []).append(pool_in_numpy(value.numpy(), tap.pooling))
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    return run


def _from_unit(mean: Sequence[float], std: Sequence[float]) -> Normalisation:
    """Brings mean and std from units of 0 to 1 to those of 0 to 255; the rounding hides what 0.485 * 255 adds to it."""
    red, green, blue = (round(float(level) * 255, 9) for level in mean)
    one, two, three = (round(float(level) * 255, 9) for level in std)
    return Normalisation("rgb", (red, green, blue), (one, two, three))
