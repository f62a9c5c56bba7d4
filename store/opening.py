"""Opens a store: a folder on this machine, or a place in object storage."""

from pathlib import Path

from penult.store.objects.stores import open_remote
from penult.store.store_folder import open_folder, url_of
from penult.store.stores import Store

__all__ = ["open_store"]


def open_store(path: str | Path, *, create: bool = True) -> Store:
    """Opens the store in a folder, and with ``create`` makes one where there is none or nothing yet.

    It may be the URL of a place in object storage, such as ``s3://bucket/features``.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> open_store(folder.name).spaces()
    []
    >>> folder.cleanup()
    """
    if url := url_of(path):
        return open_remote(url, create=create)
    return Store(*open_folder(path, create=create))
