"""Remote images, at any URL that fsspec can open: ``s3://``, ``gs://``, ``https://`` and many more."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, cast

from penult.errors import ImageError, InputError, MissingExtraError, MissingFileError
from penult.pipeline.images.archives import list_archive, stamp_number
from penult.pipeline.images.image_file import ImageFile, is_archive, is_listed, label_and_split, splits_of_paths

# Timeout of a web server, for its first byte and between two parts.
TIMEOUT_SECONDS = 30.0

# The fields by which file systems report that a file has changed.
VERSIONS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "generation", "mtime", "LastModified", "last_modified", "Last-Modified",
    "created", "updated", "modified", "md5", "sha256",
)  # fmt: skip


@dataclass(frozen=True)
class RemoteReader:
    """Reads whole files of one fsspec file system."""

    system: Any

    def read(self, file: ImageFile, max_bytes: int) -> bytes:
        """Downloads the file, at most ``max_bytes`` of it."""
        if file.size > max_bytes:
            raise ImageError(f"the file is too large: more than {max_bytes:,} bytes")
        try:
            if file.size >= 0:
                return cast("bytes", self.system.cat_file(file.path))
            with self.system.open(file.path, "rb") as stream:
                data = cast("bytes", stream.read(max_bytes + 1))
        except Exception as error:  # each file system has its own errors
            raise _unreachable(error) from error
        if len(data) > max_bytes:
            raise ImageError(f"the file is too large: more than {max_bytes:,} bytes")
        return data


@dataclass(frozen=True)
class RemoteArchive:
    """A remote archive, of which only the needed parts are downloaded."""

    system: Any
    path: str
    stamp: str

    def open(self) -> IO[bytes]:
        """Opens the file for reading."""
        return cast("IO[bytes]", self.system.open(self.path, "rb"))

    def read(self, start: int, count: int) -> bytes:
        """Downloads ``count`` bytes, or fewer at the end of the file."""
        try:
            data = cast("bytes", self.system.cat_file(self.path, start=start, end=start + count))
        except Exception as error:  # each file system has its own errors
            raise _unreachable(error) from error
        # A web server without range requests sends the whole file.
        return data if len(data) <= count else data[start : start + count]


def list_remote(url: str) -> Iterator[ImageFile]:
    """Yields the images of a remote folder, pattern, archive or file, with labels and splits from its folders.

    A file is downloaded in every run if its system reports neither a modification time nor a version.
    """
    system, root = _opened(url)
    try:
        found = _files(system, root)
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file at {url}", expected="a folder, a pattern, or a file") from error
    except Exception as error:
        raise InputError(f"{url} cannot be listed: {str(error) or type(error).__name__}") from error
    base = root.rstrip("/") + "/"
    inner = {path: path.removeprefix(base).split("/") for path in found}
    splits = splits_of_paths(inner.values())
    for path, parts in inner.items():
        if all(map(is_listed, parts[-1:] if path == root else parts)):
            yield from _expand_archive(
                system, path, found[path], *label_and_split(parts, {} if path == root else splits)
            )


def remote_image(url: str, label: str | None, split: str | None) -> ImageFile:
    """Returns the image at ``url``, without a request to its server."""
    return ImageFile(url, -1, time.time_ns(), label, split, RemoteReader(_opened(url)[0]))


def _opened(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError.of("fsspec", "remote", f"to read {url}") from None
    scheme = url.split("://", maxsplit=1)[0]
    try:
        system, root = url_to_fs(url, **_timeout(scheme))
    except ImportError as error:
        extra = MissingExtraError.URL_EXTRAS.get(scheme, "remote")
        raise MissingExtraError.of(str(error), extra, f"to read {url}") from error
    except ValueError as error:
        raise InputError(f"{url} cannot be read: {error}", expected="a scheme such as s3, gs or https") from error
    return system, str(root)


def _timeout(scheme: str) -> dict[str, Any]:
    """Returns a timeout between two parts of a file; by default, fsspec limits the whole download to five minutes."""
    if scheme not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _files(system: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """Returns the files at ``root`` sorted by path, with the file system's record of each."""
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
    """Drops unused fields, which may take many times as much memory."""
    return {name: info[name] for name in ("size", *VERSIONS) if info.get(name) is not None}


def _expand_archive(
    system: Any, path: str, info: Mapping[str, Any], label: str | None, split: str | None
) -> Iterator[ImageFile]:
    versions = [f"{name}={info[name]}" for name in VERSIONS if name in info]
    stamp = " ".join([str(info.get("size")), *versions]) if versions else str(time.time_ns())
    name = system.unstrip_protocol(path)
    if is_archive(path):
        for file in list_archive(RemoteArchive(system, name, stamp)):
            yield replace(file, label=file.label or label, split=file.split or split)
        return
    yield ImageFile(name, info.get("size", -1), stamp_number(stamp), label, split, RemoteReader(system))


def _unreachable(error: Exception) -> OSError:
    reason = error.__cause__ or error  # fsspec reports a file as missing if its server does not answer
    return OSError(f"{type(reason).__name__}: {reason}")
