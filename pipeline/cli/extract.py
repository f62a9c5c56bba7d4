"""`penult extract`: the batch job."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

import penult
from penult.defaults import FEATURES
from penult.errors import InputError
from penult.pipeline.cli.app import DONE, OUT_OF_TIME
from penult.pipeline.cli.options import (
    backbone_option,
    cluster_options,
    extract_options,
    images_argument,
    job_options,
    json_option,
    store_option,
    take_extract_options,
)
from penult.pipeline.cli.output import exit_code_of, print_json, progress
from penult.pipeline.extraction.receipt import Receipt


@click.command()
@images_argument(required=False)
@click.option(
    "--job",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Run the job described in this TOML file: its sources, backbones, taps and options.",
)
@store_option
@backbone_option
@click.option("--taps", default=FEATURES, show_default=True, help="Taps to extract, separated by commas.")
@extract_options
@job_options
@cluster_options
@click.option(
    "--nice", type=click.IntRange(0, 19), default=0, help="Lower the CPU priority of the job; 19 is the lowest."
)
@json_option
@click.pass_context
def extract(
    ctx: click.Context, /, images: str | None, job: Path | None, nice: int, as_json: bool, **values: Any
) -> None:
    """Extract the features of images into a store.

    IMAGES is a folder, a table, a tar or zip archive, a pattern such as 'photos/**/*.jpg', a list of paths (.txt), or
    a URL. A second run skips all images that are already in the store.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some images could not be used, 4 stopped by --max-seconds,
    130 interrupted. Finished work is saved in every case.
    """
    _check_usage(ctx, images, job)
    try:
        planned = None
        if job is not None:
            from penult.pipeline.extraction.job_file import read_job_file

            planned = read_job_file(job)
        options = take_extract_options(values)
    except InputError as error:
        raise click.UsageError(str(error), ctx) from None
    nice = nice or (planned.nice if planned else 0)
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    if planned is not None:
        _finish(ctx, penult.extract_job(planned, progress=progress()), as_json)
        return
    assert images is not None
    store, backbone, taps = (values.pop(name) for name in ("store", "backbone", "taps"))
    names = [tap.strip() for tap in taps.split(",") if tap.strip()]
    receipt = penult.extract(images, store, backbone=backbone, taps=names, options=options, progress=progress())
    _finish(ctx, [receipt], as_json)


def _check_usage(ctx: click.Context, images: str | None, job: Path | None) -> None:
    if (images is None) == (job is None):
        raise click.UsageError("Give either IMAGES or --job FILE.", ctx)
    if job is None:
        return
    given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    excluded = sorted({f"--{name.replace('_', '-')}" for name in given}.difference({"--job", "--nice", "--as-json"}))
    if excluded:
        raise click.UsageError(f"{', '.join(excluded)} cannot be combined with --job; set it in the job file.", ctx)


def _finish(ctx: click.Context, receipts: Sequence[Receipt], as_json: bool) -> None:
    for receipt in receipts:
        if as_json:
            print_json(receipt.to_json())
        else:
            click.echo(str(receipt))
    codes = [exit_code_of(receipt) for receipt in receipts]
    is_out_of_time = any(receipt.stopped == "max_seconds" for receipt in receipts)
    ctx.exit(OUT_OF_TIME if is_out_of_time else max(codes, default=DONE))
