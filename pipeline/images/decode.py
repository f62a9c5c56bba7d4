"""Turns the bytes of an image file into the pixels that a backbone takes, exactly as the backbone's card says.

The card has two parts: `Decoding` (bytes to upright RGB) and `Preprocessing` (resize and centre crop). Both round like
torchvision's ``Resize`` and ``CenterCrop``, so that features agree with a plain PyTorch loop.

This module imports only Pillow, because every decoder process imports it.
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


# An explicit list: Pillow would also start a PostScript interpreter for an EPS file, and read nearly any bytes as TGA.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "AVIF", "PPM", "ICO")

# Bytes 4 to 12 of an iPhone photo. Pillow alone does not recognise it.
HEIC_BRANDS = frozenset(
    b"ftyp" + brand
    for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)

# Pillow warns about a decompression bomb above this size. Penult rejects such a file before it decodes a pixel.
MAX_PIXELS = 89_478_485

# White in 16 bits.
LARGEST_LEVEL = (1 << 16) - 1

# Above this many resized pixels (an extremely long image), only the part that the crop keeps is resized.
MAX_RESIZED_PIXELS = 1 << 24

# A larger image is converted to upright RGB strip by strip, so that it is in memory only once.
MAX_WHOLE_PIXELS = 1 << 25

# The number of pixels in a strip.
STRIP_PIXELS = 1 << 20

# Images that take more memory than this to decode are decoded one at a time.
LARGE_BYTES = 1 << 27

# A JPEG decoded at a reduced scale keeps at least this many times its final size. A smaller margin changes features
# noticeably.
DRAFT_MARGIN = 2

OUT_OF_MEMORY = (
    "the image needs more memory than the limit. What to do: if the image is fine, raise the limit with "
    "--image-megabytes, and try it again with --retry-failed."
)
"""The reason for an image that cannot be decoded within its memory limit."""

_large_lock = threading.Lock()

# The transpose that turns an image of each EXIF orientation upright.
UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The transposes that swap width and height.
SWAPS_SIDES = frozenset(
    {
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)

# The transposes whose first upright rows are at the end of the stored image.
_STARTS_AT_END = frozenset(
    {
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    }
)

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class DecodeLimits:
    """The limits for decoding one image: ``seconds`` of time and ``megabytes`` of memory."""

    seconds: float = IMAGE_SECONDS
    megabytes: int = IMAGE_MEGABYTES


def decode(data: bytes, preprocessing: "Preprocessing") -> "NDArray[np.uint8]":
    """Returns the RGB pixels (H, W, 3) of the image file ``data``, resized and cropped.

    Raises:
        ImageError: the bytes are not an image, or the image is damaged, too large or of an unsupported format. The
            message becomes the reason in the ledger.
    """
    import numpy as np

    return np.asarray(decode_to_image(data, preprocessing))


def decode_to_image(
    data: bytes | bytearray, preprocessing: "Preprocessing", large_lock: AbstractContextManager[object] = _large_lock
) -> Image.Image:
    """Returns the same as a Pillow image. ``large_lock`` is held while an image that takes much memory is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            _check_size(image)
            if preprocessing.decoding.draft:
                _reduce_jpeg(image, preprocessing)
            with large_lock if _cost_bytes(image) > LARGE_BYTES else nullcontext():
                return _prepared(image, preprocessing)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(data)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the image is too large: more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise ImageError(OUT_OF_MEMORY) from None
    except Exception as error:
        if "memory" in str(error).lower():  # the libraries below Pillow raise other classes
            raise ImageError(OUT_OF_MEMORY) from None
        raise ImageError(f"the image is damaged: {str(error) or type(error).__name__}") from error


def _formats(data: bytes | bytearray) -> tuple[str, ...]:
    if bytes(data[4:12]) not in HEIC_BRANDS:
        return FORMATS
    try:
        import_module("pillow_heif").register_heif_opener(decode_threads=1)  # each core already decodes an image
    except ImportError:
        return FORMATS
    return (*FORMATS, "HEIF")


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"the image is too large: {width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    if not width * height:
        raise ImageError("the image has no pixels")


def _reduce_jpeg(image: Image.Image, preprocessing: "Preprocessing") -> None:
    """Makes Pillow decode a JPEG at 1/2, 1/4 or 1/8 of its size, if the margin allows it."""
    is_swapped = _transpose_of(image, preprocessing.decoding) in SWAPS_SIDES
    width, height = resized_size(image.size[::-1] if is_swapped else image.size, preprocessing.resize)
    size = (height, width) if is_swapped else (width, height)
    image.draft(None, (size[0] * DRAFT_MARGIN, size[1] * DRAFT_MARGIN))  # does nothing to other formats


