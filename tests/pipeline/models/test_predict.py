import csv
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from penult.cores import worker_count
from penult.errors import InputError, MissingFileError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.extract import extract
from penult.pipeline.extraction.worker import Worker
from penult.pipeline.fit import save_dataset
from penult.pipeline.heads.head import Head
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images
from penult.pipeline.models import predict as predict_module
from penult.pipeline.models import predictors
from penult.pipeline.models.model import Model
from penult.pipeline.models.predict import Prediction, predict
from penult.pipeline.models.prediction_files import ImageSorter, prediction_writer
from penult.pipeline.training.train import train
from penult.store import Store, open_store


@pytest.fixture
def store(collection: Path, small_backbone: Backbone, tmp_path: Path) -> Store:
    opened = open_store(tmp_path / "store")
    files = list(list_images(collection))
    extract(files, opened, backbone=small_backbone)
    save_dataset(opened, "colours", files, "colours")
    return opened


@pytest.fixture
def head(store: Store) -> Head:
    return train(store, dataset="colours", head="logistic", name="colours").head


def close(first: list[Prediction], second: list[Prediction]) -> bool:
    def figures(found: list[Prediction]) -> np.ndarray:
        return np.array([sorted(one.probabilities.items()) for one in found if one.error is None], object)[..., 1]

    same = [(one.path, one.label, one.error) for one in first] == [(one.path, one.label, one.error) for one in second]
    return same and bool(np.abs((figures(first) - figures(second)).astype(float)).max() <= 1e-5)


@pytest.mark.usefixtures("head")
def test_a_model_and_its_head_give_the_same_predictions_in_the_order_of_the_listing(
    model_path: Path, store: Store, collection: Path
) -> None:
    (collection / "green" / "3.png").write_bytes(b"no image")
    by_file = list(predict(model_path, collection))
    assert [one.path for one in by_file] == [file.path for file in list_images(collection)]
    assert close(by_file, list(predict("colours", collection, store=store)))
    assert close(by_file, list(predict(str(model_path), collection, store=store.path)))
    assert close(by_file, list(predict(Model.load(model_path), list_images(collection))))
    right = [one.label == Path(one.path).parent.name for one in by_file if one.error is None]
    assert len(right) == 29
    assert np.mean(right) > 0.9
    failed = [one for one in by_file if one.error]
    assert [(Path(one.path).name, one.label, one.probabilities) for one in failed] == [("3.png", None, {})]
    assert failed[0].error == "the file is not a recognised image."


