"""Equal computations have equal fingerprints, whatever their names; any other computation has another one."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penult.errors import BackboneError
from penult.exporters import Backbone, Card, Decoding, Normalisation, Preprocessing, Tap
from penult.exporters.fingerprint import fingerprint_of, value_digests
from penult.exporters.graph.graph_writer import prune

UNARY = ("Relu", "Sigmoid", "Neg", "Abs")
BINARY = ("Add", "Mul", "Sub")

CARD = Card(
    name="n",
    source="s",
    licence="l",
    preprocessing=Preprocessing(resize=20, crop=(16, 16)),
    normalisation=Normalisation(),
    taps=(Tap("penultimate", "t", 4), Tap("stage1", "u", 4)),
)


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A small graph whose nodes read earlier values or weights; two of the values are outputs."""
    weights = {f"w{i}": np.array(draw(st.lists(st.integers(-9, 9), min_size=4, max_size=4)), "f4") for i in range(3)}
    values, nodes = ["pixels", *weights], []
    for index in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(UNARY + BINARY + ("LeakyRelu", "Concat")))
        taken = [draw(st.sampled_from(values)) for _ in range(1 if kind in (*UNARY, "LeakyRelu") else 2)]
        more: dict[str, Any] = {"alpha": draw(st.sampled_from([0.1, 0.2]))} if kind == "LeakyRelu" else {}
        more |= {"axis": 0} if kind == "Concat" else {}
        nodes.append(helper.make_node(kind, taken, [f"v{index}"], **more))
        values.append(f"v{index}")
    outputs = [("penultimate", nodes[-1].output[0]), ("stage1", draw(st.sampled_from(values[4:])))]
    nodes += [helper.make_node("Identity", [value], [name]) for name, value in outputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name, _ in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    model = copy.deepcopy(model)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return model


def reordered(model: onnx.ModelProto, chance: Any) -> onnx.ModelProto:
    """Puts the nodes into another topological order."""
    model = copy.deepcopy(model)
    ready = {"pixels", *(tensor.name for tensor in model.graph.initializer)}
    waiting, placed = list(model.graph.node), []
    while waiting:
        node = chance.choice([n for n in waiting if ready.issuperset(n.input)])
        waiting.remove(node)
        placed.append(node)
        ready.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(placed)
    weights = list(model.graph.initializer)
    chance.shuffle(weights)
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    return model


@settings(max_examples=60, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_names_order_and_texts_do_not_matter(model: onnx.ModelProto, chance: Any) -> None:
    inner = [f"v{i}" for i in range(9)] + ["w0", "w1", "w2"]
    fresh = [f"x{i}" for i in range(len(inner))]
    chance.shuffle(fresh)
    other = reordered(renamed(model, dict(zip(inner, fresh, strict=True))), chance)
    other.doc_string = other.producer_name = "another hand"
    for index, node in enumerate(other.graph.node):
        node.name, node.doc_string = f"n{index}", "said"
    other.graph.node.append(helper.make_node("Relu", ["pixels"], ["dead"]))
    assert fingerprint_of(other, CARD) == fingerprint_of(model, CARD)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data())
def test_any_change_of_the_computation_matters(model: onnx.ModelProto, data: st.DataObject) -> None:
    live = prune(model, ["penultimate", "stage1"])
    other = copy.deepcopy(live)
    nodes = [i for i, node in enumerate(live.graph.node) if node.op_type != "Identity"]
    choices: list[tuple[str, int]] = [("weight", i) for i in range(len(live.graph.initializer))]
    choices += [("kind", i) for i in nodes] + [("opset", 0)]
    what, index = data.draw(st.sampled_from(choices))
    match what:
        case "weight":
            array = numpy_helper.to_array(live.graph.initializer[index]).copy()
            array[data.draw(st.integers(0, 3))] += np.float32(2**-10)
            other.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, live.graph.initializer[index].name))
        case "kind":
            node = other.graph.node[index]
            node.op_type = {"LeakyRelu": "Elu", "Concat": "Max"}.get(node.op_type) or (
                data.draw(
                    st.sampled_from([k for k in (UNARY if len(node.input) == 1 else BINARY) if k != node.op_type])
                )
            )
        case "opset":
            other.opset_import[0].version = 18
    assert fingerprint_of(other, CARD) != fingerprint_of(live, CARD)


