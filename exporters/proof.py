"""Proves that a backbone gives the same features as its source.

Both process the same image files, each with its own decoding and preprocessing. The files always include two photos
and four generated images of unusual shapes.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from penult.errors import ExportMismatchError, ImageError, MissingFileError
from penult.exporters.backbone import Backbone
from penult.exporters.card import INPUT, Precision, Tap
from penult.exporters.cpu_session import CpuSession
from penult.exporters.reference import reference_batch
from penult.exporters.sources.base import DecodeImage, SourceNetwork

__all__ = ["OnProgress", "no_progress", "prove", "sample_photos"]

OnProgress: TypeAlias = Callable[[str], None]
"""Receives a line about the current step."""

_PHOTOS = ("china.jpg", "flower.jpg")
_LARGEST_ERROR = 1e-4
_LOWEST_COSINE = 0.999
_BATCH = 32
_BATCH_ERROR = {"fp32": 1e-4, "fp16": 2e-2}

Rows = Mapping[str, npt.NDArray[Any]]


def no_progress(_: str) -> None:
    """Ignores the line."""


def prove(
    backbone: Backbone,
    network: SourceNetwork,
    wanted: Sequence[Tap],
    *,
    decode: DecodeImage,
    photos: Sequence[Path] = (),
    on_progress: OnProgress = no_progress,
) -> dict[str, Any]:
    """Compares the outputs ``wanted`` (taps and logits) with the source, and returns the results for the card.

    Raises:
        ExportMismatchError: outputs differ; the error names the worst tap and image.
    """
    with tempfile.TemporaryDirectory(prefix="penult-") as folder:
        paths = [*sample_photos(), *_generated_images(Path(folder), backbone.input_size), *photos]
        pixels = np.stack([_decoded(path, backbone, decode) for path in paths])
        on_progress(f"proving the export on {len(paths)} images: running the backbone in batches and one by one")
        runner = CpuSession(backbone.to_bytes(), backbone.name)
        ours = _in_batches(runner, backbone, pixels)
        figures: dict[str, Any] = {
            "images": len(paths),
            "batch_against_single": _batch_error(runner, backbone, pixels, ours),
        }
        if network.run is None:
            return figures | {"against": None}
        on_progress(f"proving the export on {len(paths)} images: running {network.run_with}")
        theirs = network.run(paths, wanted)
    precision: Precision = "fp16" if "fp16" in (backbone.card.precision, network.run_precision) else "fp32"
    compared = _compared(ours, theirs, [path.name for path in paths], precision)
    unproven = sorted(set(ours) - set(compared))
    return figures | {"against": network.run_with, "outputs": compared, "unproven": unproven}


def _decoded(path: Path, backbone: Backbone, decode: DecodeImage) -> npt.NDArray[np.uint8]:
    try:
        return decode(path.read_bytes(), backbone.card.preprocessing)
    except ImageError as reason:
        raise ImageError(
            f"{path} cannot be used for the proof: {reason}",
            expected="only readable images among the photos",
            remedy="remove this file, or choose other photos",
        ) from reason


def _in_batches(runner: CpuSession, backbone: Backbone, pixels: npt.NDArray[np.uint8]) -> Rows:
    parts = [
        runner.run(backbone.outputs, {INPUT: pixels[start : start + _BATCH]}) for start in range(0, len(pixels), _BATCH)
    ]
    return {output: np.concatenate([part[output] for part in parts]) for output in backbone.outputs}


def _compared(ours: Rows, theirs: Rows, names: Sequence[str], precision: Precision) -> dict[str, Any]:
    if not set(theirs) & set(ours) - {"logits"}:
        raise ExportMismatchError(
            f"The source returned the outputs {', '.join(theirs) or 'none'}",
            expected=f"at least one of {', '.join(ours)}",
        )
    figures, worst = {}, (0.0, "", "")
    for output, rows in theirs.items():
        wanted, given = np.asarray(rows, dtype=np.float64), np.asarray(ours[output], dtype=np.float64)
        if wanted.shape != given.shape:
            raise ExportMismatchError(
                f"{output!r} has shape {given.shape}", expected=f"{wanted.shape}, the shape in the source"
            )
        errors, cosines = _distances(given, wanted)
        figures[output] = {"relative_error": float(errors.max()), "cosine": float(cosines.min())}
        wrong = (errors / _LARGEST_ERROR) if precision == "fp32" else (1 - cosines) / (1 - _LOWEST_COSINE)
        place = int(np.argmax(np.where(np.isfinite(wrong), wrong, np.inf)))
        score = float(wrong[place]) if np.isfinite(wrong[place]) else float("inf")
        worst = max(worst, (score, output, names[place]))
    score, output, image = worst
    if score > 1:
        raise ExportMismatchError(
            f"The tap {output!r} differs from its source, most on {image}: relative error "
            f"{figures[output]['relative_error']:.2g}, cosine {figures[output]['cosine']:.6f}",
            expected=f"an error of at most {_LARGEST_ERROR:g}"
            if precision == "fp32"
            else f"a cosine of at least {_LOWEST_COSINE}",
            remedy="check the mean, std, channel order, size and interpolation of the source",
        )
    return figures


def _distances(given: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Returns the relative error and the cosine of each row; two rows of zeros are equal."""
    length, norm = np.linalg.norm(wanted, axis=1), np.linalg.norm(given, axis=1)
    apart = np.linalg.norm(given - wanted, axis=1)
    same = apart == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        errors, cosines = apart / length, (given * wanted).sum(axis=1) / (length * norm)
    return np.where(same, 0.0, errors), np.where(same, 1.0, cosines)


