"""A cache of the training rows' moments and eigenvectors in the store, so that retraining on new labels is fast.

The files are derived data: one that is missing, damaged or made of other rows is computed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from penult.cores import usable_cores
from penult.errors import PenultError
from penult.files import replace_file
from penult.pipeline.heads.numerics.basis import Basis, Moments, moments_of
from penult.pipeline.heads.numerics.blocks import limit_blas_threads
from penult.store.keys import key_scalars

__all__ = ["BasisCache", "CachedBasis"]

FORMAT = "penult-statistics"
VERSION = 1

MOST_CHANGED = 0.2
"""If more than this share of the rows was added or removed, all rows are summed again."""

MOST_FILES = 4

Gather = Callable[[NDArray[np.uint8]], NDArray[np.floating]]


@dataclass(frozen=True)
class CachedBasis:
    """The moments and the basis of the rows under ``keys`` (n, 16), sorted."""

    keys: NDArray[np.uint8]
    moments: Moments
    basis: Basis

    @classmethod
    def of(cls, keys: NDArray[np.uint8], features: NDArray[np.floating]) -> Self:
        """Computes the moments and the basis of all rows."""
        moments = moments_of(features)
        return cls(keys, moments, Basis.of_moments(moments))

    def exact(self) -> "CachedBasis":
        """Returns the entry with the exact eigenvectors of its rows."""
        return self if self.basis.is_exact else CachedBasis(self.keys, self.moments, Basis.of_moments(self.moments))


@dataclass(frozen=True)
class RowChanges:
    """A cached entry of nearly the wanted rows, with the features of the added and the removed rows."""

    cached: CachedBasis
    added: NDArray[np.floating]
    removed: NDArray[np.floating]

    def updated(self, keys: NDArray[np.uint8]) -> CachedBasis:
        """Returns the entry of the rows under ``keys``; only the added and removed rows are summed."""
        moments = self.cached.moments
        if len(self.added):
            moments = moments.joined(moments_of(self.added))
        if len(self.removed):
            moments = moments.without(moments_of(self.removed))
        return CachedBasis(keys, moments, Basis.of_moments(moments))


class BasisCache:
    """The cached bases of one combination of spaces: a few files, each named by the digest of its keys."""

    def __init__(self, store: Path, space_ids: Sequence[str]) -> None:
        self.folder = store / "statistics" / sha256("+".join(space_ids).encode()).hexdigest()[:16]

    def basis(self, keys: NDArray[np.uint8], features: NDArray[np.floating], gather: Gather, *, exact: bool) -> Basis:
        """Returns the basis of ``features``, whose ``keys`` are sorted.

        An entry of the same keys is read. An entry of nearly the same keys is updated with the added and the removed
        rows; ``gather`` reads the removed rows. Otherwise all rows are summed. With ``exact`` the eigenvectors are
        those of these rows; without it, the eigenvectors of nearly the same rows are enough, and nothing is written.
        """
        path = self.folder / f"{_digest(keys)}.h5"
        cached = _read(path)
        with limit_blas_threads(usable_cores()):
            change = self._change(keys, features, gather) if cached is None else None
            if change is not None and not exact:
                return change.cached.basis.changed(np.diag(change.cached.moments.scatter), change.added, change.removed)
            found = cached or (change.updated(keys) if change else CachedBasis.of(keys, features))
            found = found.exact() if exact else found
        if found is not cached:
            self._write(path, found)
        return found.basis

    def _change(self, keys: NDArray[np.uint8], features: NDArray[np.floating], gather: Gather) -> "RowChanges | None":
        wanted = key_scalars(keys)
        for path in self._newest_first():
            cached = _read(path)
            if cached is None or cached.basis.rank < features.shape[1]:
                continue
            cached_words = key_scalars(cached.keys)
            added, removed = ~np.isin(wanted, cached_words), ~np.isin(cached_words, wanted)
            if added.sum() + removed.sum() > MOST_CHANGED * len(keys):
                continue
            try:
                removed_rows = gather(cached.keys[removed]) if removed.any() else features[:0]
            except PenultError:  # rows that are no longer in the store cannot be subtracted
                continue
            return RowChanges(cached, features[added], removed_rows)
        return None

    def _newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(self.folder.glob("*.h5"), key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _write(self, path: Path, entry: CachedBasis) -> None:
        """Writes the file; training continues if the store is read-only."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, _image(entry), is_durable=False)
            for old in self._newest_first()[MOST_FILES:]:
                old.unlink(missing_ok=True)
        except OSError:
            return


def _image(entry: CachedBasis) -> bytes:
    moments, basis = entry.moments, entry.basis
    arrays: dict[str, NDArray[Any]] = {
        "keys": entry.keys,
        "mean": moments.mean,
        "scatter": moments.scatter,
        "scale": basis.scale,
        "spread": basis.spread,
        "axes": basis.axes,
    }
    with h5py.File("statistics", "w", driver="core", backing_store=False) as file:
        for name, values in arrays.items():
            file[name] = np.ascontiguousarray(values)
        file.attrs.update({"format": FORMAT, "version": VERSION, "is_exact": basis.is_exact, "digest": _sum(arrays)})
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _read(path: Path) -> CachedBasis | None:
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["format"] != FORMAT or file.attrs["version"] != VERSION:
                return None
            arrays: dict[str, NDArray[Any]] = {name: file[name][()] for name in sorted(file)}
            is_exact, digest = bool(file.attrs["is_exact"]), file.attrs["digest"]
    except (OSError, KeyError, ValueError):
        return None
    if _sum(arrays) != digest:
        return None
    moments = Moments(len(arrays["keys"]), arrays["mean"], arrays["scatter"])
    basis = Basis(moments.n, moments.mean, arrays["scale"], arrays["spread"], arrays["axes"], is_exact)
    return CachedBasis(arrays["keys"], moments, basis)


def _sum(arrays: dict[str, NDArray[Any]]) -> str:
    from xxhash import xxh3_128

    total = xxh3_128()
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def _digest(keys: NDArray[np.uint8]) -> str:
    return sha256(np.ascontiguousarray(keys).data).hexdigest()[:16]
