"""Heads: a fitted estimator together with the spaces that it was trained on, saved without pickle."""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from penult.errors import HeadError, MissingFileError, SpaceMismatchError, StoreWriteError
from penult.files import replace_file
from penult.pipeline.heads.head_card import HeadCard, SpaceRef, check_digest, with_digest
from penult.pipeline.heads.scoring import predict_in_blocks
from penult.store import SpaceSpec, Store
from penult.store.features import gather

__all__ = ["TRUSTED", "Head", "HeadCard", "SpaceRef", "features_of", "probabilities_of"]

CARD, ESTIMATOR = "card.json", "estimator"
SCHEMA = "schema.json"  # the member of a skops file that names the estimator's classes

TRUSTED = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "penult.pipeline.heads.estimators.boosted.BoostedClassifier",
        "penult.pipeline.heads.estimators.boosted.BoostedRegressor",
        "penult.pipeline.heads.estimators.centroid.NearestMean",
        "penult.pipeline.heads.estimators.one_per_tag.PerTagClassifier",
        "penult.pipeline.heads.estimators.lda.ShrunkenDiscriminant",
        "penult.pipeline.heads.logistic.path.LogisticPath",
        "penult.pipeline.heads.estimators.linear_svm.LinearSVCPath",
        "penult.pipeline.heads.estimators.ridge.RidgePath",
        "penult.pipeline.heads.estimators.ridge.RidgeRegressor",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
"""Types that a saved head may contain in addition to the types that skops trusts; none of them runs code of a file."""

_HEADS = "penult.pipeline.heads"
_ESTIMATORS = f"{_HEADS}.estimators"

FORMER_NAMES = {
    (f"{_HEADS}.boosted", "BoostedTrees"): (f"{_ESTIMATORS}.boosted", "BoostedClassifier"),
    (f"{_HEADS}.boosted_numbers", "BoostedNumbers"): (f"{_ESTIMATORS}.boosted", "BoostedRegressor"),
    (f"{_HEADS}.centroid", "NearestMean"): (f"{_ESTIMATORS}.centroid", "NearestMean"),
    (f"{_HEADS}.each_tag", "EachTag"): (f"{_ESTIMATORS}.one_per_tag", "PerTagClassifier"),
    (f"{_HEADS}.lda", "ShrunkenDiscriminant"): (f"{_ESTIMATORS}.lda", "ShrunkenDiscriminant"),
    (f"{_HEADS}.logistic", "LogisticPath"): (f"{_HEADS}.logistic.path", "LogisticPath"),
    (f"{_HEADS}.machine", "LinearMachine"): (f"{_ESTIMATORS}.linear_svm", "LinearSVCPath"),
    (f"{_HEADS}.ridge", "RidgePath"): (f"{_ESTIMATORS}.ridge", "RidgePath"),
    (f"{_HEADS}.ridge_numbers", "RidgeNumbers"): (f"{_ESTIMATORS}.ridge", "RidgeRegressor"),
}
"""Current (module, class) of the estimators in heads that version 0.1 saved."""


