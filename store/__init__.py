"""A durable store of features: (space, key) → vector, next to a catalog of images, datasets, jobs and heads.

It imports neither ONNX nor scikit-learn. Public modules for further use: ``catalog``, ``diff``, ``features``,
``keys``, ``layouts`` and ``tables``.
"""

from penult.store.keys import key_array, key_of
from penult.store.opening import as_store, open_store
from penult.store.spaces.space import Rows, Space, SpaceStats
from penult.store.spec import SpaceSpec
from penult.store.stores import Store

__all__ = ["Rows", "Space", "SpaceSpec", "SpaceStats", "Store", "as_store", "key_array", "key_of", "open_store"]
