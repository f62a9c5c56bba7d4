"""An image that crashes or blocks its decoder, or exhausts its memory, fails alone."""

import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penult.errors import ImageError
from penult.exporters.backbone import Backbone
from penult.exporters.card import Decoding, Preprocessing
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.images import decode as decode_module
from penult.pipeline.images import decoder_pool as decoders_module
from penult.pipeline.images.decode import FILTERS, UPRIGHT, DecodeLimits, decode
from penult.pipeline.images.decoder_pool import DecoderPool
from penult.store import open_store

PLAIN = Preprocessing(resize=36, crop=(32, 32), interpolation="bilinear")

# A decoder in which some images behave like a faulty library.
FAULTY = """
import ctypes, os, signal, time
import penult.pipeline.images.decode as module
decoded = module.decode_to_image
def faulty(data, *others):
    if data.startswith(b"crash"): ctypes.string_at(1)
    if data.startswith(b"abort"): os.abort()
    if data.startswith(b"exit"): os._exit(0)
    if data.startswith(b"loop"): ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock, like C code may do
    if data.startswith(b"grow"): return bytearray(1 << 40)
    if data.startswith(b"keep"): module.kept = bytearray(230 << 20); data = data[4:]
    if data.startswith(b"stay"): module.stays = True; data = data[4:]
    if data.startswith(b"blame"):
        others[1].__enter__()
        if hasattr(module, "stays") or data.endswith(b"stay"): raise module.ImageError("broken data stream")
        data = data[5:]
    if data.startswith(b"print"): print("noise"); os.write(2, b"noise"); data = data[5:]
    if data.startswith(b"once") and not os.path.exists(bytes(data[4:])):
        open(bytes(data[4:]), "w").close(); os.kill(os.getpid(), signal.SIGKILL)
    if data.startswith(b"wrong"): raise KeyboardInterrupt
    return decoded(data, *others)
module.decode_to_image = faulty
"""


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders_module, "PROGRAM", f"exec({FAULTY!r}); {decoders_module.PROGRAM}")


@pytest.fixture
def decoders() -> Iterator[DecoderPool]:
    made = DecoderPool(PLAIN, DecodeLimits(seconds=3, megabytes=256))
    yield made
    made.close()


def _png(seed: int, side: int = 40) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def test_a_decoder_process_gives_the_same_pixels(decoders: DecoderPool) -> None:
    for seed in range(5):
        np.testing.assert_array_equal(decoders.decode(_png(seed)), decode(_png(seed), PLAIN))
    for bad in (b"", b"no image", _png(0)[:1000]):
        with pytest.raises(ImageError) as there:
            decoders.decode(bad)
        with pytest.raises(ImageError) as here:
            decode(bad, PLAIN)
        assert str(there.value) == str(here.value)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"crash", r"crashed on it \(SIGSEGV\)"),
        (b"abort", r"crashed on it \(SIGABRT\)"),
        (b"exit", r"crashed on it \(exit status 0\)"),
        (b"wrong", r"crashed on it \(exit status 3\)"),
        (b"grow", "more memory than the limit"),
    ],
)
def test_a_decoder_crash_fails_only_its_image(decoders: DecoderPool, data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decoders.decode(data)
    np.testing.assert_array_equal(decoders.decode(_png(1)), decode(_png(1), PLAIN))


@pytest.mark.usefixtures("faulty")
def test_a_blocked_decoder_is_killed_at_the_time_limit() -> None:
    made = DecoderPool(PLAIN, DecodeLimits(seconds=0.5))
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"not decoded within 0\.5 seconds.*--retry-failed"):
        made.decode(b"loop")
    assert time.monotonic() - began < 30
    made.close()


@pytest.mark.usefixtures("faulty")
def test_an_image_is_tried_again_after_its_decoder_was_killed(decoders: DecoderPool, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a recognised image"):  # the verdict of the second decoder
        decoders.decode(b"once" + bytes(tmp_path / "met"))
    assert (tmp_path / "met").exists()


@pytest.mark.usefixtures("faulty")
def test_output_of_libraries_is_ignored(decoders: DecoderPool) -> None:
    np.testing.assert_array_equal(decoders.decode(b"print" + _png(2)), decode(_png(2), PLAIN))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no memory limit")
def test_an_image_gets_exactly_its_memory_limit() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (5000, 5000)).save(stream, "PNG")
    narrow, wide = DecoderPool(PLAIN, DecodeLimits(megabytes=64)), DecoderPool(PLAIN)
    with pytest.raises(ImageError, match="more memory than the limit"):
        narrow.decode(stream.getvalue())
    assert wide.decode(stream.getvalue()).shape == (32, 32, 3)
    narrow.close()
    wide.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no memory limit")
