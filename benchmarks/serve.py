"""Measures the throughput of a server and the latency of its clients, by the number of clients.

    .venv/bin/python -m benchmarks.serve [--seconds 10] [--images FOLDER] [--model model.onnx]

Without ``--model``, the program makes one from the built-in backbone and the demo's images. Server and clients share
this machine and its cores. The clients send the same files repeatedly, each over one open connection. For comparison,
the program measures `penult predict` on the same files from the disk, which is the limit for the server.
"""

import argparse
import http.client
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import onnxruntime

from penult.cores import worker_count
from penult.pipeline.demo.drawings import draw_collection
from penult.pipeline.fit import fit
from penult.pipeline.images.listing import list_images
from penult.pipeline.models.model import Model
from penult.pipeline.models.predict import predict

CLIENTS = (1, 2, 4, 16, 64)
EDGE = "penult-load-test"


@dataclass
class Round:
    """The measurements for one number of clients."""

    clients: int
    images_per_request: int
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0

    def row(self) -> tuple[str, ...]:
        done = len(self.waits)
        cuts = statistics.quantiles(self.waits, n=100) if done > 1 else [0.0] * 99
        return (
            str(self.clients),
            str(self.images_per_request),
            f"{done / self.seconds:,.1f}",
            f"{done * self.images_per_request / self.seconds:,.1f}",
            *(f"{1000 * cuts[place - 1]:,.0f}" for place in (50, 95, 99)),
            str(self.refused),
        )


def form(files: Sequence[bytes]) -> bytes:
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'.encode()
    return b"\r\n".join([*(head + data for data in files), f"--{EDGE}--\r\n".encode()])


def ask(address: str, bodies: Sequence[bytes], until: float, told: Round, lock: threading.Lock) -> None:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    waits, refused, place = [], 0, 0
    while time.perf_counter() < until:
        began = time.perf_counter()
        connection.request(
            "POST", "/predict", bodies[place % len(bodies)], {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
        )
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            waits.append(time.perf_counter() - began)
        else:
            refused += 1
        place += 1
    connection.close()
    with lock:
        told.waits += waits
        told.refused += refused


def load(address: str, files: Sequence[bytes], clients: int, per_request: int, seconds: float) -> Round:
    bodies = [
        form([files[(n + i) % len(files)] for i in range(per_request)]) for n in range(0, len(files), per_request)
    ]
    told, lock = Round(clients, per_request), threading.Lock()
    began = time.perf_counter()
    threads = [
        threading.Thread(target=ask, args=(address, bodies[n:] + bodies[:n], began + seconds, told, lock))
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.seconds = time.perf_counter() - began
    return told


def from_disk(model: Path, paths: Sequence[str], seconds: float) -> float:
    """Predicts all images repeatedly until the time is over, at least once."""
    loaded = Model.load(model)
    next(predict(loaded, paths))
    began, passes = time.perf_counter(), 0
    while not passes or time.perf_counter() - began < seconds:
        assert all(one.error is None for one in predict(loaded, paths))
        passes += 1
    return passes * len(paths) / (time.perf_counter() - began)


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        print("| " + " | ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        folder = chosen.images or room / "drawings"
        if chosen.images is None:
            draw_collection(folder)
        model = chosen.model or fit(folder, room / "store", output=room).delivery.model
        paths = [file.path for file in list_images(folder)][:200]
        files = [Path(path).read_bytes() for path in paths]
        report(model, paths, files, chosen)


def report(model: Path, paths: Sequence[str], files: Sequence[bytes], chosen: argparse.Namespace) -> None:
    print(
        f"{platform.machine()}, {worker_count()} cores, Python {platform.python_version()}, ONNX Runtime "
        f"{onnxruntime.__version__}; {len(files)} images of {statistics.mean(map(len, files)) / 1000:,.0f} kB on "
        f"average; {chosen.seconds:g} s per row\n"
    )
    ceiling = from_disk(model, paths, chosen.seconds)
    command = [sys.executable, "-m", "penult", "serve", str(model), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert isinstance(process.stdout, io.TextIOBase)
            address = json.loads(process.stdout.readline())["address"]
            load(address, files, 1, 1, 1.0)
            rounds = [load(address, files, clients, 1, chosen.seconds) for clients in chosen.clients]
            rounds.append(load(address, files, 4, 16, chosen.seconds))
        finally:
            process.terminate()
            process.wait(60)
    head = ("clients", "images per request", "requests/s", "images/s", "p50 ms", "p95 ms", "p99 ms", "refused")
    print_table([head, *(told.row() for told in rounds)])
    print(f"\npenult predict, from the disk: {ceiling:,.1f} images/s")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
