"""The verbs by name, and what becomes of an error: one message, one exit code, no traceback."""

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

# Each verb's module is loaded when the verb is called, so that `penult --version` loads none.
VERBS = {
    "demo": "penult.pipeline.cli.demo:demo",
    "fit": "penult.pipeline.cli.fit:fit",
    "extract": "penult.pipeline.cli.extract:extract",
    "train": "penult.pipeline.cli.train:train",
    "compare": "penult.pipeline.cli.compare:compare",
    "review": "penult.pipeline.cli.review:review",
    "advise": "penult.pipeline.cli.advise:advise",
    "predict": "penult.pipeline.cli.predict:predict",
    "bundle": "penult.pipeline.cli.bundle:bundle",
    "serve": "penult.pipeline.cli.serve:serve",
    "report": "penult.pipeline.cli.report:report",
    "export": "penult.pipeline.cli.export:export",
    "backbones": "penult.pipeline.cli.backbones:backbones",
    "heads": "penult.pipeline.cli.heads:heads",
    "dataset": "penult.pipeline.cli.dataset:dataset",
    "store": "penult.pipeline.cli.store:store",
    "doctor": "penult.pipeline.cli.doctor:doctor",
}


class Verbs(click.Group):
    """Finds a verb in `VERBS`, and advises the nearest one on a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the verbs in the order of the work, not of the alphabet."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads the verb."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb, or says which one may have been meant."""
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            raise click.UsageError(str(UnknownNameError.among("verb", args[0], VERBS)), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb; a reader that has seen enough, such as `head`, ends it well."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # left to click, it would be a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(penult.__version__, prog_name="penult")
def app() -> None:
    r"""Folders of images become a durable store of CNN embeddings, and labels on them a classifier.

    \b
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some images could not be used, 130 interrupted.
    """


def main() -> NoReturn:
    """Runs the verb that the command line names, and exits."""
    # What Pillow and scikit-learn warn of is in the ledger and in the notes, in words meant for the user.
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, _interrupt)
    # A name that is not UTF-8 must not stop the output that tells of it.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text streams here
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("penult: stopped. What was done is committed; the same command goes on from here.", err=True)
        code = INTERRUPTED
    except PenultError as error:
        code = _report(error, USAGE if isinstance(error, UnknownNameError | MissingFileError) else FAILED)
    except OSError as error:
        code = _report(_explained(error), FAILED)
    _exit(code if isinstance(code, int) else DONE)


def _exit(code: int) -> NoReturn:
    if any(thread.name.startswith(WORKERS) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)  # for Python itself would wait for them
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _explained(error: OSError) -> PenultError:
    """Says what the operating system refused, in the words of all other errors."""
    where = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
    return PenultError(
        f"{where}{error.strerror or error}",
        expected="a place that can be read and written",
        remedy="check the path, who may write there, and the space that is left",
    )


def _report(error: Exception, code: int) -> int:
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": type(error).__name__, "message": str(error)}))
    click.echo(f"penult: {error}", err=True)
    return code
