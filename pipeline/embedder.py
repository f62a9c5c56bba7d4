"""A scikit-learn transformer from images to features, which extracts each image only once."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from penult.errors import ImageError, InputError
from penult.exporters import Backbone, load_backbone
from penult.pipeline.extraction.extract import ExtractOptions, extract, open_spaces
from penult.pipeline.images.decode import decode
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.runtime.session import Session
from penult.store import Space, Store, open_store
from penult.store.features import gather
from penult.store.keys import key_array, key_of
from penult.store.spec import FeatureType

__all__ = ["Embedder"]

TAP = "penultimate"

LOAD_IMAGES = 256
"""Arrays that are decoded and committed at a time."""

Pixels: TypeAlias = NDArray[np.uint8]


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Transforms images into features, float32 (n, D), and caches them in a store.

    ``features`` is a backbone, a tap such as ``efficientnet-lite0:stage3``, or several joined by ``+``, whose features
    are concatenated. A backbone is a built-in name or an ONNX file. X is a sequence of paths or of uint8 arrays
    (H, W, 3) or (H, W). The transformer is stateless; clones and pickles contain only its parameters.

    >>> Embedder("efficientnet-lite0:penultimate+efficientnet-lite0:stage3").parts()
    [('efficientnet-lite0', ['penultimate', 'stage3'])]
    """

    def __init__(
        self,
        features: str = "efficientnet-lite0",
        *,
        store: str | Path = "penult-store",
        dtype: FeatureType = "float16",
        provider: str = "auto",
    ) -> None:
        self.features = features
        self.store = store
        self.dtype = dtype
        self.provider = provider

    def fit(self, X: Sequence[Any] | NDArray[Any], y: Any = None) -> Self:
        """Only validates X and the parameters; ``transform`` needs no ``fit``."""
        _as_list(X)
        self.parts()
        self.n_features_in_ = 1
        return self

    def transform(self, X: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
        """Returns the features (n, D) in the order of X; extracts images that are not in the store.

        Raises:
            ImageError: an image cannot be used; all others are extracted.
        """
        images = _as_list(X)
        opened = open_store(self.store)
        blocks = [self._block(opened, name, taps, images) for name, taps in self.parts()]
        found = {name: rows for block in blocks for name, rows in block.items()}
        return np.concatenate([found[name] for name in self._order()], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Returns the name of each feature, such as ``efficientnet-lite0:penultimate:17``."""
        widths = {
            f"{name}:{tap}": backbone.tap(tap).width
            for name, taps in self.parts()
            for backbone in [_loaded(name, _changed(name))]
            for tap in taps
        }
        return np.array([f"{part}:{place}" for part in self._order() for place in range(widths[part])], object)

    def parts(self) -> list[tuple[str, list[str]]]:
        """Returns the backbones in ``features``, each with its taps."""
        parts: dict[str, list[str]] = {}
        for name, tap in map(_split, self._words()):
            if tap in parts.setdefault(name, []):
                raise InputError(f"the features {self.features!r} name {name}:{tap} twice", expected="each tap once")
            parts[name].append(tap)
        return list(parts.items())

    def _words(self) -> list[str]:
        words = [word.strip() for word in self.features.split("+") if word.strip()]
        if not words:
            raise InputError(f"the features are {self.features!r}", expected="a backbone, or backbone:tap")
        return words

    def _order(self) -> list[str]:
        return [":".join(_split(word)) for word in self._words()]

    def _block(self, store: Store, name: str, taps: Sequence[str], images: list[Any]) -> dict[str, NDArray[np.float32]]:
        """Returns the matrix of each tap of one backbone, keyed like ``_order``."""
        backbone = _loaded(name, _changed(name))
        spaces = self._spaces(store, backbone, taps)
        paths = [place for place, image in enumerate(images) if isinstance(image, str | Path)]
        arrays = sorted(set(range(len(images))) - set(paths))
        keys = dict(zip(paths, self._keys_of_files(store, backbone, spaces, [images[at] for at in paths]), strict=True))
        keys |= zip(arrays, self._keys_of_arrays(backbone, spaces, {at: images[at] for at in arrays}), strict=True)
        wanted = key_array([keys[place] for place in range(len(images))])
        return {f"{name}:{tap}": gather([spaces[tap]], wanted) for tap in taps}

    def _spaces(self, store: Store, backbone: Backbone, taps: Sequence[str]) -> dict[str, Space]:
        """Returns the space of each tap; existing spaces do not need the backbone to be saved."""
        held = {
            space.spec.tap: space
            for space in store.spaces()
            if (space.spec.fingerprint, space.spec.view, space.spec.dtype)
            == (backbone.fingerprint, "identity", self.dtype)
        }
        if all(tap in held for tap in taps):
            return {tap: held[tap] for tap in taps}
        return open_spaces(store, backbone, taps, self.dtype)

    def _keys_of_files(
        self, store: Store, backbone: Backbone, spaces: dict[str, Space], paths: Sequence[str | Path]
    ) -> list[bytes]:
        files = [ImageFile.at(str(Path(path).absolute())) for path in paths]
        keys = store.catalog.files.known(files)
        if None in keys or _missing(spaces, [key for key in keys if key is not None]):
            options = ExtractOptions(provider=self.provider, dtype=self.dtype)
            extract(files, store, backbone=backbone, taps=list(spaces), options=options)
            keys = store.catalog.files.known(files)
        lost = [file for file, key in zip(files, keys, strict=True) if key is None]
        if lost:
            reason = store.catalog.ledger.known(lost[:1])[0]
            raise ImageError(
                f"{len(lost)} of {len(files)} images cannot be used, for example {lost[0].path}: {reason}",
                remedy="remove them; 'penult store failures' lists them",
            )
        return [key for key in keys if key is not None]

    def _keys_of_arrays(self, backbone: Backbone, spaces: dict[str, Space], images: Mapping[int, Any]) -> list[bytes]:
        files = [_as_file(image, place) for place, image in images.items()]
        keys = [key_of(data) for data in files]
        lacking = _missing(spaces, keys)
        fresh = {key: data for key, data in zip(keys, files, strict=True) if key in lacking}
        session = Session(backbone, list(spaces), provider=self.provider) if fresh else None
        for start in range(0, len(fresh), LOAD_IMAGES):
            chosen = list(fresh.items())[start : start + LOAD_IMAGES]
            pixels = np.stack([decode(data, backbone.card.preprocessing) for _, data in chosen])
            assert session is not None
            for tap, rows in session.run(pixels).items():
                spaces[tap].add([key for key, _ in chosen], rows)
        return keys

    def __sklearn_tags__(self) -> Any:
        """Declares to scikit-learn that X is not a numeric matrix and that fitting is not required."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def _as_list(X: Sequence[Any] | NDArray[Any]) -> list[Any]:
    """Returns the images as a list; also accepts a column of paths with shape (n, 1)."""
    if isinstance(X, str | bytes | Path):
        raise InputError(f"X is {X!r}", expected="a sequence of paths or of images", remedy=f"give [{str(X)!r}]")
    images = list(np.asarray(X).ravel() if getattr(X, "ndim", 0) == 2 and not _is_numeric(X) else X)
    if not images:
        raise InputError("X contains no image", expected="at least one image")
    return images


def _is_numeric(X: Any) -> bool:
    return getattr(getattr(X, "dtype", None), "kind", "O") in "uif"


def _split(word: str) -> tuple[str, str]:
    """Splits a backbone from its tap; a colon within a path, such as a Windows drive, belongs to the path."""
    name, colon, tap = word.rpartition(":")
    return (name, tap) if colon and not any(mark in tap for mark in "/\\.") else (word, TAP)


def _changed(name: str) -> int:
    """Returns the modification time of a backbone's file, or 0 for a built-in one."""
    path = Path(name)
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=4)
def _loaded(name: str, changed: int) -> Backbone:
    """Loads a backbone once for many transforms."""
    return load_backbone(name)


def _missing(spaces: dict[str, Space], keys: list[bytes]) -> set[bytes]:
    """Returns the keys that are missing in at least one space."""
    return {key.tobytes() for space in spaces.values() for key in space.missing(keys)} if keys else set()


def _as_file(image: Any, place: int) -> bytes:
    """Returns an array as the bytes of a PPM file, which gives its key and is decoded like any file."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(
            f"the image at index {place} has dtype {pixels.dtype} and shape {pixels.shape}",
            expected="a path, or uint8 of shape (H, W, 3) or (H, W)",
        )
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()
