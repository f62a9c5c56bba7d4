"""Validates the graph of a backbone before it runs."""

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from penult.errors import BackboneError, first_line
from penult.exporters.card import Card
from penult.exporters.graph.graph_view import shapes_of, without_large_weights

__all__ = ["all_tensors", "check_bounded", "check_model"]

_RANDOM_OPERATORS = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
_DOMAINS = {"", "ai.onnx"}
_MOST_NODES = 50_000  # the largest public networks have a few thousand


def check_model(model: onnx.ModelProto, card: Card) -> None:
    """Raises BackboneError if ONNX's checker rejects the model, or its input or outputs do not match ``card``."""
    _check_contained(model)
    try:
        onnx.checker.check_model(without_large_weights(model), full_check=True)
        for tensor in model.graph.initializer:
            onnx.checker.check_tensor(tensor)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as reason:
        raise BackboneError(
            f"The graph of {card.name} is not valid: {first_line(reason)}",
            expected="a graph that onnx.checker accepts",
        ) from reason
    _check_input(model.graph, card)
    _check_outputs(model, card)


def _check_contained(model: onnx.ModelProto) -> None:
    """Raises BackboneError unless the graph is self-contained, deterministic, and uses only ONNX's own operators."""
    if model.functions or model.graph.sparse_initializer:
        raise BackboneError("The graph contains functions or sparse weights", expected="only nodes and dense weights")
    for tensor in all_tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise BackboneError(
                f"The weights {tensor.name!r} are stored outside the file",
                expected="all weights inside the file",
                remedy="penult export onnx:FILE",
            )
    check_bounded(model)
    for node in _nodes(model.graph):
        if node.op_type in _RANDOM_OPERATORS or node.domain not in _DOMAINS:
            raise BackboneError(
                f"The graph's node {node.name!r} is of type {node.domain or 'ai.onnx'}.{node.op_type}",
                expected="deterministic operators of ai.onnx",
            )


def check_bounded(model: onnx.ModelProto) -> None:
    """Raises BackboneError if the graph has a loop, whose running time depends on data, or too many nodes."""
    kinds = [node.op_type for node in _nodes(model.graph)]
    if "Loop" in kinds:
        raise BackboneError("The graph has a Loop", expected="a network with the same operations for every image")
    if len(kinds) > _MOST_NODES:
        raise BackboneError(f"The graph has {len(kinds):,} nodes", expected=f"at most {_MOST_NODES:,}")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def all_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Yields all weights, including those inside nodes and subgraphs."""
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
            f"The inputs of the graph of {card.name} are {found}",
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
            f"The outputs of the graph of {card.name} are {', '.join(sorted(kinds))}",
            expected=f"the taps on the card, {', '.join(sorted(widths))}, including penultimate",
        )
    for name, width in widths.items():
        if kinds[name] != TensorProto.FLOAT or shapes.get(name) != (None, width):
            raise BackboneError(
                f"The output {name!r} of {card.name} has shape {shapes.get(name)} and type {kinds[name]}",
                expected=f"float32 (N, {width})",
            )


def _sides(kind: onnx.TypeProto.Tensor) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
