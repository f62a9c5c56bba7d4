"""Turns an image file's bytes into the pixels that a backbone takes, exactly as its card says and in no other way.

The two parts are the card's: `Decoding` (bytes to upright RGB) and `Preprocessing` (resize and centre crop). Resize and
crop round as torchvision's ``Resize`` and ``CenterCrop`` do, so that features agree with a plain PyTorch loop.

This module loads Pillow and no more, because each decoder, which is a process of its own, loads it.
"""

import io
import math
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from PIL import ExifTags, Image, UnidentifiedImageError

from penult.defaults import IMAGE_MEGABYTES, IMAGE_SECONDS
from penult.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penult.exporters.card import Decoding, Preprocessing


# Formats are named, because Pillow would also start a PostScript interpreter for an EPS file, and would take nearly any
# bytes for a TGA image.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "AVIF", "PPM", "ICO")

# How a photo of an iPhone begins, after its first four bytes; Pillow alone cannot tell what it is.
HEIC_BRANDS = frozenset(
    b"ftyp" + brand
    for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)

# Where Pillow begins to warn of a decompression bomb; above it the file is refused before a pixel is decoded.
MAX_PIXELS = 89_478_485

# White in 16 bits.
LARGEST_LEVEL = (1 << 16) - 1

# Above this many resized pixels (an image of extreme shape) only the part that the crop keeps is resized.
MAX_RESIZED_PIXELS = 1 << 24

# An image of more pixels than this is made RGB and upright strip by strip, so that it is in memory only once.
STRIPPED_PIXELS = 1 << 25

# Images that take more memory than this to decode are decoded one at a time.
LARGE_BYTES = 1 << 27

# A JPEG that may be decoded at a reduced scale keeps at least this many times the size that it is then resized to: what
# it loses beyond that begins to show in features.
DRAFT_MARGIN = 2

_large_turn = threading.Lock()

# What turns an image upright whose EXIF orientation is this.
UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode(data: bytes, preprocessing: "Preprocessing") -> "NDArray[np.uint8]":
    """Returns the pixels (H, W, 3) in RGB of the image that ``data`` holds, resized and cropped.

    Raises:
        ImageError: the bytes are no image, or a damaged, forbiddingly large or unsupported one; the message is the
            reason for the ledger.
    """
    import numpy as np

    return np.asarray(decode_to_image(data, preprocessing))


