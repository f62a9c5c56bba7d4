"""Copies of objects in files of this machine, each there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from penult.store.files.places import ObjectPath


def fetch(place: ObjectPath, file: Path) -> None:
    """Fetches an object into a file; a missing one is a ``FileNotFoundError``."""
    with _drafted(file) as draft:
        place.bucket.fetch(place.key, draft)


def keep(file: Path, data: bytes) -> None:
    """Writes a file."""
    with _drafted(file) as draft:
        draft.write_bytes(data)


@contextmanager
def _drafted(file: Path) -> Iterator[Path]:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{uuid4().hex}.tmp")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
