"""A Ray cluster: connecting to it, and what an actor asks of it."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from penult.errors import EngineError
from penult.pipeline.extraction.options import ExtractOptions

# Small enough to find room beside other work, and large enough that one session serves several cores.
CORES_PER_ACTOR = 4

CONNECT_SECONDS = 10.0

HTTP2_SETTINGS = b"\x04"
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + bytes(5)
HTTP2_HEAD_BYTES = 9
"""With what a client of Ray's begins, and where in the answer its kind stands."""


@dataclass(frozen=True)
class ActorResources:
    """What one actor asks for: so many cores, which are its workers, and perhaps a GPU."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        cores = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        return f"{cores} and {self.gpus} GPU" if self.gpus else cores

    def fits(self, resources: Mapping[str, float]) -> int:
        """Returns how many such actors a node with these resources has room for."""
        by_cores = int(resources.get("CPU", 0) // self.cpus)
        return min(by_cores, int(resources.get("GPU", 0) // self.gpus)) if self.gpus else by_cores


def actor_capacity(demand: ActorResources, nodes: Sequence[Mapping[str, float]], decoders: int | None) -> int:
    """Returns how many actors the nodes have room for, besides the ``decoders`` of each.

    Raises:
        EngineError: there are cores, and none is left to decode.
    """
    room = sum(demand.fits(node) for node in nodes)
    if decoders is None:
        return room
    cores = int(sum(node.get("CPU", 0) for node in nodes))
    if 0 < cores <= demand.cpus:
        raise EngineError(
            f"The cluster has {cores} CPU{'s' if cores > 1 else ''}, which an actor takes: none is left to decode",
            expected="more CPUs than actors",
            remedy="leave --decoders out: then each actor decodes by itself",
        )
    return min(room, max(cores // (demand.cpus + decoders), 1))


def require_capacity(demand: ActorResources, nodes: Sequence[Mapping[str, float]], decoders: int | None) -> None:
    """Raises EngineError where no node has ever room for an actor, and none that the cluster could start is known."""
    if actor_capacity(demand, nodes, decoders) < 1:
        largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        raise EngineError(
            f"No node has room for an actor with {demand}; the largest has {largest} CPUs",
            expected="a node that is large enough",
            remedy="ask for fewer --workers, or, where the cluster starts nodes when they are needed, say --actors N",
        )


def actor_resources(options: ExtractOptions, nodes: Sequence[Mapping[str, float]]) -> ActorResources:
    """Returns what each actor is to ask for: a GPU where the cluster has any, unless the CPU was asked for.

    Unless the workers are given, an actor of a GPU gets its share of the cores beside it, and another one as many as
    the smallest node has, up to four. One that has others decode needs a single core.
    """
    workers = options.workers if options.decoders is None else 1
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if options.provider in ("cuda", "tensorrt") or (options.provider == "auto" and with_gpus):
        shares = [int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus]
        return ActorResources(workers or max(1, min(shares, default=CORES_PER_ACTOR)), 1)
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    return ActorResources(workers or min([CORES_PER_ACTOR, *cores]))


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to the cluster while the block runs; to one that this program is connected to already, if it is.

    Without an address, that of the environment (RAY_ADDRESS) is taken, or a cluster of its own is begun here.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray would tell its makers of it
    try:
        _require_reachable(_begun_here() if wanted == "auto" else wanted)
        with _kept_signals():
            own = {"include_dashboard": False} if wanted == "local" else {}
            ray.init(address=wanted, log_to_driver=False, logging_level="error", **own)
    except ray.exceptions.AuthenticationError as error:
        raise _kept_out(wanted, error) from error
    except (OSError, ValueError, RuntimeError) as error:
        # Ray tells a client without a token that it cannot connect, and does not say why.
        if wanted != "local" and "Failed to connect" in str(error):
            raise _kept_out(wanted, error) from error
        raise EngineError(
            f"There is no Ray cluster at {wanted!r}: {_first_line(error)}",
            expected="the address of a running cluster",
            remedy="'ray start --head' begins one; 'ray status' tells whether one runs; 'local' is one of its own",
        ) from error
    try:
        yield
    finally:
        with _kept_signals():
            ray.shutdown()


def _kept_out(address: str, error: Exception) -> EngineError:
    return EngineError(
        f"Ray answers at {address!r} and lets nobody in: {_first_line(error)}",
        expected="a cluster of this version of Ray, and its token where it asks for one",
        remedy="set RAY_AUTH_MODE=token, with the head's ~/.ray/auth_token on each node; or RAY_AUTH_MODE=disabled on "
        "all, where nobody else reaches the cluster",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _begun_here() -> str:
    """Returns the address of the cluster that was last begun on this machine, as far as Ray tells: it may be gone."""
    with suppress(ImportError, AttributeError, OSError):  # no public name of Ray's gives it
        from ray._private.services import find_bootstrap_address

        return str(find_bootstrap_address(None) or "")
    return ""


def _require_reachable(address: str) -> None:
    """Raises OSError where nobody listens, or nobody who speaks as Ray does: it would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as there:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        try:
            there.sendall(HTTP2_GREETING)
            answer = there.recv(HTTP2_HEAD_BYTES, socket.MSG_WAITALL)
        except TimeoutError:
            answer = b""
        if answer[3:4] != HTTP2_SETTINGS:
            raise ConnectionError("something else listens there")


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Keeps the job's handlers, for Ray sets its own, which ends the program at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def nodes() -> list[dict[str, Any]]:
    """Returns the resources of each node that lives."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
