"""A shard in the making: sorted, checked and summed piece by piece while the pieces before are written."""

import json
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from penult.store.durable import Part
from penult.store.keys import KEY_BYTES, Keys
from penult.store.spaces.checksums import Stored, block_sums, row_sums, rows_per_block
from penult.store.spaces.drafting import draft
from penult.store.spaces.shards import FORMAT, MAJOR, MINOR, ShardName
from penult.store.spaces.spec import SpaceSpec

PIECE_BYTES = 1 << 22

RowsBetween = Callable[[int, int], Stored]
"""Gives the rows from one number up to another, as they are stored."""


class NewShard:
    """The shard of rows whose ``keys`` are sorted and distinct; its name is known once its parts have been taken."""

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
        """Yields the bytes of the file in order; each piece of rows is asked for when the one before is taken."""
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
        # For other tools; with more than eight of them HDF5 keeps attributes in a structure many times their size.
        return {
            "format": FORMAT,
            "version": f"{MAJOR}.{MINOR}",
            "space_id": self._spec.id,
            "space": json.dumps({"backbone": self._spec.backbone, **self._spec.identity}),
            "rows": len(self._keys),
            "width": self._spec.width,
        }
