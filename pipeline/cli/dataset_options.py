"""What verbs on a dataset of a store share: its name, its column, and the features that are used."""

from collections.abc import Callable
from typing import Any

import click

from penult.errors import InputError
from penult.pipeline.cli.options import Verb, default_of
from penult.pipeline.training.train import TrainOptions
from penult.store import Store

__all__ = [
    "dataset_argument",
    "dataset_of",
    "features_option",
    "of_backbone_option",
    "target_option",
    "task_option",
]

dataset_argument = click.argument("dataset", required=False)

of_backbone_option = click.option("--backbone", help="Whose features, where the store has those of several.")


def features_option(run: Callable[..., Any]) -> Callable[[Verb], Verb]:
    """Returns the option of the features that a verb uses, with the default of the function that it calls."""
    return click.option(
        "--features",
        default=default_of(run, "features"),
        show_default=True,
        help="Taps, or backbone:tap, separated by commas.",
    )


def target_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option of the column that is to be predicted."""
    return click.option("--target", default=TrainOptions.target, show_default=True, help=what)


def task_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option that decides how a column is read."""
    kinds = click.Choice(["classification", "regression", "multilabel"])
    return click.option("--task", type=kinds, help=f"What the target holds, where it could be either{what}")


def dataset_of(store: Store, named: str | None) -> str:
    """Returns the dataset that is named, or the only one of the store."""
    names = store.catalog.datasets.names()
    if named is None and len(names) != 1:
        raise InputError(
            f"The store {store.address!r} has {len(names)} datasets" + (f": {', '.join(names)}" if names else ""),
            expected="the name of one of them" if names else "at least one",
            remedy="name the one that is meant" if names else "run 'penult fit IMAGES' first",
        )
    return named if named is not None else names[0]
