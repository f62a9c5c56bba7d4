"""Runs the application on a port until it is told to stop, and then finishes what it has begun."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penult.errors import InputError, MissingExtraError
from penult.pipeline.heads.head import Head
from penult.pipeline.models.model import Model
from penult.pipeline.serving.limits import Limits
from penult.store import Store

__all__ = ["serve"]

BACKLOG = 2048


def serve(
    model: str | Path | Model | Head,
    store: str | Path | Store | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    limits: Limits | None = None,
    provider: str = "auto",
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serves a model's file, or a head of ``store``, over HTTP until SIGTERM or SIGINT, and finishes what is under way.

    Port 0 is any free one. ``on_ready`` is called with the address once it answers.
    """
    try:
        import python_multipart  # noqa: F401 - needed by Starlette when the first form comes, and told of only then
        import starlette  # noqa: F401 - likewise missed here, with a word on what to install
        import uvicorn
    except ImportError as error:
        raise MissingExtraError.of(str(error.name), "serve", "The server") from None
    from penult.pipeline.serving.application import application
    from penult.pipeline.serving.classifiers import classifier_for

    limits = limits or Limits()
    listener = _bound(host, port)
    try:
        app = application(classifier_for(model, store, provider=provider), limits)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=limits.stop_seconds,
        )
        server = _server(config, lambda: on_ready(_address(listener)) if on_ready else None)
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # uvicorn raises the signal again once it has stopped in good order
    finally:
        listener.close()


def _server(config: Any, ready: Callable[[], None]) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    return Server(config)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio knows connections for TCP and sends the end of an answer at once; it would
        # wait 40 milliseconds for the client to acknowledge the beginning.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"Nothing can listen on {host} port {port}: {error.strerror or error}",
            expected="an address of this machine, and a port that is free",
            remedy="name another with --port, or 0 for any that is free",
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
