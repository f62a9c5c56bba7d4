"""The commands that advice ends in, as they are typed: they name folders below the current one, and no home."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from penult.exporters.registry import builtin_names
from penult.pipeline.training.targets import LABEL
from penult.store import SpaceSpec, Store
from penult.store.catalog.datasets import Dataset

__all__ = ["Commands"]

UNKNOWN = "IMAGES"


@dataclass(frozen=True)
class Commands:
    """Spells the commands for one dataset of one store."""

    store: Store
    dataset: Dataset
    target: str = LABEL

    def on_dataset(self, verb: str, *words: str) -> str:
        """Returns a verb that takes the dataset, with further words."""
        target = () if self.target == LABEL else ("--target", self.target)
        return self._spelt(verb, self.dataset.name, *words, *target)

    def on_images(self, verb: str, *words: str) -> str:
        """Returns a verb that takes the images, with further words."""
        return self._spelt(verb, self._images, *words)

    def extraction(self, spec: SpaceSpec, taps: tuple[str, ...]) -> str:
        """Returns what extracts these taps by the backbone of a space."""
        network = spec.backbone
        if network not in builtin_names():
            network = str(_below(self.store.backbone_path(network, spec.fingerprint)))
        dtype = () if spec.dtype == SpaceSpec.dtype else ("--dtype", spec.dtype)
        return self.on_images("extract", "--backbone", network, "--taps", ",".join(taps), *dtype)

    @staticmethod
    def plain(verb: str) -> str:
        """Returns a verb that takes nothing."""
        return f"penult {verb}"

    def _spelt(self, *words: str) -> str:
        return shlex.join(["penult", *words, "--store", self.store.spelt])

    @property
    def _images(self) -> str:
        """The folder that all images lie in, where it is below the current one, or else the word IMAGES."""
        try:
            folder = Path(os.path.commonpath([Path(path).absolute().parent for path in self.dataset.paths]))
        except ValueError:  # no images, or drives that differ
            return UNKNOWN
        below = _below(folder)
        return str(below) if folder.is_dir() and not below.is_absolute() and below != Path() else UNKNOWN


def _below(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
