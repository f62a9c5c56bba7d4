"""`penult train`: a head on what the store holds."""

from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from penult.pipeline.cli.options import (
    AUTO_HELP,
    dataset_argument,
    dataset_of,
    features_option,
    json_option,
    made_training,
    of_backbone_option,
    store_option,
    target_option,
    task_option,
    training_options,
)
from penult.pipeline.cli.output import print_json, print_trained, progress
from penult.pipeline.fit import deliver
from penult.pipeline.training.train import train as run_train
from penult.store import open_store


@click.command()
@dataset_argument
@store_option
@click.option(
    "--head",
    default=None,
    help=f"The kind of head, or module:Class of scikit-learn; {AUTO_HELP}. See 'penult heads kinds'.  "
    "[default: logistic; ridge for a number]",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Fix a parameter of the head, as in --param C=0.1; again for another.",
)
@training_options
@click.option(
    "--start-from",
    metavar="HEAD",
    help="Begin at a logistic head of the store and keep its C: quicker where few labels or images have changed.",
)
@target_option("The column to predict: classes, a number, or several columns of true and false, separated by commas.")
@task_option(": numbers for classes, or tags separated by '|'.")
@features_option(run_train)
@of_backbone_option
@click.option(
    "--views",
    default=None,
    help="Train on these views of each image, separated by commas, which 'penult extract --views' has made.",
)
@click.option("--average-views", is_flag=True, help="Judge each test image by the mean over --views.")
@click.option("--name", default=None, help="The head's name.  [default: the dataset's and the kind's]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The folder for report.html and model.onnx.  [default: the head's own in the store]",
)
@json_option
def train(
    dataset: str | None, store: Path, output: Path | None, params: tuple[str, ...], as_json: bool, **values: Any
) -> None:
    """Train a head on a dataset of the store (as `penult fit` made it); no image is opened to train.

    A head for numbers or tags is kept in the store and predicts with it; classes also give a report and a model.
    """
    opened = open_store(store, create=False)
    called = dataset_of(opened, dataset)
    options = made_training(
        values,
        params=_read(params),
        start_from=values.pop("start_from"),
        target=values.pop("target"),
        task=values.pop("task"),
        views=_views(values.pop("views")),
        average_views=values.pop("average_views"),
    )
    trained = run_train(opened, dataset=called, options=options, progress=progress(), **values)
    delivery = None
    if trained.head.card.task == "classification":
        folder = output or opened.heads_path / trained.head.card.name
        delivery = deliver(trained, opened, folder, progress=progress())
    if as_json:
        print_json(trained.to_json() | (delivery.to_json() if delivery else {}))
    else:
        print_trained(trained, delivery, [])


def _views(text: str | None) -> tuple[str, ...]:
    from penult.pipeline.images.views import parse_views

    return () if text is None else parse_views(text)


def _read(params: Sequence[str]) -> dict[str, Any]:
    """Reads NAME=VALUE; a value that is written as Python writes one is that, and any other is text."""
    read: dict[str, Any] = {}
    for param in params:
        name, equals, text = param.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{param!r} is no NAME=VALUE", param_hint="--param")
        try:
            read[name] = literal_eval(text)
        except (ValueError, SyntaxError):
            read[name] = text
    return read
