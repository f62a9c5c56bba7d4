"""Measures what a job is made of, each part alone: decoding, the session, the disk under the store."""

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
    """Returns the two photos of 640 x 427 pixels that come with scikit-learn."""
    found = find_spec("sklearn")  # found and not imported: that takes a second
    if found is None or not found.submodule_search_locations:
        raise MissingFileError("The sample photos of scikit-learn are not there", expected="scikit-learn, installed")
    folder = Path(next(iter(found.submodule_search_locations)), "datasets", "images")
    return [ImageFile.at(str(path)) for path in sorted(folder.glob("*.jpg"))]


def read_decodable(files: Sequence[ImageFile], preprocessing: Preprocessing) -> list[bytes]:
    """Returns the bytes of those of the files that can be decoded."""
    readable = []
    for file in files:
        try:
            data = read_file(file)
            decode(data, preprocessing)
        except (OSError, ValueError):  # of which ImageError is one
            continue
        readable.append(data)
    if not readable:
        raise InputError(f"None of {len(files)} images can be decoded", expected="images to measure with")
    return readable


def decode_rate(images: Sequence[bytes], preprocessing: Preprocessing, threads: int, seconds: float) -> float:
    """Returns how many images a second so many threads decode, from memory."""

    def once(number: int) -> int:
        decode(images[number % len(images)], preprocessing)
        return 1

    return _rate(once, threads, seconds)


def session_rate(
    session: Session, images: Sequence[bytes], preprocessing: Preprocessing, threads: int, seconds: float
) -> float:
    """Returns how many decoded images a second the session runs when so many threads call it."""
    chosen = (images[number % len(images)] for number in range(session.batch_size))
    pixels = np.stack([decode(data, preprocessing) for data in chosen])

    def once(_: int) -> int:
        session.run(pixels)
        return len(pixels)

    return _rate(once, threads, seconds)


def _rate(once: Callable[[int], int], threads: int, seconds: float) -> float:
    once(0)  # what is done only the first time is not measured
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
    """Returns how many bytes a second reach the disk under ``folder``, flushed as a commit is."""
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
            expected="a folder for the store that may be written",
        ) from error
