"""Keeps the ledger to files that are there: a row of one that was removed would tell of a fault for ever."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from penult.errors import StoreDamagedError
from penult.pipeline.extraction.images import ImageFile
from penult.store.catalog import Catalog


def forget_gone(catalog: Catalog, folder: Path, files: Sequence[ImageFile]) -> int:
    """Drops the rows of files below ``folder`` that are neither there nor among ``files``; returns how many.

    Nothing is lost where a disk is only not mounted: its files are tried once more when they are back.
    """
    root = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as the listing does it, which follows no link
    with suppress(StoreDamagedError):  # which `penult store verify` tells of; the job itself is done
        below = {row.path for row in catalog.ledger.failures() if row.path.startswith(root)}
        gone = [path for path in below.difference(file.path for file in files) if _is_gone(path)]
        if gone:
            catalog.ledger.forget(gone)
        return len(gone)
    return 0


def _is_gone(path: str) -> bool:
    with suppress(ValueError):  # a path with a zero byte
        return not os.path.lexists(path)
    return False
