"""Random weights for networks of every source, with no silent branch and no layer's values far from 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def draw_torch(network: Any, side: int, path: Path) -> Path:
    """Writes a state dict with no silent branch, and no layer's values far from 1."""
    import torch

    from penult.exporters.requests import FAMILIES
    from penult.exporters.sources.norm_calibration import calibrate_torch, calibration_batch

    chance = torch.Generator().manual_seed(3)

    def drawn(name: str, value: Any) -> Any:
        if not value.is_floating_point() or value.dim() > 1:
            return value
        spread = torch.rand(value.shape, generator=chance)
        if "bias" in name or "mean" in name:
            return (spread - 0.5) / 5
        return 0.5 + spread

    state = network.state_dict()
    for name in list(state):
        state[name] = drawn(name, state[name])
    network.load_state_dict(state)
    calibrate_torch(network, calibration_batch((side, side), FAMILIES["torch"]))
    torch.save(network.state_dict(), path)
    return path


def draw_torchvision(name: str, folder: Path) -> Path:
    import torch
    import torchvision

    torch.manual_seed(0)
    special = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    side = torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    return draw_torch(torchvision.models.get_model(name, weights=None, **special), side, folder / "drawn.pth")


def draw_timm(name: str, folder: Path) -> Path:
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model(name)
    return draw_torch(network, network.pretrained_cfg["input_size"][1], folder / "drawn.pth")


def draw_keras(name: str, folder: Path) -> Path:
    import keras
    import numpy as np

    from penult.exporters.requests import ExportRequest
    from penult.exporters.sources.base import Address
    from penult.exporters.sources.keras.applications import build_application
    from penult.exporters.sources.keras.network import MODES, preprocessing_mode
    from penult.exporters.sources.norm_calibration import calibrate_keras, calibration_batch

    keras.utils.set_random_seed(0)
    address = Address(name, is_random=True)
    model, _ = build_application(address, ExportRequest())
    chance = np.random.default_rng(3)
    for weight in model.weights:
        if len(weight.shape) == 1:
            middle = 0.0 if any(word in weight.path for word in ("bias", "beta", "mean")) else 1.0
            weight.assign((middle + chance.uniform(-0.5, 0.5, weight.shape)).astype("float32"))
    calibrate_keras(model, calibration_batch(model.inputs[0].shape[1:3], MODES[preprocessing_mode(name)]))
    path = folder / "drawn.weights.h5"
    model.save_weights(path)
    return path


DRAWING: dict[str, Callable[[str, Path], Path]] = {
    "torchvision": draw_torchvision,
    "timm": draw_timm,
    "keras": draw_keras,
}
