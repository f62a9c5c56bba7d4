"""Archives: tar and zip files whose images are read in place, on this machine or elsewhere."""

from collections.abc import Iterator
from pathlib import Path

from penult.pipeline.images.archive_members import ArchiveFile, LocalArchive
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.tar import list_tar
from penult.pipeline.images.zip import list_zip

__all__ = ["list_archive", "list_archive_file"]


def list_archive(storage: ArchiveFile) -> Iterator[ImageFile]:
    """Yields the images of the archive in ``storage``; the end of its name says which kind it is."""
    return list_zip(storage) if storage.path.lower().endswith(".zip") else list_tar(storage)


def list_archive_file(path: str | Path) -> Iterator[ImageFile]:
    """Yields the images of an archive file on this machine."""
    return list_archive(LocalArchive.at(Path(path)))