@pytest.mark.usefixtures("faulty")
def test_leftover_memory_does_not_count_against_the_next_image(decoders: DecoderPool) -> None:
    stream = io.BytesIO()
    Image.new("L", (9000, 6000)).save(stream, "PNG")
    decoders.decode(b"keep" + _png(1))
    assert not decoders.decode(stream.getvalue()).any()


@pytest.mark.usefixtures("faulty")
def test_a_large_image_that_fails_is_tried_again_in_a_fresh_decoder(decoders: DecoderPool) -> None:
    """A library without memory may report a damaged image."""
    decoders.decode(b"stay" + _png(1))
    np.testing.assert_array_equal(decoders.decode(b"blame" + _png(2)), decode(_png(2), PLAIN))
    with pytest.raises(ImageError, match="broken"):
        decoders.decode(b"blame" + b"stay")


def test_memory_errors_of_libraries_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: object) -> None:
        raise OSError("out of memory when reading image file")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ImageError, match="more memory than the limit"):
        decode(_png(1), PLAIN)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no memory limit")
def test_a_decoder_has_one_copy_of_a_large_file() -> None:
    data = _png(3) + bytes(100 << 20)
    made = DecoderPool(PLAIN, DecodeLimits(megabytes=150))
    np.testing.assert_array_equal(made.decode(data), decode(_png(3), PLAIN))
    made.close()


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_long_text_in_a_png_is_ignored_and_a_bomb_is_an_error(decoders: DecoderPool, kind: bytes) -> None:
    data = _png(4)
    start = data.index(b"IHDR") + 4 + 13 + 4  # behind the first chunk

    def with_text(size: int) -> bytes:
        content = kind + b"name\0\0" + zlib.compress(bytes(size))
        chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
        return data[:start] + chunk + data[start:]

    np.testing.assert_array_equal(decoders.decode(with_text(4 << 20)), decode(data, PLAIN))
    with pytest.raises(ImageError, match="too large"):
        decoders.decode(with_text(40 << 20))


@pytest.mark.usefixtures("faulty")
def test_a_job_continues_after_each_fault(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    for name in ("crash", "exit", "loop"):
        (collection / "red" / f"{name}.jpg").write_bytes(name.encode())
    store = open_store(tmp_path / "store")
    options = ExtractOptions(image_seconds=1)
    receipt = extract(collection, store, backbone=small_backbone, options=options)
    assert (receipt.found, receipt.new, receipt.failed) == (33, 30, 3)
    reasons = {Path(row.path).stem: row.reason for row in store.catalog.ledger.failures()}
    assert "SIGSEGV" in reasons["crash"]
    assert "within 1 second" in reasons["loop"]
    again = extract(collection, store, backbone=small_backbone, options=options)
    assert (again.new, again.reused, again.failed, again.newly_failed) == (0, 30, 3, 0)


def test_decoders_end_with_their_job(tmp_path: Path) -> None:
    """Even if the job is killed."""
    code = (
        "import os, signal\n"
        "from penult.exporters.card import Preprocessing\n"
        "from penult.pipeline.images.decoder_pool import DecoderPool\n"
        "made = DecoderPool(Preprocessing(resize=36, crop=(32, 32)))\n"
        "try: made.decode(b'')\n"
        "except ValueError: pass\n"
        "print(made._idle[0]._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -9
    deadline = time.monotonic() + 20
    while _runs(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(int(done.stdout))


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK", "P", "1", "I;16"])
@pytest.mark.parametrize("turn", [None, *UPRIGHT.values()])
def test_resizing_by_strips_gives_the_same_pixels(
    mode: str, turn: Image.Transpose | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_module, "STRIP_PIXELS", 1000)
    pixels = np.random.default_rng(3).integers(0, 256, (70, 120, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels.view(np.uint16)[..., 0].copy())
    else:
        image = Image.fromarray(pixels[..., :3] if mode in ("CMYK", "P") else pixels).convert(mode)
    convert: Callable[[Image.Image], Image.Image] = lambda part: decode_module._as_rgb(part, Decoding())  # noqa: E731
    upright = convert(image if turn is None else image.transpose(turn))
    size = (31, 53) if upright.height > upright.width else (53, 31)
    for name in ("bicubic", "nearest"):
        found = decode_module.resize_in_strips(image, turn, convert, size, FILTERS[name])
        np.testing.assert_array_equal(np.asarray(found), np.asarray(upright.resize(size, FILTERS[name])))


def test_a_large_image_is_converted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(4).integers(0, 256, (300, 500, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    whole = decode(stream.getvalue(), PLAIN)
    monkeypatch.setattr(decode_module, "MAX_WHOLE_PIXELS", 1000)
    monkeypatch.setattr(decode_module, "upright_rgb", None)  # it would convert the whole image
    np.testing.assert_array_equal(decode(stream.getvalue(), PLAIN), whole)
