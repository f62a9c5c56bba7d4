"""`penult report`: the test results of a head as one HTML file."""

import webbrowser
from pathlib import Path

import click

import penult
from penult.defaults import MAP_METHODS
from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json, progress


@click.command()
@click.argument("head")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="HTML file to write.",
)
@click.option(
    "--map-by",
    type=click.Choice(MAP_METHODS),
    default=MAP_METHODS[0],
    show_default=True,
    help="Method for the map of the images. umap needs the extra: pip install 'penult[umap]'.",
)
@click.option(
    "--review/--no-review",
    "reviews",
    default=True,
    show_default=True,
    help="Include doubtful labels and near duplicates, as 'penult review' finds them.",
)
@click.option(
    "--advise/--no-advise",
    "advises",
    default=True,
    show_default=True,
    help="Include the learning curve and advice, as 'penult advise' gives them.",
)
@click.option(
    "--compare", "compares", is_flag=True, help="Include a comparison of features and heads, as 'penult compare' makes."
)
@click.option("--open", "opens", is_flag=True, help="Open the report in a browser.")
@store_option
@json_option
def report(head: str, path: Path, map_by: str, opens: bool, store: Path, as_json: bool, **parts: bool) -> None:
    """Write the report of a head as one self-contained HTML file.

    The head is tested again on stored features. Images are opened only for their thumbnails.
    """
    from penult.pipeline.heads.saved_heads import saved_head
    from penult.pipeline.report.insights import insights_of

    shown = progress()
    opened = penult.open_store(store, create=False)
    found = saved_head(opened, head)
    insights = insights_of(found, opened, **parts, progress=shown)
    written = penult.report(found, opened, path, map_by=map_by, insights=insights, progress=shown)
    if as_json:
        print_json({"head": head, "report": str(written)})
    else:
        click.echo(f"report: {written} ({written.stat().st_size / 1e6:.1f} MB)")
    if opens:
        webbrowser.open(written.resolve().as_uri())
