"""Reads untrusted ONNX files: of limited size, complete, and with external data from the same folder only."""

import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from penult.errors import BackboneError, MissingFileError
from penult.exporters.validation import all_tensors, check_bounded

__all__ = ["read_onnx_file"]

_LARGEST_BYTES = (2 << 30) - (1 << 20)  # the limit of protobuf is 2 GiB, and a backbone is one file


def read_onnx_file(path: Path) -> onnx.ModelProto:
    """Returns the model with all weights loaded."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _LARGEST_BYTES:
            raise BackboneError(f"{path} is {size_bytes} bytes long", expected=f"at most {_LARGEST_BYTES}")
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(
            f"The ONNX file {path} does not exist",
            expected="an ONNX file of a classifier",
            remedy="check the spelling of the path",
        ) from None
    except OSError as reason:
        raise BackboneError(f"{path} cannot be read: {reason}", expected="an ONNX file") from reason
    except DecodeError as reason:
        raise BackboneError(f"{path} is not an ONNX file, or is damaged", expected="an ONNX file") from reason
    if not model.graph.node:
        raise BackboneError(f"{path} contains no graph", expected="an ONNX file that contains a network")
    check_bounded(model)
    folder = path.resolve().parent
    outside = [t for t in all_tensors(model.graph) if t.data_location == TensorProto.EXTERNAL]
    if size_bytes + sum(_size_bytes(tensor) for tensor in outside) > _LARGEST_BYTES:
        raise BackboneError(f"{path} and its data are larger than {_LARGEST_BYTES} bytes", expected="a smaller network")
    for tensor in outside:
        _load_external(tensor, folder)
    for tensor in all_tensors(model.graph):
        _check_complete(tensor, path)
    return model


def _check_complete(tensor: TensorProto, path: Path) -> None:
    """Raises BackboneError if the size of the weights does not match their shape."""
    if tensor.data_type == TensorProto.UNDEFINED:  # the empty tensor of an attribute of another type
        return
    try:
        numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError) as reason:
        raise BackboneError(
            f"The weights {tensor.name!r} in {path} are not complete: {reason}",
            expected=f"numbers for the shape {list(tensor.dims)}",
        ) from reason


def _load_external(tensor: TensorProto, folder: Path) -> None:
    """Loads the external data of one tensor, from a file in the folder only."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    place = folder / facts.get("location", "")
    resolved = place.resolve()
    if not resolved.is_relative_to(folder) or not resolved.is_file():
        raise BackboneError(
            f"The weights {tensor.name!r} refer to the file {facts.get('location', 'no file')!r}",
            expected=f"a file in {folder}",
        )
    wanted = _size_bytes(tensor)
    try:
        offset, length = int(facts.get("offset", "0")), int(facts.get("length", str(wanted)))
    except ValueError:
        offset, length = -1, -1
    if offset < 0 or length != wanted or offset + length > resolved.stat().st_size:
        raise BackboneError(
            f"The weights {tensor.name!r} refer to {facts.get('length')} bytes at {facts.get('offset')} of "
            f"{resolved.name}, which has {resolved.stat().st_size}",
            expected=f"{wanted} bytes for the shape {list(tensor.dims)}",
        )
    with resolved.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _size_bytes(tensor: TensorProto) -> int:
    try:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        raise BackboneError(f"The weights {tensor.name!r} have the unknown type {tensor.data_type}") from None
    sides = list(tensor.dims)
    if any(side < 0 for side in sides):
        raise BackboneError(f"The weights {tensor.name!r} have the shape {sides}", expected="no negative side")
    return int(math.prod(sides)) * int(item)
