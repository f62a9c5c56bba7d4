"""The page of docs/deploy.md runs a bundled model in a browser, with the same predictions as penult."""

import json
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from penult.exporters.backbone import Backbone
from penult.exporters.registry import load_backbone
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads.registry import head_names
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images
from penult.pipeline.models.bundle import bundle
from penult.pipeline.models.predict import predict
from penult.pipeline.training.train import train
from penult.store import open_store
from tests.pipeline.chromium import Chromium

DIFFERENCE = 1e-4
"""The tolerance for the decoder and the arithmetic of the browser."""


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def packages(project: Path) -> Path:
    folder = project / "docs" / "browser" / "node_modules"
    if not (folder / "onnxruntime-web").is_dir():
        pytest.skip(f"onnxruntime-web is not installed: npm ci --prefix {folder.parent}")
    return folder


@pytest.fixture(scope="module")
def page_folder(project: Path, packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the docs describe, without a model."""
    folder = tmp_path_factory.mktemp("page")
    (page,) = re.findall(r"```html\n(.*?)```", (project / "docs" / "deploy.md").read_text(encoding="utf-8"), re.DOTALL)
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "node_modules").symlink_to(packages)
    return folder


@pytest.fixture(scope="module")
def address(page_folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(page_folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def classify(browser: Chromium, address: str, images: list[str]) -> list[dict[str, Any]]:
    browser.open(address + "index.html")
    until(browser, "document.querySelector('input').disabled === false")
    browser.choose("input", images)
    until(browser, f"document.querySelector('pre').textContent.split('\\n').length > {len(images)}")
    return [json.loads(line) for line in browser.look("document.querySelector('pre').textContent").splitlines()]


def until(browser: Chromium, condition: str) -> None:
    last = time.monotonic() + 120
    while not browser.look(condition):
        assert browser.said("Runtime.exceptionThrown") == []
        assert time.monotonic() < last, f"the page does not respond: {condition}"
        time.sleep(0.05)


def test_the_page_of_the_docs_predicts_as_penult(
    browser: Chromium, address: str, page_folder: Path, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "images" / "hymenoptera" / "val"
    files = [
        ImageFile.at(str(path), place, "test" if number % 2 else "train")
        for place in ("ants", "bees")
        for number, path in enumerate(sorted((folder / place).iterdir())[:24])
    ]
    backbone, store = load_backbone("efficientnet-lite0"), open_store(tmp_path / "store")
    extract(files, store, backbone=backbone)
    save_dataset(store, "insects", files, "insects")
    bundle(train(store, dataset="insects").head, backbone, page_folder / "model.onnx")
    images = [file.path for file in files if file.split == "test"]
    assert len(images) == 24
    transparent = Image.open(images[0]).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    transparent.save(tmp_path / "transparent.png")
    images.append(str(tmp_path / "transparent.png"))
    ours = list(predict(page_folder / "model.onnx", images))
    theirs = classify(browser, address, images)
    worst = max(
        abs(one["probabilities"][name] - share)
        for one, other in zip(theirs, ours, strict=True)
        for name, share in other.probabilities.items()
    )
    assert worst <= DIFFERENCE
    assert [(one["name"], one["label"]) for one in theirs] == [(Path(one.path).name, one.label) for one in ours]


def test_the_packages_are_pinned_without_a_host(project: Path) -> None:
    folder = project / "docs" / "browser"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert wanted == {name: locked[f"node_modules/{name}"]["version"] for name in wanted}
    assert all("resolved" not in package for package in locked.values())
    assert all("integrity" in package for path, package in locked.items() if path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", head_names())
def test_every_kind_of_head_runs_in_a_browser(
    kind: str,
    browser: Chromium,
    address: str,
    page_folder: Path,
    collection: Path,
    small_backbone: Backbone,
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "store")
    files = list(list_images(collection))
    extract(files, store, backbone=small_backbone)
    save_dataset(store, "colours", files, "colours")
    bundle(train(store, dataset="colours", head=kind).head, small_backbone, page_folder / "model.onnx")
    images = [file.path for file in files]
    theirs, ours = classify(browser, address, images), list(predict(page_folder / "model.onnx", images))
    assert [one["label"] for one in theirs] == [one.label for one in ours]
    for one, other in zip(theirs, ours, strict=True):
        assert one["probabilities"] == pytest.approx(other.probabilities, abs=DIFFERENCE)
