"""Settles what a traced graph computes from the sizes of its images: they are known, and constants take its place.

Identities go too, and casts to the type that is there already, so that a value has one name.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from penult.exporters.cpu_session import CpuSession
from penult.exporters.graph.graph_view import GraphView, attribute, network_inputs, without_large_weights
from penult.exporters.graph.graph_writer import prune

__all__ = ["fold_sizes", "remove_identities"]


def fold_sizes(model: onnx.ModelProto, sides: tuple[int, ...], names: Sequence[str]) -> onnx.ModelProto:
    """Writes the sizes into the model as constants, for one image input of these ``sides`` and a batch of any size.

    Where a value has several names, one of ``names`` is kept. The model that is given is used up: its weights may be
    hundreds of megabytes, and are not copied.
    """
    (image,) = network_inputs(model.graph)
    for dim, side in zip(image.type.tensor_type.shape.dim[1:], sides, strict=True):
        dim.dim_value = side
    remove_identities(model, names)
    _write_down(model, _measured(model, sides))
    return prune(model, [output.name for output in model.graph.output])


def remove_identities(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Takes nodes that change nothing out of the model, and gives it back; a value keeps one of ``names``."""
    graph, wanted, types = model.graph, set(names), _types(model)
    outer = {value.name for value in (*graph.input, *graph.initializer)}
    ends = {value.name for value in graph.output}
    stands: dict[str, str] = {}
    kept = []
    for node in graph.node:
        idle = node.op_type == "Cast" and types.get(node.input[0]) == attribute(node, "to")
        if node.op_type != "Identity" and not idle:
            kept.append(node)
            continue
        source = stands.get(node.input[0], node.input[0])
        if node.output[0] in wanted and source not in wanted and source not in outer:
            stands = {name: node.output[0] if stand == source else stand for name, stand in stands.items()}
            stands[source] = node.output[0]
        elif node.output[0] in ends:
            kept.append(node)
        else:
            stands[node.output[0]] = source
    for node in kept:
        node.input[:] = [stands.get(name, name) for name in node.input]
        node.output[:] = [stands.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Gives the element types of values, as far as they can be inferred."""
    graph = onnx.shape_inference.infer_shapes(without_large_weights(model)).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _measured(model: onnx.ModelProto, sides: tuple[int, ...]) -> list[dict[str, npt.NDArray[Any]]]:
    """Runs the network on two batches, and gives for each what the sizes alone decide."""
    view = GraphView(model)
    decided = {
        name
        for node in model.graph.node
        for name in node.input
        if name in view.producers and name not in view.data_dependent and view.producers[name].op_type != "Constant"
    }
    if not decided:
        return [{}, {}]
    names = sorted(decided)
    reshaped = sorted(
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Reshape" and node.input[1] in decided and node.output[0] in view.data_dependent
    )
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*names, *reshaped))
    runner = CpuSession(model.SerializeToString(), "the traced network")
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    image = runner.input_name
    given = [runner.run([*names, *reshaped], {image: np.zeros((n, *sides), dtype=np.float32)}) for n in (2, 3)]
    return [
        {name: np.array(rows[name].shape) if name in reshaped else rows[name] for name in (*names, *reshaped)}
        for rows in given
    ]


def _write_down(model: onnx.ModelProto, measured: Sequence[dict[str, npt.NDArray[Any]]]) -> None:
    """Puts constants where a batch of two and a batch of three decide the same, or differ in the batch alone."""
    graph, (two, three) = model.graph, measured
    # Floating-point work is left where it is: its last digits may depend on the machine, and the fingerprint must not.
    exact = {name for name, numbers in two.items() if numbers.dtype.kind in "iub"}
    same = {name for name in exact if np.array_equal(two[name], three[name])}
    stored: set[str] = set()

    def constant(name: str, numbers: npt.NDArray[Any]) -> str:
        if name not in stored:
            stored.add(name)
            graph.initializer.append(numpy_helper.from_array(np.asarray(numbers, order="C"), name))
        return name

    for node in graph.node:
        made = node.output[0]
        for place, name in enumerate(node.input):
            if name in same and name != made:
                node.input[place] = constant(f"{name}.settled", two[name])
            elif name in exact and node.op_type == "Reshape" and place == 1 and made in two:
                shapes = two[made], three[made]
                if len(shapes[0]) == len(shapes[1]) and (shapes[0] != shapes[1]).sum() == 1:
                    target = np.where(shapes[0] == shapes[1], shapes[0], -1).astype(np.int64)
                    node.input[place] = constant(f"{made}.shape", target)
