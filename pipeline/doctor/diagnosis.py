"""Measures each part of an extraction on this machine and finds the bottleneck."""

from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from penult.cores import worker_count
from penult.errors import InputError
from penult.exporters import Backbone, load_backbone
from penult.pipeline.doctor.installation import Installation, inspect_installation
from penult.pipeline.doctor.rates import decode_rate, disk_rate, read_decodable, sample_images, session_rate
from penult.pipeline.images.listing import list_images
from penult.pipeline.runtime.session import Session
from penult.store.store_folder import url_of

IMAGES = 64


@dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`; rates are in images per second, except ``disk_bytes_per_second``.

    ``expected`` is the expected rate of a job. On a CPU, decoding and the session share the cores; with a GPU they do
    not. ``why_not_better`` is the reason why no faster provider was chosen, or empty.
    """

    installation: Installation
    backbone: str
    provider: str
    why_not_better: str
    workers: int
    batch_size: int
    image_bytes: int
    decode: float
    session: float
    disk_bytes_per_second: float
    rows_per_second: float
    expected: float
    bottleneck: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)


def diagnose(
    images: str | Path | None = None,
    store: str | Path = "penult-store",
    *,
    backbone: str | Path | Backbone = "efficientnet-lite0",
    provider: str = "auto",
    seconds: float = 2.0,
) -> Diagnosis:
    """Measures this machine with the first images of a source, or with two sample photos.

    Decoding and the session are each measured for ``seconds``, with as many threads as a job has.
    """
    folder = _folder(store)
    network = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    preprocessing = network.card.preprocessing
    files = sample_images() if images is None else list(islice(list_images(images), IMAGES))
    data = read_decodable(files, preprocessing)
    installation = inspect_installation()  # before the measurements, which add load
    threads = worker_count()
    session = Session(network, ["penultimate"], provider=provider)
    decoding = decode_rate(data, preprocessing, threads, seconds)
    running = session_rate(session, data, preprocessing, threads, seconds)
    disk = disk_rate(folder)
    rows = disk / (2 * network.tap("penultimate").width)
    is_shared = not session.choice.on_gpu
    return Diagnosis(
        installation=installation,
        backbone=network.name,
        provider=session.choice.provider,
        why_not_better=session.choice.why,
        workers=threads,
        batch_size=session.batch_size,
        image_bytes=sum(map(len, data)) // len(data),
        decode=decoding,
        session=running,
        disk_bytes_per_second=disk,
        rows_per_second=rows,
        expected=min(rows, 1 / (1 / decoding + 1 / running) if is_shared else min(decoding, running)),
        bottleneck=bottleneck_of({"decode": decoding, "session": running, "disk": rows}),
    )


def bottleneck_of(rates: dict[str, float]) -> str:
    """Returns the part with the lowest rate.

    >>> bottleneck_of({"decode": 400.0, "session": 55.0, "disk": 1e5})
    'session'
    """
    return min(rates, key=lambda part: rates[part])


def _folder(store: str | Path) -> Path:
    if url_of(store):
        raise InputError(
            f"The store {store} is in object storage, whose rate is not measured",
            expected="a folder for the store",
            remedy="run without --store to measure only the machine",
        )
    return Path(store)
