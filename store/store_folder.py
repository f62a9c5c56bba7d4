"""Opening a store: what lies in the folder is looked at before anything is believed or made."""

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
from penult.store.files.durable import make_folder, write_if_absent
from penult.store.files.folders import names_in
from penult.store.files.open_file import content_of
from penult.store.files.places import Place

MAJOR, MINOR = 1, 0
STORE_FORMAT = "penult-store"
STORE_FILE = "store.json"
STORE_PARTS = ("backbones", "spaces")
SIZE_LIMIT = 1 << 24
LOCAL = re.compile(r"^(file|local):/{1,3}")
NOT_OURS = re.compile(r"\..*|lost\+found|[0-9a-f]{32}\.tmp")


def url_of(path: str | Path) -> str:
    """Returns the URL that a store is named by, or nothing where it is a folder.

    >>> url_of("s3://bucket/features"), url_of("features"), url_of("C:/features")
    ('s3://bucket/features', '', '')
    >>> url_of(Path("s3://bucket/features"))
    's3://bucket/features'
    """
    # What was a path on its way has lost a slash.
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):/{1,3}([^/].*)", str(path))
    if not found or re.match(LOCAL, str(path)) or (isinstance(path, Path) and path.exists()):
        return ""
    return f"{found[1]}://{found[2]}"


def open_folder(path: str | Path, *, create: bool) -> tuple[Path, str]:
    """Returns the folder of a store, made where there is none, and why it may not be written ("" if it may)."""
    folder = Path(re.sub(LOCAL, "/", str(path))).expanduser().absolute()
    with _looking_into(folder):
        is_there = _is_folder(folder)
        if not is_there and not create:
            raise MissingFileError(
                f"There is no store at {folder}",
                expected="a folder that penult made",
                remedy="check the path; `penult extract` and `penult fit` make a store where there is none",
            )
        if not os.path.lexists(folder / STORE_FILE):
            _require_room(folder if is_there else None, create)
            for part in STORE_PARTS:
                make_folder(folder / part)
            put_json(folder / STORE_FILE, STORE_FORMAT, {})
        for part in STORE_PARTS:
            require_no_link(folder / part)
    return folder, read_json(folder / STORE_FILE, STORE_FORMAT)[1]


@contextmanager
def _looking_into(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise StoreFormatError(
            f"{folder} cannot be opened: {error.strerror}",
            expected="a folder that you may read",
            remedy="ask its owner for the right to read it",
        ) from error


def _is_folder(folder: Path) -> bool:
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        if folder.is_symlink():
            raise StoreFormatError(f"{folder} is a link that leads nowhere", expected="the folder of a store") from None
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


def _require_room(folder: Path | None, create: bool) -> None:
    """Lets a store be made in no folder, in an empty one, and in one where the making of a store was interrupted."""
    if folder is None:
        return
    names = {name for name in names_in(folder) if not NOT_OURS.fullmatch(name)}
    filled = [part for part in STORE_PARTS if part in names and names_in(folder / part)]
    if filled or {"catalog.sqlite", "heads"} & names:
        raise StoreFormatError(
            f"{folder} holds parts of a store, but no {STORE_FILE}",
            expected="a whole store",
            remedy="it may be half copied: copy it again, or copy store.json from where it came",
        )
    others = sorted(names.difference(STORE_PARTS))
    if others:
        raise StoreFormatError(
            f"{folder} is no store: it holds {others[0]!r}",
            expected="a store, or an empty folder to make one in",
            remedy="name another folder",
        )
    if not create:
        raise StoreFormatError(
            f"{folder} holds no store", expected=f"a folder with a {STORE_FILE}", remedy="check the path"
        )


def require_no_link(path: Place) -> None:
    """Refuses a symbolic link inside of a store, which could lead out of it or round in a circle."""
    if path.is_symlink():
        raise StoreFormatError(
            f"{path} is a symbolic link",
            expected="a folder: links inside of a store are not followed",
            remedy="move the real folder here, or link the whole store",
        )


def put_json(path: Place, kind: str, content: Mapping[str, Any]) -> bool:
    """Writes a description, unless there is one already, and says whether it did."""
    return write_if_absent(path, described(kind, content))


def described(kind: str, content: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a description: what it says, its version and its checksum."""
    whole = {"format": kind, "version": {"major": MAJOR, "minor": MINOR}, **content}
    return json.dumps({**whole, "xxh3": _checksum(whole)}, indent=1, ensure_ascii=False).encode() + b"\n"


def read_json(path: Place, kind: str) -> tuple[dict[str, Any], str]:
    """Reads and checks a description; returns it, and why what it describes may not be written ("" if it may)."""
    content, is_sound = _read(path)
    if content.get("format") != kind:
        raise StoreFormatError(f"{path} is of the format {content.get('format')!r}", expected=repr(kind))
    major, minor = content["version"]["major"], content["version"]["minor"]
    if major != MAJOR:
        raise StoreFormatError(
            f"{path} is of version {major}.{minor}",
            expected=f"version {MAJOR}",
            remedy="upgrade penult" if major > MAJOR else "open it with an older penult",
        )
    if not is_sound:  # only now: another version may have another checksum
        raise StoreFormatError(
            f"{path} fails its checksum",
            expected="what penult wrote there",
            remedy="copy this file again from where the store came; nothing else of the store depends on it",
        )
    if minor > MINOR:
        return content, f"{path} is of version {major}.{minor}, and this penult writes {MAJOR}.{MINOR}"
    return content, ""


def _read(path: Place) -> tuple[dict[str, Any], bool]:
    """Returns what a description says, and whether its checksum agrees."""
    try:
        content = json.loads(content_of(path, SIZE_LIMIT))
        checksum = content.pop("xxh3")
        if [type(content["version"][part]) for part in ("major", "minor")] != [int, int]:
            raise ValueError(f"its version is {content['version']}")
    except FileNotFoundError:
        raise StoreFormatError(
            f"{path} is missing", expected="a whole store", remedy="it may be half copied: copy it again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreFormatError(
            f"{path} cannot be read ({error})",
            expected="what penult wrote there",
            remedy="copy this file again from where the store came",
        ) from error
    return content, checksum == _checksum(content)


def _checksum(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return xxh3_128_hexdigest(canonical.encode())
