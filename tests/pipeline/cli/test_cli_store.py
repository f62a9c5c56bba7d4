"""The verbs `dataset` and `store`."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import h5py
import numpy as np
import pytest

from penult.exporters.backbone import Backbone
from penult.pipeline.extraction.extract import extract
from penult.pipeline.fit import fit
from penult.store import open_store
from tests.pipeline.colours import draw_colours
from tests.pipeline.command_line import penult

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def fitted(small_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a fitted store of the small collection in ``work``, and an unchanged copy of it."""
    folder = tmp_path_factory.mktemp("fitted")
    collection = draw_colours(folder / "work" / "photos")
    fit(collection, folder / "work" / "store", backbone=small_backbone, output=folder / "work")
    shutil.copytree(folder / "work", folder / "copy")
    return folder


@pytest.fixture
def work(fitted: Path) -> Path:
    """The folder ``work``, restored for each test. Its path stays the same, because the store records paths."""
    shutil.rmtree(fitted / "work")
    shutil.copytree(fitted / "copy", fitted / "work")
    return fitted / "work"


@pytest.fixture
def collection(work: Path) -> Path:
    return work / "photos"


@pytest.fixture
def run(work: Path) -> Run:
    def run_on_the_store(*arguments: object, code: int = 0) -> CompletedProcess[str]:
        done = penult(*arguments, "--store", "store", cwd=work)
        assert done.returncode == code, done.stderr
        return done

    return run_on_the_store


