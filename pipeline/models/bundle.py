"""Writes a head and its backbone as one ONNX file, after a check that both give the same predictions."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

import penult
from penult.errors import BundleMismatchError, HeadError, InputError, MissingFileError, PenultError
from penult.exporters.backbone import Backbone
from penult.files import replace_file
from penult.pipeline.heads.head import Head
from penult.pipeline.models.fusion import fuse, opset_of
from penult.pipeline.models.model import Model, model_bytes
from penult.pipeline.models.proof import Proof, ReferenceOutputs
from penult.pipeline.samples.rows import pick_evenly
from penult.store import Store

__all__ = ["bundle", "check_images_of"]

CHECK_IMAGES = 32
"""The number of real images that a model is checked on."""


def bundle(head: Head, backbone: Backbone, path: str | Path, *, check_images: Sequence[str | Path] = ()) -> Model:
    """Writes the head and its backbone as one ONNX file, and returns it as a `Model`.

    Before the file is written, its predictions for ``check_images`` and some random images are compared with those of
    the head. The largest difference is stored in the file.

    Raises:
        BundleMismatchError: a label differs, or a probability by more than 1e-5.
        HeadError: this kind of head cannot be written as ONNX.
        SpaceMismatchError: the head was trained on features of another backbone.
    """
    path = Path(path)
    head.require_classes("a bundled model")
    _check_path(path)
    reference = ReferenceOutputs(head, backbone, check_images)
    graph, proof = _checked_graph(head, backbone, reference)
    texts = {
        "classes": [str(name) for name in head.card.classes],
        "preprocessing": backbone.card.to_json()["preprocessing"],
        "provenance": _provenance(head, backbone),
        "proof": proof.to_json(),
    }
    data = model_bytes(graph, texts)
    model = Model.parse(data, origin=str(path))
    replace_file(path, data)
    return model


def check_images_of(head: Head, store: Store) -> list[str]:
    """Returns up to 32 images of a head's dataset, evenly spaced."""
    paths = store.catalog.datasets.load(head.card.dataset, head.card.dataset_version).paths
    return pick_evenly(paths, CHECK_IMAGES)


def _checked_graph(head: Head, backbone: Backbone, reference: ReferenceOutputs) -> tuple[onnx.ModelProto, Proof]:
    """Returns the first graph whose predictions agree with the head."""
    errors: list[Exception] = []
    for graph, precision in _candidates(head, backbone, errors):
        try:
            model = fuse(backbone, head.card.spaces, graph, [str(name) for name in head.card.classes])
            return model, reference.compare(model.SerializeToString(), precision)
        except PenultError as error:
            errors.append(error)
        except Exception as error:  # noqa: BLE001 - the checker or ONNX Runtime rejects a converter's graph
            errors.append(
                HeadError(f"The graph of the {head.card.kind} head does not run: {str(error).splitlines()[0]}")
            )
    raise next((error for error in errors if isinstance(error, BundleMismatchError)), errors[0])


def _candidates(head: Head, backbone: Backbone, errors: list[Exception]) -> Iterator[tuple[onnx.ModelProto, str]]:
    from penult.pipeline.models.head_graph import PRECISIONS, converted_graph, linear_graph

    opset, width = opset_of(backbone), sum(space.width for space in head.card.spaces)
    linear = head.linear()
    if linear is not None:
        yield linear_graph(*linear, opset), "float64"
        return
    for precision in PRECISIONS:
        try:
            yield converted_graph(head.estimator, width, opset, precision), precision
        except HeadError as error:
            errors.append(error)


def _provenance(head: Head, backbone: Backbone) -> dict[str, Any]:
    card = backbone.card
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "penult": penult.__version__,
        "licence": card.licence,
        "backbone": {
            "name": backbone.name,
            "fingerprint": backbone.fingerprint,
            "source": card.source,
            "licence": card.licence,
            "weights": dict(card.weights),
            "precision": card.precision,
            "taps": [space.tap for space in head.card.spaces],
        },
        "head": head.card.to_json(),
    }


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder", expected="the path of a file", remedy=f"use {path / 'model.onnx'}")
    if not path.parent.is_dir():
        raise MissingFileError(
            f"There is no folder {str(path.parent)!r} to write {path.name} into",
            remedy="create it, or name another folder",
        )
