"""`penult fit`: the main job in one command."""

from pathlib import Path
from typing import Any

import click

import penult
from penult.defaults import FEATURES, VIEWS
from penult.pipeline.cli.options import (
    AUTO_HELP,
    backbone_option,
    extract_options,
    images_argument,
    json_option,
    store_option,
    take_extract_options,
    take_train_options,
    training_options,
)
from penult.pipeline.cli.output import exit_code_of, print_json, print_trained, progress


@click.command()
@images_argument()
@store_option
@backbone_option
@click.option(
    "--head",
    default="logistic",
    show_default=True,
    help=f"Kind of classifier; {AUTO_HELP}. See 'penult heads kinds'.",
)
@click.option(
    "--features",
    default=FEATURES,
    show_default=True,
    help="Taps to train the head on, separated by commas.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder for report.html and model.onnx.",
)
@click.option("--name", default=None, help="Name of the dataset.  [default: that of the folder or table]")
@click.option(
    "--labels-from-source",
    is_flag=True,
    help="Discard labels that a person corrected, and take those of IMAGES again.",
)
@click.option(
    "--views",
    default=VIEWS,
    show_default=True,
    help="Views of each image to extract and train on, separated by commas, for example identity,hflip,affine-1. "
    "See 'penult extract --help'.",
)
@click.option("--average-views", is_flag=True, help="Predict each test image by the mean over --views.")
@training_options
@extract_options
@json_option
@click.pass_context
def fit(ctx: click.Context, /, images: str, as_json: bool, **values: Any) -> None:
    """Train a classifier on a folder of images.

    IMAGES is a folder with one folder per class, or a table with the columns path and label. Folders named train, val
    or test above the class folders (or a column 'split') define the split. Otherwise a fifth of the images is held out
    for the test. Writes report.html and model.onnx.
    """
    extraction = take_extract_options(values)
    training = take_train_options(values, average_views=values.pop("average_views"))
    fitted = penult.fit(images, options=extraction, training=training, progress=progress(), **values)
    if as_json:
        print_json(fitted.to_json())
    else:
        print_trained(fitted.trained, fitted.delivery, [str(fitted.receipt), *fitted.labelling.notes])
    ctx.exit(exit_code_of(fitted.receipt))
