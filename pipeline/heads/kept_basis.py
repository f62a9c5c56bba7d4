"""Label-free statistics of the training rows, kept in the store so that relabelling starts from them.

They are derived: a file that is absent, damaged or of other rows is made anew.
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
from penult.pipeline.heads.numerics.blocks import calm_blas
from penult.store.keys import key_scalars

__all__ = ["Statistics", "StatisticsShelf"]

FORMAT = "penult-statistics"
VERSION = 1

MOST_CHANGED = 0.2
"""Beyond this share of rows added and removed, all rows are summed anew rather than the change."""

MOST_FILES = 4

Gather = Callable[[NDArray[np.uint8]], NDArray[np.floating]]


@dataclass(frozen=True)
class Statistics:
    """The moments and the basis of the rows under ``keys`` (n, 16), sorted."""

    keys: NDArray[np.uint8]
    moments: Moments
    basis: Basis

    @classmethod
    def of(cls, keys: NDArray[np.uint8], features: NDArray[np.floating]) -> Self:
        """Sums all rows and finds their eigenvectors."""
        moments = moments_of(features)
        return cls(keys, moments, Basis.of_moments(moments))

    def exact(self) -> "Statistics":
        """Returns the same with eigenvectors that are those of these very rows."""
        return self if self.basis.is_exact else Statistics(self.keys, self.moments, Basis.of_moments(self.moments))


@dataclass(frozen=True)
class Change:
    """Kept statistics of nearly the wanted rows, with the features of those that came and of those that went."""

    kept: Statistics
    came: NDArray[np.floating]
    went: NDArray[np.floating]

    def updated(self, keys: NDArray[np.uint8]) -> Statistics:
        """Returns the statistics of the rows under ``keys``, from the sums of the change alone."""
        moments = self.kept.moments
        if len(self.came):
            moments = moments.joined(moments_of(self.came))
        if len(self.went):
            moments = moments.without(moments_of(self.went))
        return Statistics(keys, moments, Basis.of_moments(moments))


class StatisticsShelf:
    """The kept statistics of one combination of spaces: some files, each named by the digest of its keys."""

    def __init__(self, store: Path, space_ids: Sequence[str]) -> None:
        self.folder = store / "statistics" / sha256("+".join(space_ids).encode()).hexdigest()[:16]

    def basis(self, keys: NDArray[np.uint8], features: NDArray[np.floating], gather: Gather, *, exact: bool) -> Basis:
        """Returns the basis of the rows under ``keys``, which are sorted and ``features`` belong to.

        Kept statistics of the same keys are read. Of nearly the same, the rows that came and went (``gather`` reads the
        latter) change them; else all rows are summed. ``exact`` asks for true eigenvectors: without it those that are
        kept will do for nearly the same rows, and nothing new is kept.
        """
        path = self.folder / f"{_digest(keys)}.h5"
        kept = _read(path)
        with calm_blas(usable_cores()):
            change = self._change(keys, features, gather) if kept is None else None
            if change is not None and not exact:
                return change.kept.basis.changed(np.diag(change.kept.moments.scatter), change.came, change.went)
            found = kept or (change.updated(keys) if change else Statistics.of(keys, features))
            found = found.exact() if exact else found
        if found is not kept:
            self._keep(path, found)
        return found.basis

    def _change(self, keys: NDArray[np.uint8], features: NDArray[np.floating], gather: Gather) -> "Change | None":
        wanted = key_scalars(keys)
        for path in self._newest_first():
            kept = _read(path)
            if kept is None or kept.basis.rank < features.shape[1]:
                continue
            had = key_scalars(kept.keys)
            added, removed = ~np.isin(wanted, had), ~np.isin(had, wanted)
            if added.sum() + removed.sum() > MOST_CHANGED * len(keys):
                continue
            try:
                went = gather(kept.keys[removed]) if removed.any() else features[:0]
            except PenultError:  # rows that left the store cannot be taken out of the sums
                continue
            return Change(kept, features[added], went)
        return None

    def _newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(self.folder.glob("*.h5"), key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _keep(self, path: Path, statistics: Statistics) -> None:
        """Writes the file; a store that cannot be written is no reason not to train."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, _image(statistics), is_durable=False)
            for old in self._newest_first()[MOST_FILES:]:
                old.unlink(missing_ok=True)
        except OSError:
            return


def _image(statistics: Statistics) -> bytes:
    moments, basis = statistics.moments, statistics.basis
    arrays: dict[str, NDArray[Any]] = {
        "keys": statistics.keys,
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


def _read(path: Path) -> Statistics | None:
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
    return Statistics(arrays["keys"], moments, basis)


def _sum(arrays: dict[str, NDArray[Any]]) -> str:
    from xxhash import xxh3_128

    total = xxh3_128()
    for name in sorted(arrays):
        total.update(name.encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def _digest(keys: NDArray[np.uint8]) -> str:
    return sha256(np.ascontiguousarray(keys).data).hexdigest()[:16]
