"""`penult heads`: the heads of a store, and the kinds that can be trained."""

from pathlib import Path

import click

from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json, print_table
from penult.store import open_store


@click.command()
@store_option
@json_option
def heads(store: Path, as_json: bool) -> None:
    """List the heads of a store with what they are worth."""
    cards = open_store(store, create=False).catalog.heads.all()
    if as_json:
        print_json(cards)
        return
    rows = [
        (
            name,
            card["kind"],
            f"{card['dataset']}@{card['dataset_version']}",
            len(card["classes"]),
            card["n_train"],
            card["n_test"],
            card["metrics"]["accuracy"]["value"],
            card["created"],
        )
        for name, card in cards.items()
    ]
    print_table(("head", "kind", "dataset", "classes", "train", "test", "accuracy", "created"), rows)
