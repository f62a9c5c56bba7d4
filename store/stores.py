"""A store: a folder of spaces, the backbones that made them, and the catalog."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from penult.errors import InputError, MissingFileError, StoreFormatError, UnknownNameError
from penult.store.durable import make_folder, publish_if_absent, temporary_name, write_new
from penult.store.space import Space
from penult.store.spacefolder import PARTS
from penult.store.spec import SpaceSpec

if TYPE_CHECKING:
    from penult.store.catalog import Catalog

FORMAT = "penult-store"
SPACE_FORMAT = "penult-space"
MAJOR, MINOR = 1, 0
FOLDERS = ("backbones", "spaces")


def open_store(path: str | Path, *, create: bool = True) -> "Store":
    """Opens the store in a folder, and makes one where there is none."""
    folder = Path(path).absolute()
    if not (folder / "store.json").is_file():
        _check_room(folder, create)
        for name in FOLDERS:
            make_folder(folder / name)
        _put_json(folder / "store.json", {"format": FORMAT, "version": {"major": MAJOR, "minor": MINOR}})
    _check_version(folder / "store.json", FORMAT, "store")
    return Store(folder)


def _check_room(folder: Path, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreFormatError(f"{folder} is a file", expected="the folder of a store")
    if not folder.exists():
        if not create:
            raise MissingFileError(
                f"There is no store at {folder}", expected="a folder that penult made", remedy="check the path"
            )
        return
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in FOLDERS)
    others = [name for name in others if not name.endswith(".json.tmp")]
    if others:
        raise StoreFormatError(
            f"{folder} holds {others[0]!r} and no store.json",
            expected="a store, or an empty folder to make one in",
            remedy="name another folder, or copy the store again if it is half copied",
        )
    if not create:
        raise StoreFormatError(f"{folder} holds no store", expected="a folder with a store.json")


def _put_json(path: Path, content: dict[str, Any]) -> None:
    temporary = temporary_name(path.parent, ".json.tmp")
    write_new(temporary, [(0, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")])
    publish_if_absent(temporary, path)


def _check_version(path: Path, kind: str, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        found, major = content["format"], content["version"]["major"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFormatError(f"{path} cannot be read: {error}", expected=f"the description of a {what}") from error
    if found != kind:
        raise StoreFormatError(f"{path} says {found!r}", expected=repr(kind))
    if major != MAJOR:
        raise StoreFormatError(
            f"{path.parent} is a {what} of version {major}",
            expected=f"version {MAJOR}",
            remedy="upgrade penult" if major > MAJOR else "open it with an older penult",
        )
    result: dict[str, Any] = content
    return result


class Store:
    """An open store; any number of processes may have it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._catalog: Catalog | None = None

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def catalog(self) -> "Catalog":
        """The catalog: files seen, failed images, datasets, jobs and heads."""
        if self._catalog is None:
            from penult.store.catalog import Catalog

            self._catalog = Catalog(self.path / "catalog.sqlite")
        return self._catalog

    @property
    def heads_path(self) -> Path:
        """The folder of the saved heads."""
        return self.path / "heads"

    def space(self, spec: SpaceSpec) -> Space:
        """Returns a space, and makes it where there is none."""
        folder = self.path / "spaces" / spec.id
        if not (folder / "space.json").is_file():
            for name in PARTS:
                make_folder(folder / name)
            content = {"format": SPACE_FORMAT, "version": {"major": MAJOR, "minor": MINOR}, "space": spec.to_json()}
            _put_json(folder / "space.json", content)
        return self._open_space(folder)

    def _open_space(self, folder: Path) -> Space:
        content = _check_version(folder / "space.json", SPACE_FORMAT, "space")
        spec = SpaceSpec.from_json(content.get("space", {}))
        if spec.id != folder.name:
            raise StoreFormatError(f"{folder} holds the space {spec.id}", expected="the space that the folder names")
        return Space(folder, spec)

    def spaces(self) -> list[Space]:
        """Lists the spaces, sorted by name."""
        folders = [folder for folder in (self.path / "spaces").iterdir() if (folder / "space.json").is_file()]
        return sorted(map(self._open_space, folders), key=lambda space: (space.spec.name, space.spec.id))

    def find_space(self, backbone: str, tap: str = "penultimate", *, view: str = "identity") -> Space:
        """Returns the one space of a backbone, named by its name or fingerprint, that has this tap and view."""
        spaces = self.spaces()
        found = [
            space
            for space in spaces
            if backbone in {space.spec.backbone, space.spec.fingerprint}
            and (space.spec.tap, space.spec.view) == (tap, view)
        ]
        if not found:
            asked = ":".join([backbone, tap] if view == "identity" else [backbone, tap, view])
            raise UnknownNameError.among("space", asked, [space.spec.name for space in spaces])
        if len(found) > 1:
            raise InputError(
                f"{len(found)} spaces are called {found[0].spec.name}",
                expected="one",
                remedy="name the backbone by its fingerprint: " + ", ".join(space.spec.fingerprint for space in found),
            )
        return found[0]

    def backbone_path(self, name: str, fingerprint: str) -> Path:
        """Returns where a backbone's file is kept, whether it is there or not."""
        return self.path / "backbones" / f"{quote(name, safe='')}@{fingerprint[:16]}.onnx"

    def add_backbone(self, name: str, fingerprint: str, data: bytes) -> Path:
        """Keeps a backbone's file with the rows that it made, and returns its path."""
        path = self.backbone_path(name, fingerprint)
        if not path.exists():
            temporary = temporary_name(path.parent, ".onnx.tmp")
            write_new(temporary, [(0, data)])
            publish_if_absent(temporary, path)
        return path
