"""A store's files in object storage, through fsspec."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from penult.errors import InputError, MissingExtraError, PenultError, StoreError, StoreWriteError
from penult.files import replace_file

EXCLUSIVE = {*MissingExtraError.URL_EXTRAS, "memory"}
"""The schemes for which fsspec can create an object only if its name is free, in one step."""

FIRST_BYTES = 1 << 19
AHEAD_BYTES = 1 << 23

_memory_lock = threading.Lock()


class Bucket:
    """The objects below one root of an object storage. Threads may share it."""

    def __init__(self, system: Any, url: str, root: str) -> None:
        self._system, self.url, self.root = system, url, root
        self._sizes: dict[str, int] = {}
        self._is_proven = False

    @classmethod
    def at(cls, url: str) -> Self:
        """Returns the bucket at a URL, without connecting to it yet."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise MissingExtraError.of("fsspec", "remote", f"A store at {url}") from None
        scheme = scheme_of(url)
        try:
            system, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            extra = MissingExtraError.URL_EXTRAS.get(scheme, "remote")
            raise MissingExtraError.of(str(error), extra, f"A store at {url}") from error
        except Exception as error:  # each file system raises its own errors
            raise InputError(
                f"{url} is not a valid address for a store: {error}", expected="an address such as s3://bucket/name"
            ) from error
        root = str(root).rstrip("/")
        if not root.strip("/"):
            raise InputError(f"{url} is not a valid address for a store", expected="a bucket, such as s3://bucket/name")
        return cls(system, f"{scheme}://{root.lstrip('/')}", root)

    def url_of(self, key: str) -> str:
        """Returns the URL of an object."""
        return self.url + key[len(self.root) :]

    def names(self, key: str) -> list[str]:
        """Lists the names directly below ``key``, in no order."""
        with self._asking(key):
            try:
                listed = self._system.ls(key, detail=True)
            except FileNotFoundError:
                return []
        found = {str(info["name"]).rstrip("/")[len(key) + 1 :]: info for info in listed}
        self._sizes |= {f"{key}/{name}": info["size"] for name, info in found.items() if info["type"] == "file"}
        return [name for name in found if name]

    def size(self, key: str) -> int:
        """Returns the size of an object that never changes; raises ``FileNotFoundError`` if it is missing."""
        if key not in self._sizes:
            with self._asking(key):
                self._sizes[key] = int(self._system.size(key))
        return self._sizes[key]

    def changed(self, key: str) -> float:
        """Returns when an object was written, in seconds since 1970."""
        with self._asking(key):
            return float(self._system.modified(key).timestamp())

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Downloads an object or a range of it; raises ``FileNotFoundError`` if it is missing."""
        part = {} if end is None else {"start": start, "end": end}
        with self._asking(key):
            return bytes(self._system.cat_file(key, **part))

    def read_many(self, key: str, size: int, starts: Sequence[int]) -> list[bytes]:
        """Downloads many ranges of one size in parallel."""
        with self._asking(key):
            ends = [start + size for start in starts]
            found = self._system.cat_ranges([key] * len(starts), list(starts), ends, on_error="raise")
        return [bytes(data) for data in found]

    def fetch(self, key: str, file: Path) -> None:
        """Downloads an object into a file."""
        with self._asking(key):
            self._system.get_file(key, str(file))

    def put(self, key: str, file: Path) -> None:
        """Uploads a file and replaces any object of that name; readers never see a part of it."""
        with self._asking(key, is_writing=True):
            self._system.put_file(str(file), key)
        self._sizes[key] = file.stat().st_size

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Creates an object unless its name is taken; returns whether the object is this one.

        Of several writers with different data, exactly one succeeds.
        """
        self._require_exclusive()
        return self._create(key, data)

    def make_witness(self, key: str, data: bytes) -> bool:
        """Creates ``store.json``; the first commit tries to create it again, to test that the storage refuses that."""
        self._require_known()
        return self._create(key, data)

    def move(self, source: str, target: str) -> bool:
        """Copies an object within the storage and removes the original; returns False if it was gone."""
        with self._asking(target, is_writing=True):
            try:
                self._system.cp_file(source, target)
                self._system.rm_file(source)
            except FileNotFoundError:
                return False
        return True

    def remove(self, key: str) -> bool:
        """Removes an object; returns False if the storage reports that it was gone."""
        with self._asking(key, is_writing=True):
            try:
                self._system.rm_file(key)
            except FileNotFoundError:
                return False
        return True

    def _create(self, key: str, data: bytes) -> bool:
        try:
            with self._asking(key, is_writing=True), self._one_at_a_time():
                self._system.pipe_file(key, data, mode="create")
        except (PenultError, OSError) as error:
            # The answer may have been lost and the request repeated, so the stored object decides, not the error.
            try:
                return self.read(key) == data
            except (StoreError, FileNotFoundError):
                raise error from None
        return True

    def _one_at_a_time(self) -> Any:
        # The memory file system checks and writes in two steps.
        return _memory_lock if scheme_of(self.url) == "memory" else nullcontext()

    def _require_known(self) -> None:
        scheme = scheme_of(self.url)
        if scheme not in EXCLUSIVE:
            raise StoreWriteError(
                f"Nothing can be committed to {self.url}: penult does not know whether {scheme!r} stops two writers "
                "from taking one name",
                expected=f"one of {', '.join(sorted(EXCLUSIVE))}",
                remedy="use this store for reading only, and write to a store on a disk",
            )

    def _require_exclusive(self) -> None:
        """Checks that creating ``store.json`` again fails: some storages ignore the condition."""
        self._require_known()
        if self._is_proven:
            return
        key = f"{self.root}/store.json"
        data = self.read(key)
        try:
            with self._one_at_a_time():
                self._system.pipe_file(key, data, mode="create")
        except Exception as error:  # each file system raises its own errors
            if not _is_taken(error):
                raise _refused(self.url_of(key), error, is_writing=True) from error
            self._is_proven = True
            return
        raise StoreWriteError(
            f"The storage of {self.url} lets two writers take one name: it ignores 'If-None-Match'",
            expected="a storage that creates an object only if its name is free, such as S3 or Google Cloud Storage",
            remedy="upgrade the storage, or keep the store on a disk",
        )

    @contextmanager
    def _asking(self, key: str, *, is_writing: bool = False) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not is_writing:
                raise
            raise StoreWriteError(
                f"{self.url_of(key)} cannot be written: there is no such bucket",
                expected="a bucket that exists",
                remedy="create the bucket first, or check the spelling",
            ) from error
        except PenultError:
            raise
        except Exception as error:  # each file system raises its own errors
            raise _refused(self.url_of(key), error, is_writing=is_writing) from error


