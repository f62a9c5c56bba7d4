"""`penult train`: a head on what the store holds."""

from pathlib import Path

import click

from penult.errors import InputError
from penult.pipeline.cli.options import default_of, json_option, store_option
from penult.pipeline.cli.output import print_json, print_trained, progress
from penult.pipeline.deliver import deliver
from penult.pipeline.training.train import train as run_train
from penult.store import Store, open_store


@click.command()
@click.argument("dataset", required=False)
@store_option
@click.option("--head", default=default_of(run_train, "head"), show_default=True, help="The kind of classifier.")
@click.option(
    "--features",
    default=default_of(run_train, "features"),
    show_default=True,
    help="Taps, or backbone:tap, separated by commas.",
)
@click.option("--backbone", default=None, help="Whose features, where the store has those of several.")
@click.option("--name", default=None, help="The head's name.  [default: the dataset's and the kind's]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="The folder for report.html and model.onnx.  [default: the head's own in the store]",
)
@json_option
def train(
    dataset: str | None,
    store: Path,
    head: str,
    features: str,
    backbone: str | None,
    name: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Train a head on a dataset of the store (as `penult fit` made it); no image is opened to train."""
    opened = open_store(store, create=False)
    trained = run_train(
        opened, dataset=dataset or _only_dataset(opened), head=head, features=features, backbone=backbone, name=name
    )
    folder = output or opened.heads_path / trained.head.card.name
    delivery = deliver(trained, opened, folder, progress=progress())
    if as_json:
        print_json(trained.to_json() | delivery.to_json())
    else:
        print_trained(trained, delivery, [])


def _only_dataset(store: Store) -> str:
    names = store.catalog.datasets.names()
    if len(names) != 1:
        raise InputError(
            f"The store {str(store.path)!r} has {len(names)} datasets" + (f": {', '.join(names)}" if names else ""),
            expected="the name of one of them" if names else "at least one",
            remedy="name the dataset to train on" if names else "run 'penult fit IMAGES' first",
        )
    return names[0]
