"""`penult extract`: the batch job."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from penult.errors import InputError
from penult.pipeline.cli.app import DONE, OUT_OF_TIME
from penult.pipeline.cli.options import (
    backbone_option,
    cluster_options,
    extract_options,
    images_argument,
    job_options,
    json_option,
    made_options,
    store_option,
)
from penult.pipeline.cli.output import exit_code_of, print_json, progress
from penult.pipeline.extraction.extract import extract as run_extract
from penult.pipeline.extraction.job_file import extract_job, read_job_file
from penult.pipeline.extraction.receipt import Receipt


@click.command()
@images_argument(required=False)
@click.option(
    "--job",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Run the job that this TOML file describes: sources, backbones, taps and options all stand in it.",
)
@store_option
@backbone_option
@click.option("--taps", default="penultimate", show_default=True, help="Which features, separated by commas.")
@extract_options
@job_options
@cluster_options
@click.option("--nice", type=click.IntRange(0, 19), default=0, help="Give way to other programs: 19 gives way to all.")
@json_option
@click.pass_context
def extract(
    ctx: click.Context, /, images: str | None, job: Path | None, nice: int, as_json: bool, **values: Any
) -> None:
    """Extract the features of all images of a folder or table; run again, only new images cost anything.

    IMAGES may also be a tar or zip archive, a pattern such as 'photos/**/*.jpg', a list of paths (.txt), or a URL.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some images could not be used, 4 stopped by --max-seconds,
    130 interrupted. What was done is committed in each case.
    """
    _refuse_contradictions(ctx, images, job)
    try:
        asked_job = None if job is None else read_job_file(job)
        options = made_options(values)
    except InputError as error:
        raise click.UsageError(str(error), ctx) from None
    nice = nice or (asked_job.nice if asked_job else 0)
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    if asked_job is not None:
        _finish(ctx, extract_job(asked_job, progress=progress()), as_json)
        return
    assert images is not None
    store, backbone, taps = (values.pop(name) for name in ("store", "backbone", "taps"))
    asked = [tap.strip() for tap in taps.split(",") if tap.strip()]
    receipt = run_extract(images, store, backbone=backbone, taps=asked, options=options, progress=progress())
    _finish(ctx, [receipt], as_json)


def _refuse_contradictions(ctx: click.Context, images: str | None, job: Path | None) -> None:
    if (images is None) == (job is None):
        raise click.UsageError("Give either IMAGES or --job FILE.", ctx)
    if job is None:
        return
    given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    beside = sorted({f"--{name.replace('_', '-')}" for name in given}.difference({"--job", "--nice", "--as-json"}))
    if beside:
        raise click.UsageError(f"{', '.join(beside)} cannot stand beside --job: write it into the file.", ctx)


def _finish(ctx: click.Context, receipts: Sequence[Receipt], as_json: bool) -> None:
    for receipt in receipts:
        if as_json:
            print_json(receipt.to_json())
        else:
            click.echo(str(receipt))
    codes = [exit_code_of(receipt) for receipt in receipts]
    is_out_of_time = any(receipt.stopped == "max_seconds" for receipt in receipts)
    ctx.exit(OUT_OF_TIME if is_out_of_time else max(codes, default=DONE))
