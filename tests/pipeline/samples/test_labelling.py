"""A dataset contains each distinct image once, in one split, and reports what it left out."""

import pytest

from penult.errors import InputError
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.samples.labelling import check_trainable, label_images


def _file(name: str, label: str | None, split: str | None = None) -> ImageFile:
    return ImageFile(name, 1, 1, label, split)


def _key(letter: str) -> bytes:
    return letter.encode() * 16


def test_copies_with_one_label_are_one_sample() -> None:
    files = [_file("b.jpg", "cat"), _file("a.jpg", "cat"), _file("c.jpg", "dog")]
    labelling = label_images(files, [_key("x"), _key("x"), _key("y")])
    assert [(sample.path, sample.label) for sample in labelling.samples] == [("a.jpg", "cat"), ("c.jpg", "dog")]
    assert labelling.notes == ["exact copies of other files, which count once: 1 file"]


def test_an_image_with_two_labels_is_left_out_and_reported() -> None:
    files = [_file("a.jpg", "rose"), _file("b.jpg", "tulip"), _file("c.jpg", "tulip")]
    labelling = label_images(files, [_key("x"), _key("x"), _key("y")])
    assert [sample.path for sample in labelling.samples] == ["c.jpg"]
    assert list(labelling.conflicts) == [_key("x")]
    assert "a.jpg (rose) = b.jpg (tulip)" in labelling.notes[0]


@pytest.mark.parametrize(("other", "kept"), [("test", "test"), ("val", "val")])
def test_an_image_in_two_splits_is_tested_and_not_trained_on(other: str, kept: str) -> None:
    files = [_file("a.jpg", "cat", "train"), _file("b.jpg", "cat", other), _file("c.jpg", "dog", "train")]
    labelling = label_images(files, [_key("x"), _key("x"), _key("y")])
    assert {sample.path: sample.split for sample in labelling.samples} == {"b.jpg": kept, "c.jpg": "train"}
    assert list(labelling.leaks) == [_key("x")]


def test_failed_and_unlabelled_files_are_left_out() -> None:
    files = [_file("a.jpg", "cat"), _file("b.jpg", "cat"), _file("loose.jpg", None)]
    labelling = label_images(files, [_key("x"), None, _key("z")])
    assert [sample.path for sample in labelling.samples] == ["a.jpg"]
    assert "left out because of no label: 1 file" in labelling.notes[0]


def test_images_without_a_split_are_trained_on_where_others_have_one() -> None:
    files = [_file("a.jpg", "cat", "test"), _file("b.jpg", "cat"), _file("c.jpg", "dog")]
    labelling = label_images(files, [_key("x"), _key("y"), _key("z")])
    assert [sample.split for sample in labelling.samples] == ["test", "train", "train"]
    assert "trained on, because only other images have a split: 2 images" in labelling.notes[0]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "No image .* has a label"),
        (["cat"], "the same class, 'cat'"),
        (["Test", "train"], "would be Test, train, which are names of splits"),
    ],
)
def test_classes_that_cannot_be_trained_raise(classes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_trainable(classes, "photos")
