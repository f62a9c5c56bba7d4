"""Exports pretrained networks as backbones, and makes variants of backbones for reduced JPEG decoding."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from penult.errors import BackboneError
from penult.exporters import Backbone, Card
from penult.exporters.card import GraphPrecision
from penult.exporters.exporting import export as export_source
from penult.exporters.proof import sample_photos
from penult.exporters.requests import ExportRequest, Hints, parse_taps
from penult.pipeline.images.decode import DRAFT_MARGIN, decode
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.runtime.session import Session

__all__ = ["export", "with_draft_decoding"]


def export(
    source: str,
    *,
    taps: str | None = None,
    precision: GraphPrecision = ExportRequest.precision,
    size: int | None = None,
    weights: str | None = None,
    hints: Hints | None = None,
    photos: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> Backbone:
    """Returns the backbone of ``PREFIX:REST``, such as ``torchvision:resnet50`` or ``onnx:model.onnx``.

    ``taps`` names the outputs, separated by commas (default: all). ``weights`` is a local file or ``random``.
    ``hints`` describe the preprocessing of a file that does not contain it. The export compares the backbone with its
    source on sample images and on ``photos``, decoded like the images of a job.

    Raises:
        ExportMismatchError: the outputs of the backbone and its source differ.
    """
    request = ExportRequest(
        taps=parse_taps(taps) if taps else None,
        precision=precision,
        size=size,
        weights=weights,
        hints=hints or Hints(),
    )
    return export_source(
        source, request, decode=decode, photos=[Path(photo) for photo in photos], on_progress=(progress or Silent()).say
    )


SUFFIX = "-draft"


def with_draft_decoding(backbone: Backbone, photos: Sequence[str | Path] = ()) -> Backbone:
    """Returns a variant of a backbone that decodes JPEGs at a reduced scale, with its own name and fingerprint.

    The card records how much its features differ, measured on ``photos`` and on mosaics of two sample photos, which
    are large enough to be reduced.

    Raises:
        BackboneError: the backbone uses reduced JPEG decoding already.
    """
    card = backbone.card
    if card.preprocessing.decoding.draft:
        raise BackboneError(f"The backbone {card.name!r} already decodes JPEGs at a reduced scale")
    decoding = replace(card.preprocessing.decoding, draft=True)
    changed = replace(
        card, name=card.name + SUFFIX, preprocessing=replace(card.preprocessing, decoding=decoding), proof={}
    )
    made = Backbone(onnx.load_from_string(backbone.to_bytes()), changed)
    return made.with_proof({**card.proof, "draft": _drift(backbone, changed, photos)})


def _drift(backbone: Backbone, changed: Card, photos: Sequence[str | Path]) -> dict[str, Any]:
    """Returns the largest relative error and the lowest cosine of each tap at the reduced scale."""
    taps = [tap.name for tap in backbone.card.taps]
    session = Session(backbone, taps)
    apart: dict[str, list[tuple[float, float]]] = {tap: [] for tap in taps}
    images = 0
    for data in _images(backbone.card, photos):
        whole, reduced = (decode(data, card.preprocessing) for card in (backbone.card, changed))
        if np.array_equal(whole, reduced):
            continue  # too small to be reduced
        images += 1
        rows = session.run(np.stack([whole, reduced]))
        for tap in taps:
            apart[tap].append(_distance(*rows[tap].astype(np.float64)))
    return {
        "images": images,
        "outputs": {
            tap: {
                "relative_error": max((error for error, _ in found), default=0.0),
                "cosine": min((cosine for _, cosine in found), default=1.0),
            }
            for tap, found in apart.items()
        },
    }


def _distance(whole: Any, reduced: Any) -> tuple[float, float]:
    size = np.linalg.norm(whole)
    if not size:
        return (0.0, 1.0) if not np.linalg.norm(reduced) else (float("inf"), 0.0)
    cosine = float(whole @ reduced / (size * np.linalg.norm(reduced))) if np.linalg.norm(reduced) else 0.0
    return float(np.linalg.norm(reduced - whole) / size), cosine


def _images(card: Card, photos: Sequence[str | Path]) -> Iterator[bytes]:
    """Yields the bytes of the mosaics and the photos."""
    resize = card.preprocessing.resize
    shortest = 4 * DRAFT_MARGIN * (resize if isinstance(resize, int) else max(resize))
    for sample in sample_photos():
        with Image.open(sample) as photo:
            yield _mosaic(photo.convert("RGB"), shortest)
    for path in photos:
        yield Path(path).read_bytes()


def _mosaic(photo: Image.Image, shortest: int) -> bytes:
    """Returns a JPEG of copies of a photo in a grid, whose shorter side is at least ``shortest``.

    Unlike enlarging, copies keep the fine detail of the photo.
    """
    times = -(-shortest // min(photo.size))
    canvas = Image.new("RGB", (photo.width * times, photo.height * times))
    for place in range(times * times):
        down, across = divmod(place, times)
        canvas.paste(photo, (across * photo.width, down * photo.height))
    stream = io.BytesIO()
    canvas.save(stream, "JPEG", quality=92)
    return stream.getvalue()
