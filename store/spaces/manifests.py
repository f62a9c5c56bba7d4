"""Manifests: numbered lists of the live shards and the retired ones.

They form a chain: manifest n + 1 is made while n is the newest, and of two processes that write it, one succeeds.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from xxhash import xxh3_128_hexdigest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store.files.local import Part
from penult.store.files.protocol import StoragePath
from penult.store.shards.container import damaged, unreadable

FORMAT = "penult-manifest"
MAJOR, MINOR = 1, 0
NAME = re.compile(r"([0-9]{12})\.json")
SIZE_LIMIT = 1 << 30
KEPT = 3


@dataclass(frozen=True)
class Manifest:
    """The live shards at one checkpoint, and the retired shards that may still be in the folder.

    A retired shard never becomes live again. If the newest manifest is damaged, ``is_substitute`` marks one with its
    number and the content of an older manifest.
    """

    number: int
    shards: frozenset[str]
    retired: frozenset[str]
    is_substitute: bool = False


NONE_YET = Manifest(0, frozenset(), frozenset())


def file_name(number: int) -> str:
    """Returns the name of a manifest's file."""
    return f"{number:012d}.json"


def numbers(folder: StoragePath) -> list[int]:
    """Lists the numbers of the manifests in a folder, newest first."""
    found = (NAME.fullmatch(name) for name in folder.names())
    return sorted((int(match[1]) for match in found if match), reverse=True)


def read_newest(folder: StoragePath, space_id: str) -> Manifest:
    """Returns the newest sound manifest, with the number of the newest of all.

    A damaged manifest is skipped: the shards and the manifest before it give the same list, if less reliably.
    """
    while True:
        listed = numbers(folder)
        try:
            for number in listed:
                try:
                    found = read(folder / file_name(number), space_id)
                    return replace(found, number=listed[0], is_substitute=number != listed[0])
                except StoreDamagedError:
                    continue
        except FileNotFoundError:
            continue  # removed since the folder was listed: there are newer ones
        return replace(NONE_YET, number=listed[0], is_substitute=True) if listed else NONE_YET


def read(path: StoragePath, space_id: str) -> Manifest:
    """Reads and checks one manifest."""
    try:
        data = path.read_start(SIZE_LIMIT)
    except OSError as error:
        raise unreadable(path, error) from error
    checksum, _, text = data.partition(b"\n")
    if xxh3_128_hexdigest(text).encode() != checksum:
        raise damaged(path, "fails its checksum")
    content: dict[str, Any] = json.loads(text)
    if content["version"][0] != MAJOR:
        raise StoreFormatError(
            f"{path} has version {content['version'][0]}", expected=f"version {MAJOR}", remedy="upgrade penult"
        )
    if (file_name(content["number"]), content["space_id"]) != (path.name, space_id):
        raise damaged(path, "is the manifest of another space or has another number")
    return Manifest(content["number"], frozenset(content["shards"]), frozenset(content["retired"]))


def parts(manifest: Manifest, space_id: str) -> Iterable[Part]:
    """Returns the bytes of a manifest's file: a line with the checksum, then the JSON text."""
    content = {
        "format": FORMAT,
        "version": [MAJOR, MINOR],
        "number": manifest.number,
        "space_id": space_id,
        "shards": sorted(manifest.shards),
        "retired": sorted(manifest.retired),
    }
    text = json.dumps(content, indent=0).encode()
    checksum = xxh3_128_hexdigest(text).encode() + b"\n"
    return [(0, checksum), (len(checksum), text)]
