"""Computes the fingerprint: one SHA-256 that is equal if two backbones compute the same features in the same way.

Each value of a graph gets a digest of its operator, its attributes and the digests of its inputs, down to the bytes of
the weights. Names, node order, unused nodes and texts therefore do not matter. The fingerprint joins the digests of
the outputs with the parts of the card that change features.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import numpy as np
import onnx
from onnx import numpy_helper

from penult.errors import BackboneError
from penult.exporters.card import Card

__all__ = ["fingerprint_of", "value_digests"]

_FORMAT = b"penult fingerprint 1"
_PLAIN = {getattr(onnx.AttributeProto, kind) for kind in ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")}


def fingerprint_of(model: onnx.ModelProto, card: Card) -> str:
    """Returns the 64 hex digits for the graph, weights, preprocessing and taps of a backbone."""
    digests = value_digests(model.graph)
    outputs = sorted((output.name, digests[output.name].hex()) for output in model.graph.output)
    used = {node.domain or "ai.onnx" for node in model.graph.node}
    opsets = sorted((o.domain or "ai.onnx", o.version) for o in model.opset_import if (o.domain or "ai.onnx") in used)
    taps = sorted((tap.name, tap.pooling, tap.width) for tap in card.taps)
    facts = [outputs, opsets, taps, asdict(card.preprocessing)]
    if card.precision == "bf16":  # the graph itself is fp32
        facts.append("bf16")
    return _digest(_FORMAT, json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hex()


def value_digests(graph: onnx.GraphProto, outer: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Returns the digest of every named value of ``graph``; ``outer`` contains those that a subgraph may use."""
    digests = dict(outer or {}) | {"": b""}  # an omitted input has the empty name
    for index, value in enumerate(graph.input):
        digests[value.name] = _digest(b"input", str(index).encode(), _type(value.type.tensor_type))
    for tensor in graph.initializer:
        digests[tensor.name] = _tensor(tensor)
    for node in graph.node:
        _add(node, digests)
    return digests


def _add(node: onnx.NodeProto, digests: dict[str, bytes]) -> None:
    """Adds the digests of a node's outputs."""
    lacking = [name for name in node.input if name not in digests]
    if lacking:
        raise BackboneError(
            f"The graph's node {node.name or node.op_type!r} uses {lacking[0]!r}, which no earlier node computes",
            expected="nodes in topological order",
        )
    if node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
        digests[node.output[0]] = _tensor(node.attribute[0].t)
        return
    inputs = [digests[name] for name in _trimmed(node.input)]
    attributes = sorted(_join([a.name.encode(), _attribute(a, digests)]) for a in node.attribute)
    domain = (node.domain or "ai.onnx").encode()
    whole = _digest(domain, node.op_type.encode(), _join(inputs), _join(attributes))
    for index, name in enumerate(node.output):
        if name:
            digests[name] = _digest(whole, str(index).encode())


def _trimmed(names: Iterable[str]) -> list[str]:
    """Drops omitted trailing inputs, which have no effect."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _attribute(attribute: onnx.AttributeProto, outer: Mapping[str, bytes]) -> bytes:
    if attribute.type == onnx.AttributeProto.TENSOR:
        return b"t" + _tensor(attribute.t)
    if attribute.type == onnx.AttributeProto.GRAPH:
        inner = value_digests(attribute.g, outer)
        return b"g" + _join(inner.get(output.name, b"") for output in attribute.g.output)
    if attribute.type not in _PLAIN:
        raise BackboneError(
            f"The attribute {attribute.name!r} of the graph has the unsupported type {attribute.type}",
            expected="numbers, strings, tensors or graphs",
        )
    value = onnx.helper.get_attribute_value(attribute)
    many = [value] if isinstance(value, bytes | int | float) else value
    return bytes([attribute.type]) + _join(_scalar(item) for item in many)


def _scalar(value: bytes | float) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode() if isinstance(value, int) else struct.pack("<f", value)


def _tensor(tensor: onnx.TensorProto) -> bytes:
    try:
        array = np.ascontiguousarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as reason:
        raise BackboneError(f"The weights {tensor.name!r} cannot be read: {reason}") from reason
    facts = [b"tensor", str(tensor.data_type).encode(), str(list(tensor.dims)).encode()]
    if array.dtype.hasobject:
        return _digest(*facts, _join(str(item).encode() for item in array.ravel()))
    content = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
    digest = hashlib.sha256(_join(facts) + struct.pack("<Q", content.size))
    digest.update(content.data)  # equals _digest, without a second copy of the weights
    return digest.digest()


def _type(kind: onnx.TypeProto.Tensor) -> bytes:
    sides = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    return f"{kind.elem_type} {sides}".encode()


def _join(parts: Iterable[bytes]) -> bytes:
    """Joins byte strings so that different lists never give the same bytes."""
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(_join(parts)).digest()
