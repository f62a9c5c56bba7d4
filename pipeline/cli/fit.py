"""`penult fit`: the main job in one line."""

from pathlib import Path
from typing import Any

import click

from penult.pipeline.cli.options import (
    AUTO_HELP,
    backbone_option,
    default_of,
    extract_options,
    images_argument,
    json_option,
    made_options,
    made_training,
    store_option,
    training_options,
)
from penult.pipeline.cli.output import exit_code_of, print_json, print_trained, progress
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.fit import fit as run_fit


@click.command()
@images_argument()
@store_option
@backbone_option
@click.option(
    "--head",
    default=default_of(run_fit, "head"),
    show_default=True,
    help=f"The kind of classifier; {AUTO_HELP}. See 'penult heads kinds'.",
)
@click.option(
    "--features",
    default=default_of(run_fit, "features"),
    show_default=True,
    help="The taps that the head is trained on, separated by commas.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_of(run_fit, "output"),
    show_default=True,
    help="The folder for report.html and model.onnx.",
)
@click.option(
    "--views",
    default=ExtractOptions.views,
    show_default=True,
    help="What the backbone sees of each image and the head is trained on, separated by commas, as in "
    "identity,hflip,affine-1. See 'penult extract --help'.",
)
@click.option("--average-views", is_flag=True, help="Judge each test image by the mean over --views.")
@training_options
@extract_options
@json_option
@click.pass_context
def fit(ctx: click.Context, /, images: str, as_json: bool, **values: Any) -> None:
    """Train a classifier on a folder with one folder per class, or on a CSV with the columns path and label.

    Folders called train, val or test above the class folders (or a column 'split') are taken for the split; without
    any, a fifth of the images is held out for the test.
    """
    extraction = made_options(values)
    training = made_training(values, average_views=values.pop("average_views"))
    fitted = run_fit(images, options=extraction, training=training, progress=progress(), **values)
    if as_json:
        print_json(fitted.to_json())
    else:
        print_trained(fitted.trained, fitted.delivery, [str(fitted.receipt), *fitted.labelling.notes])
    ctx.exit(exit_code_of(fitted.receipt))
