"""The source ``timm:NAME``: a network of timm, with the preprocessing of its pretrained configuration."""

import math
from collections.abc import Mapping
from typing import Any, cast

from penult.errors import BackboneError, InputError, MissingExtraError, first_line
from penult.exporters.card import Interpolation, Preprocessing
from penult.exporters.classes import imagenet_classes
from penult.exporters.requests import ExportRequest
from penult.exporters.sources.base import Address, Provenance, SourceNetwork, check_name, file_facts
from penult.exporters.sources.torch.network import TorchSource, check_rgb, incompatible_builds, source_network
from penult.exporters.sources.torch.weights import class_count, mismatch_error, read_state_dict, seeded

__all__ = ["read_timm"]

_HUB_SECONDS = 10


def read_timm(rest: str, request: ExportRequest) -> SourceNetwork:
    """Reads ``ARCHITECTURE``, ``ARCHITECTURE.TAG`` or ``NAME@FILE``."""
    timm = _timm()
    request.hints.check_no_tensors("timm")
    address = _address(timm, rest, request)
    network, facts, notes = _built(timm, address, _sized(timm, address.name, request))
    own = network.pretrained_cfg
    named = address.file is None and not address.is_random
    full_name = f"{own['architecture']}.{own['tag']}" if own.get("tag") and named else address.name
    licence = (own.get("license") or "unknown") if named else "unknown"
    return source_network(
        _source(timm, network, request, is_random=address.is_random),
        full_name,
        Provenance(source=f"timm {full_name}", licence=licence, weights=facts, notes=notes),
        imagenet_classes() if named and "in1k" in full_name and network.num_classes == 1000 else None,
    )


def _address(timm: Any, rest: str, request: ExportRequest) -> Address:
    """Parses the address; raises an error if timm lacks the network or a card cannot describe its preprocessing."""
    address = Address.of(rest, request)
    if address.weights is not None:  # timm names weights by a tag after a dot
        raise InputError(
            f"The weights of {address.name} are {address.weights!r}",
            expected="random, or an existing file",
            remedy=f"use timm:{address.name.partition('.')[0]}.{address.weights} for timm's own weights",
        )
    check_name("network of timm", address.name.partition(".")[0], timm.list_models())
    if "." in address.name:
        check_name("pretrained network of timm", address.name, _pretrained(timm, address.name))
    _check_own_crop(timm, address.name, request)
    return address


def _built(timm: Any, address: Address, parameters: Mapping[str, Any]) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Returns the network with its weights, the entry of the weights for the card, and notes."""
    if address.is_random:
        network = seeded(lambda: timm.create_model(address.name, **parameters))
        return network, {"name": "random"}, ("The weights are random: only the architecture is timm's.",)
    if address.file is not None:
        note = "Preprocessing is that of timm's own weights of this name: the file does not say its own."
        return _from_file(timm, address, parameters), file_facts(address.file), (note,)
    if not _pretrained(timm, address.name):
        raise InputError(f"timm has no weights of {address.name}", expected="a file, or random")
    network = _downloaded(timm, address.name, parameters)
    return network, _facts(network.pretrained_cfg), ()


def _source(timm: Any, network: Any, request: ExportRequest, *, is_random: bool) -> TorchSource:
    config = _configured(timm, network, request)
    return TorchSource(
        network=network,
        transform=timm.data.create_transform(**config, is_training=False),
        penultimate=lambda batch: network.forward_head(network.forward_features(batch), pre_logits=True),
        preprocessing=_preprocessing(config, request),
        mean=config["mean"],
        std=config["std"],
        framework=f"timm {timm.__version__}",
        is_random=is_random,
    )


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise MissingExtraError.of("timm", "torch", "Exporting a network of timm") from None
    except RuntimeError as reason:
        raise incompatible_builds("timm", reason) from reason
    return timm


def _sized(timm: Any, name: str, request: ExportRequest) -> dict[str, Any]:
    """Returns the parameter for the requested size, which networks with position embeddings need."""
    config = timm.models.get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size
    return {"img_size": request.size} if request.size is not None and fixed else {}


def _pretrained(timm: Any, name: str) -> list[str]:
    architecture = name.partition(".")[0]
    full = [each for each in timm.list_pretrained() if each.partition(".")[0] == architecture]
    return [*full, *([architecture] if full else [])]


def _from_file(timm: Any, address: Address, parameters: Mapping[str, Any]) -> Any:
    path = address.file
    assert path is not None
    state = read_state_dict(path)
    count = class_count(timm.create_model(address.name, **parameters), state)
    classes = {"num_classes": count} if count else {}
    try:
        return timm.create_model(
            address.name,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": state, **classes},
            **classes,
            **parameters,
        )
    except (RuntimeError, KeyError, AttributeError) as reason:  # from load_state_dict or timm's filters
        raise mismatch_error(path.name, reason) from reason


def _downloaded(timm: Any, name: str, parameters: Mapping[str, Any]) -> Any:
    config = dict(timm.models.get_pretrained_cfg(name).to_dict())
    try:
        _check_hub(config)
        return timm.create_model(name, pretrained=True, **parameters)
    except Exception as reason:  # the hub, the network, the disk and the unpickler may raise any exception
        facts = _facts(config)
        raise BackboneError(
            f"The weights {facts.get('file')} of timm's {name} cannot be downloaded from {facts.get('url')}: "
            f"{first_line(reason)}",
            expected="a network connection, or the file in the cache of the hub",
            remedy=f"get the file elsewhere and pass timm:{name}@FILE",
        ) from reason


def _check_hub(config: Mapping[str, Any]) -> None:
    """Raises an error if the hub does not answer, because its own client would retry each file for a minute."""
    if not config.get("hf_hub_id"):
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = str(config["hf_hub_id"]).partition("@")
    files = [_facts(config)["file"], "pytorch_model.bin"]
    if any(isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str) for file in files):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, files[0], revision=revision or None), timeout=_HUB_SECONDS)
    except HfHubHTTPError:  # it answers; timm reports the error
        return


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry of timm's own weights for the card."""
    name = f"{config.get('architecture')}.{config.get('tag')}" if config.get("tag") else config.get("architecture")
    if config.get("hf_hub_id"):
        file = config.get("hf_hub_filename") or "model.safetensors"
        return {"name": name, "file": file, "url": f"https://huggingface.co/{config['hf_hub_id']}"}
    url = str(config.get("url") or "")
    return {"name": name, "file": url.rpartition("/")[2], "url": url}