@dataclass(frozen=True)
class ObjectPath:
    """The path of an object, or the common prefix of several, with the operations of ``StoragePath``."""

    bucket: Bucket
    key: str

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}" if name else self.key)

    def __str__(self) -> str:
        return self.bucket.url_of(self.key)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def exists(self) -> bool:
        return self.name in self.parent.names()

    def is_relative_to(self, folder: Path, /) -> bool:
        return False

    def is_dir(self) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False

    def names(self) -> list[str]:
        return self.bucket.names(self.key)

    def size(self) -> int:
        return self.bucket.size(self.key)

    def size_and_change(self) -> tuple[int, float]:
        """Returns the size of the object and the time it was written."""
        return self.size(), self.bucket.changed(self.key)

    def open_file(self) -> "OpenObject":
        return OpenObject(self)

    def read_start(self, most_bytes: int) -> bytes:
        """Downloads the whole object."""
        return self.bucket.read(self.key)

    def local_copy(self, cache: Path) -> Path:
        """Downloads the object into ``cache``, unless this state of it is there, and removes older copies."""
        size, changed = self.size_and_change()
        suffix = Path(self.name).suffix
        kept = cache / f"{Path(self.name).stem}-{size}-{changed:.6f}{suffix}"
        if not kept.exists():
            for older in cache.glob(f"*{suffix}"):
                older.unlink(missing_ok=True)  # a process that reads it keeps it open
            self.fetch(kept)
        return kept

    def fetch(self, file: Path) -> None:
        """Downloads the object into a local file, which appears when it is complete."""
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{uuid4().hex}.tmp")
        try:
            self.bucket.fetch(self.key, draft)
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)

    def put(self, file: Path) -> None:
        """Uploads a local file and replaces any object of this name."""
        self.bucket.put(self.key, file)

    def make_folder(self) -> None:
        """Does nothing: object storage needs no folders."""

    def sync_folder(self) -> None:
        """Does nothing: the name of an object is durable once the object is there."""

    def publish(self, temporary: Path) -> None:
        """Uploads a finished local file and removes it. The end of the upload is the commit."""
        try:
            self.put(temporary)
        finally:
            temporary.unlink()

    def publish_if_absent(self, temporary: Path) -> bool:
        """Uploads a finished local file unless the name is taken, and removes it; returns whether it did."""
        try:
            return self.write_if_absent(temporary.read_bytes())
        finally:
            temporary.unlink()

    def write_if_absent(self, data: bytes) -> bool:
        return self.bucket.put_if_absent(self.key, data)

    def move_to(self, target: "ObjectPath") -> bool:
        return self.bucket.move(self.key, target.key)

    def remove(self) -> bool:
        return self.bucket.remove(self.key)


