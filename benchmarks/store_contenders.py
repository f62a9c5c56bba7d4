"""The formats that benchmarks/store.py compares: each can write a matrix of features, load it, and pick rows."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from penult.cores import usable_cores
from penult.store import SpaceSpec, open_store
from penult.store.shards.cast import widen

SHARD_ROWS = 16_384
Matrix = NDArray[Any]


def keys_for(count: int) -> NDArray[np.uint8]:
    """Returns one key per row, in random order, as hashes are."""
    return np.random.default_rng(1).integers(0, 256, (count, 16), dtype=np.uint8)


def features_for(first: int, count: int, width: int) -> NDArray[np.float16]:
    """Returns rows like those of a network: many zeros, no negatives."""
    noise = np.random.default_rng(first).standard_normal((count, width), dtype=np.float32)
    return np.maximum(noise, 0).astype(np.float16)


def pieces(count: int, width: int) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Yields the matrix a shard at a time."""
    for first in range(0, count, SHARD_ROWS):
        yield first, features_for(first, min(SHARD_ROWS, count - first), width)


@dataclass(frozen=True)
class Contender:
    """A format: ``write`` creates the file, ``load`` returns all rows as float32, ``pick`` returns some rows."""

    name: str
    write: Callable[[Path, int, int], None]
    load: Callable[[Path], Matrix]
    pick: Callable[[Path, NDArray[np.int64]], Matrix] | None = None
    library: str = ""

    @property
    def version(self) -> str:
        """The version of its library, or "absent"."""
        try:
            return version(self.library) if self.library else ""
        except PackageNotFoundError:
            return "absent"


def write_penult(path: Path, count: int, width: int) -> None:
    space = open_store(path).space(SpaceSpec("bench", "ab" * 32, "penultimate", width))
    keys = keys_for(count)
    for first, rows in pieces(count, width):
        space.add(keys[first : first + len(rows)], rows)
    space.checkpoint()


def write_penult_compacted(path: Path, count: int, width: int) -> None:
    write_penult(path, count, width)
    space = open_store(path).spaces()[0]
    space.compact()
    space.collect(grace_seconds=0)


def load_penult(path: Path) -> Matrix:
    return open_store(path).spaces()[0].load().features


def load_penult_unverified(path: Path) -> Matrix:
    return open_store(path).spaces()[0].load(verify="none").features


def pick_penult(path: Path, rows: NDArray[np.int64]) -> Matrix:
    return open_store(path).spaces()[0].gather(keys_for(int(rows.max()) + 1)[rows])


def write_npy(path: Path, count: int, width: int) -> None:
    matrix = np.lib.format.open_memmap(path, "w+", np.dtype("<f2"), (count, width))
    for first, rows in pieces(count, width):
        matrix[first : first + len(rows)] = rows
    matrix.flush()


def write_h5py(path: Path, count: int, width: int) -> None:
    with h5py.File(path, "w") as file:
        matrix = file.create_dataset("features", (count, width), "<f2")
        for first, rows in pieces(count, width):
            matrix[first : first + len(rows)] = rows


def load_h5py(path: Path) -> Matrix:
    with h5py.File(path) as file:
        return file["features"][:].astype(np.float32)


def write_zarr(path: Path, count: int, width: int) -> None:
    import zarr

    matrix = zarr.create_array(path, shape=(count, width), chunks=(1024, width), dtype="float16", compressors=None)
    for first, rows in pieces(count, width):
        matrix[first : first + len(rows)] = rows


def load_zarr(path: Path) -> Matrix:
    import zarr

    return zarr.open_array(path, mode="r")[:].astype(np.float32)


def pick_zarr(path: Path, rows: NDArray[np.int64]) -> Matrix:
    import zarr

    return zarr.open_array(path, mode="r").oindex[rows].astype(np.float32)


def arrow_tables(count: int, width: int) -> Iterator[Any]:
    import pyarrow as pa

    for _, rows in pieces(count, width):
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), width)
        yield pa.table({"features": column})


def as_matrix(column: Any) -> Matrix:
    """Returns a column of equally long lists as a matrix; a column in one piece is copied once."""
    array = column.combine_chunks()
    chunks = array.chunks if hasattr(array, "chunks") else [array]
    parts = [chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in chunks]
    return np.concatenate(parts).astype(np.float32)


def write_parquet(path: Path, count: int, width: int) -> None:
    import pyarrow.parquet as pq

    writer = None
    for table in arrow_tables(count, width):
        writer = writer or pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table)
    writer.close()


def load_parquet(path: Path) -> Matrix:
    import pyarrow.parquet as pq

    return as_matrix(pq.read_table(path)["features"])


def write_lance(path: Path, count: int, width: int) -> None:
    import lance

    for table in arrow_tables(count, width):
        lance.write_dataset(table, str(path), mode="append" if path.exists() else "create")


def load_lance(path: Path) -> Matrix:
    import lance

    return as_matrix(lance.dataset(str(path)).to_table()["features"])


def pick_lance(path: Path, rows: NDArray[np.int64]) -> Matrix:
    import lance

    return as_matrix(lance.dataset(str(path)).take(rows)["features"])


def cast_limit(path: Path) -> Callable[[], Matrix]:
    """Returns what no store can beat: the fast cast from memory to new memory, on all cores."""
    source = np.load(path).reshape(-1)

    def cast() -> Matrix:
        out, threads = np.empty(source.size, dtype=np.float32), usable_cores()
        cuts = [source.size * part // threads for part in range(threads + 1)]
        workers = [threading.Thread(target=widen, args=(source[a:b], out[a:b])) for a, b in pairwise(cuts)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return out

    return cast


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("penult", write_penult, load_penult, pick_penult),
        Contender("penult, compacted", write_penult_compacted, load_penult, pick_penult),
        Contender("penult, unverified", write_penult, load_penult_unverified),
        Contender("h5py [:].astype", write_h5py, load_h5py, library="h5py"),
        Contender(
            ".npy",
            write_npy,
            lambda path: np.load(path).astype(np.float32),
            lambda path, rows: np.load(path, mmap_mode="r")[rows].astype(np.float32),
        ),
        Contender("zarr", write_zarr, load_zarr, pick_zarr, library="zarr"),
        Contender("parquet", write_parquet, load_parquet, library="pyarrow"),
        Contender("lance", write_lance, load_lance, pick_lance, library="pylance"),
    )
}
