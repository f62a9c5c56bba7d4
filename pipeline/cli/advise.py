"""`penult advise`: what to do next with a dataset, and why."""

from pathlib import Path

import click

from penult.pipeline.advising.advise import Advised, AdviseOptions
from penult.pipeline.advising.advise import advise as run_advise
from penult.pipeline.cli.options import (
    dataset_argument,
    dataset_of,
    features_option,
    json_option,
    of_backbone_option,
    store_option,
    target_option,
    task_option,
)
from penult.pipeline.cli.output import print_json, progress
from penult.store import open_store


@click.command()
@dataset_argument
@store_option
@features_option(run_advise)
@of_backbone_option
@target_option("The column of the classes.")
@task_option("; only classes are advised on.")
@click.option("--head", default=AdviseOptions.head, show_default=True, help="The kind of head that is measured.")
@click.option("--probe", default=AdviseOptions.probe, show_default=True, help="The head that tries all features.")
@json_option
def advise(
    dataset: str | None, store: Path, features: str, backbone: str | None, as_json: bool, **values: str | None
) -> None:
    """Say what would make the classifier of a dataset better: more labels, other features, or another network.

    Everything is measured on training images, each held out in turn; the test split is not touched. What was computed
    is kept in the store: the same command again takes a moment. Each piece of advice stands with its evidence and
    with the command to run next.
    """
    opened = open_store(store, create=False)
    found = run_advise(
        opened,
        dataset=dataset_of(opened, dataset),
        features=features,
        backbone=backbone,
        options=AdviseOptions(**values),  # type: ignore[arg-type]  # click gives each its type
        progress=progress(),
    )
    print_json(found.to_json()) if as_json else _show(found)


def _show(found: Advised) -> None:
    measured = found.measured
    click.echo(
        f"{found.dataset}@{found.version}: {measured.n_train:,} training images of {measured.n_classes:,} classes, "
        f"by {measured.features}"
    )
    for number, one in enumerate(found.advice, 1):
        click.echo(f"\n{number}. {one.text}")
        if one.evidence:
            click.echo(click.wrap_text(one.evidence, 100, "   ", "   "))
        if one.command:
            click.echo(f"   $ {one.command}")
