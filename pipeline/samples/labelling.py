"""Decides which samples a dataset holds, with what label and in which split, and says what it left out and why."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penult.errors import InputError
from penult.pipeline.images.image_file import SPLIT_NAMES, ImageFile

# Of the splits that the same bytes stand in, the one that keeps them: training must not see what is tested.
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
    """The samples, and what became of the files that are not among them."""

    samples: list[LabelledSample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    conflicts: dict[bytes, list[ImageFile]] = field(default_factory=dict)  # the same bytes under several labels
    leaks: dict[bytes, list[ImageFile]] = field(default_factory=dict)  # the same bytes in several splits


def label_images(files: Sequence[ImageFile], keys: Sequence[bytes | None]) -> Labelling:
    """Makes one sample of each distinct labelled image; ``keys`` are None for files that could not be used."""
    labelling = Labelling()
    copies: dict[bytes, list[ImageFile]] = defaultdict(list)
    unlabelled = 0
    for file, key in zip(files, keys, strict=True):
        if file.label is None:
            unlabelled += 1
        elif key is not None:
            copies[key].append(file)
    if unlabelled:
        labelling.notes.append(f"{unlabelled:,} files have no label and take no part")
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
            f"{len(labelling.conflicts):,} images stand under several labels and are left out: {shown}"
        )
    if labelling.leaks:
        shown = "; ".join(_spell(same) for same in list(labelling.leaks.values())[:3])
        labelling.notes.append(
            f"{len(labelling.leaks):,} images stand in several splits; only the tested copy is used: {shown}"
        )
    spare = sum(len(same) - 1 for key, same in copies.items() if key not in labelling.conflicts)
    if spare:
        labelling.notes.append(f"{spare:,} files are exact copies of others and count once")


def _spell(same: Sequence[ImageFile]) -> str:
    return " = ".join(f"{file.path} ({file.label})" for file in same[:3])


def _fill_splits(labelling: Labelling) -> None:
    """Puts the images without a split, where others have one, into training."""
    given = Counter(sample.split for sample in labelling.samples)
    if None in given and len(given) > 1:
        labelling.notes.append(f"{given[None]:,} images have no split, where others have one; they are trained on")
        labelling.samples = [
            sample if sample.split else LabelledSample(sample.key, sample.path, sample.label, "train")
            for sample in labelling.samples
        ]


def check_trainable(classes: Sequence[str], source: str) -> None:
    """Raises InputError where no classifier can come of images of these classes, and says what is missing."""
    if not classes:
        raise InputError(
            f"No image in {source!r} has a label",
            expected="one folder per class (cats/…, dogs/…), perhaps below train/ and test/, or a table with the "
            "columns 'path' and 'label'",
            remedy="sort the images into folders named after their classes, or call the table's column 'label'",
        )
    if all(name.lower() in SPLIT_NAMES for name in classes):
        raise InputError(
            f"The classes in {source!r} would be {', '.join(classes)}, which are the names of splits",
            expected="a folder for each class within each of them (train/cats/…, train/dogs/…, test/cats/…, …)",
            remedy="sort the images into folders named after their classes",
        )
    if len(classes) == 1:
        raise InputError(
            f"All images in {source!r} are of one class, {classes[0]!r}",
            expected="at least two classes",
            remedy="add a folder with images of what is not " + repr(classes[0]),
        )
