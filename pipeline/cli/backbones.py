"""`penult backbones`: which pretrained networks can be named, and what each of them gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from penult.exporters import Backbone, Card, builtin_names, in_bfloat16, load_backbone
from penult.exporters.sources.finding import source_names
from penult.pipeline.backbones import with_draft_decoding
from penult.pipeline.cli.options import json_option
from penult.pipeline.cli.output import print_json, print_table
from penult.pipeline.images.listing import list_images


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def backbones(ctx: click.Context, as_json: bool) -> None:
    """List the built-in backbones, or show one with its taps."""
    if ctx.invoked_subcommand:
        return
    loaded = [load_backbone(name) for name in builtin_names()]
    if as_json:
        print_json([_summary(backbone) for backbone in loaded])
        return
    rows = [
        (backbone.name, "x".join(map(str, backbone.input_size)), ", ".join(tap.name for tap in backbone.card.taps))
        for backbone in loaded
    ]
    print_table(("backbone", "input", "taps"), rows)
    click.echo(f"networks of other sources become backbones: penult export {':…, '.join(source_names())}:…")


@backbones.command()
@click.argument("backbone")
@json_option
def show(backbone: str, as_json: bool) -> None:
    """Show one backbone, built in or a file: where it came from, and every tap with its width and cost."""
    loaded = load_backbone(backbone)
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
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file.  [default: its name, .onnx]"
)
@click.option("--photos", type=click.Path(path_type=Path), help="Images on which the drift is measured as well.")
@json_option
def draft(backbone: str, output: Path | None, photos: Path | None, as_json: bool) -> None:
    """Make a backbone for which large JPEGs are decoded at a reduced scale, several times faster.

    Its features differ a little from those of BACKBONE, so they are a space of their own; how much is measured here
    and stands on its card.
    """
    made = with_draft_decoding(load_backbone(backbone), [file.path for file in list_images(photos)] if photos else [])
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
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file.  [default: its name, .onnx]"
)
@json_option
def bfloat16(backbone: str, output: Path | None, as_json: bool) -> None:
    """Make a backbone that is computed in bfloat16, faster on CPUs which have it.

    It runs with OpenVINO alone (pip install 'penult[openvino]'), and only where the CPU has bfloat16; 'penult doctor'
    tells. Its features differ a little from those of BACKBONE, so they are a space of their own.
    """
    made = in_bfloat16(load_backbone(backbone))
    path = output or Path(f"{made.name}.onnx")
    made.save(path)
    if as_json:
        print_json(_summary(made) | {"path": str(path)})
        return
    click.echo(f"{path}: {made.name}, {made.fingerprint[:16]}")
    click.echo(f"extract with it: penult extract IMAGES --backbone {path}")


def draft_line(card: Card) -> str:
    """Tells how far the features of JPEGs at a reduced scale lie from those at full scale, where that was measured."""
    outputs = card.proof.get("draft", {}).get("outputs")
    if not outputs:
        return ""
    worst = max(outputs, key=lambda name: float(outputs[name]["relative_error"]))
    cosine = min(float(each["cosine"]) for each in outputs.values())
    return (
        f"reduced against whole, {card.proof['draft']['images']} large JPEGs: relative error up to "
        f"{outputs[worst]['relative_error']:.3f} ({worst}), cosine from {cosine:.4f}"
    )


def _facts(backbone: Backbone) -> Iterator[tuple[str, str]]:
    card = backbone.card
    pixels = card.normalisation
    yield "fingerprint", backbone.fingerprint
    yield "source", card.source
    yield "weights", ", ".join(str(value) for value in card.weights.values())
    yield "licence", card.licence
    yield "resize", f"{card.preprocessing.resize}, {card.preprocessing.interpolation}"
    yield "crop", "{} x {} from the centre".format(*card.preprocessing.crop)
    yield "pixels", f"{pixels.channels.upper()}, less {_few(pixels.mean)}, divided by {_few(pixels.std)}"
    yield "precision", card.precision
    if told := proof_line(card):
        yield "proof", told
    if card.preprocessing.decoding.draft:
        yield "decoding", f"large JPEGs at a reduced scale; {draft_line(card) or 'its effect was not measured'}"
    for note in card.notes:
        yield "note", note


def _few(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in (numbers if len(set(numbers)) > 1 else numbers[:1]))


def proof_line(card: Card) -> str:
    """Tells what a backbone was compared with when it was exported, and how far it was off."""
    outputs = card.proof.get("outputs")
    if not outputs:
        return ""
    worst = max(outputs, key=lambda name: float(outputs[name]["relative_error"]))
    cosine = min(float(each["cosine"]) for each in outputs.values())
    left = card.proof.get("unproven")
    rest = f"; not compared, for the source does not give it: {', '.join(left)}" if left else ""
    return (
        f"{card.proof['images']} images through {card.proof['against']}: relative error up to "
        f"{outputs[worst]['relative_error']:.1e} ({worst}), cosine from {cosine:.6f}{rest}"
    )


def _summary(backbone: Backbone) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "input_size": list(backbone.input_size),
        "taps": {tap.name: tap.width for tap in backbone.card.taps},
    }


def _mega(flops: int | None) -> str:
    return "-" if flops is None else f"{flops / 1e6:,.0f}"
