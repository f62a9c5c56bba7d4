"""Reads the images of a request: multipart files, JSON with base64, or one image as the body."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from penult.pipeline.serving.limits import Limits

__all__ = ["Upload", "printable", "uploads_of"]

FORMS = "multipart/form-data, application/json or image/*"


@dataclass(frozen=True)
class Upload:
    """One image of a request: its name, and its bytes or an error."""

    name: str
    data: bytes = b""
    error: str = ""


async def uploads_of(request: Request, limits: Limits) -> list[Upload]:
    """Returns the images of a request in order.

    Raises:
        HTTPException: the whole request is rejected; the error of a single image is in its `Upload`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    _check_length(request, limits)
    request = Request(request.scope, _bounded(request.receive, limits.request_bytes))
    async with _in_time(limits):
        if kind == "multipart/form-data":
            found = await _from_form(request, limits)
        elif kind == "application/json":
            found = await run_in_threadpool(_from_json, await request.body(), limits)
        elif kind.startswith("image/"):
            found = [_upload("image", await request.body(), limits)]
        else:
            raise HTTPException(415, f"The content type is {kind or 'missing'}; expected {FORMS}.")
    if not found:
        raise HTTPException(400, "The request contains no image.")
    return found


def _check_length(request: Request, limits: Limits) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limits.request_bytes:
        raise _too_long(limits.request_bytes)


def _too_long(most: int) -> HTTPException:
    # The rest of the body is not read, so the connection cannot be reused.
    return HTTPException(413, f"The request has more than {most:,} bytes.", {"Connection": "close"})


def _bounded(receive: Receive, most: int) -> Receive:
    """Returns a ``receive`` that rejects a body of more than ``most`` bytes, whatever its Content-Length."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _too_long(most)
        return message

    return bounded


@asynccontextmanager
async def _in_time(limits: Limits) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limits.body_seconds):
            yield
    except TimeoutError:
        reason = f"The request did not arrive within {limits.body_seconds:g} seconds."
        raise HTTPException(408, reason, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "The client closed the connection.") from None


async def _from_form(request: Request, limits: Limits) -> list[Upload]:
    found = []
    # One file more than allowed, so that the error comes from this module.
    async with request.form(max_files=limits.images + 1, max_fields=0) as form:
        parts = form.multi_items()
        _check_count(len(parts), limits)
        for field, part in parts:
            if not isinstance(part, UploadFile):
                raise HTTPException(400, f"The field {field!r} is not a file.")
            name = part.filename or field
            found.append(_upload(name, await part.read(limits.image_bytes + 1), limits))
    return found


def _from_json(body: bytes, limits: Limits) -> list[Upload]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from None
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise HTTPException(400, 'The JSON has no list "images" of base64 strings or of {"name": …, "data": …}.')
    _check_count(len(images), limits)
    return [_from_text(entry, index, limits) for index, entry in enumerate(images)]


def _from_text(entry: Any, index: int, limits: Limits) -> Upload:
    name, text = (entry.get("name"), entry.get("data")) if isinstance(entry, dict) else (None, entry)
    called = printable(name) if isinstance(name, str) else f"image {index}"
    if not isinstance(text, str):
        return Upload(called, error='it is neither a base64 string nor {"name": …, "data": …}')
    try:
        return _upload(called, base64.b64decode(text, validate=True), limits)
    except (binascii.Error, ValueError):
        return Upload(called, error="it is not base64")


def printable(text: str) -> str:
    r"""Returns text that UTF-8 can encode; JSON may contain lone surrogates, and folder names arbitrary bytes.

    >>> printable("a\udcff")
    'a\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.images:
        raise HTTPException(413, f"The request contains more than {limits.images} images.")


def _upload(name: str, data: bytes, limits: Limits) -> Upload:
    name = printable(name)
    if len(data) > limits.image_bytes:
        return Upload(name, error=f"it has more than {limits.image_bytes:,} bytes")
    return Upload(name, data)
