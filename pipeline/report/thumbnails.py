"""Thumbnails within a budget of bytes. Each is stored once in the file, however often it is shown."""

import os
import warnings
from base64 import b64encode
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice

from PIL import Image, ImageOps, features

from penult.exporters.card import Decoding
from penult.pipeline.images.decode import FORMATS, MAX_PIXELS, upright_rgb
from penult.pipeline.images.reading import read_again

BUDGET_BYTES = 3_000_000
LARGE_SIDE, SMALL_SIDE = 208, 144
LARGE_COUNT = 120
_BATCH = 32


@dataclass
class Album:
    """The thumbnails within the budget, by path. The style sheet contains each under its name."""

    pictures: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    rules: list[str] = field(default_factory=list)

    def name_of(self, path: str) -> str:
        """Returns the name of the thumbnail; empty if the image is unreadable or did not fit."""
        return self.pictures.get(path, "")


def develop(paths: Iterable[str], *, budget_bytes: int = BUDGET_BYTES) -> Album:
    """Makes thumbnails of ``paths`` (the most important first) until the budget is used up.

    Each is a square centre crop, about what a backbone sees of the image.
    """
    album, spent = Album(), 0
    distinct = list(dict.fromkeys(paths))
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # extraction has reported the problems of these images
        for batch in _batches(list(enumerate(distinct))):
            for (_, path), data in zip(batch, pool.map(_miniature, batch), strict=True):
                if data is None:
                    album.broken.add(path)
                elif spent + len(data) <= budget_bytes:
                    spent += len(data)
                    name = f"t{len(album.pictures)}"
                    album.pictures[path] = name
                    album.rules.append(f".{name}{{background-image:url({data})}}")
                else:
                    return album
    return album


def _batches(ranked: list[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yields a few at a time, so that few images beyond the budget are read."""
    rest = iter(ranked)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _miniature(ranked: tuple[int, str]) -> str | None:
    """Returns the thumbnail as a data URI, or None if the image is unreadable."""
    rank, path = ranked
    side = LARGE_SIDE if rank < LARGE_COUNT else SMALL_SIDE
    try:
        with Image.open(BytesIO(read_again(path)), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (2 * side, 2 * side))
            square = ImageOps.fit(upright_rgb(image, Decoding()), (side, side), Image.Resampling.BICUBIC)
        buffer = BytesIO()
        if features.check("webp"):
            square.save(buffer, "WEBP", quality=72, method=4)
        else:
            square.save(buffer, "JPEG", quality=74)
    except Exception:  # noqa: BLE001 - one bad image must not stop the report
        return None
    kind = "webp" if buffer.getvalue()[:4] == b"RIFF" else "jpeg"
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
