"""`penult advise`: what to do next with a dataset, and why."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import penult
from penult.pipeline.advising.options import AdviseOptions
from penult.pipeline.cli.options import (
    backbone_filter_option,
    dataset_argument,
    dataset_or_only,
    features_option,
    json_option,
    store_option,
    target_option,
    task_option,
)
from penult.pipeline.cli.output import print_json, progress

if TYPE_CHECKING:
    from penult.pipeline.advising.advise import Advised


@click.command()
@dataset_argument
@store_option
@features_option
@backbone_filter_option
@target_option("Column with the classes.")
@task_option("; only classification is supported.")
@click.option("--head", default=AdviseOptions.head, show_default=True, help="Kind of head to measure.")
@click.option(
    "--probe", default=AdviseOptions.probe, show_default=True, help="Kind of head that compares all stored features."
)
@json_option
def advise(
    dataset: str | None, store: Path, features: str, backbone: str | None, as_json: bool, **values: str | None
) -> None:
    """Say whether more labels, features or another network help.

    All figures come from training images, each held out in turn. The test split is not used. Results are cached in the
    store, so a second run is fast. Each piece of advice comes with its evidence and the command to run next.
    """
    opened = penult.open_store(store, create=False)
    found = penult.advise(
        opened,
        dataset=dataset_or_only(opened, dataset),
        features=features,
        backbone=backbone,
        options=AdviseOptions(**values),  # type: ignore[arg-type]  # click gives each its type
        progress=progress(),
    )
    print_json(found.to_json()) if as_json else _show(found)


def _show(found: "Advised") -> None:
    measured = found.measured
    click.echo(
        f"{found.dataset}@{found.version}: {measured.n_train:,} training images of {measured.n_classes:,} classes, "
        f"features {measured.features}"
    )
    for number, advice in enumerate(found.advice, 1):
        click.echo(f"\n{number}. {advice.text}")
        if advice.evidence:
            click.echo(click.wrap_text(advice.evidence, 100, "   ", "   "))
        if advice.command:
            click.echo(f"   $ {advice.command}")
