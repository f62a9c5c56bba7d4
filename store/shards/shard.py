"""A shard: an immutable HDF5 file with rows of one space, sorted by key; a checksum covers every byte."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from penult.errors import StoreFormatError
from penult.store.files.local import Part
from penult.store.files.protocol import StoragePath
from penult.store.keys import KEY_BYTES, Keys
from penult.store.shards.checksums import Stored, Sums, block_sums, row_sums, rows_per_block
from penult.store.shards.container import ContainerLayout, OpenContainer, damaged, open_container
from penult.store.shards.file_layout import draft
from penult.store.spec import SpaceSpec

FORMAT = "penult-shard"
MAJOR, MINOR = 1, 0
PIECE_BYTES = 1 << 22
NAME = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,11})-([0-9a-f]{32})(-merged)?\.h5")

RowsBetween = Callable[[int, int], Stored]
"""Returns the stored rows from one row number up to another."""


@dataclass(frozen=True)
class ShardName:
    """The parts of a shard's file name: its UUID, its number of rows, and the XXH3-128 of the whole file.

    A merged shard contains the rows of other shards and replaces them once a manifest lists it.
    """

    uuid: str
    rows: int
    digest: str
    is_merged: bool = False

    def __str__(self) -> str:
        return f"{self.uuid}-{self.rows}-{self.digest}{'-merged' if self.is_merged else ''}.h5"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Parses a file name; returns None if it is not the name of a shard."""
        match = NAME.fullmatch(name)
        return cls(match[1], int(match[2]), match[3], bool(match[4])) if match else None

    @classmethod
    def known(cls, name: str) -> Self:
        """Parses the name of a file that must be a shard."""
        found = cls.parse(name)
        if found is None:
            raise damaged(Path(name), "is not the name of a shard")
        return found


def rows_of(name: str) -> int:
    """Returns the number of rows in a shard's name, without parsing the rest of it.

    >>> rows_of("0" * 32 + "-16384-" + "0" * 32 + ".h5")
    16384
    """
    digits = name[33:].split("-", 1)[0]
    return int(digits) if digits.isdecimal() else ShardName.known(name).rows


