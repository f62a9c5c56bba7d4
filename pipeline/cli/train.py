"""`penult train`: a head on stored features."""

from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import penult
from penult.pipeline.cli.options import (
    AUTO_HELP,
    backbone_filter_option,
    dataset_argument,
    dataset_or_only,
    features_option,
    json_option,
    store_option,
    take_train_options,
    target_option,
    task_option,
    training_options,
)
from penult.pipeline.cli.output import print_json, print_trained, progress


@click.command()
@dataset_argument
@store_option
@click.option(
    "--head",
    default=None,
    help=f"Kind of head, or module:Class of scikit-learn; {AUTO_HELP}. See 'penult heads kinds'.  "
    "[default: logistic; ridge for a number]",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter of the head, for example --param C=0.1; repeat the option for more.",
)
@training_options
@click.option(
    "--start-from",
    metavar="HEAD",
    help="Start at a logistic head of the store and keep its C. This is faster if few labels or images have changed.",
)
@target_option("Column to predict: classes, a number, or several columns of true and false, separated by commas.")
@task_option(": numbers as classes, or tags separated by '|'.")
@features_option
@backbone_filter_option
@click.option(
    "--views",
    default=None,
    help="Train on these views of each image, separated by commas. 'penult extract --views' must have extracted them.",
)
@click.option("--average-views", is_flag=True, help="Predict each test image by the mean over --views.")
@click.option("--name", default=None, help="Name of the head.  [default: the dataset and the kind of head]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder for report.html and model.onnx.  [default: the folder of the head in the store]",
)
@json_option
def train(
    dataset: str | None, store: Path, output: Path | None, params: tuple[str, ...], as_json: bool, **values: Any
) -> None:
    """Train a head on the stored features of a dataset.

    'penult fit' or 'penult dataset import' makes a dataset. Training opens no image. Every head is saved in the store,
    and 'penult predict' can use it. For classes, a report and a model are written as well.
    """
    opened = penult.open_store(store, create=False)
    name = dataset_or_only(opened, dataset)
    options = take_train_options(
        values,
        params=_read(params),
        start_from=values.pop("start_from"),
        target=values.pop("target"),
        task=values.pop("task"),
        views=_views(values.pop("views")),
        average_views=values.pop("average_views"),
    )
    trained = penult.train(opened, dataset=name, options=options, progress=progress(), **values)
    delivery = None
    if trained.head.card.task == "classification":
        from penult.pipeline.fit import deliver

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
    """Reads NAME=VALUE pairs; a value that is no Python literal is text."""
    read: dict[str, Any] = {}
    for param in params:
        name, equals, text = param.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{param!r} is not NAME=VALUE", param_hint="--param")
        try:
            read[name] = literal_eval(text)
        except (ValueError, SyntaxError):
            read[name] = text
    return read
