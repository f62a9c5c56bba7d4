"""Exports a pretrained network of any source as a backbone, and proves that both give the same features."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import combining, normalize

import onnx

from penult.errors import BackboneError
from penult.exporters.backbone import Backbone
from penult.exporters.card import INPUT, LOGITS, Card, Tap
from penult.exporters.classes import imagenet_classes
from penult.exporters.cpu_session import CpuSession
from penult.exporters.graph.assembly import assemble
from penult.exporters.graph.graph_view import GraphView, network_inputs
from penult.exporters.graph.standard_form import to_half_precision, to_standard_form, with_dynamic_batch
from penult.exporters.graph.taps import find_taps, plan_taps
from penult.exporters.proof import OnProgress, no_progress, prove
from penult.exporters.reference import describe, reference_batch
from penult.exporters.requests import ExportRequest
from penult.exporters.sources.base import RANDOM, DecodeImage, SourceNetwork
from penult.exporters.sources.lookup import find_source

__all__ = ["export", "export_network"]


def export(
    source: str,
    request: ExportRequest | None = None,
    *,
    decode: DecodeImage,
    photos: Sequence[Path] = (),
    on_progress: OnProgress = no_progress,
) -> Backbone:
    """Returns the backbone of the source ``prefix:rest``.

    The backbone is compared with its source on sample photos, generated images and ``photos``. ``decode`` is the
    decoder that will prepare images for the backbone; ``on_progress`` receives a line about each step.

    Raises:
        ExportMismatchError: the features of the backbone and of its source differ.
    """
    request = request or ExportRequest()
    exporter, rest = find_source(source)
    on_progress(f"reading {source}")
    return export_network(exporter(rest, request), request, decode=decode, photos=photos, on_progress=on_progress)


def export_network(
    network: SourceNetwork,
    request: ExportRequest,
    *,
    decode: DecodeImage,
    photos: Sequence[Path] = (),
    on_progress: OnProgress = no_progress,
) -> Backbone:
    """Returns the proven backbone of a network; these steps are the same for every source."""
    on_progress(f"finding the taps of {network.name} ({len(network.model.graph.node)} nodes) and writing its backbone")
    model, taps, scores, notes = _build_graph(network, request)
    provenance = network.provenance
    is_random = provenance.weights.get("name") == RANDOM  # such weights predict no real classes
    classes, more = (None, []) if is_random else _classes(network.classes, model)
    card = Card(
        name=safe_file_name(request.hints.name or network.name),
        source=provenance.source,
        licence=request.hints.licence or provenance.licence,
        preprocessing=network.preprocessing,
        normalisation=network.normalisation,
        taps=taps,
        weights=provenance.weights,
        classes=classes,
        precision=request.precision,
        notes=(*provenance.notes, *notes, *more),
    )
    if card.has_random_weights and request.hints.name is None:
        card = replace(card, name=f"{card.name}-{RANDOM}")  # heads, stores and reports show this name
    outputs = [output.name for output in model.graph.output]
    batch = reference_batch(*network.preprocessing.crop)
    vectors = CpuSession(model.SerializeToString(), card.name).run(outputs, {INPUT: batch})
    backbone = Backbone(model, replace(card, reference=describe(vectors)))
    del model  # the backbone has its own copy
    wanted = [*taps, *([Tap(LOGITS, scores, vectors[LOGITS].shape[1], "flatten")] if scores else [])]
    return backbone.with_proof(prove(backbone, network, wanted, decode=decode, photos=photos, on_progress=on_progress))


def _build_graph(
    network: SourceNetwork, request: ExportRequest
) -> tuple[onnx.ModelProto, tuple[Tap, ...], str | None, list[str]]:
    """Returns the backbone's graph, its taps, the name of the logits, and notes; frees the graphs in between."""
    size = network.preprocessing.crop
    model = to_standard_form(network.model)
    model = with_dynamic_batch(model, _image_shape(model, size))
    view = GraphView(model)
    count = len(network.classes) if network.classes is not None else None
    found, scores, notes = find_taps(view, network.landmarks, size, count)
    plans = plan_taps(view, found, request.taps)
    model, taps = assemble(model, plans, scores, network.normalisation, size)
    if request.precision == "fp16":
        model = to_half_precision(model)
    return model, taps, scores, notes


def _image_shape(model: onnx.ModelProto, size: tuple[int, int]) -> tuple[int, int, int]:
    """Returns the shape of one input image, channels first or last."""
    inputs = network_inputs(model.graph)
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else []
    if len(dims) != 4 or 3 not in (dims[1].dim_value, dims[3].dim_value):
        raise BackboneError(
            f"The inputs of the network are {[value.name for value in inputs]}",
            expected="one batch of colour images, (N, 3, H, W) or (N, H, W, 3)",
        )
    return (3, *size) if dims[1].dim_value == 3 else (*size, 3)


def _classes(known: tuple[str, ...] | None, model: onnx.ModelProto) -> tuple[tuple[str, ...] | None, list[str]]:
    """Returns the class names, and a note where they follow from the number of logits."""
    width = next((o.type.tensor_type.shape.dim[1].dim_value for o in model.graph.output if o.name == LOGITS), None)
    if known is not None and width is not None and len(known) != width:
        raise BackboneError(
            f"There are {len(known)} class names and {width} logits", expected="the same number of each"
        )
    if known is not None or width not in (1000, 1001):
        return (known if width else None), []
    background = ("background",) if width == 1001 else ()
    return (*background, *imagenet_classes()), [f"The classes are taken to be ImageNet's, because there are {width}."]


def safe_file_name(name: str) -> str:
    """Returns the name without characters that some file systems do not allow.

    >>> safe_file_name("timm:convnext tiny/fb_in1k")
    'timm-convnext-tiny-fb_in1k'
    """
    plain = "".join(
        sign for sign in normalize("NFKD", name) if not combining(sign)
    )  # keep the letter of an accented one
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "backbone"
