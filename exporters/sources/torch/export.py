"""Writes what a torch module computes as an ONNX graph whose values bear the names that the source knows.

Torch's tracing exporter is used, and not its newer one: it is no longer changed, so that the same weights give
the same graph under any version of torch, and it takes a tenth of the time. What it writes about sizes is tidied in
``settling``.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from penult.errors import BackboneError
from penult.exporters.graph.graph_writer import OPSET
from penult.exporters.graph.settling import settled

__all__ = ["IMAGE", "LARGEST_BYTES", "exported", "marked"]

IMAGE = "image"
LARGEST_BYTES = (1 << 31) - (1 << 20)  # a protobuf holds no more than 2 GiB


def exported(module: Any, names: Sequence[str], sample: Any, *, what: str) -> onnx.ModelProto:
    """Gives the graph of ``module``, which makes a tuple of tensors from ``sample``, as many as there are ``names``.

    The tensors' values are called by ``names`` in the graph; the first of them is the graph's one output. The others
    may be ``marked``.
    """
    import torch

    size_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
    if size_bytes > LARGEST_BYTES:
        raise BackboneError(
            f"The weights of {what} take {size_bytes:,} bytes",
            expected=f"at most {LARGEST_BYTES:,}, which one ONNX file holds; half precision comes only after it",
            remedy="take a smaller network of its family",
        )
    stream = io.BytesIO()
    try:
        with torch.no_grad(), _plainly():
            torch.onnx.export(
                module,
                (sample,),
                stream,
                input_names=[IMAGE],
                output_names=list(names),
                dynamic_axes={name: {0: "N"} for name in (IMAGE, *names)},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as reason:  # torch's tracer raises whatever the network's own code raises
        raise BackboneError(
            f"{what} cannot be written as ONNX: {_first_line(reason)}",
            expected="a network whose work is the same for every image",
        ) from reason
    model = onnx.ModelProto()
    model.ParseFromString(stream.getvalue())
    del stream  # it is as large as the weights
    del model.graph.output[1:]
    _unmark(model.graph, names[1:])
    return settled(model, tuple(sample.shape[1:]), names)


def marked(value: Any) -> Any:
    """Gives a tensor without numbers that stands for ``value`` while a network is traced.

    The values of all parts, held until the last of them is made, were gigabytes in networks of large images.
    """
    return value[:0].clone()


def _unmark(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Lets each of ``names`` stand for the value that was marked by it, and not for nothing of it."""
    makers = {output: node for node in graph.node for output in node.output}
    for name in names:
        node = makers[name]
        while node.op_type == "Identity" and node.input[0] in makers:
            node = makers[node.input[0]]
        if node.op_type == "Slice":
            node.op_type = "Identity"
            del node.input[1:]


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Keeps attention in plain operators, and the tracer from warning of every size and printing whole graphs."""
    import torch

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _first_line(reason: Exception) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0] if lines else type(reason).__name__
