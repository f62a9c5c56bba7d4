"""A store in object storage: rows lie there and are read from there; the catalog and the heads have copies here."""

import hashlib
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import RLock

from penult.errors import MissingFileError, StoreFormatError
from penult.store.catalog import Catalog
from penult.store.files.bucket import Bucket
from penult.store.files.mirroring import fetch, keep
from penult.store.files.places import ObjectPath
from penult.store.objects.generations import Generations
from penult.store.store_folder import STORE_FILE, STORE_FORMAT, described, read_json
from penult.store.stores import Store


def open_remote(url: str, *, create: bool) -> "RemoteStore":
    """Opens the store at a URL, and with ``create`` makes one where there is none."""
    bucket = Bucket.at(url)
    root = ObjectPath(bucket, bucket.root)
    names = bucket.names(root.key)
    if STORE_FILE not in names:
        if not create:
            raise MissingFileError(
                f"There is no store at {url}",
                expected="a place that penult made",
                remedy="check the address; `penult extract` and `penult fit` make a store where there is none",
            )
        if names:
            raise StoreFormatError(
                f"{url} is no store: it holds {min(names)!r}",
                expected="a store, or nothing",
                remedy="name another place",
            )
        bucket.make_witness((root / STORE_FILE).key, described(STORE_FORMAT, {}))
    return RemoteStore(root, read_json(root / STORE_FILE, STORE_FORMAT)[1])


class RemoteStore(Store):
    """An open store in object storage.

    Its folder on this machine holds nothing that is not there as well, or can be computed anew.
    """

    def __init__(self, root: ObjectPath, refusal: str = "") -> None:
        super().__init__(_working_folder(root.bucket.url), refusal, root=root)
        self._place = root
        self._turn = RLock()

    @cached_property
    def _generations(self) -> Generations:
        return Generations(self._place, self.path)

    @property
    def catalog(self) -> Catalog:
        """The catalog, in a copy of this process that is committed to the storage with each change."""
        with self._turn:
            if self._catalog is None:
                self._catalog = self._generations.open_catalog()
            return self._catalog

    @property
    def heads_path(self) -> Path:
        """The folder of this machine with the saved heads."""
        self.catalog  # noqa: B018 - which brings them
        return self._generations.heads_path

    def backbone_files(self) -> list[Path]:
        """Returns the files of all backbones, fetched."""
        place = self._place / "backbones"
        for name in place.bucket.names(place.key):
            if not (self.path / "backbones" / name).is_file():
                fetch(place / name, self.path / "backbones" / name)
        return [self.path / "backbones" / name for name in sorted(place.bucket.names(place.key))]

    def backbone_path(self, name: str, fingerprint: str) -> Path:
        """Returns where a backbone's file can be read; it is fetched if it is there."""
        path = super().backbone_path(name, fingerprint)
        if not path.is_file():
            with suppress(FileNotFoundError):
                fetch(self._place / "backbones" / path.name, path)
        return path

    def add_backbone(self, name: str, fingerprint: str, data: bytes) -> Path:
        """Keeps a backbone's file with the rows that it makes, in place of a damaged one, and returns its path."""
        path = super().backbone_path(name, fingerprint)
        place = self._place / "backbones" / path.name
        if not path.is_file() or path.read_bytes() != data:
            self._require_writable()
            keep(path, data)
        if not place.exists() or place.bucket.size(place.key) != len(data):
            self._require_writable()
            place.bucket.put(place.key, path)
        return path


def _working_folder(url: str) -> Path:
    import platformdirs

    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("penult") / "stores" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
