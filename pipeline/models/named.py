"""Tells which model is meant: a file, a model or head at hand, or the name of a head in a store."""

from pathlib import Path

from penult.errors import InputError, MissingFileError
from penult.pipeline.heads.head import Head
from penult.pipeline.heads.saved_heads import saved_head
from penult.pipeline.models.model import Model
from penult.store import Store, open_store

__all__ = ["model_or_head"]


def model_or_head(
    model: str | Path | Model | Head, store: str | Path | Store | None, *, provider: str = "auto"
) -> Model | tuple[Head, Store]:
    """Returns the model, or the head with its store."""
    if isinstance(model, str | Path) and _names_file(model):
        return Model.load(model, provider=provider)
    if isinstance(model, Model):
        return model
    if store is None:
        raise InputError(
            f"The head {model!r} was given without its store" if isinstance(model, Head) else f"{model!r} is no file",
            expected="a model's file, or a head together with the store that it was trained on",
            remedy="give the store, or bundle the head",
        )
    opened = store if isinstance(store, Store) else _open(store, model)
    return (model if isinstance(model, Head) else saved_head(opened, str(model))), opened


def _open(store: str | Path, model: str | Path | Head) -> Store:
    try:
        return open_store(store, create=False)
    except MissingFileError:
        raise MissingFileError(
            f"{str(model)!r} is no file, and there is no store at {str(store)!r} that could hold a head of this name",
            expected="a model's file, or the name of a head in a store",
            remedy="look for a typo, or name the store with --store",
        ) from None


def _names_file(model: str | Path) -> bool:
    """Tells a model's file from a head's name: it exists, or is called as files are."""
    return isinstance(model, Path) or Path(model).is_file() or model.lower().endswith(".onnx")
