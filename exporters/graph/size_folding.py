"""Replaces what a traced graph computes from the image size by constants, because the size is known.

It also removes Identity nodes and casts to the same type, so that each value has one name.
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
    """Returns the model with sizes as constants, for an image input of these ``sides`` and any batch size.

    If a value has several names, it keeps one of ``names``. The given model is changed, because its weights may have
    hundreds of megabytes and are not copied.
    """
    (image,) = network_inputs(model.graph)
    for dim, side in zip(image.type.tensor_type.shape.dim[1:], sides, strict=True):
        dim.dim_value = side
    remove_identities(model, names)
    _insert_constants(model, _measured(model, sides))
    return prune(model, [output.name for output in model.graph.output])


def remove_identities(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Removes nodes that change nothing from the model, and returns it; a value keeps one of ``names``."""
    graph, wanted, types = model.graph, set(names), _types(model)
    outer = {value.name for value in (*graph.input, *graph.initializer)}
    ends = {value.name for value in graph.output}
    aliases: dict[str, str] = {}
    kept = []
    for node in graph.node:
        idle = node.op_type == "Cast" and types.get(node.input[0]) == attribute(node, "to")
        if node.op_type != "Identity" and not idle:
            kept.append(node)
            continue
        source = aliases.get(node.input[0], node.input[0])
        if node.output[0] in wanted and source not in wanted and source not in outer:
            aliases = {name: node.output[0] if alias == source else alias for name, alias in aliases.items()}
            aliases[source] = node.output[0]
        elif node.output[0] in ends:
            kept.append(node)
        else:
            aliases[node.output[0]] = source
    for node in kept:
        node.input[:] = [aliases.get(name, name) for name in node.input]
        node.output[:] = [aliases.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Returns the inferred element types by value name."""
    graph = onnx.shape_inference.infer_shapes(without_large_weights(model)).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _measured(model: onnx.ModelProto, sides: tuple[int, ...]) -> list[dict[str, npt.NDArray[Any]]]:
    """Runs the network on two batches, and returns for each the values that depend only on sizes."""
    view = GraphView(model)
    size_only = {
        name
        for node in model.graph.node
        for name in node.input
        if name in view.producers and name not in view.data_dependent and view.producers[name].op_type != "Constant"
    }
    if not size_only:
        return [{}, {}]
    names = sorted(size_only)
    reshaped = sorted(
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Reshape" and node.input[1] in size_only and node.output[0] in view.data_dependent
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


def _insert_constants(model: onnx.ModelProto, measured: Sequence[dict[str, npt.NDArray[Any]]]) -> None:
    """Inserts constants where batches of two and three give the same value, or differ only in the batch size."""
    graph, (two, three) = model.graph, measured
    # Floating-point values stay computed: their last digits may depend on the machine, but the fingerprint must not.
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
