"""Draft backbones decode large JPEGs at a reduced scale: similar features in their own space."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from penult.errors import BackboneError
from penult.exporters import Backbone
from penult.exporters.card import Decoding, Preprocessing
from penult.exporters.proof import sample_photos
from penult.pipeline.backbones import with_draft_decoding
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.extract import extract
from penult.pipeline.images.decode import decode, decode_to_image
from penult.store import open_store

WHOLE = Preprocessing(resize=64, crop=(56, 56))
REDUCED = replace(WHOLE, decoding=Decoding(draft=True))


def _photo(file_format: str = "JPEG", times: int = 1, **options: object) -> bytes:
    with Image.open(sample_photos()[0]) as photo:
        large = photo.convert("RGB").resize((photo.width * times, photo.height * times))
    stream = io.BytesIO()
    large.save(stream, file_format, **options)
    return stream.getvalue()


def _apart(data: bytes, preprocessing: Preprocessing = WHOLE) -> float:
    asked = replace(preprocessing, decoding=Decoding(draft=True))
    return float(np.abs(decode(data, preprocessing).astype(float) - decode(data, asked)).mean())


def test_a_large_jpeg_is_reduced_with_little_difference() -> None:
    assert 0 < _apart(_photo(times=2)) < 3


def test_other_images_are_decoded_at_full_scale() -> None:
    assert _apart(_photo("PNG")) == 0
    assert _apart(_photo("WEBP")) == 0
    assert _apart(_photo(), Preprocessing(resize=300, crop=(224, 224))) == 0, "too small to be reduced"


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("resize", [64, (100, 70)])
def test_a_reduced_jpeg_is_turned_upright(orientation: int, resize: int | tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    preprocessing = replace(WHOLE, resize=resize)
    assert 0 < _apart(_photo(exif=exif), preprocessing) < 6


def test_a_reduced_jpeg_keeps_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    photo, loaded = _photo(), Image.Image.resize

    def spy(image: Image.Image, *arguments: object, **more: object) -> Image.Image:
        sizes.append(image.size)
        return loaded(image, *arguments, **more)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(Image.Image, "resize", spy)
    decode_to_image(photo, REDUCED)  # 640 x 427, for a shorter side of 64
    decode_to_image(photo, WHOLE)
    assert sizes == [(320, 214), (640, 427)], "a third would also keep the margin, but JPEGs can only be halved"


def test_a_draft_backbone_records_its_difference_and_has_its_own_space(
    small_backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "large.jpg").write_bytes(_photo(times=2))
    made = with_draft_decoding(small_backbone, [tmp_path / "photos" / "large.jpg"])
    drift = made.card.proof["draft"]
    assert drift["images"] == 3
    assert all(0 < figures["relative_error"] < 0.5 for figures in drift["outputs"].values())
    made.save(tmp_path / "draft.onnx")
    again = Backbone.load(tmp_path / "draft.onnx")
    assert again.fingerprint == made.fingerprint != small_backbone.fingerprint
    with pytest.raises(BackboneError, match="already"):
        with_draft_decoding(again)

    for backbone in (small_backbone, again):
        extract(tmp_path / "photos", tmp_path / "store", backbone=backbone)
    spaces = open_store(tmp_path / "store").spaces()
    assert len(spaces) == 2
    rows = [space.load(space.keys()).features for space in spaces]
    assert 0 < np.abs(rows[0] - rows[1]).max() < 0.5 * np.abs(rows[0]).max()


def test_the_verb_makes_a_draft_backbone(small_backbone: Backbone, tmp_path: Path) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    words = ["backbones", "draft", str(tmp_path / "small.onnx"), "-o", str(tmp_path / "made.onnx"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["name"] == f"{small_backbone.name}-draft"
    shown = CliRunner().invoke(app, ["backbones", "show", str(tmp_path / "made.onnx")])
    assert "at a reduced scale; reduced against full scale, 2 large JPEGs: relative error up to 0." in shown.output
