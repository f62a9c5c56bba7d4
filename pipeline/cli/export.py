"""`penult export`: a pretrained network becomes a backbone."""

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penult
from penult.defaults import PIXEL_FAMILIES, RESIZE_FILTERS
from penult.errors import InputError, MissingFileError, PenultError
from penult.pipeline.cli.backbones import output_option, photos_option, proof_line
from penult.pipeline.cli.options import Verb, json_option, with_options
from penult.pipeline.cli.output import print_json, progress

if TYPE_CHECKING:
    from penult.exporters import Hints

THREE_NUMBERS = "Three numbers from 0 to 255, separated by commas."


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Returns the numbers, or reports that the value is none."""
        try:
            return tuple(float(word) for word in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers separated by commas", param, ctx)


def hint_options(verb: Verb) -> Verb:
    """Adds what a user can state about a file that does not describe its own preprocessing."""
    options = (
        click.option(
            "--family",
            type=click.Choice(PIXEL_FAMILIES),
            help="Pixel convention of the network: torch, RGB minus ImageNet's mean, divided by its std; caffe, BGR "
            "minus 104, 117, 123; tf, RGB from -1 to 1; unit, RGB from 0 to 1; raw, RGB from 0 to 255.",
        ),
        click.option("--channels", type=click.Choice(["rgb", "bgr"]), help="Order of the colour channels."),
        click.option("--mean", type=Numbers(), help=f"Mean to subtract. {THREE_NUMBERS}"),
        click.option("--std", type=Numbers(), help=f"Standard deviation to divide by. {THREE_NUMBERS}"),
        click.option("--resize", type=Numbers(), help="Size before the crop: the shorter side, or height,width."),
        click.option("--crop", type=Numbers(), help="Size of the centre crop: one side, or height,width."),
        click.option("--interpolation", type=click.Choice(RESIZE_FILTERS), help="Filter for resizing images."),
        click.option("--classes", type=click.Choice(["imagenet"]), help="Class names of the network's own scores."),
        click.option("--penultimate", help="Tensor of the penultimate tap, if it is not found automatically."),
        click.option("--logits", help="Tensor of the scores, if it is not found automatically."),
        click.option("--name", help="Name of the backbone.  [default: from the source]"),
        click.option("--licence", help="Licence of the weights."),
    )
    return with_options(verb, options)


def take_hints(values: dict[str, Any]) -> "Hints":
    """Removes the options of `hint_options` from the keywords of a verb, and returns them as hints."""
    from penult.exporters import Hints

    hints = {field.name: values.pop(field.name, None) for field in fields(Hints)}
    for side in ("resize", "crop"):
        if hints[side]:
            whole = tuple(round(number) for number in hints[side])
            hints[side] = whole[0] if len(whole) == 1 else whole
    return Hints(**hints)


def check_output(path: Path | None) -> None:
    """Raises an error if no file can be written to ``path``, or if it would replace a file that is no backbone."""
    folder = path.parent if path else Path()
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}", remedy="create it, or name another file with -o")
    if not os.access(folder, os.W_OK):
        raise InputError(f"The folder {folder.resolve()} is not writable", remedy="name another file with -o")
    if path and path.exists() and not _is_backbone(path):
        raise InputError(
            f"{path} exists and is not a backbone", expected="a new file", remedy="name another with -o, or remove it"
        )


def free_path(name: str) -> Path:
    """Returns the default file of a backbone in the current folder; it never replaces another kind of file."""
    path = Path(f"{name}.onnx")
    return path if not path.exists() or _is_backbone(path) else Path(f"{name}-backbone.onnx")


def _is_backbone(path: Path) -> bool:
    try:
        penult.load_backbone(path)
    except PenultError:
        return False
    return True


@click.command(epilog="Run 'penult backbones' to list the prefixes of all installed sources.")
@click.argument("source")
@output_option
@click.option(
    "--taps",
    help="Outputs of the backbone, separated by commas: stage3, TENSOR or NAME=TENSOR, each optionally followed by "
    ":avg, :max, :gem or :flatten.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Number format of the weights in the file.",
)
@click.option("--size", type=click.IntRange(8), help="Side of the input in pixels.  [default: that of the network]")
@click.option("--weights", help="A local file of weights, or 'random' (for tests; the card records it).")
@photos_option("Images to check the export on, in addition to random ones.")
@hint_options
@json_option
def export(source: str, output: Path | None, photos: Path | None, as_json: bool, **values: Any) -> None:
    """Export a pretrained network to ONNX as a backbone.

    SOURCE is PREFIX:REST, for example torchvision:resnet50, timm:convnext_tiny.fb_in1k, keras:VGG16, onnx:model.onnx
    or caffe:deploy.prototxt,weights.caffemodel. The outputs of the backbone are compared with those of its source.
    """
    from penult.pipeline.images.listing import list_images

    hints = take_hints(values)
    check_output(output)  # before minutes of work
    paths = [file.path for file in list_images(photos)] if photos else []
    backbone = penult.export(source, hints=hints, photos=paths, progress=progress(), **values)
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
    if proof := proof_line(backbone.card):
        click.echo(f"  checked on {proof}")
    for tap in backbone.card.taps:
        click.echo(f"  {tap.name:<14} {tap.width:>7,}")
    click.echo(f"extract with it: penult extract IMAGES --backbone {path}")
