"""`penult heads`: the heads of a store, and the kinds that can be trained."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import penult
from penult.defaults import QUICK_HEADS
from penult.errors import InputError
from penult.pipeline.cli.options import json_option, store_option
from penult.pipeline.cli.output import print_json, print_table
from penult.pipeline.words import shortlist

# The main metric of each task.
MAIN_METRICS = ("accuracy", "r2", "mean_average_precision")

# The number of classes to show; --json prints all.
MOST_CLASSES = 40


@click.group(invoke_without_command=True)
@store_option
@json_option
@click.pass_context
def heads(ctx: click.Context, store: Path, as_json: bool) -> None:
    """List, show or remove heads, or list the kinds of heads."""
    if ctx.invoked_subcommand:
        ctx.default_map = {ctx.invoked_subcommand: {"store": store}}  # --store may come before the verb
        return
    cards = penult.open_store(store, create=False).catalog.heads.all()
    if as_json:
        print_json(cards)
        return
    columns = (
        "head",
        "kind",
        "dataset",
        "classes",
        "train",
        "test",
        "accuracy" if all("accuracy" in card["metrics"] for card in cards.values()) else "accuracy, R² or mAP",
        "95 % interval",
        "log loss",
        "created",
    )
    print_table(columns, [_row(name, card) for name, card in cards.items()])


@heads.command()
@click.argument("head")
@store_option
@json_option
def show(head: str, store: Path, as_json: bool) -> None:
    """Show one head: its training data, parameters and results."""
    opened = penult.open_store(store, create=False)
    card = opened.catalog.heads.get(head)
    folder = opened.heads_path / head
    if as_json:
        print_json(card | {"path": str(folder)})
        return
    spaces = ", ".join("{backbone}:{tap} ({dtype}, {fingerprint:.12})".format(**space) for space in card["spaces"])
    facts = {
        "kind": card["kind"],
        "predicts": f"{card.get('task', 'classification')} of {', '.join(card.get('target', ['label']))}",
        "dataset": f"{card['dataset']}, version {card['dataset_version']}",
        "features": spaces,
        "classes": f"{len(card['classes']):,}: {shortlist(card['classes'], MOST_CLASSES)}",
        "trained on": f"{card['n_train']:,} images ({', '.join(card['trained_on'])}) in {card['seconds']:.1f} s",
        "tested on": f"{card['n_test']:,} images ({card['evaluated_on']})",
        **{name.replace("_", " "): _figure(value) for name, value in _joined(card["metrics"]).items() if name != "n"},
        **{f"parameter {name}": _figure(value) for name, value in card["params"].items()},
        **_chosen(card),
        "versions": ", ".join(f"{library} {number}" for library, number in card["versions"].items()),
        "created": card["created"],
        "folder": str(folder) if folder.is_dir() else f"{folder}, which no longer exists",
    }
    width = max(map(len, facts))
    click.echo(head)
    for name, value in facts.items():
        click.echo(f"  {name:<{width}}  {value}")


@heads.command()
@click.argument("names", metavar="HEAD...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@store_option
@json_option
def remove(names: tuple[str, ...], yes: bool, store: Path, as_json: bool) -> None:
    """Delete heads and their folders.

    Features, datasets and models outside of these folders are kept.
    """
    from penult.pipeline.heads.saved_heads import check_removable, remove_head

    opened = penult.open_store(store, create=False)
    for name in names:
        check_removable(opened, name)
    if not yes:
        _confirm(names, opened.heads_path)
    for name in names:
        remove_head(opened, name)
        if not as_json:
            click.echo(f"{name} is removed.")
    if as_json:
        print_json({"removed": list(names)})


@heads.command()
@json_option
def kinds(as_json: bool) -> None:
    """List the kinds of heads that can be trained.

    Any estimator of scikit-learn can be trained too, as module:Class.
    """
    registry = importlib.import_module("penult.pipeline.heads.registry")
    kinds_of = {
        task: {
            name: (registry.recipe_maker(name, task).__doc__ or "").strip().partition("\n")[0]
            for name in registry.head_names(task)
        }
        for task in registry.GROUPS
    }
    if as_json:
        print_json(kinds_of.pop("classification") | kinds_of)
        return
    rows = [(name, task, what) for task, kinds in kinds_of.items() for name, what in kinds.items()]
    print_table(("kind", "for", "what it is"), rows)
    click.echo(f"{registry.AUTO} is the best of {', '.join(QUICK_HEADS)} on held-out training images.")


def _row(name: str, card: Mapping[str, Any]) -> tuple[Any, ...]:
    metric = next(name for name in MAIN_METRICS if name in card["metrics"])
    figure = card["metrics"][metric]
    return (
        name,
        card["kind"] + (f" of {', '.join(card['target'])}" if card.get("target", ["label"]) != ["label"] else ""),
        f"{card['dataset']}@{card['dataset_version']}",
        len(card["classes"]),
        card["n_train"],
        card["n_test"],
        figure["value"],
        f"{figure['low']:.3f} to {figure['high']:.3f}",
        card["metrics"].get("log_loss", "-"),
        card["created"],
    )


def _chosen(card: Mapping[str, Any]) -> dict[str, str]:
    """Returns what was chosen on held-out training images: the kind of head, and when it answers 'unsure'."""
    facts = {}
    if choice := card.get("choice"):
        tried = ", ".join(f"{name} {value:.1%}" for name, value in choice["tried"].items())
        facts["chosen from"] = f"{tried} ({choice['measure'].replace('_', ' ')}, {choice['n']:,} held-out images)"
    if abstention := card.get("abstention"):
        facts["unsure below"] = f"{abstention['min_confidence']:.3f}, for {abstention['wanted']:.1%} correct answers"
    return facts


def _joined(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics with the bounds NAME_low and NAME_high merged into NAME."""
    bounds = {name: (f"{name}_low", f"{name}_high") for name in metrics}
    whole = {name for name, (low, high) in bounds.items() if low in metrics and high in metrics}
    ends = {end for name in whole for end in bounds[name]}
    return {
        name: {"value": value, "low": metrics[f"{name}_low"], "high": metrics[f"{name}_high"]}
        if name in whole
        else value
        for name, value in metrics.items()
        if name not in ends
    }


def _figure(value: Any) -> str:
    if isinstance(value, Mapping) and value.keys() == {"value", "low", "high"}:
        return f"{value['value']:.4f} (95 % interval {value['low']:.4f} to {value['high']:.4f})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _confirm(names: tuple[str, ...], folder: Path) -> None:
    if not sys.stdin.isatty():
        raise InputError(
            f"Removing {', '.join(names)} needs a confirmation, and stdin is not a terminal",
            expected="the option --yes",
        )
    if not click.confirm(f"Remove {', '.join(names)} and their files from {folder}?", err=True):
        raise click.exceptions.Exit(1)
