import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from penult.errors import InputError
from penult.pipeline.demo.drawings import CLASSES, draw_collection
from penult.pipeline.demo.drawings.canvas import Canvas, box
from penult.pipeline.demo.drawings.objects import draw_card, draw_cube, draw_hat, draw_screw, draw_torch


def images_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*/*") if not path.name.startswith("."))


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in images_of(folder)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "images"
    draw_collection(folder, per_class_train=6, per_class_test=3)
    return folder


def test_each_split_has_the_requested_number_of_images_per_class(drawn: Path) -> None:
    assert CLASSES == ("card", "cube", "hat", "screw", "torch")
    for split, count in (("train", 6), ("test", 3)):
        assert sorted(path.name for path in (drawn / split).iterdir()) == list(CLASSES)
        for name in CLASSES:
            assert len(list((drawn / split / name).iterdir())) == count


def test_every_image_is_an_rgb_image_of_ordinary_size_with_contrast(drawn: Path) -> None:
    for path in images_of(drawn):
        assert path.suffix in {".jpg", ".png"}
        with Image.open(path) as image:
            image.load()
            assert image.mode == "RGB"
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
            assert 240 <= min(image.size) <= max(image.size) <= 480
            assert np.ptp(np.asarray(image.convert("L")).astype(int)) > 25, path


def test_all_images_differ_within_a_seed_and_between_seeds(drawn: Path, tmp_path: Path) -> None:
    draw_collection(tmp_path / "other", per_class_train=3, per_class_test=1, seed=1)
    hashes = [*digests(drawn).values(), *digests(tmp_path / "other").values()]
    assert len(set(hashes)) == len(hashes) == 5 * (6 + 3 + 3 + 1)


@pytest.mark.parametrize("draw", [draw_card, draw_cube, draw_hat, draw_screw, draw_torch])
def test_every_object_leaves_a_margin_and_covers_part_of_the_canvas(draw: Callable[[Canvas, Random], None]) -> None:
    for seed in range(20):
        canvas = Canvas()
        draw(canvas, Random(seed))
        covered = np.asarray(canvas.image.getchannel("A")) > 0
        assert 0.04 < covered.mean() < 0.85, seed
        assert not covered[[0, 0, -1, -1], [0, -1, 0, -1]].any(), seed


def test_an_image_is_placed_on_the_given_corners() -> None:
    canvas = Canvas(100, 100)
    image = Image.new("RGBA", (10, 20), (255, 0, 0, 255))
    image.paste((0, 0, 255, 255), (0, 10, 10, 20))
    turned_right = box(-0.5, -0.5, 0.5, 0.5)[[1, 2, 3]]
    canvas.place(image, turned_right)
    assert canvas.image.getpixel((65, 50)) == (255, 0, 0, 255)
    assert canvas.image.getpixel((35, 50)) == (0, 0, 255, 255)
    assert canvas.image.getbbox() == (25, 25, 75, 75)


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


def test_a_folder_with_other_files_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="is not empty"):
        draw_collection(tmp_path, per_class_train=1, per_class_test=1)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_in_place_of_the_folder_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"")
    with pytest.raises(InputError, match="is not empty"):
        draw_collection(tmp_path / "images", per_class_train=1, per_class_test=1)


def test_a_folder_with_other_drawings_raises_an_error_and_stays_unchanged(drawn: Path) -> None:
    before = digests(drawn)
    with pytest.raises(InputError, match="contains other drawings"):
        draw_collection(drawn, per_class_train=6, per_class_test=3, seed=7)
    assert digests(drawn) == before
