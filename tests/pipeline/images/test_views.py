"""Views are deterministic, have their own spaces, and augment the training of heads."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from penult.errors import InputError, UnknownNameError
from penult.exporters.backbone import Backbone
from penult.pipeline.cli.app import app
from penult.pipeline.extraction.extract import ExtractOptions, extract
from penult.pipeline.fit import fit
from penult.pipeline.images.decode import decode
from penult.pipeline.images.views import DRAWN, _draws, parse_views, view_of
from penult.pipeline.models import predictors
from penult.pipeline.models.model import Model
from penult.pipeline.models.predict import Prediction, predict
from penult.pipeline.runtime.session import Session
from penult.pipeline.training.options import TrainOptions
from penult.pipeline.training.testing import retest
from penult.pipeline.training.train import train
from penult.store import key_of, open_store

KEY = key_of(b"image 7")


def _pixels() -> np.ndarray:
    down, across = np.mgrid[:64, :64]
    return np.stack([down * 4, across * 4, (down + across) * 2], axis=2).astype(np.uint8)


def test_flips_are_exact() -> None:
    pixels = _pixels()
    np.testing.assert_array_equal(view_of("hflip")(pixels, KEY), pixels[:, ::-1])
    np.testing.assert_array_equal(view_of("vflip")(pixels, KEY), pixels[::-1])
    np.testing.assert_array_equal(view_of("identity")(pixels, KEY), pixels)


@pytest.mark.parametrize("kind", DRAWN)
def test_random_views_depend_only_on_the_sample_and_the_number(kind: str) -> None:
    pixels = _pixels()
    first = view_of(f"{kind}-1")(pixels, KEY)
    assert first.shape == pixels.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(view_of(f"{kind}-1")(pixels.copy(), KEY), first)
    assert (view_of(f"{kind}-2")(pixels, KEY) != first).any()
    assert (view_of(f"{kind}-1")(pixels, key_of(b"another")) != first).any()
    # The content stays: no part is black, and colours are similar.
    assert np.abs(first.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 45


def test_random_views_equal_those_of_earlier_versions() -> None:
    """A changed view with an old name would mix rows that cannot be compared."""
    first = [round(draw, 6) for draw in _draws(KEY, "affine-3")][:4]
    assert first == [
        0.878814,
        0.180804,
        0.717268,
        0.880493,
    ]


def test_a_rotation_equals_that_of_pillow() -> None:
    pixels = _pixels()
    turned = view_of("rotation-1")(pixels, KEY)
    draw = int.from_bytes(hashlib.sha256(KEY + b"rotation-1").digest()[:4], "big") / 2**32
    expected = np.asarray(Image.fromarray(pixels).rotate(-15 * (2 * draw - 1), Image.Resampling.BILINEAR))
    apart = np.abs(turned[20:44, 20:44].astype(int) - expected[20:44, 20:44])
    assert apart.max() <= 1


@pytest.mark.parametrize("text", ["", "  ,", "hflop", "affine", "affine-0", "affine-x", "hflip-1"])
def test_an_unknown_view_is_an_early_error(text: str) -> None:
    with pytest.raises((InputError, UnknownNameError)):
        parse_views(text)
    with pytest.raises((InputError, UnknownNameError)):
        ExtractOptions(views=text)


def test_each_view_has_a_space_with_the_features_of_its_pixels(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    options = ExtractOptions(dtype="float32", views="identity,hflip,affine-3")
    receipt = extract(collection, store, backbone=small_backbone, taps=["penultimate", "stage1"], options=options)
    assert (receipt.new, receipt.rows) == (30, 180)
    session = Session(small_backbone, ["penultimate"])
    for path in sorted(collection.rglob("*.png"))[::7]:
        data = path.read_bytes()
        pixels = decode(data, small_backbone.card.preprocessing)
        for view in ("identity", "hflip", "affine-3"):
            row = session.run(view_of(view)(pixels, key_of(data))[np.newaxis])["penultimate"]
            stored = store.find_space(small_backbone.name, "penultimate", view=view).gather([key_of(data)])
            np.testing.assert_array_equal(stored, row)
    assert extract(collection, store, backbone=small_backbone, options=options).reused == 30


def test_a_view_added_later_extracts_only_its_own_rows(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    extract(collection, store, backbone=small_backbone)
    extract(collection, store, backbone=small_backbone, options=ExtractOptions(views="identity,hflip"))
    assert [len(space) for space in store.spaces()] == [30, 30]


def test_heads_train_on_all_views_and_average_them_on_request(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    fit(collection, store, backbone=small_backbone, output=tmp_path / "out")
    views = ("identity", "hflip", "affine-1")
    with pytest.raises(InputError, match=r"no features small-0:penultimate:hflip.*--views identity,hflip,affine-1"):
        train(store, dataset="photos", options=TrainOptions(views=views))
    extract(collection, store, backbone=small_backbone, options=ExtractOptions(views=",".join(views)))
    alone = train(store, dataset="photos", name="alone")
    seen = train(store, dataset="photos", name="seen", options=TrainOptions(views=views))
    mean = train(store, dataset="photos", name="mean", options=TrainOptions(views=views, average_views=True))
    assert any("3 views of each of" in note for note in seen.notes)
    assert any("mean over these views" in note for note in mean.notes)
    assert seen.head.card.spaces == alone.head.card.spaces  # predictions use the original image
    losses = [trained.evaluation.summary()["log_loss"] for trained in (alone, seen, mean)]
    assert len(set(losses)) == 3


VIEWS = ("identity", "hflip", "affine-1")


def _chances(found: Prediction) -> np.ndarray:
    return np.array([found.probabilities[name] for name in ("blue", "green", "red")])


def test_one_fit_extracts_the_views_trains_on_them_and_averages(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    training = TrainOptions(views=VIEWS[1:], average_views=True)
    fitted = fit(collection, store, backbone=small_backbone, output=tmp_path / "out", training=training)
    assert {space.spec.view: len(space) for space in store.spaces()} == dict.fromkeys(VIEWS, 30)
    assert any("Trained on 2 views of each of" in note for note in fitted.trained.notes)
    assert fitted.trained.head.card.averaged == VIEWS[1:]
    again = retest(fitted.trained.head, store).evaluation.summary()["log_loss"]
    assert again == pytest.approx(fitted.trained.evaluation.summary()["log_loss"], rel=1e-3)
    alone = fit(collection, store, backbone=small_backbone, output=tmp_path / "out")
    assert alone.receipt.new == 0
    assert alone.trained.head.card.averaged == ()
    assert retest(alone.trained.head, store).evaluation.summary()["log_loss"] != pytest.approx(again, rel=1e-2)


def test_the_fit_command_accepts_views(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    small_backbone.save(tmp_path / "small.onnx")
    words = ["fit", collection, "--store", tmp_path / "store", "--backbone", tmp_path / "small.onnx"]
    words += ["--output", tmp_path / "out", "--views", "identity,hflip"]
    done = CliRunner().invoke(app, [*map(str, words), "--average-views"])
    assert done.exit_code == 0, done.output
    assert "predicted by the mean over these views" in done.output
    image = str(collection / "red" / "1.png")
    for model in ("photos-logistic", str(tmp_path / "out/model.onnx")):
        told = CliRunner().invoke(
            app, ["predict", model, image, "--store", str(tmp_path / "store"), "--views", "vflip"]
        )
        assert told.exit_code == 0, told.output
        assert told.stdout.startswith("red")
    wrong = CliRunner().invoke(
        app, ["predict", "photos-logistic", image, "--store", str(tmp_path / "store"), "--views", "flip"]
    )
    assert isinstance(wrong.exception, UnknownNameError)


def test_averaged_probabilities_are_the_mean_over_the_views(
    collection: Path, tmp_path: Path, small_backbone: Backbone
) -> None:
    store = open_store(tmp_path / "store")
    options = ExtractOptions(views=",".join(VIEWS), dtype="float32")
    trained = fit(collection, store, backbone=small_backbone, output=tmp_path / "out", options=options).trained
    new = tmp_path / "new.png"
    new.write_bytes((collection / "green" / "1.png").read_bytes() + b"\0")  # another image, of which nothing is stored
    for image in (collection / "green" / "2.png", new):
        means = []
        for model in (trained.head, Model.load(tmp_path / "out/model.onnx")):
            each = [_chances(next(predict(model, image, store=store, views=(view,)))) for view in VIEWS]
            (found,) = predict(model, image, store=store, views=VIEWS)
            np.testing.assert_allclose(_chances(found), np.mean(each, axis=0), atol=1e-7)
            assert np.ptp(each, axis=0).max() > 1e-6, "the views differ"
            (plain,) = predict(model, image, store=store)
            np.testing.assert_array_equal(_chances(plain), each[0])
            means.append(_chances(found))
        np.testing.assert_allclose(means[0], means[1], atol=1e-5)


def test_stored_views_are_read_and_not_computed(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "store")
    fit(collection, store, backbone=small_backbone, output=tmp_path, options=ExtractOptions(views="identity,hflip"))
    monkeypatch.setattr(predictors, "Session", None)  # nothing may be computed
    told = list(predict("photos-logistic", collection, store=store, views=("identity", "hflip")))
    assert sum(found.label == Path(found.path).parent.name for found in told) == 30
    with pytest.raises(TypeError):
        list(predict("photos-logistic", collection, store=store, views=("identity", "vflip")))


def test_averaging_without_views_is_an_error(collection: Path, tmp_path: Path, small_backbone: Backbone) -> None:
    with pytest.raises(InputError, match="--average-views was given without --views"):
        fit(collection, tmp_path / "store", backbone=small_backbone, training=TrainOptions(average_views=True))
