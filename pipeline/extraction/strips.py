"""Resizes a large image that must be converted or turned first, without ever having it in memory a second time."""

from collections.abc import Callable

from PIL import Image

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


def resized_by_strips(
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
