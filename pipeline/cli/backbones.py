"""`penult backbones`: which pretrained networks can be named, and what each of them gives."""

from typing import Any

import click

from penult.exporters import Backbone, builtin_names, load_backbone
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
    click.echo(
        f"{card.name}\n  fingerprint  {loaded.fingerprint}\n  source       {card.source}\n  licence      {card.licence}"
    )
    click.echo(f"  resize       {card.preprocessing.resize}, {card.preprocessing.interpolation}")
    click.echo(f"  crop         {card.preprocessing.crop[0]} x {card.preprocessing.crop[1]} from the centre\n")
    rows = [
        (tap.name, tap.width, tap.pooling, tap.stage or "-", tap.reduction or "-", _mega(tap.flops))
        for tap in card.taps
    ]
    print_table(("tap", "width", "pooling", "stage", "reduction", "MFLOPs up to it"), rows)


def _summary(backbone: Backbone) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "input_size": list(backbone.input_size),
        "taps": {tap.name: tap.width for tap in backbone.card.taps},
    }


def _mega(flops: int | None) -> str:
    return "-" if flops is None else f"{flops / 1e6:,.0f}"