def _check_own_crop(timm: Any, name: str, request: ExportRequest) -> None:
    """Raises InputError before any download if a card cannot describe timm's preprocessing."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None or request.hints.resize is not None:
        return
    asked = request.size or request.hints.crop
    high, wide = (1, 1) if asked is not None else config.input_size[1:]
    _check_crop(config.crop_mode, high, wide)


def _check_crop(mode: str, high: int, wide: int) -> None:
    if mode not in ("center", "squash") or (mode == "center" and high != wide):
        raise InputError(
            f"timm prepares images for this network with crop_mode {mode!r} to {high} x {wide}",
            expected="crop_mode center to a square, or squash",
            remedy="pass --resize to choose another way",
        )


def _configured(timm: Any, network: Any, request: ExportRequest) -> dict[str, Any]:
    """Returns timm's data configuration, with the changes that the user requests."""
    hints = request.hints
    asked: dict[str, Any] = {}
    size = request.size or hints.crop
    if size is not None:
        high, wide = (size, size) if isinstance(size, int) else size
        asked["input_size"] = (3, high, wide)
    if hints.interpolation is not None:
        asked["interpolation"] = hints.interpolation
    if (normalisation := hints.normalisation()) is not None:
        check_rgb(normalisation)
        asked["mean"] = tuple(level / 255 for level in normalisation.mean)
        asked["std"] = tuple(level / 255 for level in normalisation.std)
    config = dict(timm.data.resolve_model_data_config(network, args=asked))
    high, wide = config["input_size"][1:]
    if isinstance(hints.resize, tuple):
        config |= {"crop_mode": "squash", "crop_pct": high / hints.resize[0]}
    elif hints.resize is not None:
        config |= {"crop_mode": "center", "crop_pct": high / hints.resize}
    return config


def _preprocessing(config: Mapping[str, Any], request: ExportRequest) -> Preprocessing:
    """Returns timm's transform as the preprocessing of a card."""
    high, wide = config["input_size"][1:]
    mode = config["crop_mode"]
    _check_crop(mode, high, wide)
    sides = math.floor(high / config["crop_pct"]), math.floor(wide / config["crop_pct"])
    if request.hints.resize is not None and request.hints.resize not in (sides, sides[0]):
        raise InputError(
            f"timm cannot resize to {request.hints.resize}", expected="a size with the aspect ratio of the input"
        )
    return Preprocessing(
        sides if mode == "squash" else sides[0], (high, wide), cast("Interpolation", config["interpolation"])
    )
