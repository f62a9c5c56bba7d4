"""A dataset holds each distinct image once, never on both sides, and says what it left out."""

import pytest

from penult.errors import InputError
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.samples.labelling import check_trainable, label_images


def _file(name: str, label: str | None, split: str | None = None) -> ImageFile:
    return ImageFile(name, 1, 1, label, split)


def _key(letter: str) -> bytes:
    return letter.encode() * 16


def test_copies_under_one_label_are_one_sample() -> None:
    files = [_file("b.jpg", "cat"), _file("a.jpg", "cat"), _file("c.jpg", "dog")]
    labelling = label_images(files, [_key("x"), _key("x"), _key("y")])
    assert [(sample.path, sample.label) for sample in labelling.samples] == [("a.jpg", "cat"), ("c.jpg", "dog")]
    assert labelling.notes == ["1 files are exact copies of others and count once"]


def test_the_same_bytes_under_two_labels_are_left_out_and_told() -> None:
    files = [_file("a.jpg", "rose"), _file("b.jpg", "tulip"), _file("c.jpg", "tulip")]
    labelling = label_images(files, [_key("x"), _key("x"), _key("y")])
    assert [sample.path for sample in labelling.samples] == ["c.jpg"]
    assert list(labelling.conflicts) == [_key("x")]
    assert "a.jpg (rose) = b.jpg (tulip)" in labelling.notes[0]


@pytest.mark.parametrize(("other", "kept"), [("test", "test"), ("val", "val")])
def test_the_same_bytes_in_two_splits_are_tested_and_not_trained_on(other: str, kept: str) -> None:
    files = [_file("a.jpg", "cat", "train"), _file("b.jpg", "cat", other), _file("c.jpg", "dog", "train")]
    labelling = label_images(files, [_key("x"), _key("x"), _key("y")])
    assert {sample.path: sample.split for sample in labelling.samples} == {"b.jpg": kept, "c.jpg": "train"}
    assert list(labelling.leaks) == [_key("x")]


def test_failed_and_unlabelled_files_take_no_part() -> None:
    files = [_file("a.jpg", "cat"), _file("b.jpg", "cat"), _file("loose.jpg", None)]
    labelling = label_images(files, [_key("x"), None, _key("z")])
    assert [sample.path for sample in labelling.samples] == ["a.jpg"]
    assert "1 files have no label" in labelling.notes[0]


def test_images_without_a_split_among_others_with_one_are_trained_on() -> None:
    files = [_file("a.jpg", "cat", "test"), _file("b.jpg", "cat"), _file("c.jpg", "dog")]
    labelling = label_images(files, [_key("x"), _key("y"), _key("z")])
    assert [sample.split for sample in labelling.samples] == ["test", "train", "train"]
    assert "2 images have no split" in labelling.notes[0]


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([], "No image .* has a label"),
        (["cat"], "one class, 'cat'"),
        (["Test", "train"], "would be Test, train, which are the names of splits"),
    ],
)
def test_what_cannot_become_a_classifier_is_told(classes: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        check_trainable(classes, "photos")
