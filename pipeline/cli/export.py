"""`penult export`: a pretrained network becomes a backbone."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from penult.errors import InputError, MissingFileError, PenultError
from penult.exporters import load_backbone
from penult.exporters.requests import FAMILIES, Hints
from penult.exporters.sources.lookup import source_names
from penult.pipeline.backbones import export as run_export
from penult.pipeline.cli.backbones import proof_line
from penult.pipeline.cli.options import default_of, json_option
from penult.pipeline.cli.output import print_json, progress
from penult.pipeline.images.decode import FILTERS
from penult.pipeline.images.listing import list_images

THREE_NUMBERS = "Three numbers from 0 to 255, separated by commas."


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Returns the numbers, or says which word is none."""
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers separated by commas", param, ctx)


def hint_options(verb: Any) -> Any:
    """Adds what may have to be told of a file that does not say itself how it takes pixels."""
    options = (
        click.option(
            "--family",
            type=click.Choice(list(FAMILIES)),
            help="How the network is used to take pixels: torch, RGB less ImageNet's mean and divided by its std; "
            "caffe, BGR less 104, 117, 123; tf, RGB from -1 to 1; unit, RGB from 0 to 1; raw, RGB from 0 to 255.",
        ),
        click.option("--channels", type=click.Choice(["rgb", "bgr"]), help="The order of the colours."),
        click.option("--mean", type=Numbers(), help=f"What is taken off. {THREE_NUMBERS}"),
        click.option("--std", type=Numbers(), help=f"What is divided by. {THREE_NUMBERS}"),
        click.option("--resize", type=Numbers(), help="The shorter side, or height,width, before the crop."),
        click.option("--crop", type=Numbers(), help="The side, or height,width, that is cut out of the centre."),
        click.option("--interpolation", type=click.Choice(list(FILTERS)), help="How images are resized."),
        click.option("--classes", type=click.Choice(["imagenet"]), help="What the scores are of."),
        click.option("--penultimate", help="The tensor that is the penultimate tap, where it is not found."),
        click.option("--logits", help="The tensor of the scores, where it is not found."),
        click.option("--name", help="The backbone's name.  [default: after the source]"),
        click.option("--licence", help="The licence of the weights."),
    )
    for option in reversed(options):  # help lists first what was added last
        verb = option(verb)
    return verb


def made_hints(values: dict[str, Any]) -> Hints:
    """Takes the options of `hint_options` out of a verb's keywords."""
    hints = {field.name: values.pop(field.name, None) for field in fields(Hints)}
    for side in ("resize", "crop"):
        if hints[side]:
            whole = tuple(round(number) for number in hints[side])
            hints[side] = whole[0] if len(whole) == 1 else whole
    return Hints(**hints)


def refuse_place(path: Path | None) -> None:
    """Raises where no file can be written, or where one would be lost that is no backbone, such as the source."""
    folder = path.parent if path else Path()
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}", remedy="make it, or name another file with -o")
    if not os.access(folder, os.W_OK):
        raise InputError(f"Nothing can be written into {folder.resolve()}", remedy="name another file with -o")
    if path and path.exists() and not _is_backbone(path):
        raise InputError(
            f"{path} is there, and is no backbone", expected="a new file", remedy="name another with -o, or remove it"
        )


def free_path(name: str) -> Path:
    """Returns the file that a backbone is written to where none is named, in the folder where the user is."""
    path = Path(f"{name}.onnx")
    return path if not path.exists() or _is_backbone(path) else Path(f"{name}-backbone.onnx")


def _is_backbone(path: Path) -> bool:
    try:
        load_backbone(path)
    except PenultError:
        return False
    return True


@click.command(epilog=f"Sources: {', '.join(f'{name}:…' for name in source_names())}")
@click.argument("source")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file.  [default: its name, .onnx]"
)
@click.option(
    "--taps",
    help="Which, separated by commas: stage3, TENSOR, NAME=TENSOR, each with :avg, :max, :gem or :flatten behind it.",
)
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16"]), default=default_of(run_export, "precision"), show_default=True
)
@click.option("--size", type=click.IntRange(8), help="The side of the input, where it is not the network's own.")
@click.option("--weights", help="A local file of weights, or 'random' (for tests; the card says so).")
@click.option("--photos", type=click.Path(path_type=Path), help="Images on which the export is proven as well.")
@hint_options
@json_option
def export(source: str, output: Path | None, photos: Path | None, as_json: bool, **values: Any) -> None:
    """Make a backbone of a pretrained network, and prove on images that it gives what its source gives.

    SOURCE is PREFIX:REST, such as torchvision:resnet50, timm:convnext_tiny.fb_in1k, keras:VGG16, onnx:model.onnx or
    caffe:deploy.prototxt,weights.caffemodel.
    """
    hints = made_hints(values)
    refuse_place(output)  # an error now, and not after minutes of work
    paths = [file.path for file in list_images(photos)] if photos else []
    backbone = run_export(source, hints=hints, photos=paths, progress=progress(), **values)
    path = output or free_path(backbone.name)
    backbone.save(path)
    if as_json:
        print_json(
            {
                "backbone": backbone.name,
                "path": str(path),
                "fingerprint": backbone.fingerprint,
                "taps": {tap.name: tap.width for tap in backbone.card.taps},
                "proof": dict(backbone.card.proof),
            }
        )
        return
    for note in backbone.card.notes:
        click.echo(note)
    click.echo(
        f"{path}: {backbone.name}, {backbone.input_size[0]} x {backbone.input_size[1]}, {backbone.fingerprint[:16]}"
    )
    if told := proof_line(backbone.card):
        click.echo(f"  proven on {told}")
    for tap in backbone.card.taps:
        click.echo(f"  {tap.name:<14} {tap.width:>7,}")
    click.echo(f"extract with it: penult extract IMAGES --backbone {path}")
