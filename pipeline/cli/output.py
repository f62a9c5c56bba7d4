"""What a verb prints: one JSON object for machines, or lines and tables for people. Progress goes to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from penult.pipeline.progress import Progress, progress_for


def progress() -> Progress:
    """Returns the progress of this terminal or log."""
    return progress_for(sys.stderr)


def print_json(value: Any) -> None:
    """Prints one JSON object on one line."""
    click.echo(json.dumps(value, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows under their columns; numbers stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    listed = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        is_number = bool(listed) and all(isinstance(row[number], int | float) for row in listed)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in listed:
        table.add_row(*(_cell(value) for value in row))
    Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