def _batch_error(runner: CpuSession, backbone: Backbone, pixels: npt.NDArray[np.uint8], together: Rows) -> float:
    """Returns the largest error between a batch and its images one by one, which detects a fixed batch size."""
    largest = 0.0
    for index in range(len(pixels)):
        alone = runner.run(backbone.outputs, {INPUT: pixels[index : index + 1]})
        for output, rows in alone.items():
            if not np.isfinite(rows).all():
                raise ExportMismatchError(
                    f"The tap {output!r} of image {index} contains numbers that are not finite",
                    expected="finite numbers",
                    remedy="check the weights" if backbone.card.precision == "fp32" else "export it in fp32",
                )
            errors, _ = _distances(together[output][index : index + 1].astype("f8"), rows.astype("f8"))
            largest = max(largest, float(np.where(np.isfinite(errors), errors, np.inf).max()))
            if largest > _BATCH_ERROR[backbone.card.precision]:
                raise ExportMismatchError(
                    f"The tap {output!r} of image {index} differs between a batch and a single image: "
                    f"relative error {largest:.2g}",
                    expected=f"at most {_BATCH_ERROR[backbone.card.precision]:g}",
                    remedy="export the network with a dynamic batch",
                )
    return largest


def sample_photos() -> list[Path]:
    """Returns the paths of the two photos that scikit-learn contains."""
    found = find_spec("sklearn")  # importing it would take a second
    if found is None or found.origin is None:
        raise MissingFileError("The sample photos of scikit-learn are missing", expected="an installed scikit-learn")
    return [Path(found.origin).parent / "datasets" / "images" / name for name in _PHOTOS]


def _generated_images(folder: Path, size: tuple[int, int]) -> list[Path]:
    """Writes images that are smaller than the input, tall, wide, and pure noise."""
    from PIL import Image

    height, width = size
    generator = np.random.default_rng(20)
    drawn = {
        "small.png": reference_batch(height // 2 + 3, width // 2 + 1, 1)[0],
        "tall.png": reference_batch(height * 3 + 7, width + 33, 1)[0],
        "wide.png": reference_batch(height + 51, width * 2 + 5, 2)[1],
        "noise.png": generator.integers(0, 256, (height + 45, width + 60, 3), dtype=np.uint8),
    }
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(folder / name)
    return [folder / name for name in drawn]
