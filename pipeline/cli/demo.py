"""`penult demo`: the whole way on images that it draws itself."""

import os
import sys
import webbrowser
from pathlib import Path

import click

from penult.pipeline.cli.options import default_of, json_option
from penult.pipeline.cli.output import print_json, print_trained, progress
from penult.pipeline.demo.demo import Demo, run_demo

# A class that is less probable than this would be printed as 0.0 %.
LEAST_SHOWN = 0.0005


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=default_of(run_demo, "folder"))
@click.option("--open/--no-open", "opens", default=None, help="Open the report in a browser.  [default: on a desktop]")
@json_option
def demo(folder: Path, opens: bool | None, as_json: bool) -> None:
    """Draw a small data set and go the whole way with it, offline: extract, train, report, predict."""
    shown = run_demo(folder, progress=progress())
    if as_json:
        print_json(shown.to_json())
    else:
        _print_demo(shown)
    if opens or (opens is None and _is_desktop()):
        webbrowser.open(Path(shown.fitted.delivery.report).resolve().as_uri())


def _print_demo(shown: Demo) -> None:
    print_trained(shown.fitted.trained, shown.fitted.delivery, [])
    click.echo(f"\nAfter: what {shown.fitted.delivery.model} alone says of the same {shown.truth}, {shown.image}:")
    for name, probability in shown.after.probabilities.items():
        if probability >= LEAST_SHOWN:
            click.echo(f"  {probability:6.1%}  {name}")


def _is_desktop() -> bool:
    """Tells whether somebody watches who has a browser with windows; one of text would take over the terminal."""
    has_windows = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return has_windows and sys.stdout.isatty()
