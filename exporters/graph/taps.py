"""Finds the taps of a network: its penultimate features, the ends of its stages, and its logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import get_args

from penult.errors import BackboneError, UnknownNameError
from penult.exporters.card import Pooling
from penult.exporters.graph.classifier import find_classifier
from penult.exporters.graph.graph_view import GraphView, network_inputs
from penult.exporters.graph.pooling import TapPlan
from penult.exporters.graph.stages import find_stages
from penult.exporters.requests import TapRequest

__all__ = ["KnownTensors", "find_taps", "plan_taps"]


@dataclass(frozen=True)
class KnownTensors:
    """The names of values that a source knows.

    ``parts`` are the values that the source can compute by name, for the proof; None means all.
    """

    penultimate: str | None = None
    logits: str | None = None
    parts: frozenset[str] | None = None


def find_taps(
    view: GraphView, known: KnownTensors, size: tuple[int, int], classes: int | None
) -> tuple[list[TapPlan], str | None, list[str]]:
    """Returns the plans of all taps, the name of the logits, and notes for the card."""
    notes = []
    features, scores = known.penultimate, known.logits
    for name in (features, scores):
        if name is not None:
            _check_name(view, name)
    if features is None:
        classifier = find_classifier(view, classes)
        if classifier is not None:
            features, scores = classifier.features, scores or classifier.scores
        else:
            features = _only_output(view)
            notes.append("No classifier was found in the graph: its output is taken as the features.")
    (source,) = network_inputs(view.graph)
    stages = find_stages(view, source.name, features, size, known.parts)
    plans = [TapPlan(f"stage{i}", s.tensor, "avg", i, s.reduction) for i, s in enumerate(stages, 1)]
    sides = view.sides(features)
    reduction = 2 ** max(0, round(math.log2(size[0] / sides[0]))) if sides and min(sides) > 1 else None
    return [*plans, TapPlan("penultimate", features, _default_pooling(view, features), None, reduction)], scores, notes


def plan_taps(view: GraphView, found: Sequence[TapPlan], asked: Sequence[TapRequest] | None) -> list[TapPlan]:
    """Returns the plans of the requested taps and always of ``penultimate``; None requests all taps."""
    if asked is None:
        return list(found)
    known = {plan.name: plan for plan in found}
    plans = {}
    for request in asked:
        plan = known.get(request.tensor)
        if plan is None:
            if request.tensor not in view.data_dependent:
                raise _unknown("tap or tensor", request.tensor, [*known], view)
            plan = TapPlan(request.name or request.tensor, request.tensor, _default_pooling(view, request.tensor))
        name = request.name or plan.name
        if name in plans:
            raise BackboneError(f"Two taps have the name {name!r}", expected="unique names", remedy="NAME=TENSOR")
        plans[name] = TapPlan(name, plan.tensor, request.pooling or plan.pooling, plan.stage, plan.reduction)
    return [*plans.values(), *([] if "penultimate" in plans else [known["penultimate"]])]


def _default_pooling(view: GraphView, value: str) -> Pooling:
    shape = view.shapes.get(value)
    if shape is None or len(shape) not in (2, 3, 4):
        raise BackboneError(
            f"The value {value!r} has the shape {shape}",
            expected="a vector, tokens or a feature map per image",
        )
    return "none" if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)) else "avg"


def _only_output(view: GraphView) -> str:
    if len(view.graph.output) != 1:
        raise BackboneError(
            f"The graph has no classifier and {len(view.graph.output)} outputs",
            expected="a classifier, or one output",
            remedy="pass --penultimate",
        )
    return str(view.graph.output[0].name)


def _check_name(view: GraphView, name: str) -> None:
    if name not in view.data_dependent:
        raise _unknown("tensor", name, [], view)


def _unknown(kind: str, name: str, known: list[str], view: GraphView) -> UnknownNameError:
    """Returns the error for an unknown name; it lists only similar ones, because a graph may have thousands."""
    tensor, colon, pooling = name.rpartition(":")
    if colon and (tensor in known or tensor in view.data_dependent):
        return UnknownNameError(
            f"The tap {name!r} has the unknown pooling {pooling!r}", expected=f"one of {', '.join(get_args(Pooling))}"
        )
    close = get_close_matches(name, [*known, *view.data_dependent], n=5, cutoff=0.5)
    return UnknownNameError(
        f"There is no {kind} {name!r}",
        expected=f"{', '.join(known)}{' or ' if known else ''}one of the graph's {len(view.data_dependent)} values",
        remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "",
    )
