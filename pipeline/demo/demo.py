"""The whole workflow on drawn images: predictions of the original network, training, and predictions after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penult.defaults import BACKBONE
from penult.exporters import load_backbone
from penult.pipeline.demo.drawings import draw_collection
from penult.pipeline.fit import Fitted, fit
from penult.pipeline.models.predict import Prediction, predict
from penult.pipeline.progress import Progress, Silent
from penult.pipeline.report.network_baseline import Guess, original_guesses

DRAWINGS = "drawings"

# The class of the test image that is shown before and after training.
TRUTH = "torch"


@dataclass(frozen=True)
class Demo:
    """The predictions for one test image before and after training, and the result of the training."""

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
    """Draws a collection into ``folder``, fits a head to it, and predicts one test image with ``model.onnx`` alone."""
    progress = progress or Silent()
    images = Path(folder) / DRAWINGS
    with progress.task("Drawing", unit="collection") as task:
        draw_collection(images)
        task.advance()
    image = sorted((images / "test" / TRUTH).iterdir())[0]
    (before,) = original_guesses(load_backbone(BACKBONE), [str(image)])
    _print_before(progress, image, before)
    fitted = fit(images, Path(folder) / "store", backbone=BACKBONE, output=folder, progress=progress)
    (after,) = predict(fitted.delivery.model, image)
    return Demo(image, TRUTH, before, fitted, after)


def _print_before(progress: Progress, image: Path, before: Sequence[Guess]) -> None:
    progress.say(f"Before training: what the network predicts for {image.name}, a {TRUTH}, among its own 1000 classes:")
    for guess in before:
        progress.say(f"  {guess.probability:6.1%}  {guess.name}")
