"""The source ``torchvision:NAME``: classification networks of torchvision, with the preprocessing of their weights."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from penult.errors import BackboneError, InputError, MissingExtraError
from penult.exporters.card import Preprocessing
from penult.exporters.requests import ExportRequest
from penult.exporters.sources.base import Address, Provenance, SourceNetwork, check_name, file_facts
from penult.exporters.sources.torch.network import TorchSource, check_rgb, incompatible_builds, source_network
from penult.exporters.sources.torch.tracing import ModuleRecorder, last_weighted_module
from penult.exporters.sources.torch.weights import class_count, load_strictly, read_state_dict, rename_keys, seeded

__all__ = ["architecture_names", "read_torchvision"]

# Their old weights expect pixels from -1 to 1; with weights, torchvision's builders convert from ImageNet's mean and
# std. Both have auxiliary branches for training, whose tensors are in the files.
_TRANSFORMING = {"googlenet", "inception_v3"}
# DenseNet's files are from a time when names of submodules contained dots.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_LICENCE = "BSD-3-Clause (torchvision); the weights were trained on ImageNet"


def read_torchvision(rest: str, request: ExportRequest) -> SourceNetwork:
    """Reads ``NAME``, ``NAME@WEIGHTS`` or ``NAME@FILE``."""
    torchvision = _torchvision()
    request.hints.check_no_tensors("torchvision")
    address = Address.of(rest, request)
    check_name("classification network of torchvision", address.name, architecture_names())
    entries = torchvision.models.get_model_weights(address.name)
    entry = entries.DEFAULT if address.weights in (None, "DEFAULT") else _entry(entries, address)
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    if address.is_random:
        network, facts = seeded(lambda: _built(address.name)), {"name": "random"}
        notes = ("The weights are random: only the architecture is torchvision's.",)
    elif address.file is not None:
        network, facts = _from_file(address.name, address.file), file_facts(address.file)
        notes = (f"Preprocessing is that of torchvision's weights {entry}: the file does not say its own.",)
    else:
        network, facts = _downloaded(address.name, entry), {"name": str(entry), "url": entry.url}
    preset, preprocessing = _prepared(entry.transforms(), request)
    classifier = last_weighted_module(network.eval(), _sample(preprocessing))
    is_filter = network.get_submodule(classifier).weight.dim() == 4
    source = TorchSource(
        network=network,
        transform=preset,
        penultimate=_input_of(network, classifier),
        preprocessing=preprocessing,
        mean=preset.mean,
        std=preset.std,
        framework=f"torchvision {torchvision.__version__}",
        classifier=classifier if is_filter and address.file is not None else "",
        is_random=address.is_random,
    )
    named = address.file is None and not address.is_random
    return source_network(
        source,
        address.name,
        Provenance(
            source=f"torchvision {address.name}", licence=_LICENCE if named else "unknown", weights=facts, notes=notes
        ),
        tuple(entry.meta["categories"]) if named else None,
    )


def architecture_names() -> list[str]:
    """Returns the names of torchvision's classification networks (not quantized)."""
    return [str(name) for name in _torchvision().models.list_models(module=_torchvision().models)]


def _torchvision() -> Any:
    try:
        import torchvision
    except ImportError:
        raise MissingExtraError.of("torchvision", "torch", "Exporting a network of torchvision") from None
    except RuntimeError as reason:
        raise incompatible_builds("torchvision", reason) from reason
    return torchvision


def _entry(entries: Any, address: Address) -> Any:
    name = str(address.weights).rpartition(".")[2]
    check_name(f"weights of {address.name}", name, list(entries.__members__))
    return entries[name]


def _built(name: str, **parameters: Any) -> Any:
    special = {"aux_logits": False, "init_weights": False} if name in _TRANSFORMING else {}
    return _torchvision().models.get_model(name, weights=None, **{**special, **parameters})


def _from_file(name: str, path: Path) -> Any:
    state = read_state_dict(path)
    count = class_count(_built(name), state)
    return _loaded(name, state, path.name, **({"num_classes": count} if count else {}))


def _downloaded(name: str, entry: Any) -> Any:
    from torch.hub import load_state_dict_from_url

    try:
        state = load_state_dict_from_url(
            entry.url, map_location="cpu", progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except Exception as reason:  # the network, the disk and the unpickler may raise any exception
        raise BackboneError(
            f"The weights {entry.url.rpartition('/')[2]} cannot be downloaded from {entry.url}: {reason}",
            expected="a network connection, or the file in torch's cache",
            remedy=f"get the file elsewhere and pass torchvision:{name}@FILE",
        ) from reason
    return _loaded(name, state, str(entry))


def _loaded(name: str, state: Mapping[str, Any], origin: str, **parameters: Any) -> Any:
    if name in _TRANSFORMING:
        has_sides = any("aux" in key.lower() for key in state)
        parameters |= {"aux_logits": has_sides, "transform_input": True}
    network = _built(name, **parameters)
    load_strictly(network, rename_keys(state, lambda key: _OLD_DENSENET.sub(r"\1\2", key)), origin)
    return network


def _prepared(preset: Any, request: ExportRequest) -> tuple[Any, Preprocessing]:
    """Returns torchvision's transform and the equivalent preprocessing, with the changes that the user requests."""
    hints = request.hints
    if isinstance(hints.crop, tuple) or isinstance(hints.resize, tuple):
        raise InputError(
            f"The resize is {hints.resize} and the crop is {hints.crop}",
            expected="one number each: torchvision resizes the shorter side and crops squares",
        )
    crop = request.size or hints.crop or preset.crop_size[0]
    resize = hints.resize or round(preset.resize_size[0] * crop / preset.crop_size[0])
    own = Preprocessing(resize, (crop, crop), str(preset.interpolation.value))  # type: ignore[arg-type]  # the same words
    own = replace(own, interpolation=hints.interpolation or own.interpolation)
    preset.crop_size, preset.resize_size = [crop], [resize]
    preset.interpolation = type(preset.interpolation)(own.interpolation)
    asked = hints.normalisation()
    if asked is not None:
        check_rgb(asked)
        preset.mean, preset.std = ([level / 255 for level in levels] for levels in (asked.mean, asked.std))
    return preset, own


def _sample(preprocessing: Preprocessing) -> Any:
    import torch

    return torch.zeros(1, 3, *preprocessing.crop)


def _input_of(network: Any, part: str) -> Callable[[Any], Any]:
    """Returns a function that computes the input of a module of the network."""

    def penultimate(batch: Any) -> Any:
        with ModuleRecorder(network, [part]) as recorder:
            network(batch)
        return recorder.inputs[part]

    return penultimate
