"""Opens a store: a local folder, or an address in object storage."""

from pathlib import Path

from penult.store.objects.stores import open_remote
from penult.store.store_folder import open_folder, url_of
from penult.store.stores import Store

__all__ = ["as_store", "open_store"]


def open_store(path: str | Path, *, create: bool = True) -> Store:
    """Opens the store in a folder; ``create`` makes one if the folder is missing or empty.

    ``path`` may be an address in object storage, such as ``s3://bucket/features``.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> open_store(folder.name).spaces()
    []
    >>> folder.cleanup()
    """
    if url := url_of(path):
        return open_remote(url, create=create)
    return Store(*open_folder(path, create=create))


def as_store(store: Store | str | Path, *, create: bool = False) -> Store:
    """Returns an open store unchanged, or opens the store at a path."""
    return store if isinstance(store, Store) else open_store(store, create=create)
