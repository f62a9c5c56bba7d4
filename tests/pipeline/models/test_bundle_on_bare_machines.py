"""Every kind of head, on two whole real collections, runs in an environment with only ONNX Runtime."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penult.exporters.registry import load_backbone
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads.registry import head_names
from penult.pipeline.images.listing import list_images
from penult.pipeline.models.bundle import bundle
from penult.pipeline.models.predict import predict
from penult.pipeline.training.train import train
from penult.store import Store, open_store

COLLECTIONS = ("hymenoptera", "steel_defects")
BARE = ("onnxruntime", "numpy", "pillow")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with only the packages that the example of the docs names."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *BARE], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{', '.join(BARE)} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    for package in ("penult", "onnx", "sklearn", "h5py"):
        assert subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode
    return python


@pytest.fixture(scope="module")
def store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    opened = open_store(tmp_path_factory.mktemp("whole") / "store")
    for name in COLLECTIONS:
        files = list(list_images(shared_data / "images" / name))
        extract(files, opened, backbone=load_backbone("efficientnet-lite0"))
        save_dataset(opened, name, files, name)
    return opened


@pytest.mark.parametrize("collection_name", COLLECTIONS)
@pytest.mark.parametrize("kind", head_names())
def test_a_model_alone_in_an_empty_folder_predicts_as_its_head(
    kind: str, collection_name: str, store: Store, bare_python: Path, project: Path, tmp_path: Path
) -> None:
    trained = train(store, dataset=collection_name, head=kind)
    bundle(trained.head, load_backbone("efficientnet-lite0"), tmp_path / "model.onnx")
    target = tmp_path / "elsewhere"
    target.mkdir()
    shutil.move(tmp_path / "model.onnx", target / "m.onnx")
    (program,) = re.findall(r"```python\n(.*?)```", (project / "docs" / "deploy.md").read_text(), re.DOTALL)
    (target / "classify.py").write_text(program)
    command: list[str | Path] = [bare_python, "-I", "classify.py", "m.onnx", *trained.test_paths]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    alone = [json.loads(line) for line in done.stdout.splitlines()]
    ours = list(predict(trained.head, trained.test_paths, store=store))
    assert len(alone) == len(trained.test_paths) > 100
    assert [(one["path"], one["label"]) for one in alone] == [(one.path, one.label) for one in ours]
    for one, mine in zip(alone, ours, strict=True):
        given = np.array([one["probabilities"][name] for name in mine.probabilities])
        np.testing.assert_allclose(given, list(mine.probabilities.values()), rtol=0, atol=1e-5)
