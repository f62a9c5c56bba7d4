"""Makes one file of a head and its backbone that ONNX Runtime runs alone, and proves that it says the same."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

import penult
from penult.errors import BundleMismatchError, HeadError, InputError, MissingFileError, PenultError
from penult.exporters.backbone import Backbone
from penult.pipeline.heads.head import Head
from penult.pipeline.models.fusion import fuse, opset_of
from penult.pipeline.models.model import Model, sealed
from penult.pipeline.models.proof import Evidence, Proof
from penult.pipeline.samples.rows import pick_evenly
from penult.store import Store

__all__ = ["bundle", "check_images_of"]

# How many real images a model is checked on.
CHECK_IMAGES = 32


def bundle(head: Head, backbone: Backbone, path: str | Path, *, check_images: Sequence[str | Path] = ()) -> Model:
    """Writes the head and its backbone as one ONNX file, and returns it as a `Model`.

    Before anything is written, the ``check_images`` and some random ones go both ways: through the backbone and the
    head, and through the file. What was measured stands in the file.

    Raises:
        BundleMismatchError: the two differ in a label, or in a probability by more than 1e-5.
        HeadError: there is no way to write this kind of head as ONNX.
        SpaceMismatchError: the head was trained on features of another backbone.
    """
    path = Path(path)
    head.require_classes("a bundled model")
    _check_place(path)
    evidence = Evidence(head, backbone, check_images)
    graph, proof = _proven(head, backbone, evidence)
    texts = {
        "classes": [str(name) for name in head.card.classes],
        "preprocessing": backbone.card.to_json()["preprocessing"],
        "provenance": _provenance(head, backbone),
        "proof": proof.to_json(),
    }
    data = sealed(graph, texts)
    model = Model.parse(data, origin=str(path))
    _write_whole(path, data)
    return model


def check_images_of(head: Head, store: Store) -> list[str]:
    """Returns up to 32 images of the dataset that a head was trained on, evenly over all of it."""
    paths = store.catalog.datasets.load(head.card.dataset, head.card.dataset_version).paths
    return pick_evenly(paths, CHECK_IMAGES)


def _proven(head: Head, backbone: Backbone, evidence: Evidence) -> tuple[onnx.ModelProto, Proof]:
    """Returns the first way of writing the head that agrees with it."""
    refusals: list[Exception] = []
    for graph, precision in _candidates(head, backbone, refusals):
        try:
            model = fuse(backbone, head.card.spaces, graph, [str(name) for name in head.card.classes])
            return model, evidence.prove(model.SerializeToString(), precision)
        except PenultError as error:
            refusals.append(error)
        except Exception as error:  # noqa: BLE001 - what the checker or ONNX Runtime finds wrong with a converter's graph
            refusals.append(HeadError(f"The {head.card.kind} head's graph does not run: {str(error).splitlines()[0]}"))
    raise next((error for error in refusals if isinstance(error, BundleMismatchError)), refusals[0])


def _candidates(head: Head, backbone: Backbone, refusals: list[Exception]) -> Iterator[tuple[onnx.ModelProto, str]]:
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
            refusals.append(error)


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


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder", expected="the file to write", remedy=f"name {path / 'model.onnx'}")
    if not path.parent.is_dir():
        raise MissingFileError(
            f"There is no folder {str(path.parent)!r} to write {path.name} into", remedy="make it, or name another"
        )


def _write_whole(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all, durably."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(draft).unlink()
        raise
