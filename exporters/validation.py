"""Tells whether a graph is what a backbone must be, before anything runs it."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from penult.errors import BackboneError
from penult.exporters.card import Card
from penult.exporters.graph.graph_view import shapes_of, without_large_weights

__all__ = ["all_tensors", "check_bounded", "check_model"]

_CHANCE = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
_DOMAINS = {"", "ai.onnx"}
_MOST_NODES = 50_000  # the largest networks that people share have some thousands


def check_model(model: onnx.ModelProto, card: Card) -> None:
    """Refuses a model that ONNX's checker refuses, or whose input and outputs are not those of ``card``."""
    _check_contained(model)
    try:
        onnx.checker.check_model(without_large_weights(model), full_check=True)
        for tensor in model.graph.initializer:
            onnx.checker.check_tensor(tensor)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as reason:
        raise BackboneError(
            f"The graph of {card.name} is not sound: {str(reason).strip().splitlines()[0]}",
            expected="a graph that onnx.checker accepts",
        ) from reason
    _check_input(model.graph, card)
    _check_outputs(model, card)


def _check_contained(model: onnx.ModelProto) -> None:
    """A backbone is one file, of ONNX's own operators, and gives the same twice."""
    if model.functions or model.graph.sparse_initializer:
        raise BackboneError("The graph brings its own functions or sparse weights", expected="plain nodes and weights")
    for tensor in all_tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise BackboneError(
                f"The weights {tensor.name!r} lie outside the file",
                expected="a backbone whole in one file",
                remedy="penult export onnx:FILE",
            )
    check_bounded(model)
    for node in _nodes(model.graph):
        if node.op_type in _CHANCE or node.domain not in _DOMAINS:
            raise BackboneError(
                f"The graph's node {node.name!r} is of type {node.domain or 'ai.onnx'}.{node.op_type}",
                expected="operators of ai.onnx that leave nothing to chance",
            )


def check_bounded(model: onnx.ModelProto) -> None:
    """Refuses a graph whose work has no bound: a loop turns as often as its data say, and a chain may be any length."""
    kinds = [node.op_type for node in _nodes(model.graph)]
    if "Loop" in kinds:
        raise BackboneError(
            "The graph has a Loop", expected="a network whose work is the same for every image, and has an end"
        )
    if len(kinds) > _MOST_NODES:
        raise BackboneError(f"The graph has {len(kinds):,} nodes", expected=f"at most {_MOST_NODES:,}")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def all_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Gives all weights, also those inside nodes and subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from all_tensors(inner)


def _check_input(graph: onnx.GraphProto, card: Card) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    found = [(i.name, i.type.tensor_type.elem_type, _sides(i.type.tensor_type)) for i in inputs]
    if found != [("pixels", TensorProto.UINT8, (None, *card.preprocessing.crop, 3))]:
        raise BackboneError(
            f"The graph of {card.name} takes {found}",
            expected=f"one input, pixels: uint8 (N, {card.preprocessing.crop[0]}, {card.preprocessing.crop[1]}, 3)",
        )


def _check_outputs(model: onnx.ModelProto, card: Card) -> None:
    shapes = shapes_of(model)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    widths = {tap.name: tap.width for tap in card.taps}
    if "logits" in kinds:
        width = shapes.get("logits", (None, None))[-1]
        widths["logits"] = len(card.classes) if card.classes is not None else width or 0
    if "penultimate" not in widths or set(kinds) != set(widths):
        raise BackboneError(
            f"The graph of {card.name} gives {', '.join(sorted(kinds))}",
            expected=f"the card's taps {', '.join(sorted(widths))}, penultimate among them",
        )
    for name, width in widths.items():
        if kinds[name] != TensorProto.FLOAT or shapes.get(name) != (None, width):
            raise BackboneError(
                f"The output {name!r} of {card.name} has shape {shapes.get(name)} and type {kinds[name]}",
                expected=f"float32 (N, {width})",
            )


def _sides(kind: onnx.TypeProto.Tensor) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
