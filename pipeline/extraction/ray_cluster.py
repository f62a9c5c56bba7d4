"""A Ray cluster: connecting to it, and what an actor asks of it."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from penult.errors import EngineError
from penult.pipeline.extraction.options import ExtractOptions

# Small enough to find room beside other work, and large enough that one session serves several cores.
CORES_PER_ACTOR = 4

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Demand:
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


def demand_of(options: ExtractOptions, nodes: Sequence[Mapping[str, float]]) -> Demand:
    """Returns what each actor is to ask for: a GPU where the cluster has any, unless the CPU was asked for.

    Unless the workers are given, an actor of a GPU gets its share of the cores beside it, and another one as many as
    the smallest node has, up to four.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if options.provider in ("cuda", "tensorrt") or (options.provider == "auto" and with_gpus):
        shares = [int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus]
        return Demand(options.workers or max(1, min(shares, default=CORES_PER_ACTOR)), 1)
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    return Demand(options.workers or min([CORES_PER_ACTOR, *cores]))


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
        _require_reachable(wanted)
        with _kept_signals():
            own = {"include_dashboard": False} if wanted == "local" else {}
            ray.init(address=wanted, log_to_driver=False, logging_level="error", **own)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise EngineError(
            f"There is no Ray cluster at {wanted!r}: {reason}",
            expected="the address of a running cluster",
            remedy="'ray start --head' begins one; 'ray status' tells whether one runs; 'local' is one of its own",
        ) from error
    try:
        yield
    finally:
        with _kept_signals():
            ray.shutdown()


def _require_reachable(address: str) -> None:
    # Ray itself goes on trying for a long time, and says nothing.
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


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