def test_stored_images_need_neither_decoding_nor_the_backbone(
    head: Head, store: Store, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(predict(head, collection, store=store))

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(predictors, "Session", refuse)
    assert close(list(predict("colours", collection, store=store)), expected)


def test_renamed_images_are_recognised_and_new_images_are_not_stored(
    head: Head, store: Store, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(predict(head, collection, store=store))
    shutil.copytree(collection, tmp_path / "copies", copy_function=shutil.copyfile)
    image = tmp_path / "copies" / "red" / "0.png"
    image.write_bytes(image.read_bytes() + b"\0")  # the same pixels in another file
    decoded: list[str] = []
    original = Worker._decode

    def counting(self: Any, fresh: Any, *others: Any) -> Any:
        decoded.extend(file.path for file, *_ in fresh)
        return original(self, fresh, *others)

    monkeypatch.setattr(Worker, "_decode", counting)
    before = len(store.spaces()[0])
    found = list(predict(head, tmp_path / "copies", store=store))
    assert [one.label for one in found] == [one.label for one in expected]
    assert decoded == [str(image)]
    assert len(store.spaces()[0]) == before


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_workers_changes_nothing(
    workers: int, model_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "worker_count", lambda: workers)
    monkeypatch.setattr(predict_module, "BATCH_FILES", 5)
    files = [*list_images(collection), *list_images(collection), ImageFile.at("/no/such/file.png")]
    found = list(predict(model_path, files))
    assert [one.path for one in found] == [file.path for file in files]
    assert found[:30] == found[30:60]
    assert found[60].error == "the file cannot be read: No such file or directory"


def test_an_infinite_listing_is_predicted_lazily(model_path: Path, collection: Path) -> None:
    listed = 0

    def endless() -> Iterator[ImageFile]:
        nonlocal listed
        for file in itertools.cycle(list(list_images(collection))):
            listed += 1
            yield file

    found = predict(model_path, endless())
    assert [next(found).error for _ in range(500)] == [None] * 500
    assert listed < 500 + 256 * 2 * (worker_count() + 2)
    del found


def test_the_most_probable_classes_come_first_and_low_confidence_is_unsure(model_path: Path, collection: Path) -> None:
    for one in predict(model_path, collection, top=2, min_confidence=0.9):
        shares = list(one.probabilities.values())
        assert len(shares) == 2
        assert shares == sorted(shares, reverse=True)
        assert one.confidence == shares[0]
        assert one.label == (next(iter(one.probabilities)) if shares[0] >= 0.9 else "unsure")
    assert {one.label for one in predict(model_path, collection, min_confidence=1.0)} == {"unsure"}


@pytest.mark.parametrize("options", [{"top": 0}, {"min_confidence": 1.5}, {"provider": "tpu"}])
def test_invalid_options_raise_an_error(options: dict[str, Any], model_path: Path, collection: Path) -> None:
    with pytest.raises(InputError):
        predict(model_path, collection, **options)


def test_the_error_for_a_missing_model_store_or_image_names_it(
    store: Store, head: Head, collection: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'colours'"):
        predict("colors", collection, store=store)
    with pytest.raises(MissingFileError, match="There is no model file"):
        predict("modle.onnx", collection, store=store)
    with pytest.raises(MissingFileError, match="'colours' is not a file, and there is no store at"):
        predict("colours", collection, store=tmp_path / "nowhere")
    with pytest.raises(InputError, match="without its store"):
        predict(head, collection)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="There is no image"):
        predict(head, tmp_path / "empty", store=store)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def test_json_has_one_line_per_image_and_an_error_gives_exit_code_three(model_path: Path, collection: Path) -> None:
    result = run(model_path, collection, "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 30
    assert set(lines[0]) == {"path", "label", "probabilities"}
    assert set(lines[0]["probabilities"]) == {"red", "green", "blue"}
    (collection / "zz.jpg").write_bytes(b"")
    result = run(model_path, collection, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "path": str(collection / "zz.jpg"),
        "error": "the file is empty.",
    }


def test_the_plain_output_has_one_line_per_image(head: Head, store: Store, collection: Path) -> None:
    result = run("colours", collection / "red" / "1.png", "--store", store.path)
    assert result.exit_code == 0, result.output
    label, share, path = result.stdout.split()
    assert (label, path) == ("red", str(collection / "red" / "1.png"))
    assert share.endswith("%")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_are_written_completely(suffix: str, model_path: Path, collection: Path, tmp_path: Path) -> None:
    (collection / "zz.jpg").write_bytes(b"")
    output = tmp_path / "out" / f"labels{suffix}"
    output.parent.mkdir()
    result = run(model_path, collection, "-o", output, "--top", "2")
    assert result.exit_code == 3, result.output
    assert [entry.name for entry in output.parent.iterdir()] == [output.name]
    rows = _rows(output)
    expected = list(predict(model_path, collection, top=2))
    assert [row["path"] for row in rows] == [one.path for one in expected]
    assert [row.get("error") or None for row in rows] == [one.error for one in expected]
    assert [row.get("label") or None for row in rows] == [one.label for one in expected]
    if suffix != ".jsonl":
        given = [row[f"probability of {expected[0].label}"] for row in rows[:1]]
        assert [float(share) for share in given] == [expected[0].confidence]


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def test_an_interrupted_file_is_removed(tmp_path: Path) -> None:
    def break_off() -> None:
        with prediction_writer(tmp_path / "labels.csv", ["a"]) as writer:
            writer.write(Prediction("x.jpg", "a", {"a": 1.0}, 1.0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(InputError, match=r"Expected: a name that ends in \.csv, \.jsonl, \.parquet"),
        prediction_writer(tmp_path / "labels.xlsx", ["a"]),
    ):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_path_that_is_not_unicode_is_written(suffix: str, tmp_path: Path) -> None:
    with prediction_writer(tmp_path / f"labels{suffix}", ["a,b\n"]) as writer:
        writer.write(Prediction("caf\udce9.jpg", "a,b\n", {"a,b\n": 1.0}, 1.0))
    (row,) = _rows(tmp_path / f"labels{suffix}")
    assert row["path"] in ("caf\\udce9.jpg", "caf\udce9.jpg")
    assert row["label"] == "a,b\n"


def test_images_are_sorted_into_a_folder_per_label(model_path: Path, collection: Path, tmp_path: Path) -> None:
    result = run(model_path, collection, "--sort-into", tmp_path / "sorted", "--json")
    assert result.exit_code == 0, result.output
    for line in map(json.loads, result.stdout.splitlines()):
        matches = [path for path in (tmp_path / "sorted" / line["label"]).iterdir() if path.samefile(line["path"])]
        assert len(matches) == 1
    assert len(list((tmp_path / "sorted").glob("*/*"))) == 30
    again = run(model_path, collection, "--sort-into", tmp_path / "sorted")
    assert isinstance(again.exception, InputError)
    assert "not empty" in str(again.exception)


def test_sorting_stays_in_its_folder_and_mixes_no_classes(collection: Path, tmp_path: Path) -> None:
    sorter = ImageSorter(tmp_path / "sorted")
    image = str(collection / "red" / "1.png")
    labels = ["../../../tmp/evil", "..", "a/b", "a_b", "", "\0", "CON", "x" * 300, "."]
    for label in labels:
        sorter.add(Prediction(image, label, {label: 1.0}, 1.0))
    folders = list((tmp_path / "sorted").iterdir())
    assert len(folders) == len(labels)
    assert all([entry.name for entry in folder.iterdir()] == ["1.png"] for folder in folders)


def test_images_are_copied_if_links_are_impossible(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    image = collection / "red" / "1.png"
    ImageSorter(tmp_path / "sorted").add(Prediction(str(image), "red", {"red": 1.0}, 1.0))
    copy = tmp_path / "sorted" / "red" / "1.png"
    assert copy.read_bytes() == image.read_bytes()
    assert not copy.is_symlink()


def test_predict_reads_the_file_of_bundle(head: Head, store: Store, collection: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.onnx"
    words = ["bundle", "colours", "-o", str(output), "--store", str(store.path)]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["proof"]["real_images"] == 30
    assert printed["bytes"] == output.stat().st_size
    assert "all labels are equal" in CliRunner().invoke(app, words).stdout
    assert close(list(predict(output, collection)), list(predict(head, collection, store=store)))
    wrong = CliRunner().invoke(app, ["bundle", "colors", "--store", str(store.path)])
    assert isinstance(wrong.exception, UnknownNameError)


def test_paths_may_be_given_one_by_one(model_path: Path, head: Head, store: Store, collection: Path) -> None:
    paths = sorted((collection / "blue").iterdir())[:3]
    for given in (paths, [str(path) for path in paths], iter(paths)):
        found = list(predict(model_path, given))
        assert [(one.path, one.label) for one in found] == [(str(path), "blue") for path in paths]
    assert close(list(predict(head, [str(path) for path in paths], store=store)), found)
    (gone,) = predict(model_path, [collection / "gone.png"])
    assert gone.error == "the file cannot be read: No such file or directory"
    with pytest.raises(InputError, match="no image in the list"):
        predict(model_path, [])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_an_image_with_a_newline_in_its_name_has_one_line(model_path: Path, collection: Path) -> None:
    place = collection / "odd"
    place.mkdir()
    shutil.copy(collection / "red" / "1.png", place / "a\nb\tc.png")
    (place / "x\ny.png").touch()
    result = run(model_path, place)
    assert result.exit_code == 3
    (line,) = result.stdout.splitlines()
    assert line.endswith("a\\nb\\tc.png")
    assert "odd/x\\ny.png: the file is empty." in result.stderr.splitlines()[0]
