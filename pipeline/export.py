"""A pretrained network of any source becomes a backbone, proven on images that go the way of a job's images."""

from collections.abc import Sequence
from pathlib import Path

from penult.exporters import Backbone
from penult.exporters.card import GraphPrecision
from penult.exporters.export import export as export_source
from penult.exporters.graph.tap_requests import parse_taps
from penult.exporters.sources.hints import Hints
from penult.exporters.sources.source_network import ExportRequest
from penult.pipeline.extraction.decode import decode
from penult.pipeline.progress import Progress, Silent


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

    ``taps`` names the outputs, separated by commas (all that are found, by default); ``weights`` is a local file, or
    ``random``; ``hints`` tell how a file takes pixels that does not say so itself. The backbone is proven the same as
    its source on images that penult brings, and on ``photos`` as well.

    Raises:
        ExportMismatchError: the backbone does not give what its source gives.
    """
    request = ExportRequest(
        taps=parse_taps(taps) if taps else None,
        precision=precision,
        size=size,
        weights=weights,
        hints=hints or Hints(),
    )
    return export_source(
        source, request, decode=decode, photos=[Path(photo) for photo in photos], tell=(progress or Silent()).say
    )
