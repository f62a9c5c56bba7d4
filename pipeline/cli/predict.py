"""`penult predict`: what is on the images."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from penult.pipeline.cli.app import NEW_FAILURES
from penult.pipeline.cli.options import default_of, images_argument, json_option, runs_option, store_option
from penult.pipeline.cli.output import one_line, print_json, progress
from penult.pipeline.images.views import parse_views
from penult.pipeline.models.predict import UNSURE, Prediction, Predictions
from penult.pipeline.models.predict import predict as run_predict
from penult.pipeline.models.prediction_files import ImageSorter, prediction_writer


@click.command()
@click.argument("model", metavar="MODEL")
@images_argument()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A .csv, .jsonl or .parquet file for the predictions."
)
@click.option("--top", type=click.IntRange(1), help="Give the most probable K classes only.  [default: all]")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Call images 'unsure' whose best class is less probable.  [default: what 'penult train --min-accuracy' chose, "
    "else 0]",
)
@click.option(
    "--sort-into",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder, to link or copy the images into, one folder per label.",
)
@runs_option("model", default_of(run_predict, "provider"))
@click.option(
    "--views",
    help="Take the mean of what is said of these views of each image, as in identity,hflip; a head that was trained "
    "on views is asked so.  [default: the image as it is]",
)
@store_option
@json_option
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    model: str,
    images: str,
    output: Path | None,
    sort_into: Path | None,
    as_json: bool,
    views: str | None,
    **values: Any,
) -> None:
    """Tell the classes of images. MODEL is a model's file, or the name of a head in the store.

    With a head, features that the store holds are used again. Images that cannot be used are listed with the reason.
    """
    looks = () if views is None else parse_views(views)
    found = run_predict(model, images, views=looks, progress=progress(), **values)
    if _put_out(found, output, sort_into, as_json=as_json):
        ctx.exit(NEW_FAILURES)


def _put_out(found: Predictions, output: Path | None, sort_into: Path | None, *, as_json: bool) -> int:
    """Prints, writes and sorts predictions as they come, and returns how many images failed."""
    failed = 0
    width = max(len(one_line(name)) for name in (*found.classes, UNSURE))
    with ExitStack() as stack:
        sorter = ImageSorter(sort_into) if sort_into else None
        writer = stack.enter_context(prediction_writer(output, found.classes)) if output else None
        for prediction in found:
            failed += prediction.error is not None
            if as_json:
                print_json(prediction.to_json())
            elif writer is None or prediction.error is not None:
                _print(prediction, width)
            if writer:
                writer.write(prediction)
            if sorter:
                sorter.take(prediction)
    if failed:
        click.echo(f"{failed:,} images could not be used.", err=True)
    return failed


def _print(prediction: Prediction, width: int) -> None:
    if prediction.error is not None:
        click.echo(f"{one_line(prediction.path)}: {prediction.error}", err=True)
    else:
        label = one_line(prediction.label or "")
        sure = "" if prediction.confidence is None else f"{prediction.confidence:>6.1%}  "
        click.echo(f"{label:<{width}}  {sure}{one_line(prediction.path)}")
