"""(space, key) to vector, durably, and the catalog beside it; knows neither ONNX nor scikit-learn."""

from penult.store.keys import key_array, key_of
from penult.store.opening import open_store
from penult.store.spaces.space import Rows, Space, SpaceStats
from penult.store.spec import SpaceSpec
from penult.store.stores import Store

__all__ = ["Rows", "Space", "SpaceSpec", "SpaceStats", "Store", "key_array", "key_of", "open_store"]
