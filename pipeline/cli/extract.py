"""`penult extract`: the batch job."""

from pathlib import Path
from typing import Any

import click

from penult.pipeline.cli.options import backbone_option, extract_options, json_option, made_options, store_option
from penult.pipeline.cli.output import exit_code_of, print_json, progress
from penult.pipeline.extraction.extract import extract as run_extract


@click.command()
@click.argument("images", type=click.Path(path_type=Path))
@store_option
@backbone_option
@click.option("--taps", default="penultimate", show_default=True, help="Which features, separated by commas.")
@extract_options
@json_option
@click.pass_context
def extract(
    ctx: click.Context, /, images: Path, store: Path, backbone: str, taps: str, as_json: bool, **values: Any
) -> None:
    """Extract the features of all images of a folder or table; run again, only new images cost anything."""
    asked = [tap.strip() for tap in taps.split(",") if tap.strip()]
    receipt = run_extract(
        images, store, backbone=backbone, taps=asked, options=made_options(values), progress=progress()
    )
    if as_json:
        print_json(receipt.to_json())
    else:
        click.echo(str(receipt))
    ctx.exit(exit_code_of(receipt))
