"""`penult bundle`: a head and its backbone in one file."""

from pathlib import Path

import click

import penult
from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json


@click.command()
@click.argument("head")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="model.onnx",
    show_default=True,
    help="ONNX file to write.",
)
@store_option
@json_option
def bundle(head: str, output: Path, store: Path, as_json: bool) -> None:
    """Write a head and its backbone as one ONNX model.

    The model maps pixels to a label and probabilities. It is compared with the head on images of the dataset and on
    random images first; the file is written only if they agree.
    """
    from penult.pipeline.heads.saved_heads import backbone_of, saved_head
    from penult.pipeline.models.bundle import check_images_of

    opened = penult.open_store(store, create=False)
    found = saved_head(opened, head)
    model = penult.bundle(found, backbone_of(opened, found), output, check_images=check_images_of(found, opened))
    size_bytes, proof = output.stat().st_size, model.proof
    if as_json:
        print_json({"model": str(output), "head": head, "classes": model.classes, "bytes": size_bytes, "proof": proof})
        return
    click.echo(f"{output}: {size_bytes / 1e6:,.1f} MB, {len(model.classes)} classes, input {model.preprocessing.crop}")
    click.echo(
        f"Compared with its head on {proof['real_images']} images of its dataset and {proof['random_images']} random "
        f"images: all labels are equal; the largest difference of a probability is {proof['largest_difference']:.1g}."
    )
    if proof["unreadable_images"]:
        click.echo(f"{proof['unreadable_images']} images of the dataset could not be read for this check.", err=True)
