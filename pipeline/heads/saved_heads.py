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
    """Returns the head of this name; a name that no head bears ends in an error with the nearest that does."""
    store.catalog.heads.get(name)
    return Head.load(store.heads_path / name)


def check_removable(store: Store, name: str) -> None:
    """Raises UnknownNameError where nothing of this name is there to remove."""
    if name not in _listed(store) and name not in _left_over(store):
        raise UnknownNameError.among("head", name, _listed(store))


def remove_head(store: Store, name: str) -> None:
    """Removes a head for good: its entry in the catalog, and its folder with all that lies in it.

    The entry goes first, so that a removal that is cut short leaves no head that is listed and not there; removing it
    again ends the work.
    """
    check_removable(store, name)
    if name in _listed(store):
        store.catalog.heads.remove(name)
    if name in _left_over(store):
        shutil.rmtree(store.heads_path / name)


def _listed(store: Store) -> set[str]:
    return set(store.catalog.heads.all())


def _left_over(store: Store) -> set[str]:
    """Returns the names of the folders of heads, listed or not."""
    return {entry.name for entry in store.heads_path.glob("*") if entry.is_dir()}


def backbone_of(store: Store, head: Head) -> Backbone:
    """Returns the backbone that made a head's features, from the copy that its store keeps."""
    space = head.card.spaces[0]
    path = store.backbone_path(space.backbone, space.fingerprint)
    if not path.is_file():
        raise MissingFileError(
            f"The store has lost the backbone {space.backbone} with the fingerprint {space.fingerprint}",
            expected=f"its file at {str(path)!r}",
            remedy="run 'penult extract' with that backbone again; it puts the file back and extracts nothing twice",
        )
    return Backbone.load(path)


def find_damage(store: Store) -> Iterator[str]:
    """Yields what is wrong with each backbone and each head that cannot be used, and what helps."""
    for path in store.backbone_files():
        try:
            _check_backbone(path)
        except PenultError as error:
            yield f"backbone {path.name}: {error} The next 'penult extract' with this backbone puts it back."
    for name in store.catalog.heads.all():
        try:
            saved_head(store, name)
        except PenultError as error:
            yield f"head {name}: {error}"


def _check_backbone(path: Path) -> None:
    found = Backbone.load(path).fingerprint
    if not path.stem.endswith(f"@{found[:16]}"):
        raise BackboneError(f"{path} holds the backbone {found}", expected="the one that it is named after")
