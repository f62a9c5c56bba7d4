"""On real photos every head trains, is judged, saved, loaded in a new process, and predicts the same there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import penult
from penult.pipeline.extraction.extract import find_images
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads import head_names
from penult.pipeline.progress import Silent

READ = """
import json, sys
import numpy as np, penult
store = penult.open_store(sys.argv[1], create=False)
for name in sys.argv[2:]:
    head = penult.Head.load(store.heads_path / name)
    dataset = store.catalog.datasets.load(head.card.dataset, head.card.dataset_version)
    keys = dataset.keys[np.array(dataset.splits) == head.card.evaluated_on]
    keys = np.unique(keys, axis=0)
    chances = head.predict_proba(head.gather(store, keys))
    print(json.dumps([name, chances.astype(float).round(7).tolist()]))
"""

FLOORS = {"hymenoptera": 0.85, "flowers5": 0.75, "steel_defects": 0.85}
WEAK = {"lightgbm": 0.2, "gaussian-nb": 0.15, "random-forest": 0.1, "knn": 0.1, "centroid": 0.1}
"""How much less than the floor these may reach on dense features of few images."""


@pytest.mark.slow
@pytest.mark.parametrize("folder", FLOORS)
def test_every_head_on_real_photos_predicts_the_same_in_a_new_process(
    shared_data: Path, tmp_path: Path, folder: str
) -> None:
    images = shared_data / "images" / folder
    store = penult.open_store(tmp_path / "store")
    files = find_images(images, Silent())
    penult.extract(files, store)
    _, dataset = save_dataset(store, folder, files, str(images))
    told = {}
    for kind in head_names():
        trained = penult.train(store, dataset=dataset.name, head=kind)
        assert trained.evaluation.accuracy.value > FLOORS[folder] - WEAK.get(kind, 0.0), kind
        head = trained.head
        keys = np.unique(trained.evaluation.keys, axis=0)
        told[head.card.name] = head.predict_proba(head.gather(store, keys)).astype(float).round(7).tolist()
    read = subprocess.run(
        [sys.executable, "-c", READ, str(store.path), *told], capture_output=True, text=True, check=True
    )
    found = dict(json.loads(line) for line in read.stdout.splitlines())
    assert found == told
