"""The whole way on images that are drawn on the spot: what the network says before, and what a head makes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penult.exporters import load_backbone
from penult.pipeline.drawings import draw_collection
from penult.pipeline.fit import Fitted, fit
from penult.pipeline.guesses import Guess, original_guesses
from penult.pipeline.predict import Prediction, predict
from penult.pipeline.progress import Progress, Silent

BACKBONE = "efficientnet-lite0"


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
    images = room / "images"
    draw_collection(images)
    image = sorted((images / "test" / "torch").iterdir())[0]
    progress.say("Before any training, the network is asked in its own 1000 classes.")
    (before,) = original_guesses(load_backbone(BACKBONE), [str(image)])
    fitted = fit(images, room / "store", backbone=BACKBONE, output=room, progress=progress)
    (after,) = predict(fitted.delivery.model, image)
    return Demo(image, "torch", before, fitted, after)
