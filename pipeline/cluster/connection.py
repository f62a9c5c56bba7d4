"""Connects to a Ray cluster, and computes the resources of an actor and how many actors fit."""

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

# Few enough to fit next to other work, and enough that one session serves several cores.
CORES_PER_ACTOR = 4

CONNECT_SECONDS = 10.0

HTTP2_SETTINGS = b"\x04"
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + bytes(5)
HTTP2_HEAD_BYTES = 9
"""The start of an HTTP/2 connection, as Ray clients send it, and the length of an answer's header."""


@dataclass(frozen=True)
class ActorResources:
    """The resources of one actor: its cores, one per worker, and optionally a GPU."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        cores = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        return f"{cores} and {self.gpus} GPU" if self.gpus else cores

    def fits(self, resources: Mapping[str, float]) -> int:
        """Returns how many such actors fit on a node with these resources."""
        by_cores = int(resources.get("CPU", 0) // self.cpus)
        return min(by_cores, int(resources.get("GPU", 0) // self.gpus)) if self.gpus else by_cores


def actor_capacity(demand: ActorResources, nodes: Sequence[Mapping[str, float]], decoders: int | None) -> int:
    """Returns how many actors fit on the nodes, together with the ``decoders`` of each.

    Raises:
        EngineError: no core is left for decoding.
    """
    room = sum(demand.fits(node) for node in nodes)
    if decoders is None:
        return room
    cores = int(sum(node.get("CPU", 0) for node in nodes))
    if 0 < cores <= demand.cpus:
        raise EngineError(
            f"The cluster has {cores} CPU{'s' if cores > 1 else ''}, which an actor takes: none is left for decoding",
            expected="more CPUs than actors",
            remedy="run without --decoders: then each actor decodes its own images",
        )
    return min(room, max(cores // (demand.cpus + decoders), 1))


def require_capacity(demand: ActorResources, nodes: Sequence[Mapping[str, float]], decoders: int | None) -> None:
    """Raises EngineError if an actor fits on no node."""
    if actor_capacity(demand, nodes, decoders) < 1:
        largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        raise EngineError(
            f"No node has the resources for an actor with {demand}; the largest has {largest} CPUs",
            expected="a node that is large enough",
            remedy="use fewer --workers, or --actors N if the cluster starts nodes on demand",
        )


def actor_resources(options: ExtractOptions, nodes: Sequence[Mapping[str, float]]) -> ActorResources:
    """Returns the resources of each actor: a GPU if the cluster has any, unless the provider is the CPU.

    Without ``workers``, an actor with a GPU gets its share of the node's cores, and any other the cores of the smallest
    node, at most four. With ``decoders``, an actor needs one core.
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
    """Connects to the cluster during the block, or uses the existing connection of this process.

    Without an address it uses RAY_ADDRESS, or starts a cluster on this machine.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics to Ray's developers
    try:
        _require_reachable(_begun_here() if wanted == "auto" else wanted)
        with _kept_signals():
            own = {"include_dashboard": False} if wanted == "local" else {}
            ray.init(address=wanted, log_to_driver=False, logging_level="error", **own)
    except ray.exceptions.AuthenticationError as error:
        raise _kept_out(wanted, error) from error
    except (OSError, ValueError, RuntimeError) as error:
        # Ray reports a missing token only as a failed connection.
        if wanted != "local" and "Failed to connect" in str(error):
            raise _kept_out(wanted, error) from error
        raise EngineError(
            f"There is no Ray cluster at {wanted!r}: {_first_line(error)}",
            expected="the address of a running cluster",
            remedy="'ray start --head' starts one; 'ray status' shows whether one runs; 'local' is one for this job",
        ) from error
    try:
        yield
    finally:
        with _kept_signals():
            ray.shutdown()


def _kept_out(address: str, error: Exception) -> EngineError:
    return EngineError(
        f"Ray at {address!r} refuses the connection: {_first_line(error)}",
        expected="a cluster with this version of Ray, and its token if it needs one",
        remedy="set RAY_AUTH_MODE=token, with the head's ~/.ray/auth_token on each node; or RAY_AUTH_MODE=disabled on "
        "all nodes, if nobody else can reach the cluster",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _begun_here() -> str:
    """Returns the address of the last cluster that was started on this machine, which may have ended."""
    with suppress(ImportError, AttributeError, OSError):  # Ray has no public function for it
        from ray._private.services import find_bootstrap_address

        return str(find_bootstrap_address(None) or "")
    return ""


def _require_reachable(address: str) -> None:
    """Raises OSError if no Ray server listens there; Ray itself would retry for minutes."""
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
    """Restores the job's signal handlers, because Ray installs its own, which end the program at once."""
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
    """Returns the resources of each running node."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
