"""A store in object storage. Rows stay there; each process works on local copies of the catalog and the heads."""

import hashlib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import RLock

from penult.errors import MissingFileError, StoreFormatError
from penult.store.catalog import Catalog
from penult.store.files.bucket import Bucket, ObjectPath, write_copy
from penult.store.objects.generations import Generations
from penult.store.store_folder import STORE_FILE, STORE_FORMAT, described, read_json
from penult.store.stores import Store


def open_remote(url: str, *, create: bool) -> "RemoteStore":
    """Opens the store at a URL; ``create`` makes one if nothing is there."""
    bucket = Bucket.at(url)
    root = ObjectPath(bucket, bucket.root)
    names = root.names()
    if STORE_FILE not in names:
        if not create:
            raise MissingFileError(
                f"There is no store at {url}",
                expected="an address where penult made a store",
                remedy="check the address; `penult extract` and `penult fit` make a new store",
            )
        if names:
            raise StoreFormatError(
                f"{url} is not a store: it contains {min(names)!r}",
                expected="a store, or an unused address for a new one",
                remedy="choose another address",
            )
        bucket.make_witness((root / STORE_FILE).key, described(STORE_FORMAT, {}))
    return RemoteStore(root, read_json(root / STORE_FILE, STORE_FORMAT)[1])


class RemoteStore(Store):
    """An open store in object storage. Its local folder contains only copies and files that can be computed again."""

    def __init__(self, root: ObjectPath, refusal: str = "") -> None:
        super().__init__(_working_folder(root.bucket.url), refusal, root=root)
        self._place = root
        self._lock = RLock()

    @cached_property
    def _generations(self) -> Generations:
        return Generations(self._place, self.path)

    @property
    def catalog(self) -> Catalog:
        """This process's copy of the catalog; each change is committed to the storage."""
        with self._lock:
            if self._catalog is None:
                self._catalog = self._generations.open_catalog()
            return self._catalog

    @property
    def heads_path(self) -> Path:
        """The local folder with copies of the saved heads."""
        self.catalog  # noqa: B018 - opening the catalog downloads the heads
        return self._generations.heads_path

    def backbone_files(self) -> list[Path]:
        """Downloads the files of all backbones and returns their paths."""
        place = self._place / "backbones"
        for name in place.names():
            if not (self.path / "backbones" / name).is_file():
                (place / name).fetch(self.path / "backbones" / name)
        return [self.path / "backbones" / name for name in sorted(place.names())]

    def backbone_path(self, name: str, fingerprint: str) -> Path:
        """Returns the local path of a backbone's file, downloaded if the storage has it."""
        path = super().backbone_path(name, fingerprint)
        if not path.is_file():
            with suppress(FileNotFoundError):
                (self._place / "backbones" / path.name).fetch(path)
        return path

    def add_backbone(self, name: str, fingerprint: str, data: bytes) -> Path:
        """Saves a backbone's file next to its rows, replaces a damaged one, and returns its local path."""
        path = super().backbone_path(name, fingerprint)
        place = self._place / "backbones" / path.name
        if not path.is_file() or path.read_bytes() != data:
            self._require_writable()
            write_copy(path, data)
        if not place.exists() or place.size() != len(data):
            self._require_writable()
            place.put(path)
        return path


def _working_folder(url: str) -> Path:
    import platformdirs

    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("penult") / "stores" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
