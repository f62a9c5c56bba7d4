"""Measures the parts of an extraction separately: decoding, the session, and the disk of the store."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from penult.errors import InputError, MissingFileError
from penult.exporters.card import Preprocessing
from penult.pipeline.images.decode import decode
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.reading import read_file
from penult.pipeline.runtime.session import Session

BLOCK_BYTES = 1 << 20
BLOCKS = 32


def sample_images() -> list[ImageFile]:
    """Returns the two sample photos of scikit-learn (640 x 427 pixels)."""
    found = find_spec("sklearn")  # not imported, which takes a second
    if found is None or not found.submodule_search_locations:
        raise MissingFileError("The sample photos of scikit-learn are missing", expected="scikit-learn, installed")
    folder = Path(next(iter(found.submodule_search_locations)), "datasets", "images")
    return [ImageFile.at(str(path)) for path in sorted(folder.glob("*.jpg"))]


def read_decodable(files: Sequence[ImageFile], preprocessing: Preprocessing) -> list[bytes]:
    """Returns the bytes of the files that can be decoded."""
    readable = []
    for file in files:
        try:
            data = read_file(file)
            decode(data, preprocessing)
        except (OSError, ValueError):  # includes ImageError
            continue
        readable.append(data)
    if not readable:
        raise InputError(f"None of {len(files)} images can be decoded", expected="at least one image to measure with")
    return readable


def decode_rate(images: Sequence[bytes], preprocessing: Preprocessing, threads: int, seconds: float) -> float:
    """Returns how many images per second ``threads`` threads decode from memory."""

    def once(number: int) -> int:
        decode(images[number % len(images)], preprocessing)
        return 1

    return _rate(once, threads, seconds)


def session_rate(
    session: Session, images: Sequence[bytes], preprocessing: Preprocessing, threads: int, seconds: float
) -> float:
    """Returns how many images per second the session runs when called by ``threads`` threads."""
    chosen = (images[number % len(images)] for number in range(session.batch_size))
    pixels = np.stack([decode(data, preprocessing) for data in chosen])

    def once(_: int) -> int:
        session.run(pixels)
        return len(pixels)

    return _rate(once, threads, seconds)


def _rate(once: Callable[[int], int], threads: int, seconds: float) -> float:
    once(0)  # warm-up
    began = time.perf_counter()

    def repeat(first: int) -> int:
        done, number = 0, first
        while time.perf_counter() - began < seconds:
            done += once(number)
            number += threads
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(repeat, range(threads)))
    return done / (time.perf_counter() - began)


def disk_rate(folder: Path) -> float:
    """Returns the write rate of the disk of ``folder`` in bytes per second, with a flush like a commit."""
    place = next(each for each in (folder, *folder.parents) if each.is_dir())
    block = os.urandom(BLOCK_BYTES)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            began = time.perf_counter()
            for _ in range(BLOCKS):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            return BLOCKS * BLOCK_BYTES / (time.perf_counter() - began)
    except OSError as error:
        raise InputError(
            f"Nothing can be written to {str(place)!r}: {error.strerror or error}",
            expected="a writable folder for the store",
        ) from error