def decode_to_image(
    data: bytes | bytearray, preprocessing: "Preprocessing", turn: AbstractContextManager[object] = _large_turn
) -> Image.Image:
    """Returns the same as an image of Pillow; ``turn`` is held while an image is decoded that takes much memory."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            _refuse_bomb(image)
            if preprocessing.decoding.draft:
                _reduce_jpeg(image, preprocessing)
            with turn if _cost_bytes(image) > LARGE_BYTES else nullcontext():
                return _prepared(image, preprocessing)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_what_it_is_instead(data)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the image is too large: more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise ImageError(OUT_OF_MEMORY) from None
    except Exception as error:
        if "memory" in str(error).lower():  # as most libraries say it, below Pillow
            raise ImageError(OUT_OF_MEMORY) from None
        raise ImageError(f"the image is damaged: {str(error) or type(error).__name__}") from error


def _formats(data: bytes | bytearray) -> tuple[str, ...]:
    if bytes(data[4:12]) not in HEIC_BRANDS:
        return FORMATS
    try:
        import_module("pillow_heif").register_heif_opener(decode_threads=1)  # as many images at once as cores
    except ImportError:
        return FORMATS
    return (*FORMATS, "HEIF")


def _refuse_bomb(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"the image is too large: {width} x {height} pixels, and {MAX_PIXELS:,} is the most")
    if not width * height:
        raise ImageError("the image has no pixels")


def _reduce_jpeg(image: Image.Image, preprocessing: "Preprocessing") -> None:
    """Has a JPEG decoded at a half, a quarter or an eighth of its sides, where the margin leaves that much."""
    is_turned = _turn_of(image, preprocessing.decoding) in TURNED_SIDES
    across, down = resized_size(image.size[::-1] if is_turned else image.size, preprocessing.resize)
    wanted = (down, across) if is_turned else (across, down)
    image.draft(None, (wanted[0] * DRAFT_MARGIN, wanted[1] * DRAFT_MARGIN))  # does nothing to other formats


def _cost_bytes(image: Image.Image) -> int:
    """Returns about how much memory the image takes on its way: an RGB image is there once, another thrice."""
    return image.width * image.height * (4 if image.mode in ("RGB", "L") else 12)


def _what_it_is_instead(data: bytes | bytearray) -> str:
    if not data:
        return "the file is empty"
    if bytes(data[4:12]) in HEIC_BRANDS:
        if find_spec("pillow_heif") is None:
            return "the file is a HEIC image, which is read after pip install 'penult[heic]'"
        return "the HEIC image is damaged"
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            return f"the file is a {image.format} image, a format that is not read"
    except Exception:  # noqa: BLE001 - whatever it is, it is no image
        return "the file is no image that can be identified"


def _prepared(image: Image.Image, preprocessing: "Preprocessing") -> Image.Image:
    """Returns ``image`` upright in RGB, resized and cropped."""
    decoding = preprocessing.decoding
    image.load()
    turn = _turn_of(image, decoding)
    is_ready = turn is None and _is_plain(image)
    if is_ready or image.width * image.height <= STRIPPED_PIXELS:
        return resize_and_crop(upright_rgb(image, decoding), preprocessing)
    size = (image.height, image.width) if turn in TURNED_SIDES else image.size
    width, height = resized_size(size, preprocessing.resize)
    if width * height > MAX_RESIZED_PIXELS:
        return resize_and_crop(upright_rgb(image, decoding), preprocessing)
    resized = resize_by_strips(
        image, turn, lambda strip: _as_rgb(strip, decoding), (width, height), FILTERS[preprocessing.interpolation]
    )
    return _centre(resized, preprocessing.crop)


def upright_rgb(image: Image.Image, decoding: "Decoding") -> Image.Image:
    """Returns the first frame of ``image`` in RGB, turned upright, 8 bits a channel, laid over the background."""
    image.load()
    turn = _turn_of(image, decoding)
    return _as_rgb(image if turn is None else image.transpose(turn), decoding)


def _turn_of(image: Image.Image, decoding: "Decoding") -> Image.Transpose | None:
    return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation)) if decoding.exif_orientation else None


def _is_plain(image: Image.Image) -> bool:
    return image.mode == "RGB" and "transparency" not in image.info


def _as_rgb(image: Image.Image, decoding: "Decoding") -> Image.Image:
    if _is_plain(image):
        return image
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image)
    if image.mode == "F":
        raise ImageError("the image holds floating-point values, for which no black and white are agreed")
    if image.has_transparency_data:
        return _over_background(image, decoding.background)
    return image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Scales 0..65535 to 0..255; Pillow's own conversion would clip all that is above 255 to white."""
    if image.mode == "I":
        lowest, highest = cast("tuple[int, int]", image.getextrema())
        if lowest < 0 or highest > LARGEST_LEVEL:
            raise ImageError("the image holds integers beyond 16 bits, for which no black and white are agreed")
    return image.convert("I").point([(level + 128) // 257 for level in range(LARGEST_LEVEL + 1)], "L").convert("RGB")


def _over_background(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    image = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    canvas.alpha_composite(image)
    return canvas.convert("RGB")


def resize_and_crop(image: Image.Image, preprocessing: "Preprocessing") -> Image.Image:
    """Returns ``image`` resized and centre-cropped to the backbone's input size."""
    width, height = resized_size(image.size, preprocessing.resize)
    crop_height, crop_width = preprocessing.crop
    left, top = round((width - crop_width) / 2.0), round((height - crop_height) / 2.0)
    resample = FILTERS[preprocessing.interpolation]
    if width * height <= MAX_RESIZED_PIXELS or left < 0 or top < 0:
        return _centre(image.resize((width, height), resample), preprocessing.crop)
    across, down = image.width / width, image.height / height
    kept = (left * across, top * down, (left + crop_width) * across, (top + crop_height) * down)
    return image.resize((crop_width, crop_height), resample, box=kept)


def _centre(resized: Image.Image, crop: tuple[int, int]) -> Image.Image:
    height, width = crop
    left, top = round((resized.width - width) / 2.0), round((resized.height - height) / 2.0)
    return resized.crop((left, top, left + width, top + height))


def resized_size(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the (width, height) that ``size`` becomes; an int ``resize`` is the length of the shorter side.

    >>> resized_size((500, 375), 256)
    (341, 256)
    >>> resized_size((500, 375), (256, 256))
    (256, 256)
    """
    if not isinstance(resize, int):
        height, width = resize
        return width, height
    width, height = size
    longer = math.floor(resize * max(size) / min(size))
    return (resize, longer) if width <= height else (longer, resize)


# How many pixels a strip has.
STRIP_PIXELS = 1 << 20

# What makes rows of columns.
TURNED_SIDES = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)

# From which end of the image its upright rows come, where it is not the near one.
_FROM_THE_END = frozenset(
    {
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)


def resize_by_strips(
    image: Image.Image,
    turn: Image.Transpose | None,
    convert: Callable[[Image.Image], Image.Image],
    size: tuple[int, int],
    resample: Image.Resampling,
) -> Image.Image:
    """Returns what ``convert`` makes of the turned image, resized to ``size``.

    A resize has two passes, along the rows and along the columns. The first is made strip by strip; what ``convert``
    does must depend on each pixel alone. The result is Pillow's own, but for images far higher than wide, where Pillow
    begins with the columns, and rounds and clips between the passes at other places.
    """
    width, height = image.size
    rows, columns = (width, height) if turn in TURNED_SIDES else (height, width)
    narrow = Image.new("RGB", (size[0], rows))
    step = max(1, STRIP_PIXELS // columns)
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        near, far = (rows - bottom, rows - top) if turn in _FROM_THE_END else (top, bottom)
        strip = image.crop((near, 0, far, height) if turn in TURNED_SIDES else (0, near, width, far))
        upright = convert(strip if turn is None else strip.transpose(turn))
        narrow.paste(upright.resize((size[0], bottom - top), resample), (0, top))
    return narrow.resize(size, resample)


OUT_OF_MEMORY = (
    "the image needs more memory than it may have. What to do: where that is no fault of the image, allow more with "
    "--image-megabytes, and try it again with --retry-failed."
)
"""The reason of an image that cannot be decoded within its memory."""


@dataclass(frozen=True)
class DecodeLimits:
    """What one image may take: ``seconds`` of time, and ``megabytes`` of memory while it is decoded."""

    seconds: float = IMAGE_SECONDS
    megabytes: int = IMAGE_MEGABYTES
