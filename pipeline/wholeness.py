"""Whether the backbones and heads that lie in a store are whole: what the store itself keeps, and cannot read."""

from collections.abc import Iterator
from pathlib import Path

from penult.errors import BackboneError, PenultError
from penult.exporters import Backbone
from penult.pipeline.heads.saved_heads import saved_head
from penult.store import Store


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
