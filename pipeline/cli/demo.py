"""`penult demo`: the whole workflow on images that it draws itself."""

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penult.pipeline.cli.options import json_option
from penult.pipeline.cli.output import print_json, print_trained, progress

if TYPE_CHECKING:
    from penult.pipeline.demo.demo import Demo

# A class with a lower probability would be printed as 0.0 %.
LEAST_SHOWN = 0.0005


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="penult-demo")
@click.option("--open/--no-open", "opens", default=None, help="Open the report in a browser.  [default: on a desktop]")
@json_option
def demo(folder: Path, opens: bool | None, as_json: bool) -> None:
    """Try the whole workflow offline, on drawn images.

    Draws a small dataset into FOLDER, then extracts, trains, reports and predicts.
    """
    from penult.pipeline.demo.demo import run_demo

    shown = run_demo(folder, progress=progress())
    if as_json:
        print_json(shown.to_json())
    else:
        _print_demo(shown)
    if opens or (opens is None and _is_desktop()):
        webbrowser.open(Path(shown.fitted.delivery.report).resolve().as_uri())


def _print_demo(shown: "Demo") -> None:
    print_trained(shown.fitted.trained, shown.fitted.delivery, [])
    model = shown.fitted.delivery.model
    click.echo(f"\nAfter training: what {model} alone predicts for the same {shown.truth}, {shown.image}:")
    for name, probability in shown.after.probabilities.items():
        if probability >= LEAST_SHOWN:
            click.echo(f"  {probability:6.1%}  {name}")


def _is_desktop() -> bool:
    """Returns whether a person at a desktop runs this; a text browser would take over the terminal."""
    has_windows = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return has_windows and sys.stdout.isatty()
