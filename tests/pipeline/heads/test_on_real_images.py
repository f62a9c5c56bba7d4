"""On real photos every head trains, agrees with scikit-learn, and predicts the same in a new process."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import penult
from penult.pipeline.extraction.extract import find_images
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads import head_names
from penult.pipeline.progress import Silent
from penult.pipeline.samples.rows import TrainingRows, choose_rows
from penult.pipeline.training.recording import Trained
from penult.store import Store
from penult.store.features import gather
from tests.pipeline.plain_heads import PLAIN

READ = """
import json, sys
import numpy as np, penult
store = penult.open_store(sys.argv[1], create=False)
for name in sys.argv[2:]:
    head = penult.Head.load(store.heads_path / name)
    dataset = store.catalog.datasets.load(head.card.dataset, head.card.dataset_version)
    keys = dataset.keys[np.array(dataset.splits) == head.card.evaluated_on]
    keys = np.unique(keys, axis=0)
    probabilities = head.predict_proba(head.gather(store, keys))
    print(json.dumps([name, probabilities.astype(float).round(7).tolist()]))
"""

FLOORS = {"hymenoptera": 0.85, "flowers5": 0.75, "steel_defects": 0.85}
WEAK = {"lightgbm": 0.2, "gaussian-nb": 0.15, "random-forest": 0.1, "knn": 0.1, "centroid": 0.1}
"""How much less than the floor these may reach on dense features of few images."""

LEAST = {"logistic": 0.995, "ridge": 0.995, "linear-svc": 0.98, "svc": 0.97}
"""The share of equal labels; one means all. What converges, or calibrates, may differ on a row between two classes."""


def _require_agreement(store: Store, rows: TrainingRows, trained: Trained) -> None:
    kind, spaces = trained.head.card.kind, store.spaces()
    X, Z = (gather(spaces, part.keys) for part in (rows.train, rows.test))
    codes = np.searchsorted(rows.classes, rows.train.labels.astype(str))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # our heads report this in a note
        warnings.filterwarnings("ignore", "self.within_class_std_dev_")  # some features are 0 throughout
        plain = PLAIN[kind](dict(trained.head.card.params), len(X)).fit(X, codes)
    agreement = float(np.mean(plain.predict(Z) == trained.evaluation.predicted))
    assert agreement >= LEAST.get(kind, 1.0), (kind, agreement)


@pytest.mark.slow
@pytest.mark.parametrize("folder", FLOORS)
def test_every_head_on_real_photos_agrees_with_scikit_learn_and_predicts_the_same_in_a_new_process(
    shared_data: Path, tmp_path: Path, folder: str
) -> None:
    images = shared_data / "images" / folder
    store = penult.open_store(tmp_path / "store")
    files = find_images(images, Silent())
    penult.extract(files, store)
    _, dataset = save_dataset(store, folder, files, str(images))
    rows, expected = choose_rows(dataset), {}
    for kind in head_names():
        trained = penult.train(store, dataset=dataset.name, head=kind)
        assert trained.evaluation.accuracy.value > FLOORS[folder] - WEAK.get(kind, 0.0), kind
        _require_agreement(store, rows, trained)
        head = trained.head
        keys = np.unique(trained.evaluation.keys, axis=0)
        expected[head.card.name] = head.predict_proba(head.gather(store, keys)).astype(float).round(7).tolist()
    read = subprocess.run(
        [sys.executable, "-c", READ, str(store.path), *expected], capture_output=True, text=True, check=True
    )
    found = dict(json.loads(line) for line in read.stdout.splitlines())
    assert found == expected
