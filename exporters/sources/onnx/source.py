"""The source ``onnx:FILE``: any image classifier in ONNX, from the Model Zoo or elsewhere."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from penult.errors import BackboneError, InputError
from penult.exporters.card import Normalisation, Preprocessing, Tap
from penult.exporters.cpu_session import CpuSession
from penult.exporters.graph.graph_view import network_inputs
from penult.exporters.graph.pooling import pool_in_numpy
from penult.exporters.graph.taps import KnownTensors
from penult.exporters.requests import FAMILIES, ExportRequest, Hints, read_sidecar
from penult.exporters.sources.base import Provenance, RunSource, SourceNetwork, prepare_image
from penult.exporters.sources.onnx.model_file import read_onnx_file

__all__ = ["read_onnx"]

_DTYPES: dict[int, npt.DTypeLike] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
# File names of the Model Zoo's classifiers, and the preprocessing on its pages.
_MODEL_ZOO = {
    r"(bvlcalexnet|caffenet|rcnn-ilsvrc13|googlenet|inception-v[12]|zfnet512|vgg19-caffe2|densenet)-\d+": Hints(
        family="caffe", classes="imagenet"
    ),
    r"(resnet\d+-v[12]|resnet\d+|vgg1[69](-bn)?|mobilenetv2|squeezenet1\.[01]|shufflenet-v2)-\d+": Hints(
        family="torch", classes="imagenet"
    ),
    r"efficientnet-lite4-\d+": Hints(mean=(127.0,) * 3, std=(128.0,) * 3, resize=256, classes="imagenet"),
}


def read_onnx(rest: str, request: ExportRequest) -> SourceNetwork:
    """Reads the file; its preprocessing comes from the hints, the sidecar FILE.json, or a known family."""
    path = Path(rest).expanduser()
    if request.weights is not None:
        raise InputError(f"weights is {request.weights!r}", expected="none, because an ONNX file contains its weights")
    model = read_onnx_file(path)
    hints, notes = _hints(path, model, request.hints)
    value = _image_input(path, model)
    channels_last = _sides(value)[3] == 3 and _sides(value)[1] != 3
    size = _size(path, value, hints, request.size, channels_last=channels_last)
    normalisation = hints.normalisation()
    if normalisation is None:
        raise InputError(
            f"{path.name} does not specify its preprocessing, and is not of a known family",
            expected=f"a family ({', '.join(FAMILIES)}), or the mean and std in units of 0 to 255",
            remedy="pass --family, or --mean and --std ('penult export --help' describes the families), "
            f"or write them into {path.with_suffix('.json').name} next to it",
        )
    preprocessing = hints.preprocessing(size)
    precision = "fp16" if value.type.tensor_type.elem_type == TensorProto.FLOAT16 else "fp32"
    classes = hints.class_names()
    return SourceNetwork(
        name=hints.name or path.stem,
        model=model,
        preprocessing=preprocessing,
        normalisation=normalisation,
        provenance=Provenance(
            source=hints.source or f"the ONNX file {path.name} ({model.producer_name or 'unknown producer'})",
            licence=hints.licence or "unknown",
            weights={"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()},
            notes=tuple(notes),
        ),
        classes=classes,
        landmarks=KnownTensors(hints.penultimate, hints.logits),
        run=_runner(model, preprocessing, normalisation, channels_last=channels_last),
        run_with="ONNX Runtime on the file as it was, with numpy's arithmetic before it",
        run_precision=precision,  # type: ignore[arg-type]  # one of the two
    )


def _hints(path: Path, model: onnx.ModelProto, asked: Hints) -> tuple[Hints, list[str]]:
    """Combines the hints of the flags, the sidecar and the family, in this order of priority."""
    hints, notes = asked, []
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        hints = hints.over(read_sidecar(sidecar))
    if hints.family is None and hints.mean is None and (known := _known_family(path.name, model)) is not None:
        family, note = known
        hints = hints.over(family)
        notes.append(note)
    return hints, notes


def _image_input(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    inputs = network_inputs(model.graph)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in _DTYPES or 3 not in _sides(inputs[0])[1::2]:
        raise BackboneError(
            f"The inputs of {path.name} are {', '.join(map(_described, inputs)) or 'missing'}",
            expected="one batch of float colour images, (N, 3, H, W) or (N, H, W, 3)",
            remedy="use it without exporting it: it is a backbone"
            if any(p.key == "penult.card" for p in model.metadata_props)
            else "",
        )
    return inputs[0]


def _described(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    number = kind.elem_type
    name = TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else f"type {number}"
    sides = (str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim)
    return f"{value.name}, {name} ({', '.join(sides)})"


def _sides(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    sides = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims)
    return sides if len(sides) == 4 else (None,) * 4


def _size(
    path: Path, value: onnx.ValueInfoProto, hints: Hints, asked: int | None, *, channels_last: bool
) -> tuple[int, int]:
    """Returns the (height, width): the requested one, else that of the hints, else that of the file."""
    sides = _sides(value)
    own = (sides[1], sides[2]) if channels_last else (sides[2], sides[3])
    crop = asked if asked is not None else hints.crop
    if crop is not None:
        return (crop, crop) if isinstance(crop, int) else crop
    if own[0] is None or own[1] is None:
        raise InputError(f"{path.name} accepts any image size", expected="a size", remedy="pass --size, such as 224")
    return own[0], own[1]


def _runner(
    model: onnx.ModelProto, preprocessing: Preprocessing, normalisation: Normalisation, *, channels_last: bool
) -> RunSource:
    """Returns a function that runs the original file, image by image, with the values of the taps as outputs."""

    def run(paths: Sequence[Path], taps: Sequence[Tap]) -> Mapping[str, npt.NDArray[Any]]:
        made = {name for node in model.graph.node for name in node.output}
        wanted = [tap for tap in taps if tap.tensor in made]
        runner = CpuSession(
            _with_outputs(model, preprocessing.crop, [tap.tensor for tap in wanted]), "the original file"
        )
        value = network_inputs(model.graph)[0]
        rows: dict[str, list[npt.NDArray[Any]]] = {tap.name: [] for tap in wanted}
        for path in paths:
            image = prepare_image(path, preprocessing, normalisation).astype(_DTYPES[value.type.tensor_type.elem_type])
            image = image.transpose(0, 2, 3, 1) if channels_last else image
            batch = np.repeat(image, _sides(value)[0] or 1, axis=0)
            given = runner.run(list({tap.tensor for tap in wanted}), {value.name: batch})
            for tap in wanted:
                rows[tap.name].append(pool_in_numpy(given[tap.tensor], tap.pooling)[:1])
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    return run


def _with_outputs(model: onnx.ModelProto, size: tuple[int, int], outputs: Sequence[str]) -> bytes:
    """Returns the model as bytes, with other outputs and another image size."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (value,) = network_inputs(copy.graph)
    own = tuple(side for side in _sides(value)[1:] if side != 3)
    if own != size:
        dims = value.type.tensor_type.shape.dim
        places = (1, 2) if _sides(value)[3] == 3 and _sides(value)[1] != 3 else (2, 3)
        for place, side in zip(places, size, strict=True):
            dims[place].dim_value = side
        del copy.graph.value_info[:]
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs))
    return bytes(copy.SerializeToString())


def _known_family(name: str, model: onnx.ModelProto) -> tuple[Hints, str] | None:
    """Returns the hints for a known file and a note with the reason, or None.

    An ONNX file does not contain mean, scale or channel order, but its name or its producer may identify them.
    """
    stem = name.lower().removesuffix(".onnx")
    for pattern, hints in _MODEL_ZOO.items():
        if re.fullmatch(pattern, stem):
            return hints, f"Preprocessing is taken to be that of the ONNX Model Zoo's {stem}, by the file's name."
    if model.producer_name == "onnx-caffe2":
        hints = Hints(family="caffe", classes="imagenet")
        return hints, "Preprocessing is taken to be Caffe's (BGR minus the mean): the file was converted from Caffe2."
    return None
