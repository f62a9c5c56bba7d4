"""A shard: one immutable HDF5 file of rows of one space, sorted by key, every byte of it under a checksum."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from xxhash import xxh3_128_hexdigest

from penult.errors import StoreFormatError
from penult.store.keys import KEY_BYTES, Keys
from penult.store.objects.places import Place
from penult.store.spaces.checksums import Stored, Sums, rows_per_block
from penult.store.spaces.container import Layout, OpenContainer, damaged, open_container
from penult.store.spaces.spec import SpaceSpec

FORMAT = "penult-shard"
MAJOR, MINOR = 1, 0
NAME = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,11})-([0-9a-f]{32})(-merged)?\.h5")


@dataclass(frozen=True)
class ShardName:
    """What a shard's file name tells: who it is, how many rows it holds, and the XXH3-128 of the whole file.

    A merged shard holds the rows of others, and counts in their place once a manifest says so.
    """

    uuid: str
    rows: int
    digest: str
    is_merged: bool = False

    def __str__(self) -> str:
        return f"{self.uuid}-{self.rows}-{self.digest}{'-merged' if self.is_merged else ''}.h5"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Reads a file name, or returns None for a file that is no shard."""
        match = NAME.fullmatch(name)
        return cls(match[1], int(match[2]), match[3], bool(match[4])) if match else None

    @classmethod
    def known(cls, name: str) -> Self:
        """Reads the name of a file that must be a shard."""
        found = cls.parse(name)
        if found is None:
            raise damaged(Path(name), "is not the name of a shard")
        return found


def rows_of(name: str) -> int:
    """Returns the rows that a shard's name tells, without looking at the rest of the name.

    >>> rows_of("0" * 32 + "-16384-" + "0" * 32 + ".h5")
    16384
    """
    digits = name[33:].split("-", 1)[0]
    return int(digits) if digits.isdecimal() else ShardName.known(name).rows


class Shard:
    """An open shard, for use in a ``with``; its methods may be called from several threads."""

    def __init__(self, name: str, file: OpenContainer) -> None:
        self.name = name
        self.file = file
        self.rows: int = file.layout.fields["rows"]
        self.block_rows: int = file.layout.fields["block_rows"]
        self.replaces = frozenset(file.layout.fields["replaces"])

    @classmethod
    def open(cls, path: Place, spec: SpaceSpec, layout: Layout | None = None) -> Self:
        """Opens a shard; without a ``layout`` known from before, checks that it is what its name and space say."""
        file = open_container(path, layout)
        if layout is None:
            try:
                _check(file, ShardName.known(path.name), spec)
            except (KeyError, TypeError, IndexError) as error:
                raise damaged(path, f"opens with a block that makes no sense ({error})") from error
        return cls(path.name, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def keys(self) -> Keys:
        """Reads all keys, sorted and distinct, and checks them."""
        keys: Keys = self.file.array("keys")
        if xxh3_128_hexdigest(keys.data) != self.file.layout.fields["keys_xxh3"]:
            raise damaged(self.file.path, "has keys that fail their checksum")
        return keys

    def row_sums(self, first: int = 0, end: int | None = None) -> Sums:
        """Reads checksums of rows; a wrong one shows when its row is read."""
        return self.file.array("row_xxh3", first, end)

    def read_rows(self, first: int, out: Stored) -> None:
        """Fills ``out`` with the rows from ``first`` on, unchecked."""
        row_bytes = out.shape[1] * out.itemsize
        self.file.read_into(out, self.file.layout.sections["features"].offset + first * row_bytes)


def _check(file: OpenContainer, name: ShardName, spec: SpaceSpec) -> None:
    fields, sections = file.layout.fields, file.layout.sections
    if fields.get("kind") != "shard":
        raise damaged(file.path, "is no shard")
    major = fields["version"][0]
    if major != MAJOR:
        raise StoreFormatError(
            f"{file.path} is a shard of version {major}", expected=f"version {MAJOR}", remedy="upgrade penult"
        )
    if (fields["uuid"], fields["rows"], bool(fields["replaces"])) != (name.uuid, name.rows, name.is_merged):
        raise damaged(file.path, "holds another shard than its name says")
    if fields["space_id"] != spec.id:
        raise StoreFormatError(f"{file.path} belongs to space {fields['space_id']}", expected=f"space {spec.id}")
    block_rows = rows_per_block(spec.row_bytes)
    expected = {
        "keys": ("|u1", (name.rows, KEY_BYTES)),
        "row_xxh3": ("<u8", (name.rows,)),
        "block_xxh3": ("<u8", (-(-name.rows // block_rows),)),
        "features": (spec.stored_type.str, (name.rows, spec.width)),
    }
    found = {key: (sections[key].dtype, sections[key].shape) for key in expected if key in sections}
    if found != expected or fields["block_rows"] != block_rows:
        raise damaged(file.path, f"holds {found}, not the arrays of its space")


def room_for(spec: SpaceSpec, count: int) -> Stored:
    """Returns room for ``count`` rows as they are stored."""
    return np.empty((count, spec.width), dtype=spec.stored_type)
