"""Finds and removes the saved heads of a store by their names."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from penult.errors import BackboneError, MissingFileError, PenultError, UnknownNameError
from penult.exporters import Backbone
from penult.pipeline.heads.head import Head
from penult.store import Store

__all__ = ["backbone_of", "check_removable", "find_damage", "remove_head", "saved_head"]


def saved_head(store: Store, name: str) -> Head:
    """Returns the head of this name; raises UnknownNameError with the nearest name if there is none."""
    store.catalog.heads.get(name)
    return Head.load(store.heads_path / name)


def check_removable(store: Store, name: str) -> None:
    """Raises UnknownNameError if the store has neither a head nor a folder of this name."""
    if name not in _listed(store) and name not in _left_over(store):
        raise UnknownNameError.among("head", name, _listed(store))


def remove_head(store: Store, name: str) -> None:
    """Removes a head permanently: its entry in the catalog and its folder.

    The entry is removed first: an interrupted removal leaves no listed head without a folder, and can be repeated.
    """
    check_removable(store, name)
    if name in _listed(store):
        store.catalog.heads.remove(name)
    if name in _left_over(store):
        shutil.rmtree(store.heads_path / name)


def _listed(store: Store) -> set[str]:
    return set(store.catalog.heads.all())


def _left_over(store: Store) -> set[str]:
    """Returns the names of all folders of heads, in the catalog or not."""
    return {entry.name for entry in store.heads_path.glob("*") if entry.is_dir()}


def backbone_of(store: Store, head: Head) -> Backbone:
    """Returns the backbone of a head's features, from the copy in the store."""
    space = head.card.spaces[0]
    path = store.backbone_path(space.backbone, space.fingerprint)
    if not path.is_file():
        raise MissingFileError(
            f"The store does not contain the backbone {space.backbone} with the fingerprint {space.fingerprint}",
            expected=f"its file at {str(path)!r}",
            remedy="run 'penult extract' with that backbone again; it restores the file and skips known images",
        )
    return Backbone.load(path)


def find_damage(store: Store) -> Iterator[str]:
    """Yields a message with a remedy for each damaged backbone and head."""
    for path in store.backbone_files():
        try:
            _check_backbone(path)
        except PenultError as error:
            yield f"backbone {path.name}: {error} Run 'penult extract' with this backbone to restore it."
    for name in store.catalog.heads.all():
        try:
            saved_head(store, name)
        except PenultError as error:
            yield f"head {name}: {error}"


def _check_backbone(path: Path) -> None:
    found = Backbone.load(path).fingerprint
    if not path.stem.endswith(f"@{found[:16]}"):
        raise BackboneError(f"{path} contains the backbone {found}", expected="the fingerprint in its name")
