"""Turns folders of images into a durable store of CNN embeddings, and labels into a classifier.

    >>> import penult
    >>> fitted = penult.fit("photos")                                    # doctest: +SKIP
    >>> fitted.trained.evaluation.accuracy                               # doctest: +SKIP
    Interval(value=0.954, low=0.909, high=0.978)

Importing penult is fast: each public name is loaded when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from penult import errors
from penult.errors import *  # noqa: F403 - its __all__ is sorted and tested

if TYPE_CHECKING:
    from penult.exporters import Backbone as Backbone
    from penult.exporters import load_backbone as load_backbone
    from penult.pipeline.advising.advise import advise as advise
    from penult.pipeline.advising.options import AdviseOptions as AdviseOptions
    from penult.pipeline.backbones import export as export
    from penult.pipeline.comparing.compare import compare as compare
    from penult.pipeline.comparing.options import CompareOptions as CompareOptions
    from penult.pipeline.doctor.diagnosis import diagnose as diagnose
    from penult.pipeline.extraction.extract import extract as extract
    from penult.pipeline.extraction.job_file import extract_job as extract_job
    from penult.pipeline.extraction.options import ExtractOptions as ExtractOptions
    from penult.pipeline.fit import fit as fit
    from penult.pipeline.heads.head import Head as Head
    from penult.pipeline.models.bundle import bundle as bundle
    from penult.pipeline.models.model import Model as Model
    from penult.pipeline.models.predict import predict as predict
    from penult.pipeline.report.reporting import report as report
    from penult.pipeline.reviewing.options import ReviewOptions as ReviewOptions
    from penult.pipeline.reviewing.review import review as review
    from penult.pipeline.serving.server import serve as serve
    from penult.pipeline.training.options import TrainOptions as TrainOptions
    from penult.pipeline.training.train import train as train
    from penult.store import Space as Space
    from penult.store import SpaceSpec as SpaceSpec
    from penult.store import Store as Store
    from penult.store import open_store as open_store

__version__ = "0.1.0"

# ONNX Runtime reads this when it is imported. Without it, the import writes a device id and sends telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "AdviseOptions": "penult.pipeline.advising.options",
    "Backbone": "penult.exporters",
    "CompareOptions": "penult.pipeline.comparing.options",
    "ExtractOptions": "penult.pipeline.extraction.options",
    "Head": "penult.pipeline.heads.head",
    "Model": "penult.pipeline.models.model",
    "ReviewOptions": "penult.pipeline.reviewing.options",
    "Space": "penult.store",
    "SpaceSpec": "penult.store",
    "Store": "penult.store",
    "advise": "penult.pipeline.advising.advise",
    "bundle": "penult.pipeline.models.bundle",
    "compare": "penult.pipeline.comparing.compare",
    "diagnose": "penult.pipeline.doctor.diagnosis",
    "export": "penult.pipeline.backbones",
    "extract": "penult.pipeline.extraction.extract",
    "extract_job": "penult.pipeline.extraction.job_file",
    "fit": "penult.pipeline.fit",
    "load_backbone": "penult.exporters",
    "open_store": "penult.store",
    "predict": "penult.pipeline.models.predict",
    "report": "penult.pipeline.report.reporting",
    "review": "penult.pipeline.reviewing.review",
    "serve": "penult.pipeline.serving.server",
    "TrainOptions": "penult.pipeline.training.options",
    "train": "penult.pipeline.training.train",
}

__all__ = sorted([*_HOMES, *errors.__all__])  # noqa: PLE0605 - the names are listed above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'penult' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__", "errors"]