def _cost_bytes(image: Image.Image) -> int:
    """Returns roughly how much memory decoding takes: one copy of an RGB image, three of any other."""
    return image.width * image.height * (4 if image.mode in ("RGB", "L") else 12)


def _why_unidentified(data: bytes | bytearray) -> str:
    if not data:
        return "the file is empty"
    if bytes(data[4:12]) in HEIC_BRANDS:
        if find_spec("pillow_heif") is None:
            return "the file is a HEIC image, which needs pip install 'penult[heic]'"
        return "the HEIC image is damaged"
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            return f"the file is a {image.format} image, which is not supported"
    except Exception:  # noqa: BLE001 - any error means that it is not an image
        return "the file is not a recognised image"


def _prepared(image: Image.Image, preprocessing: "Preprocessing") -> Image.Image:
    """Returns ``image`` in upright RGB, resized and cropped."""
    decoding = preprocessing.decoding
    image.load()
    transpose = _transpose_of(image, decoding)
    is_ready = transpose is None and _is_plain(image)
    if is_ready or image.width * image.height <= MAX_WHOLE_PIXELS:
        return resize_and_crop(upright_rgb(image, decoding), preprocessing)
    size = (image.height, image.width) if transpose in SWAPS_SIDES else image.size
    width, height = resized_size(size, preprocessing.resize)
    if width * height > MAX_RESIZED_PIXELS:
        return resize_and_crop(upright_rgb(image, decoding), preprocessing)
    resized = resize_in_strips(
        image, transpose, lambda strip: _as_rgb(strip, decoding), (width, height), FILTERS[preprocessing.interpolation]
    )
    return _centre_crop(resized, preprocessing.crop)


def upright_rgb(image: Image.Image, decoding: "Decoding") -> Image.Image:
    """Returns the first frame of ``image`` in upright RGB, 8 bits per channel, with transparency on the background."""
    image.load()
    transpose = _transpose_of(image, decoding)
    return _as_rgb(image if transpose is None else image.transpose(transpose), decoding)


def _transpose_of(image: Image.Image, decoding: "Decoding") -> Image.Transpose | None:
    return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation)) if decoding.exif_orientation else None


def _is_plain(image: Image.Image) -> bool:
    return image.mode == "RGB" and "transparency" not in image.info


def _as_rgb(image: Image.Image, decoding: "Decoding") -> Image.Image:
    if _is_plain(image):
        return image
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image)
    if image.mode == "F":
        raise ImageError("the image has floating-point values, and their range from black to white is not defined")
    if image.has_transparency_data:
        return _over_background(image, decoding.background)
    return image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Scales 0..65535 to 0..255; Pillow's own conversion would clip everything above 255 to white."""
    if image.mode == "I":
        lowest, highest = cast("tuple[int, int]", image.getextrema())
        if lowest < 0 or highest > LARGEST_LEVEL:
            raise ImageError("the image has integers of more than 16 bits, and their range is not defined")
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
        return _centre_crop(image.resize((width, height), resample), preprocessing.crop)
    x_scale, y_scale = image.width / width, image.height / height
    box = (left * x_scale, top * y_scale, (left + crop_width) * x_scale, (top + crop_height) * y_scale)
    return image.resize((crop_width, crop_height), resample, box=box)


def _centre_crop(resized: Image.Image, crop: tuple[int, int]) -> Image.Image:
    height, width = crop
    left, top = round((resized.width - width) / 2.0), round((resized.height - height) / 2.0)
    return resized.crop((left, top, left + width, top + height))


def resized_size(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the (width, height) after a resize of ``size``; an int ``resize`` is the length of the shorter side.

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


def resize_in_strips(
    image: Image.Image,
    transpose: Image.Transpose | None,
    convert: Callable[[Image.Image], Image.Image],
    size: tuple[int, int],
    resample: Image.Resampling,
) -> Image.Image:
    """Returns the transposed and converted image, resized to ``size``.

    A resize has two passes, along the rows and along the columns; the first runs strip by strip. ``convert`` must treat
    each pixel alone. The result equals Pillow's, except for images far higher than wide: there Pillow starts with the
    columns, and rounds and clips between the passes at other places.
    """
    width, height = image.size
    is_swapped = transpose in SWAPS_SIDES
    rows, columns = (width, height) if is_swapped else (height, width)
    narrow = Image.new("RGB", (size[0], rows))
    step = max(1, STRIP_PIXELS // columns)
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        start, end = (rows - bottom, rows - top) if transpose in _STARTS_AT_END else (top, bottom)
        strip = image.crop((start, 0, end, height) if is_swapped else (0, start, width, end))
        upright = convert(strip if transpose is None else strip.transpose(transpose))
        narrow.paste(upright.resize((size[0], bottom - top), resample), (0, top))
    return narrow.resize(size, resample)
