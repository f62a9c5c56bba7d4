"""The parts of a torch network by name, and what each of them gives: so that a tap can be called ``layer3``."""

from collections.abc import Mapping, Sequence
from typing import Any

from penult.errors import BackboneError
from penult.exporters.sources.torch.export import marked

__all__ = ["LOGITS", "Watch", "giver", "last_weighing", "named_parts", "traceable"]

LOGITS = "logits"


class Watch:
    """Keeps what the parts of a network give, while it is entered and the network runs once."""

    def __init__(self, network: Any, names: Sequence[str] | None = None) -> None:
        self._parts = {name: part for name, part in network.named_modules() if name}
        self._names = [*self._parts] if names is None else names
        self.outputs: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.runs: dict[str, int] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> "Watch":
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


def named_parts(network: Any, sample: Any) -> list[str]:
    """Gives the names of the parts that run once and give one feature map, list of tokens or vector for each image.

    Of several parts that give the very same tensor, the outermost is named, and never one that only passes it on.
    Convolutions whose BatchNorm is folded into them are left out.
    """
    import torch

    with torch.no_grad(), Watch(network) as watch:
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


def traceable(network: Any, names: Sequence[str]) -> Any:
    """Gives a module that makes a tuple: the scores, then what each named part gives."""
    import torch

    class Traceable(torch.nn.Module):  # type: ignore[misc]  # torch may be absent where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> tuple[Any, ...]:
            with Watch(self.network, names) as watch:
                scores = self.network(image)
            if not isinstance(scores, torch.Tensor):
                raise BackboneError(f"The network gives a {type(scores).__name__}", expected="one tensor of scores")
            return (scores, *(marked(watch.outputs[name]) for name in names))

    return Traceable().eval()


def last_weighing(network: Any, sample: Any) -> str:
    """Gives the name of the last linear layer or convolution to run: the classifier, as torch sees it."""
    import torch

    with torch.no_grad(), Watch(network) as watch:
        network(sample)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    parts: Mapping[str, Any] = dict(network.named_modules())
    return [name for name in watch.outputs if isinstance(parts[name], kinds)][-1]


def giver(network: Any, sample: Any, part: str, names: Sequence[str]) -> str | None:
    """Gives which of the named parts makes exactly what ``part`` takes."""
    import torch

    with torch.no_grad(), Watch(network) as watch:
        network(sample)
    return next((name for name in names if watch.outputs[name] is watch.inputs[part]), None)
