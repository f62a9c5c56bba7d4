"""Gives values of a graph other names, also where subgraphs use them."""

from collections.abc import Mapping

import onnx

__all__ = ["renamed"]


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