@dataclass(frozen=True)
class Head:
    """A fitted estimator with its card; columns of probabilities are in the order of ``card.classes``."""

    card: HeadCard
    estimator: Any

    def predict_proba(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns a probability per class or tag, float32 (n, C), for features (n, D) of all spaces, concatenated.

        Probabilities of tags are independent. Raises HeadError if the head predicts a number.
        """
        if self.card.task == "regression":
            raise HeadError(f"the head {self.card.name!r} predicts a number, not classes", remedy="call predict")
        rows = self._checked(features)
        if not len(rows):
            return np.empty((0, len(self.card.classes)), np.float32)
        return predict_in_blocks(self.estimator.predict_proba, rows).astype(np.float32)

    def _checked(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        rows = np.asarray(features)
        if rows.ndim != 2 or rows.shape[1] != self.card.width:
            raise SpaceMismatchError(
                f"the features have the shape {rows.shape}",
                expected=f"(n, {self.card.width}): " + " + ".join(space.name for space in self.card.spaces),
            )
        return rows

    def predict(self, features: NDArray[np.floating]) -> NDArray[Any]:
        """Returns for each row the most probable class, the number, or a tuple of the tags above 0.5."""
        if self.card.task == "regression":
            rows = self._checked(features)
            return predict_in_blocks(self.estimator.predict, rows) if len(rows) else np.empty(0)
        probabilities, names = self.predict_proba(features), np.array(self.card.classes, dtype=object)
        if self.card.task == "classification":
            found: NDArray[Any] = names[probabilities.argmax(axis=1)]
            return found
        tags = np.empty(len(probabilities), object)
        tags[:] = [tuple(names[row > 0.5]) for row in probabilities]
        return tags

    def require_classes(self, purpose: str) -> None:
        """Raises HeadError unless the head predicts classes; ``purpose`` names what needs them."""
        if self.card.task != "classification":
            raise HeadError(
                f"the head {self.card.name!r} is for {self.card.task} of {', '.join(self.card.target)}, and {purpose} "
                "needs classes",
                expected="a head trained on classes",
                remedy="predict with this head and its store",
            )

    def linear(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Returns W (C, D) and b (C) with probabilities = softmax(features @ W.T + b), or None if it is not linear."""
        from penult.pipeline.heads.numerics.linear import LinearHead

        if isinstance(self.estimator, LinearHead) and self.card.task == "classification":
            return self.estimator.coef_, self.estimator.intercept_
        return None

    def gather(self, store: Store, keys: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the features of ``keys`` in the head's spaces of ``store``, (n, D) in the order of the keys."""
        known = {space.spec.id: space for space in store.spaces()}
        for ref in self.card.spaces:
            if ref.id not in known:
                raise SpaceMismatchError(
                    f"{store.address} has no rows of {ref.name}, which the head {self.card.name!r} needs",
                    expected=f"one of {', '.join(SpaceRef.of(space.spec).name for space in known.values()) or 'none'}",
                    remedy="open the store that the head was trained on, or train one on this store",
                )
        return gather([known[ref.id] for ref in self.card.spaces], keys)

    def check_spaces(self, spaces: Sequence[SpaceSpec | SpaceRef]) -> None:
        """Raises SpaceMismatchError unless ``spaces`` are the head's spaces in the same order."""
        given = [space if isinstance(space, SpaceRef) else SpaceRef.of(space) for space in spaces]
        if [space.id for space in given] != [space.id for space in self.card.spaces]:
            raise SpaceMismatchError(
                f"the head {self.card.name!r} was given features of {_described(given)}",
                expected=_described(self.card.spaces),
                remedy="extract with the backbone that the head was trained on, or train a head on these features",
            )

    def save(self, folder: str | Path) -> Path:
        """Writes the head into ``folder`` atomically: a reader sees the old head or the new head."""
        import skops.io

        folder = Path(folder)
        data = skops.io.dumps(self.estimator)
        digest = sha256(data).hexdigest()
        file = f"{ESTIMATOR}-{digest[:16]}.skops"
        content = with_digest({**self.card.to_json(), "estimator": {"file": file, "sha256": digest}})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / file, data)
            replace_file(folder / CARD, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
            for old in folder.glob(f"{ESTIMATOR}-*.skops"):
                if old.name != file:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreWriteError(
                f"the head {self.card.name!r} cannot be written to {folder}: {error}",
                expected="a folder that can be written to",
                remedy="free some disk space, or name another folder or head",
            ) from error
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, trust: Iterable[str] = ()) -> Self:
        """Reads a head; no code in its file is run, and only known types are created.

        ``trust`` names further types as ``module.Class``, for estimators of other packages.
        """
        folder = Path(folder)
        card, entry = _read_card(folder)
        data = _read_estimator(folder, entry)
        return cls(card, _estimator(data, frozenset(trust) | TRUSTED, folder))


def features_of(matrices: Mapping[str, NDArray[np.floating]], spaces: Sequence[SpaceRef]) -> NDArray[np.float32]:
    """Returns the concatenated matrices of the taps (N, D) in the order of ``spaces``, rounded as they are stored.

    A value beyond the range of float16 becomes infinite; `extract` rejects such an image.
    """
    with np.errstate(over="ignore"):
        parts = [matrices[space.tap].astype(space.dtype).astype(np.float32) for space in spaces]
    return np.concatenate(parts, axis=1)


def probabilities_of(head: Head, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the head's probabilities (N, C), computed in float64; for a head of a number, the numbers (N, 1)."""
    if head.card.task == "regression":
        return head.predict(features)[:, None]
    return np.asarray(head.predict_proba(features), np.float64)


def _described(spaces: Sequence[SpaceRef]) -> str:
    return (
        " + ".join(f"{space.backbone}:{space.tap} ({space.dtype}, {space.fingerprint})" for space in spaces) or "none"
    )


def _read_card(folder: Path) -> tuple[HeadCard, dict[str, str]]:
    path = folder / CARD
    if not path.is_file():
        raise MissingFileError(f"There is no head at {folder}", expected=f"a folder with a {CARD}")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise HeadError(f"{path} cannot be read: {error}", remedy="train the head again") from error
    card = HeadCard.from_json(content, origin=str(folder))
    check_digest(content, origin=str(folder))
    entry = content.get("estimator")
    if not isinstance(entry, dict) or not {"file", "sha256"} <= entry.keys():
        raise HeadError(f"the card of {folder} names no estimator", remedy="train the head again")
    return card, entry


def _read_estimator(folder: Path, entry: dict[str, str]) -> bytes:
    path = folder / Path(entry["file"]).name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadError(f"the estimator of {folder} cannot be read: {error}", remedy="train the head again") from error
    if sha256(data).hexdigest() != entry["sha256"]:
        raise HeadError(
            f"{path} is damaged: its SHA-256 differs from the card",
            remedy="train the head again, or copy its folder again",
        )
    return data


def _with_current_names(data: bytes) -> bytes:
    """Returns the data of a saved estimator with `FORMER_NAMES` replaced by current names."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        schema = archive.read(SCHEMA)
        current = json.dumps(json.loads(schema, object_hook=_renamed)).encode()
        if json.loads(current) == json.loads(schema):
            return data
        members = {name: current if name == SCHEMA else archive.read(name) for name in archive.namelist()}
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return written.getvalue()


def _renamed(node: dict[str, Any]) -> dict[str, Any]:
    now = FORMER_NAMES.get((node.get("__module__", ""), node.get("__class__", "")))
    return node if now is None else {**node, "__module__": now[0], "__class__": now[1]}


def _estimator(data: bytes, trusted: frozenset[str], folder: Path) -> Any:
    import skops.io

    try:
        data = _with_current_names(data)
        untrusted = sorted(set(skops.io.get_untrusted_types(data=data)) - trusted)
        if not untrusted:
            return skops.io.loads(data, trusted=sorted(trusted & set(skops.io.get_untrusted_types(data=data))))
    except Exception as error:
        raise HeadError(
            f"the estimator of {folder} cannot be loaded: {error}", remedy="train the head again"
        ) from error
    raise HeadError(
        f"the estimator of {folder} contains types that are not trusted: {', '.join(untrusted)}",
        expected="types of numpy, scikit-learn, LightGBM and penult",
        remedy="if you trust its origin, load it with trust=[...] and these names",
    )
