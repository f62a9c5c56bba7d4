"""The sources ``timm:`` and ``torchvision:``; ``tracing`` and ``weights`` also serve Keras on torch."""

from penult.exporters.sources.torch.timm_source import read_timm
from penult.exporters.sources.torch.torchvision_source import read_torchvision

__all__ = ["read_timm", "read_torchvision"]
