"""Finds the ends of a network's stages: the last value at each resolution through which all later paths go."""

import math
from dataclasses import dataclass

from penult.exporters.graph.graph_view import GraphView, attribute

__all__ = ["Stage", "find_stages"]

_POINTWISE = {
    "Relu", "Clip", "BatchNormalization", "HardSwish", "HardSigmoid", "Sigmoid", "Mul", "PRelu", "LeakyRelu", "Elu",
    "Gelu", "Mish", "Add", "Sub", "Identity", "Dropout", "Pad",
}  # fmt: skip
_NORMALISING = {"LayerNormalization", "Transpose"}  # per position, with the channels last
_AVERAGING = {"GlobalAveragePool", "AveragePool", "ReduceMean"}


@dataclass(frozen=True)
class Stage:
    """``tensor`` is the last value of a stage, whose sides are ``reduction`` times smaller than the image's."""

    tensor: str
    reduction: int


def find_stages(
    view: GraphView, source: str, features: str, size: tuple[int, int], parts: frozenset[str] | None = None
) -> list[Stage]:
    """Returns the stages between the value ``source`` and the penultimate ``features``, in order.

    A stage whose average is the penultimate vector is omitted. A stage ends at one of ``parts`` if only pointwise
    nodes, such as the next stage's first activation, are between that part and the stage's last value.
    """
    levels: dict[int, list[str]] = {}
    for value in _on_every_path(view, source, features):
        sides = view.sides(value)
        if sides is None or min(sides) < 2 or not _same_aspect(sides, size):
            continue
        level = round(math.log2(size[0] / sides[0]))
        if level >= 1:
            levels.setdefault(level, []).append(value)
    pooled = _pooled_into(view, features)
    ends = []
    for level, values in sorted(levels.items()):
        inner = values[-1] == pooled or _depthwise_follows(view, values[-1])
        end = _named(view, _before_expansion(view, values) if inner else values[-1], values, parts)
        if end != pooled:
            ends.append(Stage(end, 2**level))
    return ends


def _named(view: GraphView, end: str, values: list[str], parts: frozenset[str] | None) -> str:
    """Returns the last of ``parts`` at or before ``end``, if only pointwise nodes are in between; else ``end``."""
    if parts is None:
        return end
    for value in reversed(values[: values.index(end) + 1]):
        if value in parts:
            return value
        if view.producers[value].op_type not in _POINTWISE | _NORMALISING:
            break
    return end


def _on_every_path(view: GraphView, source: str, features: str) -> list[str]:
    """Returns the values on every path from ``source`` to ``features``, in order.

    At the time when such a value is computed, no other value is needed later. Padded maps are left out.
    """
    nodes = view.nodes_for([features])
    uses: dict[str, int] = {features: 1}
    for node in nodes:
        for name in set(view.data_inputs(node)):
            uses[name] = uses.get(name, 0) + 1
    live, found = {source}, []
    for node in nodes:
        for name in set(view.data_inputs(node)):
            uses[name] -= 1
            if not uses[name]:
                live.discard(name)
        live.update(name for name in node.output if uses.get(name))
        if len(live) == 1 and node.output[0] in live and node.op_type != "Pad":
            found.append(node.output[0])
    return found


def _same_aspect(sides: tuple[int, int], size: tuple[int, int]) -> bool:
    """Returns whether a value has the aspect ratio of the image, which a feature map has."""
    if size[0] == size[1]:
        return sides[0] == sides[1]
    return abs(math.log2((size[0] / sides[0]) / (size[1] / sides[1]))) < 0.5


def _pooled_into(view: GraphView, features: str) -> str:
    """Returns the feature map whose average is ``features``, or ``features`` itself."""
    value = features
    while (node := view.producers.get(value)) is not None and node.op_type in {
        "Flatten",
        "Reshape",
        "Squeeze",
        "Identity",
    }:
        value = view.data_inputs(node)[0]
    node = view.producers.get(value)
    return view.data_inputs(node)[0] if node is not None and node.op_type in _AVERAGING else features


def _depthwise_follows(view: GraphView, value: str) -> bool:
    """Returns whether a depthwise convolution reads ``value``, which is then inside an inverted residual block."""
    for node in view.graph.node:
        if value not in node.input:
            continue
        if node.op_type == "Pad":
            return _depthwise_follows(view, node.output[0])
        if node.op_type == "Conv" and attribute(node, "group", 1) == view.width(value):
            return True
    return False


def _before_depthwise(view: GraphView, value: str) -> str:
    """Returns the input of the depthwise convolution that computes ``value``, or ``value`` itself."""
    node = view.producers.get(value)
    if node is None or node.op_type != "Conv" or attribute(node, "group", 1) != view.width(value):
        return value
    before = view.data_inputs(node)[0]
    return before if view.shapes.get(before) == view.shapes.get(value) else value


def _before_expansion(view: GraphView, values: list[str]) -> str:
    """Returns the narrower value that a 1x1 convolution expanded to the last one, or the last one."""
    for value in reversed(values):
        node = view.producers[value]
        if node.op_type == "Conv" and attribute(node, "kernel_shape", [1, 1]) == [1, 1]:
            before = _before_depthwise(view, view.data_inputs(node)[0])
            narrower = (view.width(before) or 0) < (view.width(values[-1]) or 0)
            return before if before in values and narrower else values[-1]
        if node.op_type not in _POINTWISE:
            break
    return values[-1]