def test_exported_labels_are_corrected_and_imported_without_touching_features(work: Path, run: Run) -> None:
    shards = sorted((path.name, path.stat().st_mtime_ns) for path in work.glob("store/spaces/*/shards/*"))
    run("dataset", "export", "photos", "labels.csv")
    with (work / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"red", "green", "blue"}
    rows[0]["label"] = "purple"
    with (work / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=";", lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    done = json.loads(run("dataset", "import", "labels.csv", "--name", "photos", "--json").stdout)
    assert (done["version"], done["rows"]) == (2, 30)
    changed = json.loads(run("dataset", "diff", "photos", 1, 2, "--json").stdout)
    assert changed["changed"] == {"label": 1}
    shown = run("dataset", "diff", "photos", 1, 2).stdout
    assert "changed: 1 of label\n" in shown
    assert "purple" in shown
    assert "purple" in run("dataset", "show", "photos").stdout
    assert "purple" not in run("dataset", "show", "photos", "--version", 1).stdout
    assert json.loads(run("dataset", "list", "--json").stdout) == {"photos": {"version": 2, "rows": 30}}
    assert shards == sorted((path.name, path.stat().st_mtime_ns) for path in work.glob("store/spaces/*/shards/*"))


def test_unknown_images_are_reported_and_new_labels_keep_the_old_split(work: Path, run: Run) -> None:
    before = open_store(work / "store").catalog.datasets.load("photos")
    lines = ["path,label", "photos/nowhere.png,red"]
    lines += [
        f"photos/{name}/{number}.png,{'warm' if name == 'red' else 'cold'}"
        for name in ("red", "blue")
        for number in range(10)
    ]
    (work / "t.csv").write_text("\n".join(lines))
    kept = json.loads(run("dataset", "import", "t.csv", "--name", "photos", "--json").stdout)
    assert "unchanged, because the table does not list them: 10 images" in kept["notes"]
    result = run("dataset", "import", "t.csv", "--name", "photos", "--replace").stdout
    assert "left out because their image is not in the store: 1 row" in result
    assert "line 2" in result
    after = open_store(work / "store").catalog.datasets.load("photos")
    assert before.splits is not None
    assert after.splits is not None
    old = dict(zip(before.paths, before.splits, strict=True))
    assert all(old[path] == split for path, split in zip(after.paths, after.splits, strict=True))
    trained = json.loads(run("train", "photos", "--json").stdout)
    assert trained["classes"] == ["cold", "warm"]
    (work / "t.csv").write_text("path,label\nx.png,red\n")
    refused = run("dataset", "import", "t.csv", "--name", "photos", code=1)
    assert "What to do: run 'penult extract'" in refused.stderr


def test_splits_by_group_and_by_time(work: Path, run: Run) -> None:
    lines = ["path,label,patient,day"]
    for name in ("red", "green", "blue"):
        lines += [f"photos/{name}/{number}.png,{name},p{number % 5},2024-0{number % 9 + 1}-01" for number in range(10)]
    (work / "t.csv").write_text("\n".join(lines))
    run("dataset", "import", "t.csv", "--name", "scans")
    run("dataset", "split", "scans", "--group", "patient", "--test", "0.4")
    table = open_store(work / "store").catalog.datasets.load("scans")
    assert table.splits is not None
    sides = {(patient, split) for patient, split in zip(table.columns["patient"], table.splits, strict=True)}
    assert len(sides) == 5
    assert {split for _, split in sides} == {"train", "test"}
    run("dataset", "split", "scans", "--column", "day", "--cut", "2024-05-01")
    table = open_store(work / "store").catalog.datasets.load("scans")
    assert table.splits is not None
    for day, split in zip(table.columns["day"], table.splits, strict=True):
        assert split == ("train" if day < "2024-05-01" else "test")


def test_damage_is_found_repaired_and_extracted_again(
    work: Path, run: Run, collection: Path, small_backbone: Backbone
) -> None:
    before = open_store(work / "store").spaces()[0].load()
    assert "sound" in run("store", "verify").stdout
    shard = next(work.glob("store/spaces/*/shards/*.h5"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    shard.chmod(0o644)
    shard.write_bytes(data)
    found = run("store", "verify", code=1)
    assert shard.name in found.stdout
    run("store", "verify", "--repair", code=1)
    assert "sound" in run("store", "verify").stdout
    receipt = extract(collection, work / "store", backbone=small_backbone)
    assert 0 <= receipt.new <= 30
    after = open_store(work / "store").spaces()[0].load()
    np.testing.assert_array_equal(before.features, after.features)
    np.testing.assert_array_equal(before.keys, after.keys)


def test_compact_and_gc_change_no_row(work: Path, run: Run) -> None:
    space = open_store(work / "store").spaces()[0]
    rows = space.load()
    chance = np.random.default_rng(0)
    for _ in range(5):
        space.add(chance.integers(0, 256, (3, 16), dtype=np.uint8), chance.normal(size=(3, 12)).astype(np.float32))
    before = space.load()
    assert len(before) == len(rows) + 15
    assert "became 1" in run("store", "compact").stdout
    run("store", "gc")
    after = open_store(work / "store").spaces()[0].load()
    np.testing.assert_array_equal(before.features, after.features)
    assert json.loads(run("store", "info", "--json").stdout)["spaces"][0]["rows"] == 45


def test_features_are_exported_to_one_hdf5_file(work: Path, run: Run) -> None:
    run("store", "export", "features.h5", "--dataset", "photos")
    with h5py.File(work / "features.h5") as file:
        features, labels = file["features"][:], file["label"][:] if "label" in file else file["labels"][:]
    assert features.shape == (30, 12)
    assert len(labels) == 30
    done = penult("store", "import", "features.h5", "--store", "other", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "30 rows read" in done.stdout
    refused = run("store", "export", "features.h5", code=1)
    assert "exists already" in refused.stderr


def test_stores_are_compared_and_named_with_or_without_the_option(work: Path) -> None:
    def store(*arguments: str) -> CompletedProcess[str]:
        return penult("store", *arguments, cwd=work)

    shutil.copytree(work / "store", work / "copy")
    assert store("diff", "store", "copy").returncode == 0
    assert store("info", "copy", "--json").stdout == store("info", "--store", "copy", "--json").stdout
    spec = open_store(work / "copy").spaces()[0].spec
    open_store(work / "copy").space(spec).add([bytes(16)], np.ones((1, spec.width)))
    done = store("diff", "store", "copy")
    assert (done.returncode, "1 only in copy, such as 00000000000000000000000000000000" in done.stdout) == (1, True)
    result = json.loads(store("diff", "store", "copy", "--json").stdout)
    assert (result["equal"], result["spaces"][0]["only_in_second"]) == (False, [bytes(16).hex()])


def test_verify_reports_damaged_backbones_and_heads(work: Path, run: Run, collection: Path) -> None:
    assert "damaged" not in run("store", "verify").stdout
    (copy,) = (work / "store" / "backbones").glob("*.onnx")
    (head,) = (work / "store" / "heads").glob("*/estimator-*.skops")
    whole = copy.read_bytes()
    for path, place in ((copy, len(whole) // 2), (head, 100)):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
    result = run("store", "verify", code=1).stdout
    assert f"backbone {copy.name}: " in result
    assert f"head {head.parent.name}: " in result
    assert len(json.loads(run("store", "verify", "--json", code=1).stdout)["others"]) == 2