class OpenObject:
    """An object that is read like an open file; sequential reads download ahead."""

    def __init__(self, place: ObjectPath) -> None:
        self._place = place
        self.size_bytes = place.size()
        self._held = (0, b"")
        self._next = 0

    def close(self) -> None:
        self.drop_cache()

    def drop_cache(self) -> None:
        self._held = (0, b"")

    def read(self, size: int, offset: int) -> bytes:
        start, data = self._held
        if not start <= offset <= offset + size <= start + len(data):
            ahead = FIRST_BYTES if offset == 0 else AHEAD_BYTES if offset == self._next else 0
            end = min(offset + max(size, ahead), self.size_bytes)
            start, data = offset, self._place.bucket.read(self._place.key, offset, end) if end > offset else b""
            self._held = (start, data)
        self._next = offset + size
        return data[offset - start : offset - start + size]

    def read_into(self, view: memoryview, offset: int) -> int:
        data = self.read(len(view), offset)
        view[: len(data)] = data
        return len(data)

    def read_many(self, size: int, offsets: Sequence[int]) -> list[bytes]:
        return self._place.bucket.read_many(self._place.key, size, offsets)


def write_copy(file: Path, data: bytes) -> None:
    """Writes a local copy of an object, which appears when it is complete. It need not be durable: the object is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, data, is_durable=False)


def scheme_of(url: str) -> str:
    """Returns the part of a URL before the colon.

    >>> scheme_of("s3://bucket/features")
    's3'
    """
    return url.split(":", maxsplit=1)[0]


def _is_taken(error: BaseException | None) -> bool:
    """Returns whether an error means that an object of this name exists already."""
    while error is not None:
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "code", None)
        taken = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
        if isinstance(error, FileExistsError) or str(code) in taken:
            return True
        error = error.__cause__ or error.__context__
    return False


def _refused(url: str, error: Exception, *, is_writing: bool) -> StoreError:
    reason = " ".join(str(error).split()) or type(error).__name__
    kind = StoreWriteError if is_writing else StoreError
    is_about_rights = isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    remedy = (
        "give credentials as the storage's own tools take them, with permission to list, read and write there"
        if is_about_rights
        else "check that the storage can be reached from here; running the same command again is safe"
    )
    return kind(f"{url} cannot be {'written' if is_writing else 'read'}: {reason}", remedy=remedy)
