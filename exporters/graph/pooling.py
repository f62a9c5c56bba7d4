"""Pools feature maps to vectors, in the graph and in numpy (for proofs)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from penult.errors import BackboneError
from penult.exporters.card import Pooling

__all__ = ["TapPlan", "pool_in_graph", "pool_in_numpy"]


@dataclass(frozen=True)
class TapPlan:
    """A tap to add to a graph: its value, its name and its pooling."""

    name: str
    tensor: str
    pooling: Pooling
    stage: int | None = None
    reduction: int | None = None


_POWER = 3.0  # the exponent of GeM that its authors use without training
_FLOOR = 1e-6


def pool_in_graph(model: onnx.ModelProto, plan: TapPlan, rank: int) -> None:
    """Adds the nodes of one tap, whose value has ``rank`` dimensions."""
    tensor, name, pooling = plan.tensor, plan.name, plan.pooling
    graph = model.graph
    if rank == 2:
        if pooling not in ("none", "flatten"):
            raise _cannot_pool(tensor, pooling)
        graph.node.append(helper.make_node("Identity", [tensor], [name]))
        return
    if rank == 3 and pooling in ("avg", "max"):
        axes: dict[str, Any] = {"axes": [1]} if _opset(model) < 18 else {}
        inputs = [tensor] if axes else [tensor, _weights(graph, f"{name}.axes", np.array([1]))]
        kind = "ReduceMean" if pooling == "avg" else "ReduceMax"
        graph.node.append(helper.make_node(kind, inputs, [name], keepdims=0, **axes))
        return
    if rank == 3 and pooling == "gem":
        raise _cannot_pool(tensor, pooling)
    last = tensor
    if pooling == "gem":
        floor, power = (
            _weights(graph, f"{name}.{k}", np.float32(v)) for k, v in (("floor", _FLOOR), ("power", _POWER))
        )
        root = _weights(graph, f"{name}.root", np.float32(1 / _POWER))
        graph.node.append(helper.make_node("Clip", [tensor, floor], [f"{name}.clipped"]))
        graph.node.append(helper.make_node("Pow", [f"{name}.clipped", power], [f"{name}.powers"]))
        graph.node.append(helper.make_node("GlobalAveragePool", [f"{name}.powers"], [f"{name}.mean"]))
        graph.node.append(helper.make_node("Pow", [f"{name}.mean", root], [f"{name}.pooled"]))
        last = f"{name}.pooled"
    elif pooling in ("avg", "max"):
        kind = "GlobalAveragePool" if pooling == "avg" else "GlobalMaxPool"
        graph.node.append(helper.make_node(kind, [tensor], [f"{name}.pooled"]))
        last = f"{name}.pooled"
    graph.node.append(helper.make_node("Flatten", [last], [name]))


def pool_in_numpy(values: npt.NDArray[Any], pooling: Pooling) -> npt.NDArray[np.float64]:
    """Returns pooled rows, for a source that returns raw feature maps.

    >>> pool_in_numpy(np.arange(8.0).reshape(1, 2, 2, 2), "avg").tolist()
    [[1.5, 5.5]]
    """
    numbers = np.asarray(values, dtype=np.float64)
    axes = (1,) if numbers.ndim == 3 else tuple(range(2, numbers.ndim))
    match pooling:
        case "avg":
            return np.asarray(numbers.mean(axis=axes))
        case "max":
            return np.asarray(numbers.max(axis=axes))
        case "gem":
            return np.asarray((np.maximum(numbers, _FLOOR) ** _POWER).mean(axis=axes) ** (1 / _POWER))
    return numbers.reshape(len(numbers), -1)


def _weights(graph: onnx.GraphProto, name: str, value: npt.NDArray[Any] | np.generic) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _opset(model: onnx.ModelProto) -> int:
    return int(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def _cannot_pool(tensor: str, pooling: str) -> BackboneError:
    return BackboneError(
        f"The value {tensor!r} cannot be pooled with {pooling!r}", expected="a feature map (N, C, H, W)"
    )
