"""`penult report`: what a head of the store is worth, as one HTML file."""

import webbrowser
from pathlib import Path

import click

from penult.pipeline.cli.options import default_of, json_option, store_option
from penult.pipeline.cli.output import print_json, progress
from penult.pipeline.heads.saved_heads import saved_head
from penult.pipeline.report.embedding_map import METHODS
from penult.pipeline.report.insights import insights_of
from penult.pipeline.report.reporting import report as run_report
from penult.store import open_store


@click.command()
@click.argument("head")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=default_of(run_report, "path"),
    show_default=True,
    help="The HTML file to write.",
)
@click.option(
    "--map-by",
    type=click.Choice(METHODS),
    default=default_of(run_report, "map_by"),
    show_default=True,
    help="How the map of the images is laid out. UMAP needs the extra [umap].",
)
@click.option(
    "--review/--no-review",
    "reviews",
    default=True,
    show_default=True,
    help="Look for doubtful labels and near copies, as 'penult review' does.",
)
@click.option(
    "--advise/--no-advise",
    "advises",
    default=True,
    show_default=True,
    help="Measure the learning curve and say what would help, as 'penult advise' does.",
)
@click.option("--compare", "compares", is_flag=True, help="Compare other features and heads, as 'penult compare' does.")
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
@store_option
@json_option
def report(head: str, path: Path, map_by: str, opens: bool, store: Path, as_json: bool, **asked: bool) -> None:
    """Write the report of a head of the store: one HTML file that needs nothing else.

    The head is tested again from the features that the store holds; images are opened for their pictures only.
    """
    shown = progress()
    opened = open_store(store, create=False)
    found = saved_head(opened, head)
    insights = insights_of(found, opened, **asked, progress=shown)
    written = run_report(found, opened, path, map_by=map_by, insights=insights, progress=shown)
    if as_json:
        print_json({"head": head, "report": str(written)})
    else:
        click.echo(f"report: {written} ({written.stat().st_size / 1e6:.1f} MB)")
    if opens:
        webbrowser.open(written.resolve().as_uri())
