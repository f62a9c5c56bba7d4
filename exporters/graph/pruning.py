"""Cuts a graph down to what some of its outputs need."""

from collections.abc import Iterable, Mapping

import onnx

__all__ = ["pruned", "renamed"]


def pruned(model: onnx.ModelProto, outputs: Iterable[str]) -> onnx.ModelProto:
    """Gives a new model with only these outputs, in this order, and the nodes and weights behind them."""
    wanted = list(outputs)
    graph = model.graph
    kept, needed = [], set(wanted)
    for node in reversed(graph.node):
        if any(name in needed for name in node.output if name):
            kept.append(node)
            needed.update(_read_by(node))
    known = {value.name: value for value in graph.output}
    cut = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    cut.opset_import.extend(model.opset_import)
    cut.graph.name = graph.name
    cut.graph.node.extend(reversed(kept))
    cut.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    cut.graph.input.extend(graph.input)
    cut.graph.output.extend(known[name] for name in wanted)
    cut.graph.value_info.extend(value for value in graph.value_info if value.name in needed)
    return cut


def _read_by(node: onnx.NodeProto) -> set[str]:
    """Gives the values that a node reads, also from inside its subgraphs."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _read_by(inner)
            names.update(output.name for output in graph.output)
    return names


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Gives a copy in which each value of ``names`` is called what it maps to."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _rename(copy.graph, names)
    return copy


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name = names.get(named.name, named.name)
