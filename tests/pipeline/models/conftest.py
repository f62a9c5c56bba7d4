"""A store of coloured images and the model of its head, built once per session."""

from pathlib import Path

import pytest

from penult.exporters.backbone import Backbone
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads.head import Head
from penult.pipeline.images.listing import list_images
from penult.pipeline.models.bundle import bundle
from penult.pipeline.training.train import train
from penult.store import Store, open_store
from tests.pipeline.colours import draw_colours


@pytest.fixture(scope="session")
def small_store(small_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with three spaces of the coloured images; tests may add heads, and nothing else."""
    root = tmp_path_factory.mktemp("colours")
    store = open_store(root / "store")
    files = list(list_images(draw_colours(root / "photos")))
    extract(files, store, backbone=small_backbone, taps=["penultimate", "stage1"])
    extract(files, store, backbone=small_backbone, taps=["stage1"], options=ExtractOptions(dtype="float32"))
    save_dataset(store, "colours", files, "colours")
    return store


@pytest.fixture(scope="session")
def small_head(small_store: Store) -> Head:
    return train(small_store, dataset="colours", features="penultimate", head="logistic", name="colours").head


@pytest.fixture(scope="session")
def model_data(small_head: Head, small_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    bundle(small_head, small_backbone, path)
    return path.read_bytes()


@pytest.fixture
def model_path(model_data: bytes, tmp_path: Path) -> Path:
    """A copy of the model of `small_head`, which a test may change."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model_data)
    return path
