"""Sessions run on the chosen provider only; on GPUs, batches have one shape and sessions are shared."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

import penult.pipeline.runtime.providers as providers_module
import penult.pipeline.runtime.session as session_module
from penult.cores import allowed_cores, usable_cores, worker_count
from penult.errors import BackboneError, InputError, ProviderError
from penult.exporters.backbone import Backbone
from penult.pipeline.runtime.providers import (
    ProviderChoice,
    check_placement,
    choose_provider,
    obstacle,
    open_session,
    provider_list,
)
from penult.pipeline.runtime.session import GraphRunner, Session


class FakeGpu:
    """A session of one device: its outputs identify the device, and it records its calls."""

    made: ClassVar[list["FakeGpu"]] = []

    def __init__(self, graph: bytes, provider: str, device: int, precision: str = "fp32") -> None:
        self.device, self.shapes, self.users = device, [], 0  # type: ignore[var-annotated]  # of tuples
        self.most_users = 0
        self._turn = threading.Lock()
        FakeGpu.made.append(self)

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[np.ndarray]:
        with self._turn:
            self.users += 1
            self.most_users = max(self.most_users, self.users)
        time.sleep(0.01)
        pixels = feeds["pixels"]
        self.shapes.append(pixels.shape)
        with self._turn:
            self.users -= 1
        return [pixels.reshape(len(pixels), -1)[:, :2].astype(np.float32) for _ in names]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[FakeGpu]:
    FakeGpu.made = []
    monkeypatch.setattr(session_module, "count_gpus", lambda: 2)
    monkeypatch.setattr(session_module, "open_session", FakeGpu)
    return FakeGpu.made


def _pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 255, (count, 4, 4, 3), dtype=np.uint8)


def test_batches_on_gpus_are_padded_and_rows_keep_their_order(two_gpus: list[FakeGpu]) -> None:
    runner = GraphRunner(b"", ["a", "b"], ProviderChoice("cuda"), batch_size=8)
    for count in (1, 7, 8, 9, 40):
        pixels = _pixels(count)
        given = runner.run(pixels)
        assert set(given) == {"a", "b"}
        np.testing.assert_array_equal(given["b"], pixels.reshape(count, -1)[:, :2])
    assert {shape for gpu in two_gpus for shape in gpu.shapes} == {(8, 4, 4, 3)}


def test_all_gpus_are_used_and_no_session_has_two_callers(two_gpus: list[FakeGpu]) -> None:
    runner = GraphRunner(b"", ["a"], ProviderChoice("cuda"), batch_size=4)
    assert [gpu.device for gpu in two_gpus] == [0, 1, 0, 1]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: runner.run(_pixels(4)), range(40)))
    assert all(gpu.shapes for gpu in two_gpus)
    assert {gpu.most_users for gpu in two_gpus} == {1}


def test_a_session_is_free_again_after_a_failure(two_gpus: list[FakeGpu], monkeypatch: pytest.MonkeyPatch) -> None:
    runner = GraphRunner(b"", ["a"], ProviderChoice("cuda"), batch_size=4)

    def fail(self: FakeGpu, names: list[str], feeds: dict[str, Any]) -> list[np.ndarray]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(FakeGpu, "run", fail)
    for _ in range(10):
        with pytest.raises(RuntimeError, match="out of memory"):
            runner.run(_pixels(4))
    monkeypatch.undo()
    assert len(runner.run(_pixels(4))["a"]) == 4


def test_each_gpu_is_checked_against_the_card(
    two_gpus: list[FakeGpu], small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "choose_provider", lambda asked, precision: ProviderChoice("cuda"))
    real = open_session(small_backbone.serialized(["penultimate"]), "cpu")

    def run(self: FakeGpu, names: list[str], feeds: dict[str, Any]) -> list[np.ndarray]:
        rows: list[np.ndarray] = real.run(names, feeds)
        return [values * np.float32(2.0 if self.device == 1 else 1.0) for values in rows]

    monkeypatch.setattr(FakeGpu, "run", run)
    with pytest.raises(BackboneError, match="computes different features"):
        Session(small_backbone, ["penultimate"])


def test_operators_on_another_provider_raise_an_error(small_backbone: Backbone) -> None:
    session = open_session(small_backbone.serialized(["penultimate"]), "cpu")
    check_placement(session, {"CPUExecutionProvider"})
    with pytest.raises(ProviderError, match=r"placed 2 operators such as Conv on another provider"):
        check_placement(session, {"CUDAExecutionProvider"})


def test_a_failing_provider_raises_an_error_without_fallback(
    small_backbone: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    class Lost:
        def __init__(self, real: Any) -> None:
            self._real = real

        def run(self, *given: object) -> None:
            raise native.EPFail("the device is lost")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    runner = GraphRunner(small_backbone.serialized(["penultimate"]), ["penultimate"], ProviderChoice("cpu"))
    runner._sessions[0]._sess = Lost(runner._sessions[0]._sess)
    with pytest.raises(ProviderError, match=r"fails on cpu: the device is lost.*--batch-size"):
        runner.run(small_backbone.reference_batch())
    assert capsys.readouterr().out == "", "ONNX Runtime would tell so on stdout, and take another"


def test_a_provider_that_cannot_start_raises_an_error_without_fallback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    asked: list[object] = []

    def refuse(self: Any, providers: object, *others: object) -> None:
        asked.append(providers)
        raise RuntimeError("the engine cannot be built")

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", refuse)
    with pytest.raises(ProviderError, match="fails on cpu: the engine cannot be built"):
        open_session(b"", "cpu")
    assert len(asked) == 1
    assert capsys.readouterr().out == ""


def test_the_providers_and_options_for_onnx_runtime(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [name for name, _ in provider_list("cpu", 0)] == ["CPUExecutionProvider"]
    ((name, asked),) = provider_list("cuda", 3)
    assert (name, asked["device_id"]) == ("CUDAExecutionProvider", "3")
    (first, engine), (second, _) = provider_list("tensorrt", 1)
    assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert engine["trt_engine_cache_enable"] == "True"
    assert engine["trt_engine_cache_path"].startswith(str(tmp_path))
    assert engine["trt_fp16_enable"] == "False"
    assert provider_list("tensorrt", 1, "fp16")[0][1]["trt_fp16_enable"] == "True"


@pytest.mark.parametrize(("gpus", "told"), [(None, "no NVIDIA driver"), (0, "finds no GPU"), (1, "is a CPU build")])
def test_the_reason_why_cuda_cannot_be_used(gpus: int | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(providers_module, "count_gpus", lambda: gpus)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    chosen = choose_provider("auto")
    assert chosen.provider == "cpu"
    assert told in chosen.why
    for asked in ("cuda", "tensorrt"):
        with pytest.raises(ProviderError, match=told):
            choose_provider(asked)
    assert choose_provider("cpu") == ProviderChoice("cpu")


def test_auto_chooses_cuda_and_mentions_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(providers_module, "count_gpus", lambda: 1)
    built = list(providers_module.EXECUTION_PROVIDERS.values())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built)
    monkeypatch.setattr(providers_module, "TENSORRT_LIBRARIES", ("libno-such-library.so",))
    monkeypatch.setattr(providers_module, "_failure_of", lambda provider: "libcudnn.so.9 is missing")
    assert choose_provider("auto") == ProviderChoice("cpu", "libcudnn.so.9 is missing")
    monkeypatch.setattr(providers_module, "_failure_of", lambda provider: "")
    chosen = choose_provider("auto")
    assert chosen.provider == "cuda"
    assert "libno-such-library.so is not installed" in chosen.why
    monkeypatch.setattr(providers_module, "TENSORRT_LIBRARIES", ())
    assert "--provider tensorrt" in choose_provider("auto").why
    assert choose_provider("tensorrt") == ProviderChoice("tensorrt")
    assert choose_provider("tensorrt", "fp16").precision == "fp16"
    with pytest.raises(InputError, match="'gpu'"):
        choose_provider("gpu")


def test_a_provider_is_tested_with_a_small_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    assert obstacle("cpu", is_tried=True) == ""
    if obstacle("cuda"):
        monkeypatch.setattr(providers_module, "cuda_obstacle", lambda: "")
        assert obstacle("cuda", is_tried=True), "this machine has no GPU, and the trial finds it out"


def test_the_worker_count_follows_the_quota_of_a_container(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from penult import cores

    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(cores, "QUOTA", quota)
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    assert worker_count() == 8
    quota.write_text("max 100000\n")
    assert worker_count() == 8
    quota.write_text("250000 100000\n")
    assert (allowed_cores(), worker_count()) == (2.5, 3)
    quota.write_text("10000 100000\n")
    assert worker_count() == 1
    monkeypatch.undo()
    assert 1 <= worker_count() <= usable_cores()
