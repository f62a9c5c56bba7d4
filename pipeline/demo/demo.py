"""The whole way on images that are drawn on the spot: what the network says before, and what a head makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penult.exporters import load_backbone
from penult.pipeline.demo.drawings import draw_collection
from penult.pipeline.fit import Fitted, fit
from penult.pipeline.models.predict import Prediction, predict
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.report.untrained import Guess, original_guesses

BACKBONE = "efficientnet-lite0"
DRAWINGS = "drawings"

# The class of the image that is shown before and after.
TRUTH = "torch"


@dataclass(frozen=True)
class Demo:
    """What the demo showed of one test image, before and after, and the fit between."""

    image: Path
    truth: str
    before: list[Guess]
    fitted: Fitted
    after: Prediction

    def to_json(self) -> dict[str, Any]:
        """Returns the demo's results as plain data."""
        return {
            **self.fitted.to_json(),
            "image": str(self.image),
            "truth": self.truth,
            "before": {guess.name: guess.probability for guess in self.before},
            "after": self.after.probabilities,
        }


def run_demo(folder: str | Path = "penult-demo", *, progress: Progress | None = None) -> Demo:
    """Draws a collection into ``folder``, fits a head to it, and predicts one test image from ``model.onnx`` alone."""
    progress = progress or Silent()
    room = Path(folder)
    images = room / DRAWINGS
    with progress.task("Drawing", unit="collection") as task:
        draw_collection(images)
        task.advance()
    image = sorted((images / "test" / TRUTH).iterdir())[0]
    (before,) = original_guesses(load_backbone(BACKBONE), [str(image)])
    _tell_before(progress, image, before)
    fitted = fit(images, room / "store", backbone=BACKBONE, output=room, progress=progress)
    (after,) = predict(fitted.delivery.model, image)
    return Demo(image, TRUTH, before, fitted, after)


def _tell_before(progress: Progress, image: Path, before: Sequence[Guess]) -> None:
    progress.say(f"Before any training: what the network's own 1000 classes say of {image.name}, a {TRUTH}:")
    for guess in before:
        progress.say(f"  {guess.probability:6.1%}  {guess.name}")
