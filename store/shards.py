"""A shard: one immutable HDF5 file of rows of one space, sorted by key, every byte of it under a checksum."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

import h5py
import numpy as np
from xxhash import xxh3_128_hexdigest

from penult.errors import StoreFormatError
from penult.store.checksums import Stored, Sums, block_sums, row_sums, rows_per_block
from penult.store.container import Array, Image, OpenContainer, build, damaged, open_container
from penult.store.keys import KEY_BYTES, Keys
from penult.store.spec import SpaceSpec

FORMAT = "penult-shard"
MAJOR, MINOR = 1, 0
NAME = re.compile(r"([0-9a-f]{32})-([0-9]{1,12})-([0-9a-f]{32})\.h5")


@dataclass(frozen=True, order=True)
class ShardName:
    """What a shard's file name tells: who it is, how many rows it holds, and the XXH3-128 of the whole file."""

    uuid: str
    rows: int
    digest: str

    def __str__(self) -> str:
        return f"{self.uuid}-{self.rows}-{self.digest}.h5"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Reads a file name, or returns None for a file that is no shard."""
        match = NAME.fullmatch(name)
        return cls(match[1], int(match[2]), match[3]) if match else None


@dataclass(frozen=True)
class ShardImage:
    """A shard that has not been written yet, and the name that it will have."""

    name: ShardName
    image: Image


def build_shard(spec: SpaceSpec, keys: Keys, rows: Stored, *, replaces: Sequence[ShardName] = ()) -> ShardImage:
    """Builds the shard of ``rows`` (n, width), whose ``keys`` are sorted and distinct."""
    uuid = uuid4().hex
    fields = {
        "kind": "shard",
        "version": [MAJOR, MINOR],
        "uuid": uuid,
        "space": spec.identity,
        "space_id": spec.id,
        "rows": len(rows),
        "block_rows": rows_per_block(spec.row_bytes),
        "keys_xxh3": xxh3_128_hexdigest(keys.data),
        "replaces": [str(name) for name in replaces],
        "writer": f"HDF5 {h5py.version.hdf5_version}",
    }
    attributes: dict[str, str | int] = {
        "format": FORMAT,
        "version": f"{MAJOR}.{MINOR}",
        "space_id": spec.id,
        "backbone": spec.backbone,
        **spec.identity,
        "rows": len(rows),
    }
    arrays: dict[str, Array] = {
        "keys": keys,
        "row_xxh3": row_sums(keys, rows),
        "block_xxh3": block_sums(keys, rows),
        "features": rows,
    }
    image = build(fields, attributes, arrays)
    return ShardImage(ShardName(uuid, len(rows), image.digest), image)


class Shard:
    """An open shard, for use in a ``with``; its methods may be called from several threads."""

    def __init__(self, name: ShardName, file: OpenContainer) -> None:
        self.name = name
        self.file = file
        self.block_rows: int = file.fields["block_rows"]
        self.replaces: tuple[str, ...] = tuple(file.fields["replaces"])

    @classmethod
    def open(cls, folder: Path, name: ShardName, spec: SpaceSpec) -> Self:
        """Opens a shard and checks that it is what its name and its space say."""
        path = folder / str(name)
        file = open_container(path)
        try:
            _check(path, file, name, spec)
            return cls(name, file)
        except BaseException:
            file.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.__exit__()

    def keys(self) -> Keys:
        """Reads the keys, sorted and distinct, and checks them."""
        keys: Keys = self.file.array("keys")
        if xxh3_128_hexdigest(keys.data) != self.file.fields["keys_xxh3"]:
            raise damaged(self.file.path, "has keys that fail their checksum")
        return keys

    def row_sums(self) -> Sums:
        """Reads the rows' checksums; a wrong one shows when its row is read."""
        return self.file.array("row_xxh3")

    def block_sums(self) -> Sums:
        """Reads the blocks' checksums; a wrong one shows when its block is read."""
        return self.file.array("block_xxh3")

    def read_rows(self, first: int, out: Stored) -> None:
        """Fills ``out`` with the rows from ``first`` on, unchecked."""
        row_bytes = out.shape[1] * out.itemsize
        self.file.read_into(out, self.file.sections["features"].offset + first * row_bytes)


def _check(path: Path, file: OpenContainer, name: ShardName, spec: SpaceSpec) -> None:
    fields = file.fields
    if fields.get("kind") != "shard":
        raise damaged(path, "is no shard")
    if fields["version"][0] != MAJOR:
        raise StoreFormatError(
            f"{path} is a shard of version {fields['version'][0]}", expected=f"version {MAJOR}", remedy="upgrade penult"
        )
    if fields["uuid"] != name.uuid or fields["rows"] != name.rows:
        raise damaged(path, "holds another shard than its name says")
    if fields["space_id"] != spec.id:
        raise StoreFormatError(f"{path} belongs to the space {fields['space_id']}", expected=f"the space {spec.id}")
    blocks = -(-name.rows // rows_per_block(spec.row_bytes))
    expected = {
        "keys": ("|u1", (name.rows, KEY_BYTES)),
        "row_xxh3": ("<u8", (name.rows,)),
        "block_xxh3": ("<u8", (blocks,)),
        "features": (spec.stored_type.str, (name.rows, spec.width)),
    }
    found = {key: (file.sections[key].dtype, file.sections[key].shape) for key in expected if key in file.sections}
    if found != expected or fields["block_rows"] != rows_per_block(spec.row_bytes):
        raise damaged(path, f"holds {found}, not the arrays of its space")


def stored_rows(spec: SpaceSpec, count: int) -> Stored:
    """Returns room for ``count`` rows as they are stored."""
    return np.empty((count, spec.width), dtype=spec.stored_type)
