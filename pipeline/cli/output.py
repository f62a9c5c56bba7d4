"""What a verb prints: one JSON object for machines, or lines and tables for people. Progress goes to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from penult.pipeline.cli.app import DONE, NEW_FAILURES
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.progress import Progress, progress_for

if TYPE_CHECKING:  # which load scikit-learn, and a verb that trains nothing should not wait for it
    from penult.pipeline.fit import Delivery
    from penult.pipeline.training.recording import Trained


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
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    with console.capture() as drawn:  # printed by click, since rich takes a reader that has seen enough for a failure
        console.print(table)
    click.echo(drawn.get(), nl=False)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_trained(trained: "Trained", delivery: "Delivery | None", notes: Sequence[str]) -> None:
    """Prints the test results of a head, and the paths of its report and model."""
    for note in (*notes, *(note for note in trained.notes if note not in trained.told)):
        click.echo(note)
    click.echo(trained.sentence)
    if delivery:
        click.echo(f"report: {delivery.report}\nmodel:  {delivery.model}")


def one_line(name: str) -> str:
    r"""Returns the name of a file or a class on one line: what is not printed, such as a line's end, is spelt out.

    >>> one_line("a\nb"), one_line("grün")
    ('a\\nb', 'grün')
    """
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in name)


def exit_code_of(receipt: Receipt) -> int:
    """Returns 3 where images could not be used that the ledger did not know of, and says how to list them."""
    if not receipt.newly_failed:
        return DONE
    files = "file" if receipt.newly_failed == 1 else "files"
    click.echo(f"{receipt.newly_failed:,} {files} could not be used; 'penult store failures' tells why.", err=True)
    return NEW_FAILURES
