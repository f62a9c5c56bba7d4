"""`penult predict`: the classes of images."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penult
from penult.pipeline.cli.app import NEW_FAILURES
from penult.pipeline.cli.options import images_argument, json_option, provider_option, store_option
from penult.pipeline.cli.output import one_line, print_json, progress

if TYPE_CHECKING:
    from penult.pipeline.models.predict import Prediction, Predictions


@click.command()
@click.argument("model", metavar="MODEL")
@images_argument()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the predictions to a .csv, .jsonl or .parquet file."
)
@click.option("--top", type=click.IntRange(1), help="Return only the K most probable classes.  [default: all]")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Answer 'unsure' if the best class is less probable than this.  [default: as 'penult train --min-accuracy' "
    "chose, else 0]",
)
@click.option(
    "--sort-into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Link or copy the images into this new folder, with one folder per label.",
)
@provider_option("model")
@click.option(
    "--views",
    help="Average the predictions over these views of each image, for example identity,hflip. Useful for a head that "
    "was trained on views.  [default: the image as it is]",
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
    """Predict the classes of images.

    MODEL is the file of a model, or the name of a head in the store. With a head, stored features are used again.
    Images that cannot be used are listed with the reason.
    """
    from penult.pipeline.images.views import parse_views

    parsed = () if views is None else parse_views(views)
    found = penult.predict(model, images, views=parsed, progress=progress(), **values)
    if _print_all(found, output, sort_into, as_json=as_json):
        ctx.exit(NEW_FAILURES)


def _print_all(found: "Predictions", output: Path | None, sort_into: Path | None, *, as_json: bool) -> int:
    """Prints, writes and sorts predictions as they arrive, and returns the number of failed images."""
    from penult.pipeline.models.predict import UNSURE
    from penult.pipeline.models.prediction_files import ImageSorter, prediction_writer

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
                sorter.add(prediction)
    if failed:
        click.echo(f"{failed:,} images could not be used.", err=True)
    return failed


def _print(prediction: "Prediction", width: int) -> None:
    if prediction.error is not None:
        click.echo(f"{one_line(prediction.path)}: {prediction.error}", err=True)
    else:
        label = one_line(prediction.label or "")
        sure = "" if prediction.confidence is None else f"{prediction.confidence:>6.1%}  "
        click.echo(f"{label:<{width}}  {sure}{one_line(prediction.path)}")
