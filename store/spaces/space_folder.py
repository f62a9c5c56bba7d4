"""The folder of a space: its parts, and what may be remembered of files that never change."""

from collections.abc import Iterable
from pathlib import Path

from penult.errors import StoreFormatError
from penult.store.files.durable import Part, make_folder, publish, publish_if_absent, temporary_name, write_new
from penult.store.files.folders import names_in, passing_folder, size_and_change
from penult.store.files.mirroring import fetch
from penult.store.files.places import ObjectPath, Place
from penult.store.shards.container import Layout, damaged
from penult.store.shards.shard import NewShard, Shard
from penult.store.spaces import manifests
from penult.store.spaces.manifests import NONE_YET, Manifest
from penult.store.spec import SpaceSpec

PARTS = ("index", "manifests", "quarantine", "shards", "tmp", "trash")
LAYOUTS_KEPT = 1 << 15

PATIENCE_SECONDS = 5.0
"""How old a listing of object storage may be for a question whose answer only saves work: each one costs a request."""


class SpaceFolder:
    """Where a space lies, and how its files are opened and published.

    Of a space in object storage, ``cache`` is a folder of this machine for what is derived; its files are written in a
    folder of this process.
    """

    def __init__(self, path: Place, spec: SpaceSpec, refusal: str = "", *, cache: Path | None = None) -> None:
        self.path = path
        self.spec = spec
        self.refusal = refusal
        self.index, self.manifests, self.quarantine, self.shards, _, self.trash = (path / part for part in PARTS)
        self.patience_seconds = PATIENCE_SECONDS if isinstance(path, ObjectPath) else 0.0
        self.here: Path = path if isinstance(path, Path) else cache or Path()
        if isinstance(path, ObjectPath):
            self.tmp = passing_folder(self)
        else:
            self.tmp = path / "tmp"
        self._layouts: dict[str, Layout] = {}
        self._manifest: Manifest = NONE_YET

    def open_shard(self, name: str) -> Shard:
        """Opens a shard; a missing one is a ``FileNotFoundError``."""
        layout = self._layouts.get(name)
        shard = Shard.open(self.shards / name, self.spec, layout)
        if layout is None:
            if len(self._layouts) >= LAYOUTS_KEPT:
                self._layouts = {}
            self._layouts[name] = shard.file.layout
        return shard

    def index_file(self, name: str) -> Path:
        """Returns where an index can be read: one in object storage is fetched whole, for it is read here and there."""
        place = self.index / name
        if not isinstance(place, ObjectPath):
            return place
        size, changed = size_and_change(place)
        kept = self.here / f"{name.removesuffix('.h5')}-{size}-{changed:.6f}.h5"
        if not kept.exists():
            for older in self.here.glob("*.h5"):
                older.unlink(missing_ok=True)  # whoever reads it has it open
            fetch(place, kept)
        return kept

    def listed_shards(self) -> frozenset[str]:
        """Lists what lies in the folder of the shards."""
        if not self.shards.is_dir():
            raise damaged(self.shards, "is missing")
        return frozenset(names_in(self.shards))

    def newest_number(self) -> int:
        """Returns the number of the newest manifest, 0 if there is none."""
        return max(manifests.numbers(self.manifests), default=0)

    def newest_manifest(self) -> Manifest:
        """Returns the newest manifest."""
        if self._manifest.number != self.newest_number():
            self._manifest = manifests.read_newest(self.manifests, self.spec.id)
        return self._manifest

    def put_shard(self, shard: NewShard) -> None:
        """Commits a shard."""
        temporary = self.write(".h5", shard.parts())
        publish(temporary, self.shards / shard.name)

    def write(self, suffix: str, parts: Iterable[Part]) -> Path:
        """Writes a file under a name that no reader looks at, and returns its path."""
        if self.refusal:
            raise StoreFormatError(self.refusal, expected="a store of this version", remedy="upgrade penult")
        temporary = temporary_name(self.tmp, suffix)
        if not self.tmp.is_dir():
            make_folder(self.tmp)
        write_new(temporary, parts)
        return temporary

    def put_manifest(self, manifest: Manifest) -> bool:
        """Writes a manifest unless there is one of its number already, and says whether it did."""
        temporary = self.write(".json", manifests.parts(manifest, self.spec.id))
        if not self.manifests.is_dir():
            make_folder(self.manifests)
        return publish_if_absent(temporary, self.manifests / manifests.file_name(manifest.number))
