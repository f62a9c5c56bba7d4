"""`penult backbones`: which pretrained networks can be named, and what each of them gives."""

from collections.abc import Iterator
from typing import Any

import click

from penult.exporters import Backbone, Card, builtin_names, load_backbone
from penult.exporters.sources.finding import source_names
from penult.pipeline.cli.options import json_option
from penult.pipeline.cli.output import print_json, print_table


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
    return (
        f"{card.proof['images']} images through {card.proof['against']}: relative error up to "
        f"{outputs[worst]['relative_error']:.1e} ({worst}), cosine from {cosine:.6f}"
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
