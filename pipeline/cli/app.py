"""The verbs by name, and the exit code and the one-line message for each error."""

import importlib
import json
import os
import signal
import sys
import threading
import warnings
from types import FrameType
from typing import Any, NoReturn

import click

import penult
from penult.errors import MissingFileError, PenultError, UnknownNameError
from penult.pipeline.extraction.interrupts import WORKERS

DONE, FAILED, USAGE, NEW_FAILURES, OUT_OF_TIME, INTERRUPTED = 0, 1, 2, 3, 4, 130

# The module of a verb is imported when the verb is used. The modules import numerical libraries only to do work.
VERBS = (
    "demo",
    "fit",
    "extract",
    "train",
    "compare",
    "review",
    "advise",
    "predict",
    "bundle",
    "serve",
    "report",
    "export",
    "backbones",
    "heads",
    "dataset",
    "store",
    "doctor",
)


class Verbs(click.Group):
    """Imports a verb when it is used, and suggests the closest one after a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs in the order in which a user needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"penult.pipeline.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb, or raises an error with the closest one."""
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise click.UsageError(str(UnknownNameError.among("verb", args[0], VERBS)), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb. A closed pipe, as after ``| head``, is a success."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click itself would exit with 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Every verb takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some images could not be "
    "used, 4 stopped by extract --max-seconds, 130 interrupted.",
)
@click.version_option(penult.__version__, prog_name="penult")
def app() -> None:
    """Turn folders of images into a durable store of CNN embeddings, and labels into a classifier."""


def main() -> NoReturn:
    """Runs the verb that the command line names, and exits."""
    # The ledger and the notes report what Pillow and scikit-learn warn about.
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, _interrupt)
    # File names may contain bytes that are not UTF-8. They must not stop the output.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text streams here
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("penult: stopped. All finished work is saved; run the same command again to continue.", err=True)
        code = INTERRUPTED
    except PenultError as error:
        code = _report(error, USAGE if isinstance(error, UnknownNameError | MissingFileError) else FAILED)
    except OSError as error:
        code = _report(_explained(error), FAILED)
    _exit(code if isinstance(code, int) else DONE)


def _exit(code: int) -> NoReturn:
    """Exits without waiting for worker threads that are blocked, for example by a hung decoder."""
    if any(thread.name.startswith(WORKERS) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)  # sys.exit would wait for these threads
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _explained(error: OSError) -> PenultError:
    """Returns an error of the operating system in the form of all other errors."""
    where = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
    return PenultError(
        f"{where}{error.strerror or error}",
        expected="a path that can be read and written",
        remedy="check the path, its permissions, and the free space on the disk",
    )


def _report(error: Exception, code: int) -> int:
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": type(error).__name__, "message": str(error)}))
    click.echo(f"penult: {error}", err=True)
    return code
