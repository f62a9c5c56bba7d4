"""Makes the graph of a backbone from a network's: pixels in, taps and scores out, and nothing that they do not need."""

from collections.abc import Sequence
from dataclasses import replace

import onnx

from penult.errors import BackboneError
from penult.exporters.card import INPUT, LOGITS, Normalisation, Tap
from penult.exporters.graph.flops import flops_up_to
from penult.exporters.graph.graph_view import GraphView
from penult.exporters.graph.graph_writer import float_value
from penult.exporters.graph.normalising import put_pixels_in
from penult.exporters.graph.pooling import TapPlan, pool_in_graph
from penult.exporters.graph.pruning import pruned, renamed

__all__ = ["assembled"]


def assembled(
    model: onnx.ModelProto,
    plans: Sequence[TapPlan],
    scores: str | None,
    normalisation: Normalisation,
    size: tuple[int, int],
) -> tuple[onnx.ModelProto, tuple[Tap, ...]]:
    """Gives the finished graph and its taps with their widths and work."""
    outputs = [*(plan.name for plan in plans), *([LOGITS] if scores else [])]
    names = {name: f"{name}.source" for name in (INPUT, *outputs)}
    model = renamed(model, names)
    shapes = GraphView(model).shapes
    for plan in plans:
        tensor = names.get(plan.tensor, plan.tensor)
        pool_in_graph(model, replace(plan, tensor=tensor), len(shapes[tensor]))
    if scores:
        model.graph.node.append(onnx.helper.make_node("Flatten", [names.get(scores, scores)], [LOGITS]))
    del model.graph.output[:]
    model.graph.output.extend(float_value(name, "N", None) for name in outputs)
    put_pixels_in(model, normalisation, size)
    model = pruned(model, outputs)
    view = GraphView(model)
    for output in model.graph.output:
        output.CopyFrom(float_value(output.name, "N", _width(view, output.name)))
    return model, tuple(
        Tap(
            name=plan.name,
            tensor=plan.tensor,
            width=_width(view, plan.name),
            pooling=plan.pooling,
            stage=plan.stage,
            reduction=plan.reduction,
            flops=flops_up_to(model.graph, plan.name, view.shapes),
        )
        for plan in plans
    )


def _width(view: GraphView, name: str) -> int:
    shape = view.shapes.get(name, ())
    if len(shape) != 2 or shape[1] is None or shape[0] is not None:
        raise BackboneError(
            f"The output {name!r} has the shape {shape}",
            expected="one vector of a known width for each image of a batch of any size",
            remedy="name another tensor, or export the network with a dynamic batch",
        )
    return shape[1]
