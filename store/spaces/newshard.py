"""A shard in the making: sorted, checked and summed piece by piece while the pieces before are written."""

import json
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from penult.store.durable import Part
from penult.store.keys import KEY_BYTES, Keys
from penult.store.spaces.checksums import Stored, block_sums, row_sums, rows_per_block
from penult.store.spaces.container import draft, gaps
from penult.store.spaces.shards import FORMAT, MAJOR, MINOR, ShardName
from penult.store.spaces.spec import SpaceSpec

PIECE_BYTES = 1 << 22

RowsBetween = Callable[[int, int], Stored]
"""Gives the rows from one number up to another, as they are stored."""


class NewShard:
    """The shard of rows whose ``keys`` are sorted and distinct; its name is known once its parts have been taken."""

    def __init__(self, spec: SpaceSpec, keys: Keys, rows_between: RowsBetween, *, replaces: Sequence[str] = ()) -> None:
        self._spec = spec
        self._keys = keys
        self._rows_between = rows_between
        self._replaces = list(replaces)
        self.name = ""

    def parts(self) -> Iterator[Part]:
        """Yields the bytes of the file with their places, the rows first; the rest follows from them."""
        spec, keys, uuid = self._spec, self._keys, uuid4().hex
        block_rows = rows_per_block(spec.row_bytes)
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "keys": ("|u1", (len(keys), KEY_BYTES)),
            "row_xxh3": ("<u8", (len(keys),)),
            "block_xxh3": ("<u8", (-(-len(keys) // block_rows),)),
            "features": (spec.stored_type.str, (len(keys), spec.width)),
        }
        skeleton, layout = draft(self._fields(uuid, block_rows), self._attributes(), shapes)
        pieces, of_rows, of_blocks = [], [], []
        step = max(PIECE_BYTES // (block_rows * spec.row_bytes), 1) * block_rows
        for first in range(0, len(keys), step):
            some = keys[first : first + step]
            rows = self._rows_between(first, first + len(some))
            yield layout.sections["features"].offset + first * spec.row_bytes, rows.data.cast("B")
            pieces.append(rows)
            of_rows.append(row_sums(some, rows))
            of_blocks.append(block_sums(some, rows))
        small: list[Part] = [
            *gaps(skeleton, layout),
            (layout.sections["keys"].offset, keys.data.cast("B")),
            (layout.sections["row_xxh3"].offset, np.concatenate(of_rows).data.cast("B")),
            (layout.sections["block_xxh3"].offset, np.concatenate(of_blocks).data.cast("B")),
        ]
        yield from small
        digest = xxh3_128()
        for _, data in sorted(small, key=lambda part: part[0]):
            digest.update(data)
        for rows in pieces:
            digest.update(rows.data)
        self.name = str(ShardName(uuid, len(keys), digest.hexdigest(), bool(self._replaces)))

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