def test_the_storage_of_weights_does_not_matter(
    make_small: Callable[..., tuple[onnx.ModelProto, Card]],
) -> None:
    model, card = make_small()
    other = copy.deepcopy(model)
    for tensor in other.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, array.shape, array.ravel().tolist()))
    constant = other.graph.initializer.pop()
    node = helper.make_node("Constant", [], [constant.name], value=constant)
    other.graph.node.insert(0, node)
    assert fingerprint_of(other, card) == fingerprint_of(model, card)


CHANGES: dict[str, dict[str, Any]] = {
    "size": {"preprocessing": replace(CARD.preprocessing, crop=(15, 16))},
    "resize": {"preprocessing": replace(CARD.preprocessing, resize=21)},
    "interpolation": {"preprocessing": replace(CARD.preprocessing, interpolation="bilinear")},
    "decoding": {"preprocessing": replace(CARD.preprocessing, decoding=Decoding(draft=True))},
    "pooling": {"taps": (replace(CARD.taps[0], pooling="max"), CARD.taps[1])},
    "tap name": {"taps": (CARD.taps[0], replace(CARD.taps[1], name="stage2"))},
}
TEXTS: dict[str, dict[str, Any]] = {
    "source": {"source": "elsewhere"},
    "licence": {"licence": "MIT"},
    "notes": {"notes": ("a note",)},
    "proof": {"proof": {"images": 3}},
    "reference": {"reference": {"images": 2, "outputs": {}}},
    "weights": {"weights": {"sha256": "0"}},
    "classes": {"classes": ("a",)},
    "tensor": {"taps": (replace(CARD.taps[0], tensor="other", flops=3), CARD.taps[1])},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_features_matters(change: str, make_small: Callable[..., tuple[onnx.ModelProto, Card]]) -> None:
    model = make_small()[0]
    assert fingerprint_of(model, replace(CARD, **CHANGES[change])) != fingerprint_of(model, CARD)


@pytest.mark.parametrize("text", TEXTS)
def test_descriptive_fields_do_not_matter(text: str, make_small: Callable[..., tuple[onnx.ModelProto, Card]]) -> None:
    model = make_small()[0]
    assert fingerprint_of(model, replace(CARD, **TEXTS[text])) == fingerprint_of(model, CARD)


def test_the_input_size_and_the_weights_matter(make_small: Callable[..., tuple[onnx.ModelProto, Card]]) -> None:
    assert Backbone(*make_small(side=8)).fingerprint != Backbone(*make_small(side=10)).fingerprint
    assert Backbone(*make_small(seed=0)).fingerprint != Backbone(*make_small(seed=1)).fingerprint


def test_subgraphs_matter_and_may_use_outer_values() -> None:
    def branching(constant: float) -> onnx.GraphProto:
        def branch(name: str, kind: str) -> onnx.GraphProto:
            inner = numpy_helper.from_array(np.array([constant], "f4"), "k")
            node = helper.make_node(kind, ["x", "k"], [name])
            return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, 1, None)], [inner])

        node = helper.make_node(
            "If", ["which"], ["y"], then_branch=branch("then", "Add"), else_branch=branch("else", "Sub")
        )
        inputs = [helper.make_tensor_value_info("which", 9, []), helper.make_tensor_value_info("x", 1, [1])]
        return helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, None)])

    assert value_digests(branching(1.0))["y"] == value_digests(branching(1.0))["y"]
    assert value_digests(branching(1.0))["y"] != value_digests(branching(2.0))["y"]


def test_an_unsorted_graph_has_no_fingerprint(make_small: Callable[..., tuple[onnx.ModelProto, Card]]) -> None:
    model, card = make_small()
    model.graph.node.reverse()
    with pytest.raises(BackboneError, match="nodes in topological order"):
        fingerprint_of(model, card)
