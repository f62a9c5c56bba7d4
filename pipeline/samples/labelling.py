"""Turns image files into the samples of a dataset: one per distinct image, with its label and split."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penult.errors import InputError
from penult.pipeline.images.image_file import SPLIT_NAMES, ImageFile
from penult.pipeline.words import counted

# Where the same image is in several splits, the first of these keeps it: a tested image must not be trained on.
PRECEDENCE = ("test", "val", "train")


@dataclass(frozen=True)
class LabelledSample:
    """One distinct image of a dataset; ``split`` is None until one is made."""

    key: bytes
    path: str
    label: str
    split: str | None


@dataclass
class Labelling:
    """The samples, and the files that were left out."""

    samples: list[LabelledSample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    conflicts: dict[bytes, list[ImageFile]] = field(default_factory=dict)  # the same bytes under several labels
    leaks: dict[bytes, list[ImageFile]] = field(default_factory=dict)  # the same bytes in several splits


def label_images(files: Sequence[ImageFile], keys: Sequence[bytes | None]) -> Labelling:
    """Returns one sample per distinct labelled image; ``keys`` are None for unusable files."""
    labelling = Labelling()
    copies: dict[bytes, list[ImageFile]] = defaultdict(list)
    unlabelled = 0
    for file, key in zip(files, keys, strict=True):
        if file.label is None:
            unlabelled += 1
        elif key is not None:
            copies[key].append(file)
    if unlabelled:
        labelling.notes.append(f"left out because of no label: {counted(unlabelled, 'file')}")
    for key, same in copies.items():
        _take(labelling, key, same)
    _note_copies(labelling, copies)
    _fill_splits(labelling)
    return labelling


def _take(labelling: Labelling, key: bytes, same: Sequence[ImageFile]) -> None:
    if len({file.label for file in same}) > 1:
        labelling.conflicts[key] = list(same)
        return
    splits = {file.split for file in same}
    if len(splits) > 1:
        labelling.leaks[key] = list(same)
    kept = min(same, key=lambda file: (_rank(file.split), file.path))
    labelling.samples.append(LabelledSample(key, kept.path, str(kept.label), kept.split))


def _rank(split: str | None) -> int:
    return PRECEDENCE.index(split) if split in PRECEDENCE else len(PRECEDENCE)


def _note_copies(labelling: Labelling, copies: Mapping[bytes, Sequence[ImageFile]]) -> None:
    if labelling.conflicts:
        shown = "; ".join(_spell(same) for same in list(labelling.conflicts.values())[:3])
        labelling.notes.append(
            f"left out because of several labels: {counted(len(labelling.conflicts), 'image')}: {shown}"
        )
    if labelling.leaks:
        shown = "; ".join(_spell(same) for same in list(labelling.leaks.values())[:3])
        labelling.notes.append(
            "in several splits, of which only the tested copy is used: "
            f"{counted(len(labelling.leaks), 'image')}: {shown}"
        )
    spare = sum(len(same) - 1 for key, same in copies.items() if key not in labelling.conflicts)
    if spare:
        labelling.notes.append(f"exact copies of other files, which count once: {counted(spare, 'file')}")


def _spell(same: Sequence[ImageFile]) -> str:
    return " = ".join(f"{file.path} ({file.label})" for file in same[:3])


def _fill_splits(labelling: Labelling) -> None:
    """Puts images without a split into training, where other images have a split."""
    given = Counter(sample.split for sample in labelling.samples)
    if None in given and len(given) > 1:
        labelling.notes.append(f"trained on, because only other images have a split: {counted(given[None], 'image')}")
        labelling.samples = [
            sample if sample.split else LabelledSample(sample.key, sample.path, sample.label, "train")
            for sample in labelling.samples
        ]


def check_trainable(classes: Sequence[str], source: str) -> None:
    """Raises InputError where these classes are not enough to train a classifier."""
    if not classes:
        raise InputError(
            f"No image in {source!r} has a label",
            expected="one folder per class (cats/…, dogs/…), optionally inside train/ and test/, or a table with the "
            "columns 'path' and 'label'",
            remedy="sort the images into folders named after their classes, or name the table's column 'label'",
        )
    if all(name.lower() in SPLIT_NAMES for name in classes):
        raise InputError(
            f"The classes in {source!r} would be {', '.join(classes)}, which are names of splits",
            expected="one folder per class within each of them (train/cats/…, train/dogs/…, test/cats/…, …)",
            remedy="sort the images into folders named after their classes",
        )
    if len(classes) == 1:
        raise InputError(
            f"All images in {source!r} have the same class, {classes[0]!r}",
            expected="at least two classes",
            remedy=f"add a folder with images that do not show {classes[0]!r}",
        )
