"""Counts the work of a graph: how many floating-point operations it takes from the pixels up to a value.

Only convolutions and matrix products count, a multiply-add as two, as the literature does; shapes must be inferred.
"""

import math
from collections.abc import Callable, Mapping

import onnx
from onnx.helper import get_attribute_value

from penult.exporters.graph.shapes import Shape

__all__ = ["flops_up_to"]


def flops_up_to(graph: onnx.GraphProto, value: str, shapes: Mapping[str, Shape]) -> int | None:
    """Gives the operations for one image, or None where a shape that matters is not known."""
    makers = {output: node for node in graph.node for output in node.output if output}
    waiting, seen, total = [value], {value}, 0
    counted: set[int] = set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or id(node) in counted:
            continue
        counted.add(id(node))
        work = _work(node, shapes)
        if work is None:
            return None
        total += work
        fresh = [name for name in node.input if name and name not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return total


def _work(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    count = _COUNTED.get(node.op_type)
    return count(node, shapes) if count else 0


def _conv(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    # Each output number takes one filter; a transposed convolution spends one filter on each input number.
    made = node.output[0] if node.op_type == "Conv" else node.input[0]
    numbers, weights = _numbers(shapes.get(made)), shapes.get(node.input[1])
    if numbers is None or weights is None or None in weights[1:]:
        return None
    return 2 * numbers * math.prod(side or 1 for side in weights[1:])


def _gemm(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    numbers, left = _numbers(shapes.get(node.output[0])), shapes.get(node.input[0])
    transposed = any(a.name == "transA" and get_attribute_value(a) for a in node.attribute)
    if numbers is None or not left or left[0 if transposed else -1] is None:
        return None
    return 2 * numbers * (left[0 if transposed else -1] or 0)


def _numbers(shape: Shape | None) -> int | None:
    """Counts the numbers that a value holds for one image: its first side is the batch."""
    if shape is None or None in shape[1:]:
        return None
    return math.prod(side or 1 for side in shape[1:])


_COUNTED: dict[str, Callable[[onnx.NodeProto, Mapping[str, Shape]], int | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "MatMul": _gemm,
}
