"""The penultimate features and the stages are found in many kinds of networks, including nine classics."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penult.errors import BackboneError, InputError
from penult.exporters.graph.graph_view import GraphView, network_inputs
from penult.exporters.graph.standard_form import to_standard_form
from penult.exporters.graph.taps import KnownTensors, find_taps
from penult.exporters.requests import TapRequest, parse_taps

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# file: the penultimate value, its width and pooling; the widths and reductions of the stages
CLASSICS = {
    "bvlc_alexnet": ("r21", 4096, "none", [(96, 4), (256, 8), (256, 16), (256, 32)]),
    "densenet121": ("r908", 1024, "none", [(64, 2), (128, 4), (256, 8), (512, 16)]),
    "inception_v1": ("r138", 1024, "none", [(64, 2), (192, 4), (480, 8), (832, 16)]),
    "inception_v2": ("r505", 1024, "none", [(64, 2), (192, 4), (320, 8), (576, 16)]),
    "resnet50": ("r172", 2048, "none", [(64, 2), (256, 4), (512, 8), (1024, 16)]),
    "shufflenet": ("r199", 544, "none", [(24, 2), (24, 4), (136, 8), (272, 16)]),
    "squeezenet": ("r60", 512, "avg", [(64, 2), (128, 4), (256, 8)]),
    "vgg19": ("r43", 4096, "none", [(128, 2), (256, 4), (512, 8), (512, 16), (512, 32)]),
    "zfnet512": ("r19", 1024, "none", [(96, 2), (96, 4), (256, 8), (512, 16), (512, 32)]),
}


@pytest.mark.parametrize("name", CLASSICS)
def test_classics_of_the_onnx_package(name: str) -> None:
    path = LIGHT / f"light_{name}.onnx"
    if not path.is_file():
        pytest.skip(f"this onnx package does not contain {path.name}")
    model = to_standard_form(onnx.load(path))
    view = GraphView(model)
    plans, scores, notes = find_taps(view, KnownTensors(), (224, 224), None)
    tensor, width, pooling, stages = CLASSICS[name]
    *found, penultimate = plans
    assert (penultimate.tensor, view.width(penultimate.tensor), penultimate.pooling) == (tensor, width, pooling)
    assert [(view.width(plan.tensor), plan.reduction) for plan in found] == stages
    assert scores is not None
    assert view.width(scores) == 1000
    assert not notes


n = helper.make_node
POOLED = n("GlobalAveragePool", ["r"], ["features"])
WHOLE = n("Identity", ["r"], ["features"])

TAILS = {
    "gemm": [
        POOLED,
        n("Flatten", ["features"], ["v"]),
        n("Gemm", ["v", "w2"], ["y"]),
        n("Softmax", ["y"], ["out_"]),
    ],
    "matmul and add": [
        n("ReduceMean", ["r"], ["features"], axes=[2, 3], keepdims=0),
        n("MatMul", ["features", "w2"], ["m"]),
        n("Add", ["m", "b"], ["y"]),
        n("Softmax", ["y"], ["out_"]),
    ],
    "squeezed": [
        POOLED,
        n("Squeeze", ["features", "axes"], ["v"]),
        n("Dropout", ["v"], ["d"]),
        n("MatMul", ["d", "w2"], ["out_"]),
    ],
    "reshaped twice": [
        POOLED,
        n("Reshape", ["features", "to"], ["v"]),
        n("Identity", ["v"], ["i"]),
        n("Gemm", ["i", "w2"], ["g"]),
        n("Reshape", ["g", "out"], ["out_"]),
    ],
    "conv on the pool": [
        POOLED,
        n("Conv", ["features", "w1", "b"], ["y"]),
        n("Flatten", ["y"], ["s"]),
        n("Softmax", ["s"], ["out_"]),
    ],
    "pool last": [
        WHOLE,
        n("Dropout", ["features"], ["d"]),
        n("Conv", ["d", "w1"], ["c"]),
        n("Relu", ["c"], ["a"]),
        n("GlobalAveragePool", ["a"], ["p"]),
        n("Flatten", ["p"], ["s"]),
        n("Softmax", ["s"], ["out_"]),
    ],
    "flattened map": [
        n("AveragePool", ["r"], ["q"], kernel_shape=[16, 8], strides=[16, 8]),
        n("Flatten", ["q"], ["features"]),
        n("MatMul", ["features", "w16"], ["out_"]),
    ],
    "two heads": [
        POOLED,
        n("Flatten", ["features"], ["v"]),
        n("BatchNormalization", ["v", "b8", "b8", "b8", "s8"], ["first"]),
        n("BatchNormalization", ["v", "s8", "b8", "b8", "s8"], ["second"]),
        n("Gemm", ["first", "w2"], ["one"]),
        n("Gemm", ["second", "w2"], ["two"]),
        n("Add", ["one", "two"], ["sum"]),
        n("Mul", ["sum", "half"], ["out_"]),
    ],
    "whole filter": [
        WHOLE,
        n("Conv", ["features", "w7"], ["y"]),
        n("Softmax", ["y"], ["out_"], axis=1),
    ],
}


def net(*, tail: str) -> onnx.ModelProto:
    """A small network with one of many forms of classifier; its features are ``features``, 8 wide."""
    generator = np.random.default_rng(0)
    weights = {
        "f": generator.normal(size=(8, 3, 3, 3)),
        "w1": generator.normal(size=(5, 8, 1, 1)),
        "w2": generator.normal(size=(8, 5)),
        "w16": generator.normal(size=(16, 5)),
        "w7": generator.normal(size=(5, 8, 16, 16)),
        "b": generator.normal(size=5),
        "b8": generator.normal(size=8),
        "s8": generator.uniform(0.5, 2, size=8),
        "half": np.array(0.5),
    }
    integers = {"to": [-1, 8], "axes": [2, 3], "out": [-1, 5]}
    lines = TAILS[tail]
    nodes = [n("Conv", ["image", "f"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]), n("Relu", ["c0"], ["r"]), *lines]
    tensors = [numpy_helper.from_array(v.astype("f4"), k) for k, v in weights.items()]
    tensors += [numpy_helper.from_array(np.array(v), k) for k, v in integers.items()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("out_", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("tail", TAILS)
def test_classifiers_of_every_form_are_found(tail: str) -> None:
    view = GraphView(to_standard_form(net(tail=tail)))
    plans, scores, notes = find_taps(view, KnownTensors(), (32, 32), None)
    penultimate = plans[-1]
    before_a_pool = tail in ("pool last", "whole filter")
    assert penultimate.tensor == ("r" if before_a_pool else "features"), "an Identity is skipped"
    assert penultimate.pooling == ("avg" if before_a_pool else "none")
    assert scores is not None
    assert view.width(scores) == 5
    assert not notes


def test_features_before_a_pool_are_not_a_classifier() -> None:
    """The last convolution of a network without a head is not a classifier, whatever its width."""
    model = net(tail="pool last")
    del model.graph.node[-1]
    model.graph.output[0].name = "s"
    view = GraphView(to_standard_form(model))
    plans, scores, notes = find_taps(view, KnownTensors(), (32, 32), None)
    assert (plans[-1].tensor, scores) == ("s", None)
    assert "No classifier was found" in notes[0]
    assert find_taps(view, KnownTensors(), (32, 32), 5)[1] == "p", "unless it has as many channels as there are classes"


def test_the_deepest_of_several_classifiers_is_chosen() -> None:
    model = net(tail="gemm")
    model.graph.node.append(helper.make_node("Flatten", ["features"], ["embedding"]))
    early = copy.deepcopy(model.graph.node[0])
    early.input[0], early.output[0] = "image", "aux map"
    model.graph.node.insert(0, early)
    extra = [
        helper.make_node("GlobalAveragePool", ["image"], ["aux pool"]),
        helper.make_node("Flatten", ["aux pool"], ["aux vector"]),
        helper.make_node("Gemm", ["aux vector", "w3"], ["aux"]),
    ]
    model.graph.node.extend(extra)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 5), "f4"), "w3"))
    for name in ("aux", "embedding"):
        model.graph.output.insert(0, helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    plans, scores, _ = find_taps(GraphView(to_standard_form(model)), KnownTensors(), (32, 32), None)
    assert (plans[-1].tensor, scores) == ("features", "y")


def test_several_outputs_without_a_classifier_raise_an_error() -> None:
    model = net(tail="gemm")
    del model.graph.node[-2:]
    model.graph.output[0].name = "v"
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    with pytest.raises(BackboneError, match="no classifier and 2 outputs"):
        find_taps(GraphView(to_standard_form(model)), KnownTensors(), (32, 32), None)


def test_the_end_of_a_stage_is_the_end_of_a_block() -> None:
    """In an inverted residual network, the expanded value inside the next block is skipped."""
    from penult.exporters import efficientnet_lite0

    backbone = efficientnet_lite0.build()
    model = backbone.model(["logits"])
    view = GraphView(model)
    plans, _, _ = find_taps(view, KnownTensors(), (224, 224), 1000)
    assert [(plan.name, plan.tensor) for plan in plans] == [(tap.name, tap.tensor) for tap in backbone.card.taps]
    assert [value.name for value in network_inputs(model.graph)] == ["pixels"]


def test_a_stage_ends_at_a_value_of_the_source_if_only_pointwise_nodes_follow() -> None:
    nodes = [
        n("Conv", ["image", "f"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["c0"], ["block"]),
        n("Sigmoid", ["block"], ["gate"]),
        n("Mul", ["gate", "half"], ["scaled"]),
        n("Conv", ["scaled", "g"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("GlobalAveragePool", ["c1"], ["pooled"]),
        n("Flatten", ["pooled"], ["v"]),
        n("MatMul", ["v", "w2"], ["out_"]),
    ]
    model = net(tail="gemm")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    filters = np.random.default_rng(1).normal(size=(8, 8, 3, 3)).astype("f4")
    model.graph.initializer.append(numpy_helper.from_array(filters, "g"))
    view = GraphView(to_standard_form(model))

    def end_of_stage(*parts: str) -> str:
        known = KnownTensors(parts=frozenset(parts)) if parts else KnownTensors()
        return find_taps(view, known, (32, 32), None)[0][0].tensor

    assert end_of_stage() == "scaled"
    assert end_of_stage("c0", "block") == "block"
    assert end_of_stage("c0", "gate") == "gate"
    assert end_of_stage("c1") == "scaled", "no other value is close enough"


def test_the_end_of_a_stage_is_not_the_inside_of_a_separable_convolution() -> None:
    nodes = [
        n("Conv", ["image", "f"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Conv", ["c0", "g"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["c1"], ["block"]),
        n("Conv", ["block", "deep"], ["c2"], pads=[1, 1, 1, 1], group=8),
        n("Conv", ["c2", "wide"], ["c3"]),
        n("Relu", ["c3"], ["last"]),
        n("GlobalAveragePool", ["last"], ["pooled"]),
        n("Flatten", ["pooled"], ["v"]),
        n("MatMul", ["v", "w16"], ["out_"]),
    ]
    model = net(tail="gemm")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    generator = np.random.default_rng(1)
    for name, shape in {"g": (8, 8, 3, 3), "deep": (8, 1, 3, 3), "wide": (16, 8, 1, 1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(generator.normal(size=shape).astype("f4"), name))
    plans, _, _ = find_taps(GraphView(to_standard_form(model)), KnownTensors(), (32, 32), None)
    assert [plan.tensor for plan in plans] == ["c0", "block", "pooled"]


def test_values_inside_attention_are_not_stages() -> None:
    """A feature map of a square image is square; (batch, heads, tokens, width) also has four dimensions."""
    nodes = [
        n("Conv", ["image", "f"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Reshape", ["c0", "heads"], ["inside"]),
        n("Reshape", ["inside", "map"], ["back"]),
        n("GlobalAveragePool", ["back"], ["pooled"]),
        n("Flatten", ["pooled"], ["v"]),
        n("MatMul", ["v", "w2"], ["out_"]),
    ]
    model = net(tail="gemm")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 48
    for name, shape in {"heads": [-1, 64, 8, 9], "map": [-1, 8, 24, 24]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
    plans, _, _ = find_taps(GraphView(to_standard_form(model)), KnownTensors(), (48, 48), None)
    assert "inside" not in {plan.tensor for plan in plans}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("penultimate", TapRequest("penultimate")),
        ("stage3:max", TapRequest("stage3", None, "max")),
        ("mine=layer/out:0:flatten", TapRequest("layer/out:0", "mine", "flatten")),
        ("layer/out:0", TapRequest("layer/out:0")),
        ("max", TapRequest("max")),
    ],
)
def test_taps_are_parsed(text: str, wanted: TapRequest) -> None:
    assert parse_taps(text) == (wanted,)
    assert parse_taps(f"a, {text}") == (TapRequest("a"), wanted)


@pytest.mark.parametrize("text", ["", "a,,b", "name=", " "])
def test_wrong_taps_raise_an_error(text: str) -> None:
    with pytest.raises(InputError, match="separated by commas"):
        parse_taps(text)
