"""Traces a torch network to an ONNX graph whose values have the names of its modules, such as ``layer3``."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

from penult.errors import BackboneError
from penult.exporters.graph.graph_writer import OPSET
from penult.exporters.graph.size_folding import fold_sizes

__all__ = [
    "IMAGE",
    "LARGEST_BYTES",
    "LOGITS",
    "ModuleRecorder",
    "empty_marker",
    "export_torch",
    "last_weighted_module",
    "module_producing",
    "tappable_modules",
    "traceable_module",
]

IMAGE = "image"
LARGEST_BYTES = (1 << 31) - (1 << 20)  # a protobuf holds no more than 2 GiB
LOGITS = "logits"


def export_torch(module: Any, names: Sequence[str], sample: Any, *, what: str) -> onnx.ModelProto:
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
    return fold_sizes(model, tuple(sample.shape[1:]), names)


def empty_marker(value: Any) -> Any:
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


class ModuleRecorder:
    """Keeps what the parts of a network give, while it is entered and the network runs once."""

    def __init__(self, network: Any, names: Sequence[str] | None = None) -> None:
        self._parts = {name: part for name, part in network.named_modules() if name}
        self._names = [*self._parts] if names is None else names
        self.outputs: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.runs: dict[str, int] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> "ModuleRecorder":
        for name in self._names:
            self._hooks.append(self._parts[name].register_forward_hook(self._keeper(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keeper(self, name: str) -> Any:
        def keep(_: Any, given: tuple[Any, ...], output: Any) -> None:
            self.runs[name] = self.runs.get(name, 0) + 1
            self.inputs[name] = given[0] if len(given) == 1 else None
            self.outputs.pop(name, None)  # those that end last stand last
            self.outputs[name] = output

        return keep


def tappable_modules(network: Any, sample: Any) -> list[str]:
    """Gives the names of the parts that run once and give one feature map, list of tokens or vector for each image.

    Of several parts that give the very same tensor, the outermost is named, and never one that only passes it on.
    Convolutions whose BatchNorm is folded into them are left out.
    """
    import torch

    with torch.no_grad(), ModuleRecorder(network) as watch:
        network(sample)
    parts = dict(network.named_modules())
    convolved = {id(value) for name, value in watch.outputs.items() if isinstance(parts[name], torch.nn.Conv2d)}
    norms = torch.nn.modules.batchnorm._BatchNorm
    normed = convolved & {id(given) for name, given in watch.inputs.items() if isinstance(parts[name], norms)}
    outermost: dict[int, str] = {}
    for name, output in watch.outputs.items():
        if _passes_on(parts[name]):
            continue
        is_single = isinstance(output, torch.Tensor) and output.dim() in (2, 3, 4) and len(output) == len(sample)
        if is_single and watch.runs[name] == 1 and output is not sample and id(output) not in normed:
            outermost.pop(id(output), None)
            outermost[id(output)] = name
    return [*outermost.values()]


def _passes_on(part: Any) -> bool:
    """Tells whether a part, as it is when nothing is trained, gives what it takes."""
    import torch

    idle = (torch.nn.Identity, torch.nn.modules.dropout._DropoutNd)
    return isinstance(part, idle) or (
        isinstance(part, torch.nn.Sequential) and all(isinstance(each, idle) for each in part)
    )


def traceable_module(network: Any, names: Sequence[str]) -> Any:
    """Gives a module that makes a tuple: the scores, then what each named part gives."""
    import torch

    class Traceable(torch.nn.Module):  # type: ignore[misc]  # torch may be absent where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> tuple[Any, ...]:
            with ModuleRecorder(self.network, names) as watch:
                scores = self.network(image)
            if not isinstance(scores, torch.Tensor):
                raise BackboneError(f"The network gives a {type(scores).__name__}", expected="one tensor of scores")
            return (scores, *(empty_marker(watch.outputs[name]) for name in names))

    return Traceable().eval()


def last_weighted_module(network: Any, sample: Any) -> str:
    """Gives the name of the last linear layer or convolution to run: the classifier, as torch sees it."""
    import torch

    with torch.no_grad(), ModuleRecorder(network) as watch:
        network(sample)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    parts: Mapping[str, Any] = dict(network.named_modules())
    return [name for name in watch.outputs if isinstance(parts[name], kinds)][-1]


def module_producing(network: Any, sample: Any, part: str, names: Sequence[str]) -> str | None:
    """Gives which of the named parts makes exactly what ``part`` takes."""
    import torch

    with torch.no_grad(), ModuleRecorder(network) as watch:
        network(sample)
    return next((name for name in names if watch.outputs[name] is watch.inputs[part]), None)
