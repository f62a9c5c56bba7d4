"""Decoding follows the card: upright, RGB, 8 bits, resized and cropped, or an error."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from penult.errors import ImageError
from penult.exporters.card import Decoding, Preprocessing
from penult.pipeline.images.decode import MAX_PIXELS, decode, resize_and_crop, resized_size

PLAIN = Preprocessing(resize=256, crop=(224, 224))
WHOLE = Preprocessing(resize=(8, 8), crop=(8, 8), interpolation="nearest")


def _bytes(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def _noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (224, 224), (30, 20), (257, 1000)])
def test_decoding_agrees_with_a_plain_pillow_loop(size: tuple[int, int]) -> None:
    image = Image.fromarray(_noise(*size))
    short, long = 256, int(256 * max(size) / min(size))
    resized = image.resize((short, long) if size[0] <= size[1] else (long, short), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    np.testing.assert_array_equal(decode(_bytes(image), PLAIN), expected)


def test_an_extreme_shape_needs_little_memory_and_gives_the_same_crop() -> None:
    wide = Image.fromarray(_noise(2_000, 20))
    width, height = resized_size(wide.size, 1024)
    assert width * height > 1 << 24
    preprocessing = Preprocessing(resize=1024, crop=(224, 224))
    resized = wide.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    assert np.abs(np.asarray(resize_and_crop(wide, preprocessing)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation: int) -> None:
    upright = Image.fromarray(_noise(8, 8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that undoes each orientation
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(_bytes(stored, exif=exif), WHOLE), np.asarray(upright))


def test_transparency_is_composited_over_the_background() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (200, 10, 20, 255)
    out = decode(_bytes(Image.fromarray(pixels)), WHOLE)
    assert (out[:4] == (200, 10, 20)).all()
    assert (out[4:] == 255).all()
    black = Preprocessing((8, 8), (8, 8), "nearest", Decoding(background=(0, 0, 0)))
    assert (decode(_bytes(Image.fromarray(pixels)), black)[4:] == 0).all()


def test_a_transparent_palette_is_composited_too() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([9, 9, 9, 50, 60, 70])
    assert (decode(_bytes(image, transparency=1), WHOLE) == 255).all()
    assert (decode(_bytes(image), WHOLE) == (50, 60, 70)).all()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bit_images_are_scaled_and_not_clipped(file_format: str) -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    out = decode(_bytes(Image.fromarray(levels), file_format), WHOLE)
    np.testing.assert_array_equal(out[..., 0], np.round(levels / 257).astype(np.uint8))
    assert (out[..., 0] == out[..., 2]).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    file_format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    out = decode(_bytes(Image.fromarray(_noise(300, 260)).convert(mode), file_format), PLAIN)
    assert out.shape == (224, 224, 3)
    assert out.dtype == np.uint8


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_every_format_is_read(file_format: str) -> None:
    flat = Image.new("RGB", (64, 48), (180, 90, 30))
    assert np.abs(decode(_bytes(flat, file_format), PLAIN).astype(int) - (180, 90, 30)).max() <= 8


def test_an_animation_is_decoded_to_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = _bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(data, WHOLE) == (255, 0, 0)).all()


def _png_claiming(width: int, height: int) -> bytes:
    data = bytearray(_bytes(Image.new("L", (1, 1))))
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    import zlib

    return bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not a recognised image"),
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1", "HEIC image"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "damaged|not a recognised image"),
        (_bytes(Image.fromarray(_noise(64, 64)), "JPEG")[:900], "damaged: .*truncated"),
        (_bytes(Image.fromarray(_noise(64, 64)))[:2000], "damaged"),
        (_png_claiming(MAX_PIXELS, 2), "too large"),
        (_png_claiming(20_000, 5_000), "too large"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "EPS image, which is not supported"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_unusable_image_gives_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data, PLAIN)


def test_the_memory_of_large_images_is_bounded() -> None:
    """16-bit images need less than eight bytes per pixel, and an upright image is not copied."""
    values = np.full((1000, 4000), 700, np.uint16)
    preprocessing = Preprocessing(resize=32, crop=(32, 32))
    data = _bytes(Image.fromarray(values))
    decode(data, preprocessing)
    tracemalloc.start()
    try:
        assert decode(data, preprocessing).max() == 3
        assert tracemalloc.get_traced_memory()[1] < 6 * values.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("levels", [(0, 65_536), (-1, 9)])
def test_integers_beyond_sixteen_bits_are_an_error(levels: tuple[int, int]) -> None:
    values = np.array([[0, 65_535], levels], np.int32)
    with pytest.raises(ImageError, match="more than 16 bits"):
        decode(_bytes(Image.fromarray(values), "TIFF"), WHOLE)
    assert decode(_bytes(Image.fromarray(values[:1]), "TIFF"), WHOLE).max() == 255


def test_sixteen_bits_are_rounded_like_exact_arithmetic() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (values.astype(np.int64) + 128) // 257
    whole = Preprocessing(resize=(256, 256), crop=(256, 256))
    np.testing.assert_array_equal(decode(_bytes(Image.fromarray(values)), whole)[..., 0], expected)
