"""Reads an image again by the path under which it was listed: a thumbnail is wanted long after the listing is gone."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from penult.pipeline.extraction.images import ImageFile, is_archive, list_images
from penult.pipeline.extraction.reading import read_file

__all__ = ["read_again"]

# How many archives' tables of contents are remembered at once.
ARCHIVES = 4


def read_again(path: str | Path) -> bytes:
    """Returns the bytes of an image: a file, or one in an archive that is a file.

    Raises:
        ImageError: it is too large, or the archive holds it in a way that cannot be read.
        OSError: it is not there any more. What came over a network is not fetched again.
    """
    file = Path(path)
    if file.is_file():
        return read_file(ImageFile.at(str(file)))
    for archive in file.parents:
        if is_archive(archive.name) and archive.is_file():
            found = archive.stat()
            member = _contents(str(archive), found.st_mtime_ns, found.st_size).get(str(path))
            if member is not None:
                return read_file(member)
    raise FileNotFoundError(2, "No such file or directory", str(path))


@lru_cache(maxsize=ARCHIVES)
def _contents(archive: str, mtime_ns: int, size: int) -> Mapping[str, ImageFile]:
    """Lists an archive; a changed one is another."""
    return {file.path: file for file in list_images(archive)}
