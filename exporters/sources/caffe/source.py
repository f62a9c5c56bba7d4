"""The source ``caffe:deploy.prototxt,weights.caffemodel``: networks of Caffe, read without Caffe."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from penult.errors import BackboneError, InputError
from penult.exporters.card import Normalisation
from penult.exporters.graph.taps import KnownTensors
from penult.exporters.requests import FAMILIES, ExportRequest, Hints
from penult.exporters.sources.base import RANDOM, Provenance, SourceNetwork
from penult.exporters.sources.caffe.layers import WRITERS
from penult.exporters.sources.caffe.net import Blobs, CaffeNet, read_net, read_weights
from penult.exporters.sources.caffe.numpy_reference import numpy_runner
from penult.exporters.sources.caffe.writer import CaffeWriter

__all__ = ["read_caffe"]

_MEAN_NOTE = "The mean is taken to be Caffe's usual one (BGR 104, 117, 123): the files do not tell it."
_RANDOM_NOTE = "The weights are random: this is the architecture alone, and it was trained on nothing."


def read_caffe(rest: str, request: ExportRequest) -> SourceNetwork:
    """Reads both files; the ``weights`` of the request may be the caffemodel, or ``random``."""
    first, _, second = rest.partition(",")
    path = Path(first.strip()).expanduser()
    net = read_net(path)
    given = request.weights or second.strip()
    if not given:
        raise InputError(
            f"The source caffe:{rest} names no weights",
            expected="caffe:deploy.prototxt,weights.caffemodel",
            remedy="append the caffemodel after a comma",
        )
    size = _size(net, request)
    hints = request.hints.over(Hints(resize=256 if 200 <= min(size) <= 256 else None))
    normalisation = hints.normalisation() or _transform(net)
    notes = [] if normalisation else [_MEAN_NOTE]
    normalisation = normalisation or FAMILIES["caffe"]
    preprocessing = hints.preprocessing(size)
    if given == RANDOM:
        file, writer = None, _written(net, None, size)
        notes.append(_RANDOM_NOTE)
    else:
        file = Path(given).expanduser()
        writer = _written(net, read_weights(file), size)
    return SourceNetwork(
        name=hints.name or (file.stem if file else net.name),
        model=writer.model(),
        preprocessing=preprocessing,
        normalisation=normalisation,
        provenance=Provenance(
            source=hints.source or f"the Caffe network {net.name}, {path.name}",
            licence=hints.licence or "unknown",
            weights={"file": file.name, "sha256": sha256(file.read_bytes()).hexdigest()} if file else {"name": RANDOM},
            notes=tuple(notes),
        ),
        classes=hints.class_names(),
        landmarks=KnownTensors(hints.penultimate, hints.logits),
        run=numpy_runner(net, writer.used, preprocessing, normalisation),
        run_with="the definitions of Caffe's layers in numpy",
    )


def _written(net: CaffeNet, weights: Mapping[str, Blobs] | None, size: tuple[int, int]) -> CaffeWriter:
    writer = CaffeWriter(net, weights, size)
    for layer in net.layers:
        write = WRITERS.get(layer.type)
        if write is None:
            raise BackboneError(
                f"The layer {layer.name!r} has the type {layer.type!r}", expected=f"one of {', '.join(sorted(WRITERS))}"
            )
        if not layer.bottoms or not layer.tops:
            raise BackboneError(f"The layer {layer.name!r} has no input or no output", expected="bottoms and tops")
        write(writer, layer)
    return writer


def _size(net: CaffeNet, request: ExportRequest) -> tuple[int, int]:
    asked = request.size if request.size is not None else request.hints.crop
    if asked is None:
        return net.shape[2], net.shape[3]
    return (asked, asked) if isinstance(asked, int) else asked


def _transform(net: CaffeNet) -> Normalisation | None:
    """Returns the mean and scale in the text, or None."""
    options = net.transform
    if options is None or not (options.mean_value or options.HasField("scale")):
        return None
    mean = [float(value) for value in options.mean_value] or [0.0]
    if len(mean) not in (1, 3) or options.scale <= 0:
        raise BackboneError(
            f"The text specifies the mean {mean} and the scale {options.scale}",
            expected="1 or 3 means and a scale above 0",
        )
    blue, green, red = mean * 3 if len(mean) == 1 else mean
    return Normalisation("bgr", (blue, green, red), (1 / options.scale,) * 3)
