"""Lists the images of any source, each with the label and split from its folders or its table row.

Each kind of source is a module of `penult.pipeline.images`: a function that yields an `ImageFile` per image, and a
`Place` that reads images which are not plain files. Other packages add sources under the entry point
``penult.images``, one per URL scheme.
"""

import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from penult.errors import InputError, MissingFileError
from penult.pipeline.images.archives import list_archive_file
from penult.pipeline.images.folder import is_pattern, list_folder, list_pattern
from penult.pipeline.images.image_file import ARCHIVE_SUFFIXES, ImageFile, is_archive, is_remote
from penult.pipeline.images.remote import list_remote
from penult.pipeline.images.table import list_lines, list_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["list_images", "list_sources"]

ENTRY_POINT = "penult.images"

# The sources that are single files, by suffix.
SUFFIXES = {
    **dict.fromkeys(ARCHIVE_SUFFIXES, list_archive_file),
    **dict.fromkeys((".csv", ".tsv", ".parquet"), list_table),
    ".txt": list_lines,
}


def list_images(source: str | Path) -> Iterator[ImageFile]:
    """Yields the images of ``source``.

    ``source`` is a folder, a table (CSV, TSV or Parquet), a text file of paths, a tar or zip archive, a pattern, a URL,
    or one image. A folder is listed at any depth, sorted by name, including links and the images in archives. Every
    file counts as an image, whatever its name: one that cannot be decoded ends in the ledger. Only hidden files, files
    of the operating system and stores are skipped.
    """
    text = os.fspath(source)
    if is_remote(text):
        plugins = entry_points(group=ENTRY_POINT, name=text.split("://", maxsplit=1)[0])
        for plugin in plugins:
            return cast("Iterator[ImageFile]", plugin.load()(text))
        return list_remote(text)
    if not text:  # for example an empty shell variable; it would mean the current folder
        raise InputError("The name of the images is empty", expected="a folder, or '.' for the current folder")
    path = Path(os.path.abspath(text))  # noqa: PTH100 - resolve() would follow links and so rename the images
    if path.is_dir():
        return list_folder(path)
    if path.exists():
        lister = next((SUFFIXES[suffix] for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
        return lister(path) if lister else iter([ImageFile.at(str(path))])
    if is_pattern(text):
        return list_pattern(str(path))
    raise MissingFileError(
        f"There is no folder or file {text!r}",
        expected="a folder of images, a CSV or Parquet table with a column 'path', an archive, or one image",
        remedy=_nearest(path),
    )


def list_sources(images: object) -> Iterator[ImageFile]:
    """Yields the images of an iterable of paths, URLs, pixel arrays and `ImageFile`s.

    A folder, an archive or a URL stands for all its images; any other path is one image.
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


def _nearest(path: Path) -> str:
    """Returns how far the path exists, so that a typo is easy to find."""
    parent = next(parent for parent in path.parents if parent.exists())
    if parent == path.parent:
        return f"look for a typo in {path.name!r}; {str(parent)!r} exists"
    return f"look for a typo; the path exists as far as {str(parent)!r}"
