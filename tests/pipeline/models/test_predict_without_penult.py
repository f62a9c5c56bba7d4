"""The example of docs/deploy.md runs with only the packages that it names."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from penult.exporters.registry import load_backbone
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import save_dataset
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.models.bundle import bundle
from penult.pipeline.models.predict import predict
from penult.pipeline.training.train import train
from penult.store import open_store

# Blocks the import of all packages except those that the example names and their dependencies.
GUARD = """
import runpy, sys
allowed = {"onnxruntime", "numpy", "PIL", "google", "flatbuffers", "packaging"}
class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Guard())
for name in ("penult", "onnx", "sklearn", "h5py"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def classify(program: Path, model: Path, images: list[str]) -> list[dict[str, object]]:
    command: list[str | Path] = [sys.executable, "-I", "-c", GUARD, program, model, *images]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("collection_name", ["hymenoptera/val", pytest.param("steel_defects", marks=pytest.mark.slow)])
def test_the_example_of_the_docs_agrees_with_penult(
    collection_name: str, project: Path, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "images" / collection_name
    files = [
        ImageFile.at(str(path), place.name, "test" if number % 2 else "train")
        for place in sorted(folder.iterdir())
        for number, path in enumerate(sorted(place.iterdir())[:8])
    ]
    backbone, store = load_backbone("efficientnet-lite0"), open_store(tmp_path / "store")
    extract(files, store, backbone=backbone)
    save_dataset(store, "some", files, "some")
    folder_of_model = tmp_path / "elsewhere"
    folder_of_model.mkdir()
    bundle(train(store, dataset="some", head="logistic").head, backbone, folder_of_model / "model.onnx")
    blocks = re.findall(r"```python\n(.*?)```", (project / "docs" / "deploy.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 20
    (folder_of_model / "classify.py").write_text(blocks[0], encoding="utf-8")
    images = [file.path for file in files if file.split == "test"]
    alone = classify(folder_of_model / "classify.py", folder_of_model / "model.onnx", images)
    ours = list(predict(folder_of_model / "model.onnx", [ImageFile.at(path) for path in images]))
    assert [(one["path"], one["label"]) for one in alone] == [(one.path, one.label) for one in ours]
    for one, mine in zip(alone, ours, strict=True):
        assert isinstance(one["probabilities"], dict)
        assert one["probabilities"].keys() == mine.probabilities.keys()
        for name, share in one["probabilities"].items():
            np.testing.assert_allclose(share, mine.probabilities[name], rtol=0, atol=1e-5)
