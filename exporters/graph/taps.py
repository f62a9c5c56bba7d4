"""What in a network is of use: its penultimate features, the ends of its stages, its scores."""

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
    """The names of values that a source knows, or that were found by reading the graph.

    ``parts`` are the values that the source can give by name, so that they can be compared; None is all.
    """

    penultimate: str | None = None
    logits: str | None = None
    parts: frozenset[str] | None = None


def find_taps(
    view: GraphView, known: KnownTensors, size: tuple[int, int], classes: int | None
) -> tuple[list[TapPlan], str | None, list[str]]:
    """Gives the plans of all taps that were found, the value of the scores, and notes for the card."""
    notes = []
    features, scores = known.penultimate, known.logits
    for name in (features, scores):
        if name is not None:
            _refuse_unknown(view, name)
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
    """Gives the plans of the asked taps, and of ``penultimate`` always; all that were found where none is asked."""
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
            raise BackboneError(f"Two taps are called {name!r}", expected="names that differ", remedy="NAME=TENSOR")
        plans[name] = TapPlan(name, plan.tensor, request.pooling or plan.pooling, plan.stage, plan.reduction)
    return [*plans.values(), *([] if "penultimate" in plans else [known["penultimate"]])]


def _default_pooling(view: GraphView, value: str) -> Pooling:
    shape = view.shapes.get(value)
    if shape is None or len(shape) not in (2, 3, 4):
        raise BackboneError(
            f"The value {value!r} has the shape {shape}",
            expected="a vector, tokens or a feature map for each image",
        )
    return "none" if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)) else "avg"


def _only_output(view: GraphView) -> str:
    if len(view.graph.output) != 1:
        raise BackboneError(
            f"No classifier was found, and the graph has {len(view.graph.output)} outputs",
            expected="a classifier, or one output",
            remedy="name the penultimate tensor",
        )
    return str(view.graph.output[0].name)


def _refuse_unknown(view: GraphView, name: str) -> None:
    if name not in view.data_dependent:
        raise _unknown("tensor", name, [], view)


def _unknown(kind: str, name: str, known: list[str], view: GraphView) -> UnknownNameError:
    """Makes the error for a name that is not in the graph, of whose values there may be thousands."""
    tensor, colon, pooling = name.rpartition(":")
    if colon and (tensor in known or tensor in view.data_dependent):
        return UnknownNameError(
            f"Nothing is pooled by {pooling!r}, as {name!r} asks", expected=f"one of {', '.join(get_args(Pooling))}"
        )
    close = get_close_matches(name, [*known, *view.data_dependent], n=5, cutoff=0.5)
    return UnknownNameError(
        f"No {kind} is called {name!r}",
        expected=f"{', '.join(known)}{' or ' if known else ''}one of the graph's {len(view.data_dependent)} values",
        remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "",
    )
