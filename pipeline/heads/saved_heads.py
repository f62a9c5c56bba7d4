"""Finds the saved heads of a store by their names."""

from penult.pipeline.heads.head import Head
from penult.store import Store

__all__ = ["saved_head"]


def saved_head(store: Store, name: str) -> Head:
    """Returns the head of this name; a name that no head bears ends in an error with the nearest that does."""
    store.catalog.heads.get(name)
    return Head.load(store.heads_path / name)
