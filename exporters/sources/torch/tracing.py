"""Traces a torch network to an ONNX graph whose values have the names of its modules, such as ``layer3``.

It uses torch's tracing exporter instead of the newer one. The tracing exporter no longer changes, so the same weights
give the same graph under any version of torch, and it takes a tenth of the time. ``size_folding`` then simplifies what
it writes about sizes.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

from penult.errors import BackboneError, first_line
from penult.exporters.graph.graph_writer import OPSET
from penult.exporters.graph.size_folding import fold_sizes

__all__ = [
    "IMAGE",
    "LARGEST_BYTES",
    "ModuleRecorder",
    "empty_marker",
    "export_torch",
    "last_weighted_module",
    "module_producing",
    "tappable_modules",
    "traceable_module",
]

IMAGE = "image"
LARGEST_BYTES = (1 << 31) - (1 << 20)  # the limit of protobuf is 2 GiB


def export_torch(module: Any, names: Sequence[str], sample: Any, *, what: str) -> onnx.ModelProto:
    """Returns the graph of ``module``, which computes a tuple with one tensor per name from ``sample``.

    ``names`` name these values in the graph. The first is the only output of the graph; the others may be
    ``empty_marker`` tensors.
    """
    import torch

    size_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
    if size_bytes > LARGEST_BYTES:
        raise BackboneError(
            f"The weights of {what} take {size_bytes:,} bytes",
            expected=f"at most {LARGEST_BYTES:,}, the limit of one ONNX file before conversion to half precision",
            remedy="choose a smaller network of its family",
        )
    stream = io.BytesIO()
    try:
        with torch.no_grad(), _tracing_quietly():
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
    except Exception as reason:  # the network's own code may raise any exception
        raise BackboneError(
            f"{what} cannot be converted to ONNX: {first_line(reason)}",
            expected="a network with the same operations for every image",
        ) from reason
    model = onnx.ModelProto()
    model.ParseFromString(stream.getvalue())
    del stream  # it is as large as the weights
    del model.graph.output[1:]
    _unmark(model.graph, names[1:])
    return fold_sizes(model, tuple(sample.shape[1:]), names)


def empty_marker(value: Any) -> Any:
    """Returns an empty tensor that represents ``value`` while a network is traced.

    Keeping the full values of all modules until the end would take gigabytes in networks for large images.
    """
    return value[:0].clone()


def _unmark(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Makes each of ``names`` the full value instead of its empty marker."""
    makers = {output: node for node in graph.node for output in node.output}
    for name in names:
        node = makers[name]
        while node.op_type == "Identity" and node.input[0] in makers:
            node = makers[node.input[0]]
        if node.op_type == "Slice":
            node.op_type = "Identity"
            del node.input[1:]


@contextlib.contextmanager
def _tracing_quietly() -> Iterator[None]:
    """Keeps attention in standard operators, and silences the warnings and prints of the tracer."""
    import torch

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class ModuleRecorder:
    """Context manager that records the inputs and outputs of modules while a network runs once."""

    def __init__(self, network: Any, names: Sequence[str] | None = None) -> None:
        self._parts = {name: part for name, part in network.named_modules() if name}
        self._names = [*self._parts] if names is None else names
        self.outputs: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.runs: dict[str, int] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> "ModuleRecorder":
        for name in self._names:
            self._hooks.append(self._parts[name].register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Any:
        def keep(_: Any, given: tuple[Any, ...], output: Any) -> None:
            self.runs[name] = self.runs.get(name, 0) + 1
            self.inputs[name] = given[0] if len(given) == 1 else None
            self.outputs.pop(name, None)  # keeps the order in which modules finish
            self.outputs[name] = output

        return keep


def tappable_modules(network: Any, sample: Any) -> list[str]:
    """Returns the names of modules that run once and return a feature map, tokens or a vector per image.

    If several modules return the same tensor, the outermost is named; modules that only pass it on are omitted.
    Convolutions with a BatchNorm are also omitted, because the two are folded.
    """
    import torch

    recorder = _recorded(network, sample)
    parts = dict(network.named_modules())
    convolved = {id(value) for name, value in recorder.outputs.items() if isinstance(parts[name], torch.nn.Conv2d)}
    norms = torch.nn.modules.batchnorm._BatchNorm
    normed = convolved & {id(given) for name, given in recorder.inputs.items() if isinstance(parts[name], norms)}
    outermost: dict[int, str] = {}
    for name, output in recorder.outputs.items():
        if _is_identity(parts[name]):
            continue
        is_single = isinstance(output, torch.Tensor) and output.dim() in (2, 3, 4) and len(output) == len(sample)
        if is_single and recorder.runs[name] == 1 and output is not sample and id(output) not in normed:
            outermost.pop(id(output), None)
            outermost[id(output)] = name
    return [*outermost.values()]


def _is_identity(part: Any) -> bool:
    """Returns whether a module in evaluation mode returns its input unchanged."""
    import torch

    idle = (torch.nn.Identity, torch.nn.modules.dropout._DropoutNd)
    return isinstance(part, idle) or (
        isinstance(part, torch.nn.Sequential) and all(isinstance(each, idle) for each in part)
    )


def traceable_module(network: Any, names: Sequence[str]) -> Any:
    """Returns a module that computes a tuple: the logits, then the output of each named module."""
    import torch

    class Traceable(torch.nn.Module):  # type: ignore[misc]  # torch may be absent where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> tuple[Any, ...]:
            with ModuleRecorder(self.network, names) as recorder:
                scores = self.network(image)
            if not isinstance(scores, torch.Tensor):
                raise BackboneError(f"The network returns a {type(scores).__name__}", expected="one tensor of logits")
            return (scores, *(empty_marker(recorder.outputs[name]) for name in names))

    return Traceable().eval()


def last_weighted_module(network: Any, sample: Any) -> str:
    """Returns the name of the last linear layer or convolution that runs, which is the classifier."""
    import torch

    recorder = _recorded(network, sample)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    parts: Mapping[str, Any] = dict(network.named_modules())
    return [name for name in recorder.outputs if isinstance(parts[name], kinds)][-1]


def module_producing(network: Any, sample: Any, part: str, names: Sequence[str]) -> str | None:
    """Returns the named module whose output is the input of ``part``, or None."""
    recorder = _recorded(network, sample)
    return next((name for name in names if recorder.outputs[name] is recorder.inputs[part]), None)


def _recorded(network: Any, sample: Any) -> ModuleRecorder:
    import torch

    with torch.no_grad(), ModuleRecorder(network) as recorder:
        network(sample)
    return recorder
