"""Manifests: numbered checkpoints of which shards are live and which may go.

The shards are the truth; a manifest makes a lost one noticed, and lets the space be opened without reading each. They
form a chain: number n + 1 is made from what was seen while n was the newest, and of two who try, one succeeds.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

from penult.errors import StoreFormatError
from penult.store.container import damaged
from penult.store.durable import publish_if_absent, temporary_name, write_new
from penult.store.folders import names_in, open_plain
from penult.store.shards import ShardName

FORMAT = "penult-manifest"
MAJOR, MINOR = 1, 0
NAME = re.compile(r"([0-9]{12})\.json")
LARGEST = 1 << 30


@dataclass(frozen=True)
class Manifest:
    """One checkpoint: the live shards, and the retired ones that may still lie in the folder."""

    number: int
    shards: frozenset[ShardName]
    retired: frozenset[ShardName]


EMPTY = Manifest(0, frozenset(), frozenset())


def numbers(folder: Path) -> list[int]:
    """Lists the numbers of the manifests in a folder, newest first."""
    found = (NAME.fullmatch(name) for name in names_in(folder))
    return sorted((int(match[1]) for match in found if match), reverse=True)


def read(folder: Path, number: int, space_id: str) -> Manifest:
    """Reads one manifest and checks it."""
    path = folder / f"{number:012d}.json"
    with os.fdopen(open_plain(path), "rb") as file:
        data = file.read(LARGEST)
    checksum, _, text = data.partition(b"\n")
    if xxh3_128_hexdigest(text).encode() != checksum:
        raise damaged(path, "fails its checksum")
    content: dict[str, Any] = json.loads(text)
    if content["version"][0] != MAJOR:
        raise StoreFormatError(
            f"{path} is a manifest of version {content['version'][0]}",
            expected=f"version {MAJOR}",
            remedy="upgrade penult",
        )
    if content["number"] != number or content["space_id"] != space_id:
        raise damaged(path, "is the manifest of something else")
    return Manifest(number, _names(path, content["shards"]), _names(path, content["retired"]))


def _names(path: Path, texts: list[str]) -> frozenset[ShardName]:
    names = frozenset(name for name in map(ShardName.parse, texts) if name)
    if len(names) != len(texts):
        raise damaged(path, "names something that is no shard")
    return names


def put(space: Path, manifest: Manifest, space_id: str) -> bool:
    """Writes a manifest unless there is one of its number already, and says whether it did."""
    content = {
        "format": FORMAT,
        "version": [MAJOR, MINOR],
        "number": manifest.number,
        "space_id": space_id,
        "shards": sorted(map(str, manifest.shards)),
        "retired": sorted(map(str, manifest.retired)),
    }
    text = json.dumps(content, indent=0).encode()
    temporary = temporary_name(space / "tmp", ".json")
    write_new(temporary, [xxh3_128_hexdigest(text).encode() + b"\n", text])
    return publish_if_absent(temporary, space / "manifests" / f"{manifest.number:012d}.json")
