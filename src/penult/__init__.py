"""Penult turns folders of images into a durable store of CNN embeddings, and any labels on them into a classifier.

    >>> import penult
    >>> fitted = penult.fit("photos")                                    # doctest: +SKIP
    >>> fitted.trained.evaluation.accuracy                               # doctest: +SKIP
    Interval(value=0.954, low=0.909, high=0.978)

Each public name is loaded when it is first used, so that importing penult costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penult import errors
from penult.errors import *  # noqa: F403 - its __all__ is sorted and tested

if TYPE_CHECKING:
    from penult.exporters import Backbone as Backbone
    from penult.exporters import load_backbone as load_backbone
    from penult.pipeline.bundle import bundle as bundle
    from penult.pipeline.export import export as export
    from penult.pipeline.extract import ExtractOptions as ExtractOptions
    from penult.pipeline.extract import extract as extract
    from penult.pipeline.fit import fit as fit
    from penult.pipeline.head import Head as Head
    from penult.pipeline.model import Model as Model
    from penult.pipeline.predict import predict as predict
    from penult.pipeline.train import train as train
    from penult.store import Space as Space
    from penult.store import SpaceSpec as SpaceSpec
    from penult.store import Store as Store
    from penult.store import open_store as open_store

__version__ = "0.1.0"

_HOMES = {
    "Backbone": "penult.exporters",
    "ExtractOptions": "penult.pipeline.extract",
    "Head": "penult.pipeline.head",
    "Model": "penult.pipeline.model",
    "Space": "penult.store",
    "SpaceSpec": "penult.store",
    "Store": "penult.store",
    "bundle": "penult.pipeline.bundle",
    "export": "penult.pipeline.export",
    "extract": "penult.pipeline.extract",
    "fit": "penult.pipeline.fit",
    "load_backbone": "penult.exporters",
    "open_store": "penult.store",
    "predict": "penult.pipeline.predict",
    "train": "penult.pipeline.train",
}

__all__ = sorted([*_HOMES, *errors.__all__])  # noqa: PLE0605 - the names are stated once, above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'penult' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__", "errors"]
