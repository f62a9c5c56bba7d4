"""Sorts images into one folder per label, as links where the file system has them."""

import shutil
from pathlib import Path

from penult.errors import InputError
from penult.pipeline.models.predict import Prediction

__all__ = ["ImageSorter"]

# What may not stand in a folder's name on one system or another.
FORBIDDEN = '/\\:*?"<>|'


class ImageSorter:
    """Puts each image into the folder of its label, under ``folder``, which must be empty or not there yet."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
            raise InputError(
                f"{self._folder} is there already, and not empty",
                expected="a new or empty folder, so that no image of an earlier run stays in a wrong class",
                remedy="name another folder, or remove it",
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, Path] = {}

    def take(self, prediction: Prediction) -> None:
        """Links the image, or copies it where links cannot be made; one that failed has no place."""
        if prediction.label is None:
            return
        source = Path(prediction.path).absolute()
        target = _free(self._place(prediction.label), source.name)
        try:
            target.symlink_to(source)
        except OSError:
            shutil.copyfile(source, target)

    def _place(self, label: str) -> Path:
        if label not in self._places:
            place = _free(self._folder, folder_name(label))
            place.mkdir()
            self._places[label] = place
        return self._places[label]


def folder_name(label: str) -> str:
    """Returns a name for the folder of a class that leads nowhere else, whatever the class is called.

    >>> folder_name("ants"), folder_name("../../etc"), folder_name("a/b"), folder_name("")
    ('ants', '_._.._etc', 'a_b', '_')
    """
    safe = "".join("_" if letter in FORBIDDEN or ord(letter) < 32 else letter for letter in label)
    if safe.startswith(".") or not safe:
        safe = "_" + safe[1:]
    return safe.encode()[:200].decode(errors="ignore")


def _free(folder: Path, name: str) -> Path:
    """Returns a path of this name in ``folder``, numbered if the name is taken."""
    target, number = folder / name, 2
    while target.exists() or target.is_symlink():
        target, number = folder / f"{Path(name).stem}-{number}{Path(name).suffix}", number + 1
    return target
