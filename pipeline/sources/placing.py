"""What the place of an image tells: its class and its split, from the names of the folders that it lies in."""

from collections.abc import Iterable, Mapping, Sequence

# How people spell the three splits, as folder names and in tables.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "holdout"), "test"),
}

# What operating systems leave in folders and archives beside the images.
LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx"})


def counts(name: str) -> bool:
    """Tells whether a file or folder of this name is one of the collection, and not hidden or litter."""
    return not name.startswith(".") and name.lower() not in LITTER


def splits_among(folders: Mapping[str, bool]) -> dict[str, str]:
    """Returns which of the topmost folders are splits rather than classes, and which split each is.

    ``folders`` tells of each whether it holds folders. A folder called ``train`` is a split if it, or another one
    called as a split is, holds folders, and if it is not alone among folders of other names: beside ``car`` and
    ``boat`` it is a class of vehicles. So the images of a ``test`` without class folders have no label, rather than
    the label "test".

    >>> splits_among({"train": True, "test": False})
    {'train': 'train', 'test': 'test'}
    >>> splits_among({"train": False, "boat": False})
    {}
    """
    splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    is_split = len(splits) > 1 or len(splits) == len(folders)
    return splits if is_split and any(folders[name] for name in splits) else {}


def splits_of_paths(paths: Iterable[Sequence[str]]) -> dict[str, str]:
    """Returns the same for paths that are known as their parts."""
    folders: dict[str, bool] = {}
    for parts in paths:
        if len(parts) > 1:
            folders[parts[0]] = folders.get(parts[0], False) or len(parts) > 2
    return splits_among(folders)


def placed(parts: Sequence[str], splits: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Returns the label and the split of an image from the parts of its path.

    >>> placed(("train", "cat", "7.jpg"), {"train": "train"})
    ('cat', 'train')
    """
    split = splits.get(parts[0])
    depth = 0 if split is None else 1
    return (parts[depth] if len(parts) > depth + 1 else None), split
