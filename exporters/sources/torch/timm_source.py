"""The source ``timm:NAME``: a network of timm, with the preprocessing of its pretrained configuration."""

import math
from collections.abc import Mapping
from typing import Any, cast

from penult.errors import BackboneError, InputError, MissingExtraError
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
        _source(timm, network, request, is_drawn=address.is_random),
        full_name,
        Provenance(source=f"timm {full_name}", licence=licence, weights=facts, notes=notes),
        imagenet_classes() if named and "in1k" in full_name and network.num_classes == 1000 else None,
    )


def _address(timm: Any, rest: str, request: ExportRequest) -> Address:
    """Reads which network is meant, and refuses what timm does not have or a card cannot say."""
    address = Address.of(rest, request)
    if address.weights is not None:  # timm's own word for weights is the tag behind the dot
        raise InputError(
            f"The weights of {address.name} are {address.weights!r}",
            expected="random, or a file that is there",
            remedy=f"timm:{address.name.partition('.')[0]}.{address.weights} names weights of timm's own",
        )
    check_name("network of timm", address.name.partition(".")[0], timm.list_models())
    if "." in address.name:
        check_name("pretrained network of timm", address.name, _pretrained(timm, address.name))
    _refuse_own_crop(timm, address.name, request)
    return address


def _built(timm: Any, address: Address, parameters: Mapping[str, Any]) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Returns the network with its weights, what the card says of these, and what should be said besides."""
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


def _source(timm: Any, network: Any, request: ExportRequest, *, is_drawn: bool) -> TorchSource:
    config = _configured(timm, network, request)
    return TorchSource(
        network=network,
        transform=timm.data.create_transform(**config, is_training=False),
        penultimate=lambda batch: network.forward_head(network.forward_features(batch), pre_logits=True),
        preprocessing=_preprocessing(config, request),
        mean=config["mean"],
        std=config["std"],
        framework=f"timm {timm.__version__}",
        is_drawn=is_drawn,
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
    """Tells a network with a fixed size, such as one with position embeddings, the size that is asked."""
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
    except (RuntimeError, KeyError, AttributeError) as reason:  # of load_state_dict, and of timm's filters before it
        raise mismatch_error(path.name, reason) from reason


def _downloaded(timm: Any, name: str, parameters: Mapping[str, Any]) -> Any:
    config = dict(timm.models.get_pretrained_cfg(name).to_dict())
    try:
        _ask_hub(config)
        return timm.create_model(name, pretrained=True, **parameters)
    except Exception as reason:  # the hub, the network, the disk and the unpickler raise what they like
        facts = _facts(config)
        raise BackboneError(
            f"The weights {facts.get('file')} of timm's {name} cannot be had from {facts.get('url')}: "
            f"{(str(reason).strip().splitlines() or [type(reason).__name__])[0]}",
            expected="a network connection, or the file in the cache of the hub",
            remedy=f"get the file elsewhere and name it: timm:{name}@FILE",
        ) from reason


def _ask_hub(config: Mapping[str, Any]) -> None:
    """Raises where the hub does not answer: its own client would try to reach it for a minute, file by file."""
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
    except HfHubHTTPError:  # it answers; what is wrong, timm will find
        return


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what a card says of timm's own weights."""
    name = f"{config.get('architecture')}.{config.get('tag')}" if config.get("tag") else config.get("architecture")
    if config.get("hf_hub_id"):
        file = config.get("hf_hub_filename") or "model.safetensors"
        return {"name": name, "file": file, "url": f"https://huggingface.co/{config['hf_hub_id']}"}
    url = str(config.get("url") or "")
    return {"name": name, "file": url.rpartition("/")[2], "url": url}


def _refuse_own_crop(timm: Any, name: str, request: ExportRequest) -> None:
    """Raises before anything is built or downloaded where no card can say how timm prepares images."""
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
            expected="crop_mode center to a square, or squash: what a card can say",
            remedy="say with --resize how images reach that size instead",
        )


def _configured(timm: Any, network: Any, request: ExportRequest) -> dict[str, Any]:
    """Gives timm's own configuration of the data, with what the user asks otherwise."""
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
    """Says the same as timm's own transform does, in the card's words."""
    high, wide = config["input_size"][1:]
    mode = config["crop_mode"]
    _check_crop(mode, high, wide)
    sides = math.floor(high / config["crop_pct"]), math.floor(wide / config["crop_pct"])
    if request.hints.resize is not None and request.hints.resize not in (sides, sides[0]):
        raise InputError(
            f"timm cannot resize to {request.hints.resize}", expected="a size with the proportions of the input"
        )
    return Preprocessing(
        sides if mode == "squash" else sides[0], (high, wide), cast("Interpolation", config["interpolation"])
    )
