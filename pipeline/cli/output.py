"""What a verb prints: lines and tables, or one JSON object with --json. Progress goes to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from penult.pipeline.cli.app import DONE, NEW_FAILURES
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.progress import Progress, progress_for

if TYPE_CHECKING:  # these load scikit-learn
    from penult.pipeline.fit import Delivery
    from penult.pipeline.training.recording import Trained


def progress() -> Progress:
    """Returns the progress display of stderr: a bar on a terminal, plain lines in a log."""
    return progress_for(sys.stderr)


def print_json(value: Any) -> None:
    """Prints one JSON object on one line."""
    click.echo(json.dumps(value, default=str))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = (), bold: int | None = None
) -> None:
    """Prints rows under their columns. Columns of numbers, and those in ``right``, are aligned to the right.

    ``bold`` is the number of a row to highlight.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    listed = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        is_number = bool(listed) and all(isinstance(row[number], int | float) for row in listed)
        table.add_column(column, justify="right" if is_number or column in right else "left", overflow="fold")
    for number, row in enumerate(listed):
        table.add_row(*(_cell(value) for value in row), style="bold" if number == bold else None)
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    with console.capture() as text:  # click prints it, because rich exits with 1 when the pipe is closed
        console.print(table)
    click.echo(text.get(), nl=False)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_trained(trained: "Trained", delivery: "Delivery | None", notes: Sequence[str]) -> None:
    """Prints the notes and test results of a head, and the paths of its report and model."""
    for note in (*notes, *(note for note in trained.notes if note not in trained.reported)):
        click.echo(note)
    click.echo(trained.sentence)
    if delivery:
        click.echo(f"report: {delivery.report}\nmodel:  {delivery.model}")


def one_line(name: str) -> str:
    r"""Returns the name of a file or a class on one line, with line breaks and control characters escaped.

    >>> one_line("a\nb"), one_line("grün")
    ('a\\nb', 'grün')
    """
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in name)


def exit_code_of(receipt: Receipt) -> int:
    """Returns 3 if images failed that are new in the ledger, and prints how to list them; else 0."""
    if not receipt.newly_failed:
        return DONE
    files = "file" if receipt.newly_failed == 1 else "files"
    click.echo(f"{receipt.newly_failed:,} {files} could not be used; 'penult store failures' lists why.", err=True)
    return NEW_FAILURES
