"""Weights files are read without torch, and a pickle with code raises an error before it runs."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penult.errors import BackboneError, MissingFileError
from penult.exporters.torch_pickle import read_tensors

HEAD = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]


class Raw:
    """A handwritten pickle of a table with one tensor ``w``."""

    def __init__(self, *, shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1), offset: int = 0) -> None:
        self.shape, self.strides, self.offset = shape, strides, offset
        self.call = b"ctorch._utils\n_rebuild_tensor_v2\n"
        self.storage = b"ctorch\nFloatStorage\n"
        self.count = 6
        self.extra = b""
        self.numbers = np.arange(6, dtype="<f4").tobytes()

    def write(self, folder: Path, *, cut: int = 0) -> Path:
        def plain(value: Any) -> bytes:
            return pickle.dumps(value, 2)[2:-1]

        pid = b"(" + plain("storage") + self.storage + plain("0") + plain("cpu") + plain(self.count) + b"NtQ"
        view = self.call + b"(" + pid + b"".join(plain(v) for v in (self.offset, self.shape, self.strides, False))
        table = b"\x80\x02" + self.extra + b"}" + plain("w") + view + b"}tRs."
        stream = io.BytesIO()
        for value in HEAD:
            pickle.dump(value, stream, 2)
        stream.write(table + pickle.dumps(["0"], 2) + struct.pack("<q", 6) + self.numbers)
        path = folder / "weights.pth"
        path.write_bytes(stream.getvalue()[: -cut or None])
        return path


def test_a_tensor_is_read_with_its_offset_and_strides(tmp_path: Path) -> None:
    whole = read_tensors(Raw().write(tmp_path))["w"]
    np.testing.assert_array_equal(whole, [[0, 1, 2], [3, 4, 5]])
    turned = read_tensors(Raw(shape=(3, 2), strides=(1, 3)).write(tmp_path))["w"]
    np.testing.assert_array_equal(turned, [[0, 3], [1, 4], [2, 5]])
    tail = read_tensors(Raw(shape=(2,), strides=(1,), offset=4).write(tmp_path))["w"]
    np.testing.assert_array_equal(tail, [4, 5])
    assert tail.flags.owndata


@pytest.mark.parametrize(
    "raw",
    [
        Raw(shape=(7,), strides=(1,)),
        Raw(shape=(2,), strides=(6,)),
        Raw(shape=(1,), strides=(1,), offset=6),
        Raw(shape=(1 << 40,), strides=(0,)),
        Raw(shape=(-1,), strides=(1,)),
        Raw(shape=(2, 3), strides=(1,)),
    ],
)
def test_a_tensor_never_reaches_outside_its_storage(raw: Raw, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="tensor"):
        read_tensors(raw.write(tmp_path))


@pytest.mark.parametrize("call", [b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n", b"ctorch._utils\n_x\n"])
def test_a_pickle_with_code_raises_an_error(call: bytes, tmp_path: Path) -> None:
    raw = Raw()
    raw.call = call
    with pytest.raises(BackboneError, match="only tensors are read"):
        read_tensors(raw.write(tmp_path))


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "evil.pth"
    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in (*HEAD, {"w": Evil()}, [])))
    with pytest.raises(BackboneError):
        read_tensors(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "extra", [b"cos\nsystem\n0", b"\x93", b"I1\n0", b"Nr\xff\xff\xff\x7f0", b"\x8a\x04\xff\xff\xff\x7f\x82\x01"]
)
def test_unneeded_opcodes_raise_an_error(extra: bytes, tmp_path: Path) -> None:
    raw = Raw()
    raw.extra = extra
    with pytest.raises(BackboneError):
        read_tensors(raw.write(tmp_path))


def test_a_storage_larger_than_the_file_raises_an_error(tmp_path: Path) -> None:
    raw = Raw()
    raw.count = 1 << 31
    with pytest.raises(BackboneError, match="ends early"):
        read_tensors(raw.write(tmp_path))


def test_a_file_truncated_anywhere_raises_an_error(tmp_path: Path) -> None:
    size = Raw().write(tmp_path).stat().st_size
    for cut in range(1, size):
        with pytest.raises(BackboneError):
            read_tensors(Raw().write(tmp_path, cut=cut))


def test_other_files_raise_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_tensors(tmp_path / "none.pth")
    for content in (b"", b"hello", pickle.dumps({"a": 1})):
        (tmp_path / "other.pth").write_bytes(content)
        with pytest.raises(BackboneError, match="cannot be read"):
            read_tensors(tmp_path / "other.pth")
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(BackboneError, match="zip"):
        read_tensors(tmp_path / "zip.pth")
