"""What becomes of a head once it is fitted: its name, its card, its folder and its entry in the catalog."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penult.errors import InputError, StoreWriteError
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.head_card import HeadCard, SpaceRef
from penult.pipeline.heads.registry import head_kind
from penult.pipeline.training.options import Material
from penult.store import Store

if TYPE_CHECKING:  # so that importing this module does not load scikit-learn
    from penult.pipeline.heads.recipe import Fitted

__all__ = ["drafted_card", "head_name", "record", "require_writable"]

LONGEST_NAME = 200
"""Bytes; folders cannot be called by many more."""

LIBRARIES = ("penult", "scikit-learn", "numpy", "lightgbm", "skops")


def head_name(name: str | None, dataset: str, head: str) -> str:
    """Returns what a head is called, ``name`` or else the dataset's and the kind's, or refuses it."""
    called = name or f"{dataset}-{head.replace(':', '.')}"
    is_file_name = called == Path(called).name and called.isprintable() and len(called.encode()) <= LONGEST_NAME
    if not is_file_name or called.startswith("."):
        raise InputError(
            f"a head cannot be called {called[:80]!r}",
            expected="a short name of printable characters without slashes, not starting with a dot",
        )
    return called


def require_writable(store: Store) -> None:
    """Raises StoreWriteError where no head can be kept, before any work is done."""
    catalog = store.catalog
    if catalog.readonly:
        raise StoreWriteError(
            f"A head cannot be kept in {store.address}: {'; '.join(catalog.notes)}",
            expected="a store that may be written",
            remedy="ask its owner for the right to write, or copy the store and train on the copy",
        )


def drafted_card(name: str, head: Any, material: Material[Any], fitted: "Fitted") -> HeadCard:
    """Returns what is known of a fitted head before it is tested: all but its classes, its figures and its notes."""
    rows, options = material.rows, material.options
    return HeadCard(
        name=name,
        kind=head_kind(head),
        classes=(),
        spaces=tuple(SpaceRef.of(space.spec) for space in material.spaces),
        dataset=material.dataset.name,
        dataset_version=material.dataset.version,
        n_train=len(rows.train),
        n_test=0,
        trained_on=rows.trained_on,
        evaluated_on=rows.evaluated_on,
        params=_plain({**options.params, **fitted.params, "class_weight": options.class_weight}),
        metrics={},
        versions={library: version(library) for library in LIBRARIES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
    )


def record(store: Store, head: Head) -> None:
    """Saves a head in the store, and lists it in the catalog."""
    head.save(store.heads_path / head.card.name)
    store.catalog.heads.record(head.card.name, head.card.to_json())


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
        if value is not None
    }
