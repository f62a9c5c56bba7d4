"""`penult backbones`: the built-in backbones, what each contains, and faster variants of a backbone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penult
from penult.pipeline.cli.options import Verb, json_option
from penult.pipeline.cli.output import print_json, print_table

if TYPE_CHECKING:
    from penult.exporters import Backbone, Card

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="ONNX file to write.  [default: the name of the backbone, with .onnx]",
)


def photos_option(what: str) -> Callable[[Verb], Verb]:
    """Returns the option that names images to check a backbone on."""
    return click.option("--photos", type=click.Path(path_type=Path), help=what)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def backbones(ctx: click.Context, as_json: bool) -> None:
    """List the built-in backbones, or show one with its taps."""
    if ctx.invoked_subcommand:
        return
    from penult.exporters import builtin_names, load_backbone, source_names

    loaded = [load_backbone(name) for name in builtin_names()]
    if as_json:
        print_json([_summary(backbone) for backbone in loaded])
        return
    rows = [
        (backbone.name, "x".join(map(str, backbone.input_size)), ", ".join(tap.name for tap in backbone.card.taps))
        for backbone in loaded
    ]
    print_table(("backbone", "input", "taps"), rows)
    click.echo(f"other networks can be exported from these sources: penult export {':…, '.join(source_names())}:…")


@backbones.command()
@click.argument("backbone")
@json_option
def show(backbone: str, as_json: bool) -> None:
    """Show the origin and the taps of one backbone.

    BACKBONE is the name of a built-in one, or an ONNX file.
    """
    loaded = penult.load_backbone(backbone)
    card = loaded.card
    if as_json:
        print_json(_summary(loaded) | {"card": card.to_json()})
        return
    click.echo(card.name)
    for word, value in _facts(loaded):
        click.echo(f"  {word:<12} {value}")
    click.echo()
    rows = [
        (tap.name, tap.width, tap.pooling, tap.stage or "-", tap.reduction or "-", _mega(tap.flops))
        for tap in card.taps
    ]
    print_table(("tap", "width", "pooling", "stage", "reduction", "MFLOPs up to it"), rows)


@backbones.command()
@click.argument("backbone")
@output_option
@photos_option("Images to measure the change of the features on, in addition to those that penult includes.")
@json_option
def draft(backbone: str, output: Path | None, photos: Path | None, as_json: bool) -> None:
    """Make a variant that decodes large JPEGs several times faster.

    It decodes them at a reduced scale. Its features differ a little from those of BACKBONE, so they form their own
    space. This verb measures the difference and records it on the card.
    """
    from penult.pipeline.backbones import with_draft_decoding
    from penult.pipeline.images.listing import list_images

    made = with_draft_decoding(
        penult.load_backbone(backbone), [file.path for file in list_images(photos)] if photos else []
    )
    path = output or Path(f"{made.name}.onnx")
    made.save(path)
    if as_json:
        print_json(_summary(made) | {"path": str(path), "proof": dict(made.card.proof)})
        return
    click.echo(f"{path}: {made.name}, {made.fingerprint[:16]}")
    click.echo(f"  {draft_line(made.card)}")
    click.echo(f"extract with it: penult extract IMAGES --backbone {path}")


@backbones.command()
@click.argument("backbone")
@output_option
@json_option
def bfloat16(backbone: str, output: Path | None, as_json: bool) -> None:
    """Make a variant that is faster on CPUs with bfloat16.

    It runs only with OpenVINO (pip install 'penult[openvino]'), on a CPU that supports bfloat16; 'penult doctor'
    reports this. Its features differ a little from those of BACKBONE, so they form their own space.
    """
    from penult.exporters import in_bfloat16

    made = in_bfloat16(penult.load_backbone(backbone))
    path = output or Path(f"{made.name}.onnx")
    made.save(path)
    if as_json:
        print_json(_summary(made) | {"path": str(path)})
        return
    click.echo(f"{path}: {made.name}, {made.fingerprint[:16]}")
    click.echo(f"extract with it: penult extract IMAGES --backbone {path}")


def draft_line(card: "Card") -> str:
    """Returns how much the features of JPEGs at a reduced scale differ from those at full scale, if known."""
    outputs = card.proof.get("draft", {}).get("outputs")
    if not outputs:
        return ""
    worst = max(outputs, key=lambda name: float(outputs[name]["relative_error"]))
    cosine = min(float(each["cosine"]) for each in outputs.values())
    return (
        f"reduced against full scale, {card.proof['draft']['images']} large JPEGs: relative error up to "
        f"{outputs[worst]['relative_error']:.3f} ({worst}), cosine from {cosine:.4f}"
    )


def _facts(backbone: "Backbone") -> Iterator[tuple[str, str]]:
    card = backbone.card
    pixels = card.normalisation
    yield "fingerprint", backbone.fingerprint
    yield "source", card.source
    yield "weights", ", ".join(str(value) for value in card.weights.values())
    yield "licence", card.licence
    yield "resize", f"{card.preprocessing.resize}, {card.preprocessing.interpolation}"
    yield "crop", "{} x {} from the centre".format(*card.preprocessing.crop)
    yield "pixels", f"{pixels.channels.upper()}, minus {_few(pixels.mean)}, divided by {_few(pixels.std)}"
    yield "precision", card.precision
    if proof := proof_line(card):
        yield "proof", proof
    if card.preprocessing.decoding.draft:
        yield "decoding", f"large JPEGs at a reduced scale; {draft_line(card) or 'the effect was not measured'}"
    for note in card.notes:
        yield "note", note


def _few(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in (numbers if len(set(numbers)) > 1 else numbers[:1]))


def proof_line(card: "Card") -> str:
    """Returns what a backbone was compared with at export, and the largest error; empty if it was not."""
    outputs = card.proof.get("outputs")
    if not outputs:
        return ""
    worst = max(outputs, key=lambda name: float(outputs[name]["relative_error"]))
    cosine = min(float(each["cosine"]) for each in outputs.values())
    left = card.proof.get("unproven")
    rest = f"; not compared, because the source does not return it: {', '.join(left)}" if left else ""
    return (
        f"{card.proof['images']} images through {card.proof['against']}: relative error up to "
        f"{outputs[worst]['relative_error']:.1e} ({worst}), cosine from {cosine:.6f}{rest}"
    )


def _summary(backbone: "Backbone") -> dict[str, Any]:
    return {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "input_size": list(backbone.input_size),
        "taps": {tap.name: tap.width for tap in backbone.card.taps},
    }


def _mega(flops: int | None) -> str:
    return "-" if flops is None else f"{flops / 1e6:,.0f}"
