"""A store: a folder of spaces, the backbones that produced them, and the catalog."""

import re
from pathlib import Path
from urllib.parse import quote

from penult.errors import InputError, StoreDamagedError, StoreFormatError, UnknownNameError
from penult.store.catalog import Catalog
from penult.store.files.local import LocalPath, temporary_name, write_new
from penult.store.files.protocol import StoragePath
from penult.store.spaces.space import Space
from penult.store.spaces.space_folder import PARTS, SpaceFolder
from penult.store.spec import SpaceSpec
from penult.store.store_folder import put_json, read_json, require_no_link

SPACE_FORMAT = "penult-space"
SPACE_FILE = "space.json"
SPACE_ID = re.compile(r"[0-9a-f]{16}")


class Store:
    """An open store. Any number of threads and processes may have it open, and none locks it.

    ``path`` is its folder; for a store in object storage it is the local folder for copies.
    """

    def __init__(self, path: Path, refusal: str = "", *, root: StoragePath | None = None) -> None:
        self.path = Path(path)
        self._root: StoragePath = LocalPath(path) if root is None else root
        self._refusal = refusal
        self._catalog: Catalog | None = None

    def __repr__(self) -> str:
        return f"Store({self.address!r})"

    @property
    def address(self) -> str:
        """The path or URL that ``open_store`` takes."""
        return str(self._root)

    @property
    def short_address(self) -> str:
        """The address for a command line, relative to the current folder where possible."""
        here = Path.cwd()
        return str(self.path.relative_to(here)) if self._root.is_relative_to(here) else self.address

    @property
    def catalog(self) -> Catalog:
        """The catalog of files, failed images, datasets, jobs and heads."""
        if self._catalog is None:
            self._catalog = Catalog(self.path / "catalog.sqlite")
        return self._catalog

    @property
    def heads_path(self) -> Path:
        """The folder of the saved heads."""
        return self.path / "heads"

    def space(self, spec: SpaceSpec) -> Space:
        """Returns a space; makes it if it is new."""
        folder = self._root / "spaces" / spec.id
        if not (folder / SPACE_FILE).exists():
            self._require_writable()
            for part in PARTS:
                (folder / part).make_folder()
            put_json(folder / SPACE_FILE, SPACE_FORMAT, {"space": spec.to_json()})
        return self._open_space(folder)

    def _open_space(self, path: StoragePath) -> Space:
        for part in ("", *PARTS):
            require_no_link(path / part)
        content, refusal = read_json(path / SPACE_FILE, SPACE_FORMAT)
        spec = SpaceSpec.from_json(content.get("space", {}))
        if spec.id != path.name:
            raise StoreFormatError(
                f"{path} contains the space {spec.id}", expected="the space in the name of the folder"
            )
        return Space(SpaceFolder(path, spec, self._refusal or refusal, cache=self.path / "indexes" / spec.id))

    def spaces(self) -> list[Space]:
        """Lists the spaces, sorted by name."""
        folder = self._root / "spaces"
        paths = [folder / name for name in folder.names() if SPACE_ID.fullmatch(name)]
        complete = [path for path in paths if (path / SPACE_FILE).exists()]
        for path in set(paths).difference(complete):
            if (path / "shards").names():
                raise StoreDamagedError(
                    f"{path} contains rows, but no {SPACE_FILE}",
                    expected="a complete space",
                    remedy="copy the store again, or run `penult extract` with the same backbone to make this file",
                )
        return sorted(map(self._open_space, complete), key=lambda space: (space.spec.name, space.spec.id))

    def find_space(self, backbone: str, tap: str = "penultimate", *, view: str = "identity") -> Space:
        """Returns the one space of a tap and a view; ``backbone`` is a name or a fingerprint."""
        spaces = self.spaces()
        found = [
            space
            for space in spaces
            if backbone in {space.spec.backbone, space.spec.fingerprint}
            and (space.spec.tap, space.spec.view) == (tap, view)
        ]
        if not found:
            name = ":".join([backbone, tap] if view == "identity" else [backbone, tap, view])
            raise UnknownNameError.among("space", name, [space.spec.name for space in spaces])
        if len(found) > 1:
            raise InputError(
                f"{len(found)} spaces are called {backbone}:{tap}",
                expected="one",
                remedy="give the fingerprint of the backbone, or open the space with `Store.space` and its full spec",
            )
        return found[0]

    def backbone_path(self, name: str, fingerprint: str) -> Path:
        """Returns the path of a backbone's file, which may be missing."""
        return self.path / "backbones" / f"{quote(name, safe='')}@{fingerprint[:16]}.onnx"

    def backbone_files(self) -> list[Path]:
        """Returns the files of all backbones."""
        return sorted((self.path / "backbones").glob("*.onnx"))

    def add_backbone(self, name: str, fingerprint: str, data: bytes) -> Path:
        """Saves a backbone's file next to its rows, replaces a damaged one, and returns its path."""
        path = LocalPath(self.backbone_path(name, fingerprint))
        if not path.is_file() or path.read_bytes() != data:
            self._require_writable()
            path.parent.make_folder()
            temporary = temporary_name(path.parent, ".tmp")
            write_new(temporary, [(0, data)])
            path.publish(temporary)
        return path

    def _require_writable(self) -> None:
        if self._refusal:
            raise StoreFormatError(self._refusal, expected="a store of this version", remedy="upgrade penult")
