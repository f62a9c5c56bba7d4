"""A small local S3 server with configurable faults."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 100


@dataclass
class Storage:
    """The stored objects and the faults: existing buckets, refused verbs, and lost answers."""

    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    knows_conditions: bool = True
    loses_answers_to: str = ""  # the answer to a PUT of a name with this part is lost once
    requests: list[tuple[str, str]] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def put(self, name: str, data: bytes, *, if_absent: bool) -> bool:
        with self.turn:
            if if_absent and self.knows_conditions and name in self.objects:
                return False
            self.objects[name] = data, datetime.now(UTC)
            return True


class Handler(BaseHTTPRequestHandler):
    """Serves one client."""

    protocol_version = "HTTP/1.1"
    storage: Storage

    def log_message(self, *_: object) -> None: ...

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _begin(self) -> tuple[str, dict[str, list[str]], bytes]:
        asked = urlsplit(self.path)
        body = self._unchunked(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.storage.requests.append((self.command, self.path))
        return unquote(asked.path).lstrip("/"), parse_qs(asked.query, keep_blank_values=True), body

    def _unchunked(self, body: bytes) -> bytes:
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return body
        data = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if not length:
                break
            data, body = data + rest[:length], rest[length + 2 :]
        return data

    def _answer(self, status: int, body: bytes = b"", /, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _may_go_on(self, name: str) -> bool:
        if self.command in self.storage.refused:
            self._refuse(403, "AccessDenied")
        elif name.partition("/")[0] not in self.storage.buckets:
            self._refuse(404, "NoSuchBucket")
        else:
            return True
        return False

    def do_GET(self) -> None:
        name, query, _ = self._begin()
        if not self._may_go_on(name):
            return
        if "list-type" in query or "/" not in name.rstrip("/"):
            self._list(name.rstrip("/"), query)
            return
        found = self.storage.objects.get(name)
        if found is None:
            self._refuse(404, "NoSuchKey")
            return
        data, changed = found
        about = {
            "ETag": f'"{md5(data).hexdigest()}"',
            "Last_Modified": changed.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "Accept_Ranges": "bytes",
        }
        if asked := self.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            part = data[int(start) : int(end) + 1 if end else None]
            span = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
            self._answer(206, part, Content_Range=span, **about)
        elif self.command == "HEAD":
            self._answer(200, b"", Content_Length=str(len(data)), **about)
        else:
            self._answer(200, data, **about)

    do_HEAD = do_GET  # noqa: N815 - the name that the server calls

    def do_PUT(self) -> None:
        name, _, body = self._begin()
        if not self._may_go_on(name):
            return
        if source := self.headers.get("x-amz-copy-source"):
            copied = self.storage.objects.get(unquote(source).lstrip("/"))
            if copied is None:
                self._refuse(404, "NoSuchKey")
                return
            body = copied[0]
        if not self.storage.put(name, body, if_absent=self.headers.get("If-None-Match") == "*"):
            self._refuse(412, "PreconditionFailed")
        elif self.storage.loses_answers_to and self.storage.loses_answers_to in name:
            self.storage.loses_answers_to = ""
            self.close_connection = True
            self.connection.close()
        elif source:
            self._answer(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>")
        else:
            self._answer(200, ETag=f'"{md5(body).hexdigest()}"')

    def do_DELETE(self) -> None:
        name, _, _ = self._begin()
        if self._may_go_on(name):
            self.storage.objects.pop(name, None)
            self._answer(204)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, after = (query.get(word, [""])[0] for word in ("prefix", "continuation-token"))
        start = f"{bucket}/{prefix}"
        with self.storage.turn:
            objects = {name: found for name, found in self.storage.objects.items() if name.startswith(start)}
        entries: dict[str, str] = {}
        for name, (data, changed) in sorted(objects.items()):
            rest = name.removeprefix(start)
            if "/" in rest and query.get("delimiter", [""])[0]:
                folder = prefix + rest.split("/")[0] + "/"
                entries[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
            else:
                key = name.removeprefix(f"{bucket}/")
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>x</ETag>"
                    f"<LastModified>{changed:%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
                )
        left = [name for name in sorted(entries) if name > after]
        told = "".join(entries[name] for name in left[:PAGE])
        is_cut = len(left) > PAGE
        token = f"<NextContinuationToken>{escape(left[PAGE - 1])}</NextContinuationToken>" if is_cut else ""
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>{str(is_cut).lower()}</IsTruncated>"
            f"<KeyCount>{len(left[:PAGE])}</KeyCount>{token}{told}</ListBucketResult>".encode(),
            Content_Type="application/xml",
        )


class Server(ThreadingHTTPServer):
    """The storage as an HTTP server on a local port."""

    daemon_threads = True

    def __init__(self, storage: Storage) -> None:
        super().__init__(("127.0.0.1", 0), type("Serving", (Handler,), {"storage": storage}))
        self.storage = storage
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None: ...
