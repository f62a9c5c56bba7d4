"""Object storage, reached through fsspec: the few operations that a store asks of it, and its errors in words."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

from penult.errors import InputError, MissingExtraError, PenultError, StoreError, StoreWriteError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Which extra of penult brings what a scheme needs."""

EXCLUSIVE = {*EXTRAS, "memory"}
"""Where fsspec is known to put an object only if there is none of its name, in one step."""

_memory_turn = threading.Lock()


class Bucket:
    """One place of an object storage, from a root down. Threads may share it."""

    def __init__(self, system: Any, url: str, root: str) -> None:
        self._system, self.url, self.root = system, url, root
        self._sizes: dict[str, int] = {}
        self._is_proven = False

    @classmethod
    def at(cls, url: str) -> Self:
        """Returns the place that a URL names, without asking for it yet."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise MissingExtraError.of("fsspec", "remote", f"A store at {url}") from None
        scheme = scheme_of(url)
        try:
            system, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MissingExtraError.of(str(error), EXTRAS.get(scheme, "remote"), f"A store at {url}") from error
        except Exception as error:  # each file system has errors of its own
            raise InputError(
                f"{url} names no place for a store: {error}", expected="such as s3://bucket/name"
            ) from error
        root = str(root).rstrip("/")
        if not root.strip("/"):
            raise InputError(f"{url} names no place for a store", expected="a bucket, such as s3://bucket/name")
        return cls(system, f"{scheme}://{root.lstrip('/')}", root)

    def url_of(self, key: str) -> str:
        """Returns the URL of an object."""
        return self.url + key[len(self.root) :]

    def names(self, key: str) -> list[str]:
        """Lists what lies directly below ``key``, in no order; none where nothing does."""
        with self._asking(key):
            try:
                listed = self._system.ls(key, detail=True)
            except FileNotFoundError:
                return []
        found = {str(info["name"]).rstrip("/")[len(key) + 1 :]: info for info in listed}
        self._sizes |= {f"{key}/{name}": info["size"] for name, info in found.items() if info["type"] == "file"}
        return [name for name in found if name]

    def size(self, key: str) -> int:
        """Returns the bytes of an object that never changes; a missing one is a ``FileNotFoundError``."""
        if key not in self._sizes:
            with self._asking(key):
                self._sizes[key] = int(self._system.size(key))
        return self._sizes[key]

    def changed(self, key: str) -> float:
        """Returns when an object was put there, in seconds since 1970."""
        with self._asking(key):
            return float(self._system.modified(key).timestamp())

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Fetches an object or a part of it; a missing one is a ``FileNotFoundError``."""
        part = {} if end is None else {"start": start, "end": end}
        with self._asking(key):
            return bytes(self._system.cat_file(key, **part))

    def read_many(self, key: str, size: int, starts: Sequence[int]) -> list[bytes]:
        """Fetches many parts of one size at once."""
        with self._asking(key):
            ends = [start + size for start in starts]
            found = self._system.cat_ranges([key] * len(starts), list(starts), ends, on_error="raise")
        return [bytes(data) for data in found]

    def fetch(self, key: str, file: Path) -> None:
        """Fetches an object into a file."""
        with self._asking(key):
            self._system.get_file(key, str(file))

    def put(self, key: str, file: Path) -> None:
        """Puts a whole file, in place of an object of that name; nobody ever sees a part of it."""
        with self._asking(key, is_writing=True):
            self._system.put_file(str(file), key)
        self._sizes[key] = file.stat().st_size

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Puts an object unless there is one of that name, and says whether it is this one that is there now.

        Of many who try at once, with different data, one succeeds.
        """
        self._require_exclusive()
        return self._create(key, data)

    def _create(self, key: str, data: bytes) -> bool:
        try:
            with self._asking(key, is_writing=True), self._one_at_a_time():
                self._system.pipe_file(key, data, mode="create")
        except (PenultError, OSError) as error:
            # Whatever it says, what is there tells more: an answer may be lost on its way, and asked for again.
            try:
                return self.read(key) == data
            except (StoreError, FileNotFoundError):
                raise error from None
        return True

    def _one_at_a_time(self) -> Any:
        # In memory, to look and to put are two steps.
        return _memory_turn if scheme_of(self.url) == "memory" else nullcontext()

    def make_witness(self, key: str, data: bytes) -> bool:
        """Puts the object by which it is tried out, before the first commit, whether a second put is refused."""
        self._require_known()
        return self._create(key, data)

    def _require_known(self) -> None:
        scheme = scheme_of(self.url)
        if scheme not in EXCLUSIVE:
            raise StoreWriteError(
                f"Nothing can be committed to {self.url}: of {scheme!r} it is not known that two writers cannot take "
                "one name",
                expected=f"one of {', '.join(sorted(EXCLUSIVE))}",
                remedy="use such a store for reading, and write it on a disk",
            )

    def _require_exclusive(self) -> None:
        """Puts the store's first file once more, which has to be refused: some storages know no condition."""
        self._require_known()
        if self._is_proven:
            return
        key = f"{self.root}/store.json"
        data = self.read(key)
        try:
            with self._one_at_a_time():
                self._system.pipe_file(key, data, mode="create")
        except Exception as error:  # each file system has errors of its own
            if not _is_taken(error):
                raise _refused(self.url_of(key), error, is_writing=True) from error
            self._is_proven = True
            return
        raise StoreWriteError(
            f"The storage of {self.url} lets two writers take one name: it leaves 'If-None-Match' aside",
            expected="a storage that puts an object only if there is none, as S3 and Google Cloud Storage do",
            remedy="upgrade it, or keep the store on a disk",
        )

    def move(self, source: str, target: str) -> bool:
        """Copies an object within the storage and removes it; says whether it was still there."""
        with self._asking(target, is_writing=True):
            try:
                self._system.cp_file(source, target)
                self._system.rm_file(source)
            except FileNotFoundError:
                return False
        return True

    def remove(self, key: str) -> bool:
        """Removes an object; says whether it was still there, as far as the storage tells."""
        with self._asking(key, is_writing=True):
            try:
                self._system.rm_file(key)
            except FileNotFoundError:
                return False
        return True

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
                remedy="make it first, or look for a typo",
            ) from error
        except PenultError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise _refused(self.url_of(key), error, is_writing=is_writing) from error


def scheme_of(url: str) -> str:
    """Returns what stands before the colon.

    >>> scheme_of("s3://bucket/features")
    's3'
    """
    return url.split(":", maxsplit=1)[0]


def _is_taken(error: BaseException | None) -> bool:
    """Tells whether an error says that there is an object of the name already."""
    while error is not None:
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else getattr(error, "code", None)
        if isinstance(error, FileExistsError) or str(code) in {
            "PreconditionFailed",
            "ConditionalRequestConflict",
            "412",
        }:
            return True
        error = error.__cause__ or error.__context__
    return False


def _refused(url: str, error: Exception, *, is_writing: bool) -> StoreError:
    reason = " ".join(str(error).split()) or type(error).__name__
    kind = StoreWriteError if is_writing else StoreError
    is_about_rights = isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    remedy = (
        "give credentials as the storage's own tools take them, with the right to list, read and write there"
        if is_about_rights
        else "look whether the storage can be reached from here; running the same again is harmless"
    )
    return kind(f"{url} cannot be {'written' if is_writing else 'read'}: {reason}", remedy=remedy)
