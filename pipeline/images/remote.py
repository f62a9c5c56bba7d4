"""Images elsewhere, by any URL that fsspec knows: ``s3://``, ``gs://``, ``https://`` and many more."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

from penult.errors import ImageError, InputError, MissingExtraError, MissingFileError
from penult.pipeline.images.archive_members import stamp_to_mtime
from penult.pipeline.images.archives import list_archive
from penult.pipeline.images.image_file import ImageFile, is_archive, is_visible, label_and_split, splits_of_paths

# Which extra of penult brings what a scheme needs.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}

# How long a web server may take to answer, or to go on.
SILENT_SECONDS = 30.0

# By any of these a file system tells one state of a file from another.
VERSIONS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "generation", "mtime", "LastModified", "last_modified", "Last-Modified",
    "created", "updated", "modified", "md5", "sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Remote:
    """Reads whole files of one file system."""

    system: Any

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Fetches the file, and no more than ``most_bytes`` of it."""
        if file.size > most_bytes:
            raise ImageError(f"the file is too large: more than {most_bytes:,} bytes")
        try:
            if file.size >= 0:
                return cast("bytes", self.system.cat_file(file.path))
            with self.system.open(file.path, "rb") as stream:
                data = cast("bytes", stream.read(most_bytes + 1))
        except Exception as error:  # each file system has errors of its own
            raise _unreachable(error) from error
        if len(data) > most_bytes:
            raise ImageError(f"the file is too large: more than {most_bytes:,} bytes")
        return data


@dataclass(frozen=True)
class RemoteArchive:
    """An archive elsewhere, of which parts are fetched."""

    system: Any
    path: str
    stamp: str

    def open(self) -> IO[bytes]:
        """Opens it for reading."""
        return cast("IO[bytes]", self.system.open(self.path, "rb"))

    def read(self, start: int, count: int) -> bytes:
        """Fetches ``count`` bytes, or fewer where the file ends."""
        try:
            data = cast("bytes", self.system.cat_file(self.path, start=start, end=start + count))
        except Exception as error:  # each file system has errors of its own
            raise _unreachable(error) from error
        # A web server may know no parts of files, and send the whole.
        return data if len(data) <= count else data[start : start + count]


def list_remote(url: str) -> Iterator[ImageFile]:
    """Yields the images of a folder, a pattern, an archive or one file elsewhere, with class folders and splits.

    A file whose system tells neither a time of change nor a version is fetched at every run.
    """
    system, root = _opened(url)
    try:
        found = _files(system, root)
    except FileNotFoundError as error:
        raise MissingFileError(f"There is nothing at {url}", expected="a folder, a pattern, or a file") from error
    except Exception as error:
        raise InputError(f"{url} cannot be listed: {str(error) or type(error).__name__}") from error
    base = root.rstrip("/") + "/"
    inner = {path: path.removeprefix(base).split("/") for path in found}
    splits = splits_of_paths(inner.values())
    for path, parts in inner.items():
        if all(map(is_visible, parts[-1:] if path == root else parts)):
            yield from _expanded(system, path, found[path], *label_and_split(parts, {} if path == root else splits))


def remote_image(url: str, label: str | None, split: str | None) -> ImageFile:
    """Returns the one image at ``url`` without asking for it yet."""
    return ImageFile(url, -1, time.time_ns(), label, split, Remote(_opened(url)[0]))


def _opened(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError.of("fsspec", "remote", f"to read {url}") from None
    scheme = url.split("://", maxsplit=1)[0]
    try:
        system, root = url_to_fs(url, **_patience(scheme))
    except ImportError as error:
        raise MissingExtraError.of(str(error), EXTRAS.get(scheme, "remote"), f"to read {url}") from error
    except ValueError as error:
        raise InputError(f"{url} cannot be read: {error}", expected="a scheme such as s3, gs or https") from error
    return system, str(root)


def _patience(scheme: str) -> dict[str, Any]:
    """Returns how long a web server may say nothing; by itself fsspec gives the whole of a file five minutes."""
    if scheme not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    patience = ClientTimeout(total=None, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return {"client_kwargs": {"timeout": patience}}


def _files(system: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """Returns the files at ``root`` in the order of their paths, with what the system tells of each."""
    if any(sign in root for sign in "*[") or ("?" in root and not root.startswith("http")):
        found = {path: info for path, info in system.glob(root, detail=True).items() if info["type"] == "file"}
    elif root.endswith("/") or not system.isfile(root):
        found = {
            f"{folder.rstrip('/')}/{name}" if "://" not in str(info["name"]) else str(info["name"]): info
            for folder, _, files in system.walk(root, detail=True, on_error="raise")
            for name, info in files.items()
        }
    else:
        found = {root: system.info(root)}
    if not found:
        raise FileNotFoundError(root)
    return {path: _needed(found[path]) for path in sorted(found)}


def _needed(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drops what is not needed, which may be many times as much."""
    return {name: info[name] for name in ("size", *VERSIONS) if info.get(name) is not None}


def _expanded(
    system: Any, path: str, info: Mapping[str, Any], label: str | None, split: str | None
) -> Iterator[ImageFile]:
    versions = [f"{name}={info[name]}" for name in VERSIONS if name in info]
    stamp = " ".join([str(info.get("size")), *versions]) if versions else str(time.time_ns())
    name = system.unstrip_protocol(path)
    if is_archive(path):
        for file in list_archive(RemoteArchive(system, name, stamp)):
            yield ImageFile(
                file.path, file.size, file.mtime_ns, file.label or label, file.split or split, file.place, file.offset
            )
        return
    yield ImageFile(name, info.get("size", -1), stamp_to_mtime(stamp), label, split, Remote(system))


def _unreachable(error: Exception) -> OSError:
    reason = error.__cause__ or error  # fsspec calls a file missing whose server did not answer
    return OSError(f"{type(reason).__name__}: {reason}")
