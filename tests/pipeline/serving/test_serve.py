"""The server, tested over local sockets."""

import asyncio
import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from PIL import Image
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from penult.errors import InputError, MissingExtraError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.pipeline.fit import fit
from penult.pipeline.images import decoder_pool as decoders
from penult.pipeline.models.predict import predict
from penult.pipeline.runtime.providers import ProviderChoice
from penult.pipeline.serving.application import application
from penult.pipeline.serving.batching import Batcher
from penult.pipeline.serving.classifiers import HeadClassifier, ModelClassifier, PixelClassifier, classifier_for
from penult.pipeline.serving.limits import Limits
from penult.pipeline.serving.metrics import ServerMetrics
from penult.pipeline.serving.server import serve
from penult.store import open_store
from tests.pipeline.colours import draw_colours

FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n'
PENULT = Path(sys.executable).with_name("penult")


@pytest.fixture(scope="module")
def served_folder(make_backbone: Callable[[int], Backbone], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a store with the head photos-logistic, and its model.onnx."""
    root = tmp_path_factory.mktemp("served")
    draw_colours(root / "photos")
    fit(root / "photos", root / "store", backbone=make_backbone(0), output=root)
    return root


@pytest.fixture(scope="module")
def classifier(served_folder: Path) -> PixelClassifier:
    return classifier_for(served_folder / "model.onnx")


@pytest.fixture(scope="module")
def images(served_folder: Path) -> list[Path]:
    return sorted((served_folder / "photos").glob("*/*.png"))


class Client:
    """A client with one connection per request."""

    def __init__(self, address: str) -> None:
        self.host, self.port = urlsplit(address).hostname or "", urlsplit(address).port

    def request(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def request_json(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        status, _, data = self.request(path, body, headers)
        return status, json.loads(data)

    def send_json(self, content: Any, path: str = "/predict") -> tuple[int, Any]:
        return self.request_json(path, json.dumps(content), {"Content-Type": "application/json"})

    def send_files(self, files: Sequence[tuple[str, bytes]], path: str = "/predict") -> tuple[int, Any]:
        edge = "0123456789abcdef"
        parts = [
            f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode() + data
            for name, data in files
        ]
        body = b"\r\n".join([*parts, f"--{edge}--\r\n".encode()])
        return self.request_json(path, body, {"Content-Type": f"multipart/form-data; boundary={edge}"})


@contextmanager
def serving(classifier: PixelClassifier, **limits: Any) -> Iterator[Client]:
    """Runs a server in a thread of this process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = application(classifier, Limits(**limits))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(classifier: PixelClassifier) -> Iterator[Client]:
    with serving(classifier, images=6, image_bytes=20_000, request_bytes=60_000, pixels=5_000) as client:
        yield client


def close(content: list[dict[str, Any]], paths: Sequence[Path], served_folder: Path) -> bool:
    """Returns whether the answers equal the predictions of `predict` for the files."""
    expected = [next(predict(served_folder / "model.onnx", path)) for path in paths]
    return [one["label"] for one in content] == [one.label for one in expected] and all(
        abs(one["probabilities"][name] - share) < 1e-6
        for one, other in zip(content, expected, strict=True)
        for name, share in other.probabilities.items()
    )


def test_every_upload_format_gives_the_predictions_of_predict(
    client: Client, served_folder: Path, images: list[Path]
) -> None:
    some = images[::8]
    data = [path.read_bytes() for path in some]
    texts = [base64.b64encode(each).decode() for each in data]
    named = [{"name": path.name, "data": text} for path, text in zip(some, texts, strict=True)]
    status, by_form = client.send_files([(path.name, each) for path, each in zip(some, data, strict=True)])
    assert status == 200
    assert [one["name"] for one in by_form["predictions"]] == [path.name for path in some]
    assert close(by_form["predictions"], some, served_folder)
    assert client.send_json({"images": named}) == (200, by_form)
    plain = client.send_json({"images": texts})[1]["predictions"]
    assert [one["name"] for one in plain] == ["image 0", "image 1", "image 2", "image 3"]
    assert close(plain, some, served_folder)
    alone = client.request_json("/predict", data[0], {"Content-Type": "image/png"})[1]["predictions"]
    assert close(alone, some[:1], served_folder)
    assert by_form["model"] == "photos-logistic"


def test_query_parameters_limit_the_answer(client: Client, images: list[Path]) -> None:
    data = images[0].read_bytes()
    (one,) = client.send_files([("a", data)], "/predict?top=1")[1]["predictions"]
    assert list(one["probabilities"]) == [one["label"]]
    assert one["confidence"] == one["probabilities"][one["label"]]
    (one,) = client.send_files([("a", data)], "/predict?min_confidence=1")[1]["predictions"]
    assert one["label"] == "unsure"
    for wrong in ("top=0", "top=many", "min_confidence=2", "tops=1"):
        status, content = client.send_files([("a", data)], f"/predict?{wrong}")
        assert status == 400
        assert "expected ?top=3&min_confidence=0.5" in content["error"]


def test_an_unusable_image_does_not_affect_others(client: Client, images: list[Path]) -> None:
    good = images[0].read_bytes()
    wide, heavy = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.new("RGB", (101, 50)).save(wide, "PNG")
    large = io.BytesIO()
    Image.fromarray(heavy).save(large, "BMP")
    files = [("a", good), ("b", b"hello"), ("c", b""), ("d", wide.getvalue()), ("e", good[:200]), ("f", bytes(20_001))]
    status, content = client.send_files(files)
    assert status == 200
    assert "label" in content["predictions"][0]
    assert [one.get("error") for one in content["predictions"][1:]] == [
        "the file is not a recognised image.",
        "the file is empty.",
        "the image is too large: 101 x 50 pixels; the limit is 5,000 pixels.",
        content["predictions"][4]["error"],
        "it has more than 20,000 bytes",
    ]
    assert content["predictions"][4]["error"].startswith("the image is damaged")
    status, content = client.send_json({"images": ["!", 7, {"name": "x"}, "aGVsbG8="]})
    assert status == 422, "no image of the request could be used"
    assert [one["error"] for one in content["predictions"]] == [
        "it is not base64",
        'it is neither a base64 string nor {"name": …, "data": …}',
        'it is neither a base64 string nor {"name": …, "data": …}',
        "the file is not a recognised image.",
    ]


@pytest.mark.parametrize(
    ("body", "kind", "status", "word"),
    [
        (b"{", "application/json", 400, "not JSON"),
        (b"[" * 60_000, "application/json", 400, "not JSON"),
        (b"[]", "application/json", 400, "has no list"),
        (b'{"images": 1}', "application/json", 400, "has no list"),
        (b'{"images": []}', "application/json", 400, "contains no image"),
        (b'{"images": ["", "", "", "", "", "", ""]}', "application/json", 413, "more than 6 images"),
        (b"x=1", "application/x-www-form-urlencoded", 415, "expected multipart/form-data, application/json or image/"),
        (b"", "", 415, "missing"),
        (b"no parts", "multipart/form-data; boundary=x", 400, ""),
        (b"no parts", "multipart/form-data", 400, "boundary"),
        (FIELD, "multipart/form-data; boundary=x", 400, ""),
        (bytes(60_001), "image/png", 413, "more than 60,000 bytes"),
    ],
)  # fmt: skip
def test_an_invalid_request_gets_an_error_message(
    body: bytes, kind: str, status: int, word: str, client: Client
) -> None:
    given, content = client.request_json("/predict", body, {"Content-Type": kind} if kind else {})
    assert given == status, content
    assert set(content) == {"error"}
    assert word in content["error"]


def test_too_many_files_and_a_body_without_a_length_are_limited(client: Client) -> None:
    assert client.send_files([(f"{n}", b"x") for n in range(7)]) == (
        413,
        {"error": "The request contains more than 6 images."},
    )
    assert client.send_files([(f"{n}", b"x") for n in range(9)])[0] == 400
    endless = (bytes(1000) for _ in range(100_000))
    try:
        status, content = client.request_json("/predict", endless, {"Content-Type": "image/png"})
    except OSError:
        pass  # the server has answered and closed while the client still sent
    else:
        assert (status, "60,000" in content["error"]) == (413, True)
    assert next(endless, None) is not None, "it was not read to its end"


def test_names_that_utf8_cannot_encode_are_escaped(client: Client, images: list[Path]) -> None:
    text = base64.b64encode(images[0].read_bytes()).decode()
    status, content = client.send_json({"images": [{"name": "\ud800<b>", "data": text}, {"name": "\udcff", "data": 1}]})
    assert status == 200
    assert [one["name"] for one in content["predictions"]] == ["\\ud800<b>", "\\udcff"]


def test_health_and_description(client: Client) -> None:
    assert client.request_json("/health") == (200, {"status": "ok", "model": "photos-logistic"})
    about = client.request_json("/")[1]
    assert about["classes"] == ["blue", "green", "red"]
    assert about["limits"] == {"images": 6, "image_bytes": 20_000, "pixels": 5_000}
    assert client.request_json("/nowhere")[0] == 404
    assert client.request_json("/predict")[0] == 405


def test_metrics_count_requests_and_images(classifier: PixelClassifier, images: list[Path]) -> None:
    with serving(classifier) as client:
        label = client.send_files([("a", images[0].read_bytes()), ("b", b"")])[1]["predictions"][0]["label"]
        client.send_json([])
        status, headers, text = client.request("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]  # half typed
    samples = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    assert samples["penult_requests_total", "200"] == samples["penult_requests_total", "400"] == 1
    assert samples["penult_images_total", "classified"] == samples["penult_images_total", "failed"] == 1
    assert samples["penult_labels_total", label] == 1
    assert samples["penult_request_seconds_count",] == 2
    assert samples["penult_images_waiting",] == 0
    assert {"photos-logistic", "logistic"} < set(next(key for key in samples if key[0] == "penult_model_info"))


class Gate:
    """A classifier that waits until it is opened, and records the sizes of its batches."""

    def __init__(self, classifier: PixelClassifier, fails: bool = False) -> None:
        self.name, self.classes, self.about = classifier.name, classifier.classes, classifier.about
        self.preprocessing, self.runner = classifier.preprocessing, classifier.runner
        self.min_confidence = classifier.min_confidence
        self._classifier, self._fails = classifier, fails
        self.open = threading.Event()
        self.sizes: list[int] = []

    def __call__(self, pixels: np.ndarray) -> Any:
        if pixels.any():  # and is not the warm-up batch
            self.sizes.append(len(pixels))
            assert self.open.wait(30)
            if self._fails:
                raise RuntimeError("the device failed")
        return self._classifier(pixels)


def test_concurrent_requests_share_batches_without_mixing_images(
    classifier: PixelClassifier, served_folder: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(classifier)
    decoded: list[int] = []
    decode = decoders.DecoderPool.decode

    def counting(self: decoders.DecoderPool, data: bytes) -> Any:
        try:
            return decode(self, data)
        finally:
            decoded.append(len(data))

    monkeypatch.setattr(decoders.DecoderPool, "decode", counting)
    with serving(gate) as client, ThreadPoolExecutor(len(images)) as pool:
        asked = [pool.submit(client.send_files, [(path.name, path.read_bytes())]) for path in images]
        while len(decoded) <= len(images):  # and the one of the warm-up
            time.sleep(0.01)
        time.sleep(0.1)  # the last images are entering the queue
        gate.open.set()
        content = [one.result()[1]["predictions"][0] for one in asked]
    assert close(content, images, served_folder)
    assert sum(gate.sizes) == 30
    assert max(gate.sizes) == classifier.runner.batch_size
    assert len(gate.sizes) < 20


@pytest.mark.parametrize(("limits", "word"), [({"requests": 2}, "requests"), ({"waiting_images": 2}, "images")])
def test_a_busy_server_answers_503_with_retry_after(
    limits: dict[str, int], word: str, classifier: PixelClassifier, images: list[Path]
) -> None:
    gate = Gate(classifier)
    data = images[0].read_bytes()
    with serving(gate, **limits) as client, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(client.send_files, [("a", data)]) for _ in range(2)]
        while b"penult_images_waiting 2.0" not in client.request("/metrics")[2]:
            time.sleep(0.01)
        status, headers, body = client.request("/predict", data, {"Content-Type": "image/png"})
        assert client.request_json("/health")[0] == 200
        gate.open.set()
        assert [one.result()[0] for one in first] == [200, 200]
        assert (status, headers["retry-after"]) == (503, "1")
        assert f"too many {word}" in json.loads(body)["error"]
        assert client.send_files([("a", data)])[0] == 200, "and can be served later"


def test_a_failing_model_gives_500_and_the_server_continues(classifier: PixelClassifier, images: list[Path]) -> None:
    gate = Gate(classifier, fails=True)
    gate.open.set()
    with serving(gate) as client:
        for _ in range(2):
            status, content = client.send_files([("a", images[0].read_bytes())])
            assert (status, content) == (500, {"error": "The server failed on this request; see its log."})
        assert b'penult_requests_total{status="500"} 2.0' in client.request("/metrics")[2]


def test_an_image_that_crashes_or_blocks_its_decoder_affects_only_itself(
    classifier: PixelClassifier, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = """
import os, time, penult.pipeline.images.decode as module
decoded = module.decode_to_image
def faulty(data, *others):
    if data == b"crash": os.abort()
    if data == b"loop": time.sleep(60)
    return decoded(data, *others)
module.decode_to_image = faulty
"""
    monkeypatch.setattr(decoders, "PROGRAM", f"exec({faulty!r}); {decoders.PROGRAM}")
    with serving(classifier, decode_seconds=2) as client:
        content = client.send_files([("a", b"crash"), ("b", images[0].read_bytes()), ("c", b"loop")])[1]["predictions"]
    assert "the decoder crashed on it" in content[0]["error"]
    assert content[1]["label"] == images[0].parent.name
    assert "the image was not decoded within 2 seconds" in content[2]["error"]


def test_a_cancelled_request_does_not_stop_others(classifier: PixelClassifier, images: list[Path]) -> None:
    gate, limits, data = Gate(classifier), Limits(), images[0].read_bytes()

    async def cancel_and_classify() -> Any:
        async with Batcher(gate, limits, ServerMetrics(classifier)) as batcher:
            impatient = [asyncio.create_task(batcher.classify(data)) for _ in range(9)]
            while not gate.sizes:
                await asyncio.sleep(0.01)
            for task in impatient:
                task.cancel()
            gate.open.set()
            return await asyncio.wait_for(batcher.classify(data), 30)

    assert asyncio.run(cancel_and_classify()).shape == (3,)


def test_a_body_that_does_not_arrive_times_out(classifier: PixelClassifier) -> None:
    with serving(classifier, body_seconds=0.2) as client:
        with socket.create_connection((client.host, client.port or 0), timeout=10) as line:
            line.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nabc"
            )
            answer = _rest(line)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.2 seconds" in answer


def test_a_head_of_a_store_answers_as_its_model(
    served_folder: Path, classifier: PixelClassifier, images: list[Path]
) -> None:
    head = classifier_for("photos-logistic", served_folder / "store")
    assert isinstance(head, HeadClassifier)
    assert isinstance(classifier, ModelClassifier)
    assert head.about == classifier.about
    with serving(head) as client:
        content = client.send_files([(path.name, path.read_bytes()) for path in images[::4]])[1]["predictions"]
    assert close(content, images[::4], served_folder)
    with pytest.raises(UnknownNameError):
        classifier_for("photos-lda", open_store(served_folder / "store"))


def test_features_that_are_not_finite_give_an_error_for_their_image(served_folder: Path, images: list[Path]) -> None:
    class Burnt:
        choice, batch_size = ProviderChoice("cpu"), 4

        def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            bright = pixels.mean(axis=(1, 2, 3)) > 200
            return {"penultimate": np.where(bright[:, None], np.inf, 1.0) * np.ones((len(pixels), 12), np.float32)}

    head = HeadClassifier.__new__(HeadClassifier)
    head.__dict__.update(classifier_for("photos-logistic", served_folder / "store").__dict__, runner=Burnt())
    white = io.BytesIO()
    Image.new("RGB", (40, 40), "white").save(white, "PNG")
    with serving(head) as client:
        content = client.send_files([("a", white.getvalue()), ("b", images[0].read_bytes())])[1]["predictions"]
    assert content[0]["error"] == "the model returned probabilities that are not finite"
    assert content[1]["label"] in head.classes


@contextmanager
def _verb(served_folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    command: list[str | Path] = [PENULT, "serve", *words, "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=served_folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, Client(json.loads(process.stdout.readline())["address"])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_stopping_server_finishes_running_requests(served_folder: Path, images: list[Path]) -> None:
    data = images[0].read_bytes()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(data)}\r\n\r\n"
    with _verb(served_folder, "photos-logistic", "--store", "store") as (process, client):
        with socket.create_connection((client.host, client.port or 0), timeout=30) as line:
            line.sendall(head.encode() + data[:100])
            while b"HTTP/1.1 200" not in _raw(client, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            while _is_open(client):
                time.sleep(0.01)
            assert process.poll() is None, "it waits for the running request"
            line.sendall(data[100:])
            answer = _rest(line)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"label":' in answer
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_persistent_connection_is_answered_without_delay(served_folder: Path) -> None:
    with _verb(served_folder, str(served_folder / "model.onnx")) as (_, client):
        connection, seconds = http.client.HTTPConnection(client.host, client.port, timeout=30), []
        for _ in range(10):
            began = time.perf_counter()
            connection.request("GET", "/health")
            assert connection.getresponse().read()
            seconds.append(time.perf_counter() - began)
        connection.close()
    # Without TCP_NODELAY, all answers but the first few take 40 ms.
    assert min(seconds[5:]) < 0.03


def _raw(client: Client, request: bytes) -> bytes:
    with socket.create_connection((client.host, client.port or 0), timeout=30) as line:
        line.sendall(request)
        return _rest(line)


def _rest(line: socket.socket) -> bytes:
    """Reads until the server closes the connection."""
    return b"".join(iter(lambda: line.recv(1 << 16), b""))


def _is_open(client: Client) -> bool:
    try:
        socket.create_connection((client.host, client.port or 0), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_used_port_and_a_missing_extra_raise_errors(served_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            InputError, match=r"The server cannot listen on 127\.0\.0\.1 port \d+: Address already in use"
        ):
            serve(served_folder / "model.onnx", port=taken.getsockname()[1])
    with pytest.raises(InputError, match="The server cannot listen on no-such-host"):
        serve(served_folder / "model.onnx", host="no-such-host.invalid")
    with pytest.raises(InputError, match="images is 0"):
        Limits(images=0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'penult\[serve\]'"):
        serve(served_folder / "model.onnx")
