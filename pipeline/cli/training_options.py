"""The options of training that several verbs share, with the defaults of the Python API."""

from typing import Any

import click

from penult.pipeline.cli.options import Verb, added
from penult.pipeline.training.train import TrainOptions

__all__ = ["made_training", "training_options"]

AUTO_HELP = "'auto' takes the best of the quick ones on held-out training images"


def training_options(verb: Verb) -> Verb:
    """Adds options of `TrainOptions`; the verb gets them as keywords and gives them to `made_training`."""
    options = (
        click.option(
            "--min-accuracy",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="The share of answers that is to be right, as in 0.98: the head calls images 'unsure' rather, as far "
            "as held-out training images show that it must.",
        ),
        click.option(
            "--class-weight",
            type=click.Choice(["balanced"]),
            help="Give the images of a rare class the weight of those of a frequent one.",
        ),
    )
    return added(verb, options)


def made_training(values: dict[str, Any], **more: Any) -> TrainOptions:
    """Takes the options of `training_options` out of a verb's keywords."""
    return TrainOptions(class_weight=values.pop("class_weight"), min_accuracy=values.pop("min_accuracy"), **more)
