"""A job as one TOML file with sources, backbones, taps and all options, for schedulers."""

import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from penult.errors import InputError, MissingFileError, PenultError, UnknownNameError
from penult.exporters import Backbone, load_backbone
from penult.pipeline.extraction.extract import extract, find_images
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.progress import Progress, Silent
from penult.store import open_store

NICE_LEVELS = range(20)

KIND_NAMES = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


@dataclass(frozen=True)
class BackboneRequest:
    """A backbone of the job and its taps."""

    name: str
    taps: tuple[str, ...] = ("penultimate",)


@dataclass(frozen=True)
class JobFile:
    """The content of a job file, with absolute paths.

    ``nice`` is the niceness of the process that runs the job, from 0 to 19. ``file`` is the name of the job file, which
    starts every error message.
    """

    images: tuple[str, ...]
    store: str = "penult-store"
    backbones: tuple[BackboneRequest, ...] = (BackboneRequest("efficientnet-lite0"),)
    options: ExtractOptions = field(default_factory=ExtractOptions)
    nice: int = 0
    file: str = "job"


def read_job_file(path: str | Path) -> JobFile:
    """Reads and checks a job file; errors name the file and the key.

    Its keys are those of `ExtractOptions`, and ``images``, ``store``, ``backbone``, ``taps`` and ``nice``. Relative
    paths start at the folder of the file.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"There is no job file {path}", expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not TOML: {error}", expected='lines such as images = "photos"') from None
    with naming(path.name):
        return _job(content, path.absolute().parent, path.name)


def extract_job(job: str | Path | JobFile, *, progress: Progress | None = None) -> list[Receipt]:
    """Returns a receipt for each backbone that was started; ``max_seconds`` limits all of them together."""
    asked = job if isinstance(job, JobFile) else read_job_file(job)
    progress = progress or Silent()
    # Loaded first, so that a missing backbone or tap raises an error now and not after hours.
    networks = [(_loaded(request, asked.file), request.taps) for request in asked.backbones]
    files: list[ImageFile] = []
    with naming(asked.file, "images"):
        for source in asked.images:
            files += find_images(source, progress, shard=asked.options.shard)
    store = open_store(asked.store)
    began, receipts = time.monotonic(), []
    for network, taps in networks:
        options = replace(asked.options, shard=None)
        if options.max_seconds is not None:
            left = options.max_seconds - (time.monotonic() - began)
            options = replace(options, max_seconds=max(left, 1e-3))
        receipts.append(extract(files, store, backbone=network, taps=taps, options=options, progress=progress))
    return receipts


@contextmanager
def naming(*places: str) -> Iterator[None]:
    """Adds the file and the key to a PenultError."""
    try:
        yield
    except PenultError as error:
        raise type(error)(": ".join([*places, str(error)])) from error


def _job(content: Mapping[str, Any], folder: Path, file: str) -> JobFile:
    kinds = get_type_hints(ExtractOptions)
    _require_known("option", content, {"images", "store", "backbone", "taps", "nice", *kinds})
    if not content.get("images"):
        raise InputError("no images are named", expected='images = "photos", or a list of sources')
    values = {key: _option(key, value, kinds[key]) for key, value in content.items() if key in kinds}
    if "metrics" in values:
        values["metrics"] = _path(values["metrics"], folder)
    nice = content.get("nice", JobFile.nice)
    if type(nice) is not int or nice not in NICE_LEVELS:
        raise InputError(f"nice is {nice!r}", expected="a whole number from 0 to 19")
    return JobFile(
        images=tuple(_path(image, folder) for image in _texts("images", content["images"])),
        store=_path(_text("store", content.get("store", JobFile.store)), folder),
        backbones=tuple(_backbones(content, folder)),
        options=ExtractOptions(**values),
        nice=nice,
        file=file,
    )


def _backbones(content: Mapping[str, Any], folder: Path) -> Iterator[BackboneRequest]:
    taps = _texts("taps", content.get("taps", BackboneRequest.taps))
    asked = content.get("backbone", JobFile.backbones[0].name)
    if not isinstance(asked, list) or not asked or not isinstance(asked[0], dict):
        asked = [{"name": name} for name in _texts("backbone", asked)]
    for number, table in enumerate(asked, start=1):
        with naming(f"backbone {number}"):
            _require_known("key of a backbone", table, {"name", "taps"})
            if "name" not in table:
                raise InputError("the backbone has no name", expected='name = "efficientnet-lite0"')
            name = _text("name", table["name"])
            own_taps = _texts("taps", table["taps"]) if "taps" in table else taps
        yield BackboneRequest(_path(name, folder) if name.endswith(".onnx") else name, own_taps)


def _loaded(request: BackboneRequest, file: str) -> Backbone:
    with naming(file, "backbone"):
        network = load_backbone(request.name)
        for tap in request.taps:
            network.tap(tap)
        return network


def _path(name: str, folder: Path) -> str:
    return name if "://" in name else str(folder / Path(name).expanduser())


def _option(key: str, value: Any, kind: Any) -> Any:
    allowed = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    if all(isinstance(each, str) for each in allowed):  # the members of a Literal
        fits, expected = value in allowed, f"one of {', '.join(map(repr, allowed))}"
    else:
        fits = type(value) in allowed or (type(value) is int and float in allowed)
        expected = " or ".join(KIND_NAMES[each] for each in allowed)
    if not fits:
        raise InputError(f"{key} is {value!r}", expected=expected)
    return value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{key} is {value!r}", expected="text in quotes")
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(isinstance(each, str) and each for each in values):
        raise InputError(f"{key} is {value!r}", expected="text in quotes, or a list of texts")
    return tuple(values)


def _require_known(kind: str, keys: Iterable[str], names: set[str]) -> None:
    for key in keys:
        if key not in names:
            raise UnknownNameError.among(kind, key, names)
