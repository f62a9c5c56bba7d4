import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penult.errors import InputError
from penult.pipeline.demo.drawings import CLASSES, draw_collection


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*/*") if not path.name.startswith("."))


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in images_of(folder)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "images"
    draw_collection(folder, per_class_train=6, per_class_test=3)
    return folder


def test_five_classes_in_two_splits_of_the_asked_sizes(drawn: Path) -> None:
    assert CLASSES == ("card", "cube", "hat", "screw", "torch")
    for split, count in (("train", 6), ("test", 3)):
        assert sorted(path.name for path in (drawn / split).iterdir()) == list(CLASSES)
        for name in CLASSES:
            assert len(list((drawn / split / name).iterdir())) == count


def test_every_image_is_a_colour_photo_of_ordinary_size(drawn: Path) -> None:
    for path in images_of(drawn):
        assert path.suffix in {".jpg", ".png"}
        with Image.open(path) as image:
            image.load()
            assert image.mode == "RGB"
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
            assert 240 <= min(image.size) <= max(image.size) <= 480
            assert np.ptp(np.asarray(image.convert("L")).astype(int)) > 25, path


def test_no_image_is_drawn_twice_in_one_seed_or_two(drawn: Path, tmp_path: Path) -> None:
    draw_collection(tmp_path / "other", per_class_train=3, per_class_test=1, seed=1)
    all_of_them = [*digests(drawn).values(), *digests(tmp_path / "other").values()]
    assert len(set(all_of_them)) == len(all_of_them) == 5 * (6 + 3 + 3 + 1)


def test_the_same_seed_gives_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    draw_collection(tmp_path / "again", per_class_train=2, per_class_test=1)
    again = digests(tmp_path / "again")
    assert len(again) == 15
    assert again.items() <= digests(drawn).items()


def test_drawing_again_changes_no_file(drawn: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in images_of(drawn)}
    draw_collection(drawn, per_class_train=6, per_class_test=3)
    assert {path: path.stat().st_mtime_ns for path in images_of(drawn)} == before


def test_an_interrupted_drawing_is_completed(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    draw_collection(folder, per_class_train=1, per_class_test=1)
    whole = digests(folder)
    for path in images_of(folder)[::2]:
        path.rename(path.with_name(f".{path.name}.part"))
    draw_collection(folder, per_class_train=1, per_class_test=1)
    assert digests(folder) == whole
    assert not list(folder.glob("*/*/.*"))


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="is not empty"):
        draw_collection(tmp_path, per_class_train=1, per_class_test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"")
    with pytest.raises(InputError, match="is not empty"):
        draw_collection(tmp_path / "images", per_class_train=1, per_class_test=1)


def test_other_drawings_are_not_mixed_in(drawn: Path) -> None:
    before = digests(drawn)
    with pytest.raises(InputError, match="holds other drawings"):
        draw_collection(drawn, per_class_train=6, per_class_test=3, seed=7)
    assert digests(drawn) == before
