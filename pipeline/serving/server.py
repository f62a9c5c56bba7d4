"""Runs the application on a port until SIGTERM or SIGINT."""

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
    """Serves the file of a model, or a head of ``store``, over HTTP until SIGTERM or SIGINT; running requests finish.

    Port 0 selects a free port. ``on_ready`` is called with the address when the server accepts requests.
    """
    try:
        import python_multipart  # noqa: F401 - Starlette would report it missing only at the first form
        import starlette  # noqa: F401 - checked here for a better error
        import uvicorn
    except ImportError as error:
        raise MissingExtraError.of(str(error.name), "serve", "The server") from None
    from penult.pipeline.serving.application import application
    from penult.pipeline.serving.classifiers import classifier_for

    limits = limits or Limits()
    listener = _listening_socket(host, port)
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
        pass  # uvicorn raises the signal again after a graceful stop
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


def _listening_socket(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol given, asyncio sets TCP_NODELAY. Otherwise the end of a response would wait 40 ms for the
        # client's acknowledgement.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"The server cannot listen on {host} port {port}: {error.strerror or error}",
            expected="an address of this machine and a free port",
            remedy="choose another port with --port, or 0 for any free port",
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
