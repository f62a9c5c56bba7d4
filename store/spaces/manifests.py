"""Manifests: numbered checkpoints of which shards are live and which may go.

They form a chain: number n + 1 is made from what was seen while n was the newest, and of two who try, one succeeds.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from xxhash import xxh3_128_hexdigest

from penult.errors import StoreDamagedError, StoreFormatError
from penult.store.files.durable import Part
from penult.store.files.folders import names_in
from penult.store.files.open_file import content_of
from penult.store.files.places import Place
from penult.store.shards.container import damaged, unreadable

FORMAT = "penult-manifest"
MAJOR, MINOR = 1, 0
NAME = re.compile(r"([0-9]{12})\.json")
SIZE_LIMIT = 1 << 30
KEPT = 3


@dataclass(frozen=True)
class Manifest:
    """One checkpoint: the live shards, and the retired ones that may still lie in the folder.

    What is retired is never live again. Where the newest manifest is damaged, ``is_substitute`` says that this one has
    its number but the content of an older one.
    """

    number: int
    shards: frozenset[str]
    retired: frozenset[str]
    is_substitute: bool = False


NONE_YET = Manifest(0, frozenset(), frozenset())


def file_name(number: int) -> str:
    """Returns the name of a manifest's file."""
    return f"{number:012d}.json"


def numbers(folder: Place) -> list[int]:
    """Lists the numbers of the manifests in a folder, newest first."""
    found = (NAME.fullmatch(name) for name in names_in(folder))
    return sorted((int(match[1]) for match in found if match), reverse=True)


def read_newest(folder: Place, space_id: str) -> Manifest:
    """Returns what the newest sound manifest says, under the number of the newest of all.

    A damaged one is passed over: the shards themselves and the manifest before it tell the same, if less surely.
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
            continue  # pruned since the folder was listed: there are newer ones
        return replace(NONE_YET, number=listed[0], is_substitute=True) if listed else NONE_YET


def read(path: Place, space_id: str) -> Manifest:
    """Reads one manifest and checks it."""
    try:
        data = content_of(path, SIZE_LIMIT)
    except OSError as error:
        raise unreadable(path, error) from error
    checksum, _, text = data.partition(b"\n")
    if xxh3_128_hexdigest(text).encode() != checksum:
        raise damaged(path, "fails its checksum")
    content: dict[str, Any] = json.loads(text)
    if content["version"][0] != MAJOR:
        raise StoreFormatError(
            f"{path} is of version {content['version'][0]}", expected=f"version {MAJOR}", remedy="upgrade penult"
        )
    if (file_name(content["number"]), content["space_id"]) != (path.name, space_id):
        raise damaged(path, "is the manifest of something else")
    return Manifest(content["number"], frozenset(content["shards"]), frozenset(content["retired"]))


def parts(manifest: Manifest, space_id: str) -> Iterable[Part]:
    """Returns the bytes of a manifest's file: a checksum and a line break, then the JSON under that checksum."""
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
