"""Finds images: each with the label and the split that its place or its row tells, wherever they lie.

Each kind of source is a module of `penult.pipeline.images`: a function that yields an `ImageFile` for each image, and,
where these are no plain files, a `Place` that reads them. Other packages add sources under the entry point
``penult.images``, one for each scheme of a URL.
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from penult.errors import InputError, MissingFileError
from penult.pipeline.images.image_file import ARCHIVE_SUFFIXES, ImageFile, is_archive, is_remote

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["list_images", "list_sources"]

ENTRY_POINT = "penult.images"

# The sources that are files, by the end of their name.
SUFFIXES = {
    **dict.fromkeys(ARCHIVE_SUFFIXES, "penult.pipeline.images.archives:list_archive_file"),
    ".csv": "penult.pipeline.images.table:list_table",
    ".tsv": "penult.pipeline.images.table:list_table",
    ".parquet": "penult.pipeline.images.table:list_table",
    ".txt": "penult.pipeline.images.table:list_lines",
}


def list_images(source: str | Path) -> Iterator[ImageFile]:
    """Yields the images of ``source``.

    It is a folder, a table (CSV, TSV or Parquet), a text file of paths, a tar or zip archive, a pattern, a URL, or one
    image. A folder is walked to any depth in the order of its names, links included, and archives in it are read in
    place. Every file is taken for an image, whatever its name: what turns out to be none ends in the ledger, not in
    oblivion. Only hidden files, the litter of operating systems and stores are passed over.
    """
    text = os.fspath(source)
    if is_remote(text):
        return _list_remote(text)
    if not text:  # as an empty variable of a shell; it would mean the folder that one happens to be in
        raise InputError("The images are named by an empty text", expected="a folder, or '.' for the one that this is")
    path = Path(os.path.abspath(text))  # noqa: PTH100 - resolve() would follow links, and so rename the images
    if path.is_dir():
        return _lister("penult.pipeline.images.folder:list_folder")(path)
    if not path.exists():
        from penult.pipeline.images.glob import is_pattern, list_pattern

        if is_pattern(text):
            return list_pattern(str(path))
        raise MissingFileError(
            f"There is no folder or file {text!r}",
            expected="a folder of images, a CSV or Parquet table with a column 'path', an archive, or one image",
            remedy=_nearest(path),
        )
    lister = next((SUFFIXES[suffix] for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    return _lister(lister)(path) if lister else iter([ImageFile.at(str(path))])


def list_sources(images: object) -> Iterator[ImageFile]:
    """Yields the images of an iterable of paths, URLs, arrays of pixels and `ImageFile`s.

    A path of a folder or an archive stands for all images in it; any other, be it a table, for itself.
    """
    for image in cast("Iterator[object]", images):
        if isinstance(image, ImageFile):
            yield image
        elif not isinstance(image, str | os.PathLike):
            from penult.pipeline.images.reading import array_image

            yield array_image(cast("NDArray[np.uint8]", image))
        elif is_remote(text := os.fspath(cast("str | Path", image))) or is_archive(text) or Path(text).is_dir():
            yield from list_images(text)
        else:
            yield ImageFile.at(str(Path(text).absolute()))


def _list_remote(url: str) -> Iterator[ImageFile]:
    for found in entry_points(group=ENTRY_POINT, name=url.split("://", maxsplit=1)[0]):
        return cast("Iterator[ImageFile]", found.load()(url))
    return _lister("penult.pipeline.images.remote:list_remote")(url)


def _lister(name: str) -> Callable[..., Iterator[ImageFile]]:
    module, function = name.split(":")
    return cast("Callable[..., Iterator[ImageFile]]", getattr(import_module(module), function))


def _nearest(path: Path) -> str:
    """Says how far the path leads, so that a typo is found at once."""
    parent = next(parent for parent in path.parents if parent.exists())
    if parent == path.parent:
        return f"look for a typo in {path.name!r}; {str(parent)!r} exists"
    return f"look for a typo; the path exists as far as {str(parent)!r}"
