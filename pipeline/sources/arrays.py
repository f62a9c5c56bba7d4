"""Arrays from Python, such as the frames of a camera or a data set that some library holds in memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penult.errors import InputError
from penult.pipeline.extraction.images import ImageFile
from penult.store.keys import key_of


@dataclass(frozen=True)
class Held:
    """Bytes that are in memory already."""

    data: bytes

    def read(self, file: ImageFile, most_bytes: int) -> bytes:
        """Returns them."""
        return self.data


def array_image(array: NDArray[Any]) -> ImageFile:
    """Returns the image of an array of uint8, (H, W, 3) in RGB or (H, W) in grey.

    It is the sample that a PPM or PGM file of these pixels is, and is called by its key.
    """
    is_grey = array.ndim == 2
    if array.dtype != np.uint8 or not (is_grey or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise InputError(
            f"An image is an array {array.shape} of {array.dtype}",
            expected="(H, W, 3) or (H, W) of uint8",
            remedy="scale it to 0..255, move its channels to the end, and leave out any but red, green and blue",
        )
    height, width = array.shape[:2]
    head = f"P{5 if is_grey else 6} {width} {height} 255\n".encode()
    data = head + np.ascontiguousarray(array).tobytes()
    return ImageFile(f"array:{key_of(data).hex()}", len(data), 0, place=Held(data))