class Shard:
    """An open shard, as a context manager; several threads may call its methods."""

    def __init__(self, name: str, file: OpenContainer) -> None:
        self.name = name
        self.file = file
        self.rows: int = file.layout.fields["rows"]
        self.block_rows: int = file.layout.fields["block_rows"]
        self.replaces = frozenset(file.layout.fields["replaces"])

    @classmethod
    def open(cls, path: StoragePath, spec: SpaceSpec, layout: ContainerLayout | None = None) -> Self:
        """Opens a shard; checks it against its name and its space unless the ``layout`` is known."""
        file = open_container(path, layout)
        if layout is None:
            try:
                _check(file, ShardName.known(path.name), spec)
            except (KeyError, TypeError, IndexError) as error:
                raise damaged(path, f"starts with an invalid block ({error})") from error
        return cls(path.name, file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def keys(self) -> Keys:
        """Reads all keys, which are sorted and distinct, and verifies their checksum."""
        keys: Keys = self.file.array("keys")
        if xxh3_128_hexdigest(keys.data) != self.file.layout.fields["keys_xxh3"]:
            raise damaged(self.file.path, "has keys that fail their checksum")
        return keys

    def row_sums(self, first: int = 0, end: int | None = None) -> Sums:
        """Reads the checksums of rows; reading a row detects a damaged checksum."""
        return self.file.array("row_xxh3", first, end)

    def read_rows(self, first: int, out: Stored) -> None:
        """Fills ``out`` with the rows from ``first`` on, without verifying them."""
        row_bytes = out.shape[1] * out.itemsize
        self.file.read_into(out, self.file.layout.sections["features"].offset + first * row_bytes)


def _check(file: OpenContainer, name: ShardName, spec: SpaceSpec) -> None:
    fields, sections = file.layout.fields, file.layout.sections
    if fields.get("kind") != "shard":
        raise damaged(file.path, "is not a shard")
    major = fields["version"][0]
    if major != MAJOR:
        raise StoreFormatError(
            f"{file.path} is a shard of version {major}", expected=f"version {MAJOR}", remedy="upgrade penult"
        )
    if (fields["uuid"], fields["rows"], bool(fields["replaces"])) != (name.uuid, name.rows, name.is_merged):
        raise damaged(file.path, "contains another shard than its name says")
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
        raise damaged(file.path, f"contains {found} instead of the arrays of its space")


def empty_rows(spec: SpaceSpec, count: int) -> Stored:
    """Returns an uninitialised array for ``count`` stored rows."""
    return np.empty((count, spec.width), dtype=spec.stored_type)


class NewShard:
    """A shard to write; ``keys`` are sorted and distinct. ``name`` is set once ``parts`` is exhausted."""

    def __init__(
        self,
        spec: SpaceSpec,
        keys: Keys,
        rows_between: RowsBetween,
        *,
        replaces: Sequence[str] = (),
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._spec = spec
        self._keys = keys
        self._rows_between = rows_between
        self._replaces = list(replaces)
        self._piece_bytes = piece_bytes
        self.name = ""

    def parts(self) -> Iterator[Part]:
        """Yields the bytes of the file in order; asks for each piece of rows only when it is needed."""
        uuid, digest = uuid4().hex, xxh3_128()
        for part in self._parts(uuid):
            digest.update(part[1])
            yield part
        self.name = str(ShardName(uuid, len(self._keys), digest.hexdigest(), bool(self._replaces)))

    def _parts(self, uuid: str) -> Iterator[Part]:
        spec, keys = self._spec, self._keys
        block_rows = rows_per_block(spec.row_bytes)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "keys": ("|u1", (len(keys), KEY_BYTES)),
            "features": (spec.stored_type.str, (len(keys), spec.width)),
            "row_xxh3": ("<u8", (len(keys),)),
            "block_xxh3": ("<u8", (-(-len(keys) // block_rows),)),
        }
        drafted = draft(self._fields(uuid, block_rows), self._attributes(), shapes)
        sections, gaps = drafted.layout.sections, iter(drafted.gaps)
        yield next(gaps)
        yield sections["keys"].offset, keys.data.cast("B")
        yield next(gaps)
        of_rows, of_blocks = [], []
        step = max(self._piece_bytes // (block_rows * spec.row_bytes), 1) * block_rows
        for first in range(0, len(keys), step):
            some = keys[first : first + step]
            rows = self._rows_between(first, first + len(some))
            yield sections["features"].offset + first * spec.row_bytes, rows.data.cast("B")
            of_rows.append(row_sums(some, rows))
            of_blocks.append(block_sums(some, rows))
        for name, sums in (("row_xxh3", of_rows), ("block_xxh3", of_blocks)):
            yield next(gaps)
            yield sections[name].offset, np.concatenate(sums).data.cast("B")
        yield from gaps

    def _fields(self, uuid: str, block_rows: int) -> dict[str, object]:
        return {
            "kind": "shard",
            "version": [MAJOR, MINOR],
            "uuid": uuid,
            "space_id": self._spec.id,
            "space": self._spec.identity,
            "rows": len(self._keys),
            "block_rows": block_rows,
            "keys_xxh3": xxh3_128_hexdigest(self._keys.data),
            "replaces": self._replaces,
        }

    def _attributes(self) -> dict[str, str | int]:
        # For other tools. With more than eight attributes, HDF5 stores them in a structure many times their size.
        return {
            "format": FORMAT,
            "version": f"{MAJOR}.{MINOR}",
            "space_id": self._spec.id,
            "space": json.dumps({"backbone": self._spec.backbone, **self._spec.identity}),
            "rows": len(self._keys),
            "width": self._spec.width,
        }
