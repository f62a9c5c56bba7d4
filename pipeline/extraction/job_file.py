"""A job as one TOML file: sources, backbones, taps and every option, so that a scheduler runs one file."""

import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
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

# How far a process may give way to others.
LEVELS = range(20)


@dataclass(frozen=True)
class BackboneRequest:
    """A backbone of the job, and which of its taps are wanted; ``where`` and ``taps_where`` tell their lines."""

    name: str
    taps: tuple[str, ...] = ("penultimate",)
    where: str = ""
    taps_where: str = ""


@dataclass(frozen=True)
class JobFile:
    """What the file asks for. Paths in it count from its own folder.

    ``nice`` is for the process that runs it: from 0 to 19, which gives way to all others. ``images_where`` tells the
    line of the images.
    """

    images: tuple[str, ...]
    store: str = "penult-store"
    backbones: tuple[BackboneRequest, ...] = (BackboneRequest("efficientnet-lite0"),)
    options: ExtractOptions = field(default_factory=ExtractOptions)
    nice: int = 0
    images_where: str = ""


@contextmanager
def naming_the_line(where: str) -> Iterator[None]:
    """Tells of what goes wrong in which line of a job's file it was asked for."""
    try:
        yield
    except PenultError as error:
        raise type(error)(f"{where}{error}") from error


def read_job_file(path: str | Path) -> JobFile:
    """Reads and checks a job; whatever is wrong with it is told with its line.

    The file bears the names of `ExtractOptions`, and ``images``, ``store``, ``backbone``, ``taps`` and ``nice``.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise MissingFileError(f"There is no job file {path}", expected="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is no TOML: {error}", expected='lines such as images = "photos"') from None
    return _Reader(path, text).job(content)


class _Reader:
    """Checks the content of one file."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, text.splitlines()

    def job(self, content: Mapping[str, Any]) -> JobFile:
        names = {"images", "store", "backbone", "taps", "nice", *(each.name for each in fields(ExtractOptions))}
        for key in content:
            self._require_known("option", key, names)
        if not content.get("images"):
            where = self._where("images") if "images" in content else f"{self._path.name}: "
            raise InputError(f"{where}no images are named", expected='images = "photos", or a list of such')
        images = self._texts("images", content["images"])
        kinds = get_type_hints(ExtractOptions)
        values = {key: self._option(key, content[key], kinds[key]) for key in content if key in kinds}
        if "metrics" in values:
            values["metrics"] = self._placed(values["metrics"])
        try:
            options = ExtractOptions(**values)
        except (InputError, UnknownNameError) as error:
            named = next((key for key in values if re.search(rf"\b{key.removesuffix('s')}s?\b", str(error))), "")
            raise type(error)(f"{self._where(named)}{error}") from None
        return JobFile(
            images=tuple(self._place(image) for image in images),
            store=self._place(self._text("store", content.get("store", JobFile.store))),
            backbones=self._backbones(content),
            options=options,
            nice=self._nice(content.get("nice", JobFile.nice)),
            images_where=self._where("images"),
        )

    def _nice(self, value: Any) -> int:
        if type(value) is not int or value not in LEVELS:
            raise InputError(f"{self._where('nice')}nice is {value!r}", expected="a whole number from 0 to 19")
        return value

    def _backbones(self, content: Mapping[str, Any]) -> tuple[BackboneRequest, ...]:
        taps = self._texts("taps", content.get("taps", BackboneRequest.taps))
        asked = content.get("backbone", JobFile.backbones[0].name)
        if not isinstance(asked, list) or not asked or not isinstance(asked[0], dict):
            where, taps_where = self._where("backbone"), self._where("taps")
            names = self._texts("backbone", asked)
            return tuple(BackboneRequest(self._backbone(name), taps, where, taps_where) for name in names)
        requests = []
        for number, table in enumerate(asked):
            for key in table:
                self._require_known("part of a backbone", key, {"name", "taps"}, number)
            if "name" not in table:
                raise InputError(
                    f"{self._where('backbone', number)}the backbone has no name", expected='name = "efficientnet-lite0"'
                )
            owner = number if "taps" in table else None
            own = taps if owner is None else self._texts("taps", table["taps"], owner)
            name = self._backbone(self._text("name", table["name"], number))
            requests.append(BackboneRequest(name, own, self._where("name", number), self._where("taps", owner)))
        return tuple(requests)

    def _backbone(self, name: str) -> str:
        return self._placed(name) if name.endswith(".onnx") else name

    def _place(self, name: str) -> str:
        return name if "://" in name else self._placed(name)

    def _placed(self, name: str) -> str:
        return str(self._path.absolute().parent / Path(name).expanduser())

    def _option(self, key: str, value: Any, kind: Any) -> Any:
        allowed = [each for each in get_args(kind) or (kind,) if each is not type(None)]
        if all(isinstance(each, str) for each in allowed):  # the members of a Literal
            fits, expected = value in allowed, f"one of {', '.join(map(repr, allowed))}"
        else:
            number = isinstance(value, int) and not isinstance(value, bool)
            fits = type(value) in allowed or (number and float in allowed)
            words = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
            expected = " or ".join(words[each] for each in allowed)
        if not fits:
            raise InputError(f"{self._where(key)}{key} is {value!r}", expected=expected)
        return value

    def _text(self, key: str, value: Any, table: int | None = None) -> str:
        if not isinstance(value, str) or not value:
            raise InputError(f"{self._where(key, table)}{key} is {value!r}", expected="text in quotes")
        return value

    def _texts(self, key: str, value: Any, table: int | None = None) -> tuple[str, ...]:
        values = value if isinstance(value, list | tuple) else [value]
        if not values or not all(isinstance(each, str) and each for each in values):
            raise InputError(
                f"{self._where(key, table)}{key} is {value!r}", expected="text in quotes, or a list of such"
            )
        return tuple(values)

    def _require_known(self, kind: str, key: str, names: set[str], table: int | None = None) -> None:
        if key not in names:
            error = UnknownNameError.among(kind, key, names)
            raise UnknownNameError(f"{self._where(key, table)}{error}")

    def _where(self, key: str, table: int | None = None) -> str:
        """Returns the file's name and the line of a key: of the n-th ``[[backbone]]``, or outside of any."""
        inside: int | None = None
        tables = 0
        assigned = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
        for number, line in enumerate(self._lines, start=1):
            head = re.match(r"""\s*\[+\s*["']?([\w-]+)""", line)
            if head:
                inside, tables = tables, tables + 1
            if (head[1] == key and table in (None, inside)) if head else (inside == table and assigned.match(line)):
                return f"{self._path.name}, line {number}: "
        return f"{self._path.name}: "


def extract_job(job: str | Path | JobFile, *, progress: Progress | None = None) -> list[Receipt]:
    """Returns a receipt for each backbone that was begun; the time of ``max_seconds`` is that of all together."""
    asked = job if isinstance(job, JobFile) else read_job_file(job)
    progress = progress or Silent()
    # A backbone or a tap that is not there is an error now, and not after the hours that the others take.
    networks = [(_loaded(request), request.taps) for request in asked.backbones]
    files: list[ImageFile] = []
    with naming_the_line(asked.images_where):
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


def _loaded(request: BackboneRequest) -> Backbone:
    with naming_the_line(request.where):
        network = load_backbone(request.name)
    with naming_the_line(request.taps_where):
        for tap in request.taps:
            network.tap(tap)
    return network
