"""Opens or makes the folder of a store, after checking what it contains, and reads its JSON descriptions."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from xxhash import xxh3_128_hexdigest

from penult.errors import MissingFileError, StoreFormatError
from penult.store.files.local import LocalPath
from penult.store.files.protocol import StoragePath

MAJOR, MINOR = 1, 0
STORE_FORMAT = "penult-store"
STORE_FILE = "store.json"
STORE_PARTS = ("backbones", "spaces")
SIZE_LIMIT = 1 << 24
LOCAL = re.compile(r"^(file|local):/{1,3}")
IGNORED_NAMES = re.compile(r"\..*|lost\+found|[0-9a-f]{32}\.tmp")


def url_of(path: str | Path) -> str:
    """Returns the URL of a store in object storage, or "" for a local folder.

    >>> url_of("s3://bucket/features"), url_of("features"), url_of("C:/features")
    ('s3://bucket/features', '', '')
    >>> url_of(Path("s3://bucket/features"))
    's3://bucket/features'
    """
    # A URL that was converted to a Path has lost a slash.
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):/{1,3}([^/].*)", str(path))
    if not found or re.match(LOCAL, str(path)) or (isinstance(path, Path) and path.exists()):
        return ""
    return f"{found[1]}://{found[2]}"


def open_folder(path: str | Path, *, create: bool) -> tuple[LocalPath, str]:
    """Returns the folder of a store, and the reason why it is read-only ("" if it is writable)."""
    folder = LocalPath(re.sub(LOCAL, "/", str(path))).expanduser().absolute()
    with _naming_rights(folder):
        is_there = _is_folder(folder)
        if not is_there and not create:
            raise MissingFileError(
                f"There is no store at {folder}",
                expected="a folder that penult made",
                remedy="check the path; `penult extract` and `penult fit` make a new store",
            )
        if not os.path.lexists(folder / STORE_FILE):
            _require_free(folder if is_there else None, create)
            for part in STORE_PARTS:
                (folder / part).make_folder()
            put_json(folder / STORE_FILE, STORE_FORMAT, {})
        for part in STORE_PARTS:
            require_no_link(folder / part)
    return folder, read_json(folder / STORE_FILE, STORE_FORMAT)[1]


@contextmanager
def _naming_rights(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StoreFormatError(
            f"{folder} cannot be opened: {error.strerror}",
            expected="a folder that you can read",
            remedy="ask its owner for permission to read it",
        ) from error


def _is_folder(folder: Path) -> bool:
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        if folder.is_symlink():
            raise StoreFormatError(f"{folder} is a broken symbolic link", expected="the folder of a store") from None
        return False
    except PermissionError:
        raise
    except OSError as error:
        raise StoreFormatError(
            f"{folder} cannot be opened: {error.strerror}", expected="the folder of a store", remedy="check the path"
        ) from error
    if not S_ISDIR(mode):
        raise StoreFormatError(f"{folder} is a file", expected="the folder of a store", remedy="check the path")
    return True


def _require_free(folder: LocalPath | None, create: bool) -> None:
    """Allows a new store in a missing or empty folder, and where the making of a store was interrupted."""
    if folder is None:
        return
    names = {name for name in folder.names() if not IGNORED_NAMES.fullmatch(name)}
    filled = [part for part in STORE_PARTS if part in names and (folder / part).names()]
    if filled or {"catalog.sqlite", "heads"} & names:
        raise StoreFormatError(
            f"{folder} contains parts of a store, but no {STORE_FILE}",
            expected="a complete store",
            remedy="the copy may be incomplete: copy the store again, or copy store.json from the original",
        )
    others = sorted(names.difference(STORE_PARTS))
    if others:
        raise StoreFormatError(
            f"{folder} is not a store: it contains {others[0]!r}",
            expected="a store, or an empty folder for a new one",
            remedy="choose another folder",
        )
    if not create:
        raise StoreFormatError(
            f"{folder} does not contain a store", expected=f"a folder with a {STORE_FILE}", remedy="check the path"
        )


def require_no_link(path: StoragePath) -> None:
    """Raises an error for a symbolic link inside a store, which could point outside it or form a loop."""
    if path.is_symlink():
        raise StoreFormatError(
            f"{path} is a symbolic link",
            expected="a folder, because links inside a store are not followed",
            remedy="move the real folder here, or link the whole store",
        )


def put_json(path: StoragePath, kind: str, content: Mapping[str, Any]) -> bool:
    """Writes a description unless there is one already; returns whether it did."""
    return path.write_if_absent(described(kind, content))


def described(kind: str, content: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a description: its content, version and checksum."""
    whole = {"format": kind, "version": {"major": MAJOR, "minor": MINOR}, **content}
    return json.dumps({**whole, "xxh3": _checksum(whole)}, indent=1, ensure_ascii=False).encode() + b"\n"


def read_json(path: StoragePath, kind: str) -> tuple[dict[str, Any], str]:
    """Reads and checks a description; returns it and the reason why its subject is read-only ("" if it is writable)."""
    content, is_sound = _read(path)
    if content.get("format") != kind:
        raise StoreFormatError(f"{path} has the format {content.get('format')!r}", expected=repr(kind))
    major, minor = content["version"]["major"], content["version"]["minor"]
    if major != MAJOR:
        raise StoreFormatError(
            f"{path} has version {major}.{minor}",
            expected=f"version {MAJOR}",
            remedy="upgrade penult" if major > MAJOR else "open it with an older penult",
        )
    if not is_sound:  # checked last, because another version may use another checksum
        raise StoreFormatError(
            f"{path} fails its checksum",
            expected="the bytes that penult wrote",
            remedy="copy this file again from the original store; no other file depends on it",
        )
    if minor > MINOR:
        return content, f"{path} has version {major}.{minor}, and this penult writes {MAJOR}.{MINOR}"
    return content, ""


def _read(path: StoragePath) -> tuple[dict[str, Any], bool]:
    """Returns the content of a description, and whether its checksum matches."""
    try:
        content = json.loads(path.read_start(SIZE_LIMIT))
        checksum = content.pop("xxh3")
        if [type(content["version"][part]) for part in ("major", "minor")] != [int, int]:
            raise ValueError(f"its version is {content['version']}")
    except FileNotFoundError:
        raise StoreFormatError(
            f"{path} is missing", expected="a complete store", remedy="the copy may be incomplete: copy the store again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreFormatError(
            f"{path} cannot be read ({error})",
            expected="the bytes that penult wrote",
            remedy="copy this file again from the original store",
        ) from error
    return content, checksum == _checksum(content)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return xxh3_128_hexdigest(canonical.encode())
