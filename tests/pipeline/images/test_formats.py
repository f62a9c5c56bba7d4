"""Every kind of image gives pixels or a reason, the same in every run."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from penult.errors import ImageError
from penult.exporters.backbone import Backbone
from penult.exporters.card import Preprocessing
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.images import decode as decode_module
from penult.pipeline.images.decode import decode
from penult.store import open_store

WHOLE = Preprocessing(resize=(8, 8), crop=(8, 8), interpolation="nearest")


def _bytes(image: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_of_several_frames_is_used(file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = _bytes(FRAMES[0], file_format, save_all=True, append_images=FRAMES[1:], **options)
    assert np.abs(decode(data, WHOLE).astype(int) - (255, 0, 0)).max() <= 8


def test_colour_profiles_are_ignored() -> None:
    image = Image.new("RGB", (8, 8), (10, 200, 90))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert (decode(_bytes(image, "PNG", icc_profile=profile), WHOLE) == (10, 200, 90)).all()


def test_lab_is_converted_by_pillow() -> None:
    lab = Image.merge("LAB", [Image.new("L", (8, 8), level) for level in (160, 20, 236)])
    found = decode(_bytes(lab, "TIFF"), WHOLE)
    np.testing.assert_array_equal(found, np.asarray(lab.convert("RGB")))


def test_grey_with_alpha_is_composited_over_white() -> None:
    image = Image.merge("LA", [Image.new("L", (8, 8), 40), Image.linear_gradient("L").resize((8, 8))])
    found = decode(_bytes(image, "PNG"), WHOLE).astype(int)
    alpha = np.asarray(image)[..., 1] / 255
    assert np.abs(found[..., 0] - (40 * alpha + 255 * (1 - alpha))).max() <= 1


def test_floating_point_images_are_an_error() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        decode(_bytes(Image.new("F", (8, 8), 0.5), "TIFF"), WHOLE)


def test_a_heic_photo_is_read_if_its_library_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 64), (180, 90, 30))).save(stream)
    data = stream.getvalue()
    for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):  # the brands of other phones and programs
        assert np.abs(decode(data[:8] + brand + data[12:], WHOLE).astype(int) - (180, 90, 30)).max() <= 8


def test_an_unreadable_heic_names_the_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif")
    hostile = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + struct.pack(">I4sQ", 1, b"meta", 1 << 40) + bytes(9999)
    with pytest.raises(ImageError, match="HEIC image is damaged"):
        decode(hostile, WHOLE)
    monkeypatch.setattr(decode_module, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"needs pip install 'penult\[heic\]'"):
        decode(hostile, WHOLE)


def test_a_large_metadata_block_is_accepted() -> None:
    data = _bytes(FRAMES[0], "JPEG", quality=95)
    blocks = b"".join(b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0" + bytes(65_527) for _ in range(60))
    assert np.abs(decode(data[:2] + blocks + data[2:], WHOLE).astype(int) - (255, 0, 0)).max() <= 8


def _claiming(file_format: str) -> bytes:
    """A file of a few bytes that claims 65,533 x 65,055 pixels."""
    width, height = 65_533, 65_055
    data = bytearray(_bytes(Image.new("RGB", (16, 16)), file_format))
    if file_format == "JPEG":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", height, width)
    elif file_format == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif file_format == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif file_format == "BMP":
        data[18:26] = struct.pack("<II", width, height)
    elif file_format == "TIFF":
        data = bytearray(_bytes(Image.new("RGB", (16, 16)), "TIFF", compression="tiff_lzw"))
        (entries,) = struct.unpack_from("<H", data, (directory := struct.unpack_from("<I", data, 4)[0]))
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag = struct.unpack_from("<H", data, entry)[0]
            if tag in (256, 257):
                struct.pack_into("<HHI", data, entry, tag, 4, 1)
                struct.pack_into("<I", data, entry + 8, width if tag == 256 else height)
    elif file_format == "JPEG2000":
        start = data.index(b"ihdr") + 4
        data[start : start + 8] = struct.pack(">II", height, width)
    elif file_format == "PPM":
        return f"P6 {width} {height} 255\n".encode() + bytes(100)
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_a_decompression_bomb_is_rejected_before_decoding(file_format: str) -> None:
    with pytest.raises(ImageError, match="too large"):
        decode(_claiming(file_format), WHOLE)


def test_every_kind_of_file_gets_rows_or_a_ledger_entry(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    odd = collection / "odd"
    odd.mkdir()
    png = (collection / "red" / "0.png").read_bytes()
    (odd / "folder.jpg").mkdir()
    (odd / "folder.jpg" / "inner.png").write_bytes(png + b"1")
    (odd / "really-a-png.jpg").write_bytes(png + b"2")
    (odd / "self").symlink_to("self")
    (odd / "zeros.jpg").write_bytes(bytes(5000))
    (odd / "page.jpg").write_text("<html>404</html>")
    (odd / "bomb.jpg").write_bytes(_claiming("JPEG"))
    if Path("/dev/zero").exists():
        (odd / "device.jpg").symlink_to("/dev/zero")
    if hasattr(os, "mkfifo"):
        os.mkfifo(odd / "pipe.jpg")
    store = open_store(tmp_path / "store")
    first = extract(collection, store, backbone=small_backbone)
    reasons = {Path(row.path).name: row.reason for row in store.catalog.ledger.failures()}
    assert first.new == 32
    assert first.failed == len(reasons) == first.found - 32
    for name, words in {
        "bomb.jpg": "too large",
        "device.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
    }.items():
        assert words in reasons.get(name, words)
    again = extract(collection, store, backbone=small_backbone, options=ExtractOptions(retry_failed=True))
    assert (again.new, again.failed, again.newly_failed) == (0, first.failed, 0)
    assert {Path(row.path).name: row.reason for row in store.catalog.ledger.failures()} == reasons
