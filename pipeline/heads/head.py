"""A head: a fitted estimator bound to the spaces that it was trained on, saved without pickle."""

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
from penult.pipeline.heads.head_card import HeadCard, SpaceRef, check_seal, sealed
from penult.pipeline.heads.scoring import said_of
from penult.store import SpaceSpec, Store
from penult.store.features import gather

__all__ = ["TRUSTED", "Head", "HeadCard", "SpaceRef", "features_of", "probabilities_of"]

CARD, ESTIMATOR = "card.json", "estimator"
SCHEMA = "schema.json"  # of a skops file, which names the classes

TRUSTED = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "penult.pipeline.heads.estimators.boosted.BoostedTrees",
        "penult.pipeline.heads.estimators.boosted.BoostedNumbers",
        "penult.pipeline.heads.estimators.centroid.NearestMean",
        "penult.pipeline.heads.estimators.one_per_tag.EachTag",
        "penult.pipeline.heads.estimators.lda.ShrunkenDiscriminant",
        "penult.pipeline.heads.logistic.path.LogisticPath",
        "penult.pipeline.heads.estimators.linear_svm.LinearMachine",
        "penult.pipeline.heads.estimators.ridge.RidgePath",
        "penult.pipeline.heads.estimators.ridge.RidgeNumbers",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
"""Types that a saved head may hold besides those that skops knows to be harmless; none of them runs code of a file."""

_OLD_PACKAGE = "penult.pipeline.heads"
_ESTIMATORS = "penult.pipeline.heads.estimators"

FORMER_NAMES = {
    (f"{_OLD_PACKAGE}.boosted", "BoostedTrees"): (f"{_ESTIMATORS}.boosted", "BoostedTrees"),
    (f"{_OLD_PACKAGE}.boosted_numbers", "BoostedNumbers"): (f"{_ESTIMATORS}.boosted", "BoostedNumbers"),
    (f"{_OLD_PACKAGE}.centroid", "NearestMean"): (f"{_ESTIMATORS}.centroid", "NearestMean"),
    (f"{_OLD_PACKAGE}.each_tag", "EachTag"): (f"{_ESTIMATORS}.one_per_tag", "EachTag"),
    (f"{_OLD_PACKAGE}.lda", "ShrunkenDiscriminant"): (f"{_ESTIMATORS}.lda", "ShrunkenDiscriminant"),
    (f"{_OLD_PACKAGE}.logistic", "LogisticPath"): (f"{_OLD_PACKAGE}.logistic.path", "LogisticPath"),
    (f"{_OLD_PACKAGE}.machine", "LinearMachine"): (f"{_ESTIMATORS}.linear_svm", "LinearMachine"),
    (f"{_OLD_PACKAGE}.ridge", "RidgePath"): (f"{_ESTIMATORS}.ridge", "RidgePath"),
    (f"{_OLD_PACKAGE}.ridge_numbers", "RidgeNumbers"): (f"{_ESTIMATORS}.ridge", "RidgeNumbers"),
}
"""Where the estimators of heads that version 0.1 saved are now: (module, class) then and now."""


@dataclass(frozen=True)
class Head:
    """A fitted estimator with its card; columns of probabilities stand in the order of ``card.classes``."""

    card: HeadCard
    estimator: Any

    def predict_proba(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns a probability per class, float32 (n, C), of features (n, D) with the spaces side by side.

        Of tags each has a probability of its own; a head for a number has none, and refuses.
        """
        if self.card.task == "regression":
            raise HeadError(f"the head {self.card.name!r} tells a number, not classes", remedy="ask predict")
        rows = self._checked(features)
        if not len(rows):
            return np.empty((0, len(self.card.classes)), np.float32)
        chances: NDArray[np.float32] = said_of(self.estimator.predict_proba, rows).astype(np.float32)
        return chances

    def _checked(self, features: NDArray[np.floating]) -> NDArray[np.floating]:
        rows = np.asarray(features)
        if rows.ndim != 2 or rows.shape[1] != self.card.width:
            raise SpaceMismatchError(
                f"the features have the shape {rows.shape}",
                expected=f"(n, {self.card.width}): " + " + ".join(space.name for space in self.card.spaces),
            )
        return rows

    def predict(self, features: NDArray[np.floating]) -> NDArray[Any]:
        """Returns of each row the most probable class, or the number, or a tuple of the tags that are probable."""
        if self.card.task == "regression":
            rows = self._checked(features)
            return said_of(self.estimator.predict, rows) if len(rows) else np.empty(0)
        chances, names = self.predict_proba(features), np.array(self.card.classes, dtype=object)
        if self.card.task == "classification":
            found: NDArray[Any] = names[chances.argmax(axis=1)]
            return found
        tags = np.empty(len(chances), object)
        tags[:] = [tuple(names[row > 0.5]) for row in chances]
        return tags

    def require_classes(self, purpose: str) -> None:
        """Refuses what only a head that tells one class of several can be used for."""
        if self.card.task != "classification":
            raise HeadError(
                f"the head {self.card.name!r} is for {self.card.task} of {', '.join(self.card.target)}, and {purpose} "
                "is of classes",
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
        """Reads the features of ``keys`` from the head's own spaces in ``store``, (n, D) in the order of the keys."""
        known = {space.spec.id: space for space in store.spaces()}
        for ref in self.card.spaces:
            if ref.id not in known:
                raise SpaceMismatchError(
                    f"{store.address} has no rows of {ref.name}, which the head {self.card.name!r} takes",
                    expected=f"one of {', '.join(SpaceRef.of(space.spec).name for space in known.values()) or 'none'}",
                    remedy="open the store that the head was trained on, or train one on this store",
                )
        return gather([known[ref.id] for ref in self.card.spaces], keys)

    def check_spaces(self, spaces: Sequence[SpaceSpec | SpaceRef]) -> None:
        """Refuses features of any other spaces, or of these in another order."""
        offered = [space if isinstance(space, SpaceRef) else SpaceRef.of(space) for space in spaces]
        if [space.id for space in offered] != [space.id for space in self.card.spaces]:
            raise SpaceMismatchError(
                f"features of {_named(offered)} were offered to the head {self.card.name!r}",
                expected=_named(self.card.spaces),
                remedy="extract with the backbone that the head was trained on, or train a head on these features",
            )

    def save(self, folder: str | Path) -> Path:
        """Writes the head into ``folder``; a reader sees the old head or the new one, never a mixture."""
        import skops.io

        room = Path(folder)
        data = skops.io.dumps(self.estimator)
        digest = sha256(data).hexdigest()
        file = f"{ESTIMATOR}-{digest[:16]}.skops"
        content = sealed({**self.card.to_json(), "estimator": {"file": file, "sha256": digest}})
        try:
            room.mkdir(parents=True, exist_ok=True)
            replace_file(room / file, data)
            replace_file(room / CARD, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
            for old in room.glob(f"{ESTIMATOR}-*.skops"):
                if old.name != file:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreWriteError(
                f"the head {self.card.name!r} cannot be written to {room}: {error}",
                expected="a folder that can be written to",
                remedy="make room there, or name another place or head",
            ) from error
        return room

    @classmethod
    def load(cls, folder: str | Path, *, trust: Iterable[str] = ()) -> Self:
        """Reads a head; nothing in the file is run, and only known types are made.

        ``trust`` names further types, as ``module.Class``, for heads with estimators of other packages.
        """
        room = Path(folder)
        card, entry = _read_card(room)
        data = _read_estimator(room, entry)
        return cls(card, _estimator(data, frozenset(trust) | TRUSTED, room))


def features_of(matrices: Mapping[str, NDArray[np.floating]], spaces: Sequence[SpaceRef]) -> NDArray[np.float32]:
    """Returns the matrices of the taps side by side (N, D) in the order of ``spaces``, each rounded as it is stored.

    A value that float16 cannot hold becomes infinite; `extract` refuses such an image.
    """
    with np.errstate(over="ignore"):
        parts = [matrices[space.tap].astype(space.dtype).astype(np.float32) for space in spaces]
    return np.concatenate(parts, axis=1)


def probabilities_of(head: Head, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the probabilities (N, C) that the head gives, computed in float64; of a number, the numbers (N, 1)."""
    if head.card.task == "regression":
        return head.predict(features)[:, None]
    return np.asarray(head.predict_proba(features), np.float64)


def _named(spaces: Sequence[SpaceRef]) -> str:
    return (
        " + ".join(f"{space.backbone}:{space.tap} ({space.dtype}, {space.fingerprint})" for space in spaces) or "none"
    )


def _read_card(room: Path) -> tuple[HeadCard, dict[str, str]]:
    path = room / CARD
    if not path.is_file():
        raise MissingFileError(f"there is no head at {room}", expected=f"a folder with a {CARD}")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise HeadError(f"{path} cannot be read: {error}", remedy="train the head again") from error
    card = HeadCard.from_json(content, origin=str(room))
    check_seal(content, origin=str(room))
    entry = content.get("estimator")
    if not isinstance(entry, dict) or not {"file", "sha256"} <= entry.keys():
        raise HeadError(f"the card of {room} names no estimator", remedy="train the head again")
    return card, entry


def _read_estimator(room: Path, entry: dict[str, str]) -> bytes:
    path = room / Path(entry["file"]).name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HeadError(f"the estimator of {room} cannot be read: {error}", remedy="train the head again") from error
    if sha256(data).hexdigest() != entry["sha256"]:
        raise HeadError(
            f"{path} is damaged: its SHA-256 is not the one on the card",
            remedy="train the head again, or copy it again",
        )
    return data


def _with_current_names(data: bytes) -> bytes:
    """Returns a saved estimator in which classes that have moved since are named by where they are now."""
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


def _estimator(data: bytes, trusted: frozenset[str], room: Path) -> Any:
    import skops.io

    try:
        data = _with_current_names(data)
        strange = sorted(set(skops.io.get_untrusted_types(data=data)) - trusted)
        if not strange:
            return skops.io.loads(data, trusted=sorted(trusted & set(skops.io.get_untrusted_types(data=data))))
    except Exception as error:
        raise HeadError(f"the estimator of {room} cannot be loaded: {error}", remedy="train the head again") from error
    raise HeadError(
        f"the estimator of {room} holds types that are not trusted: {', '.join(strange)}",
        expected="types of numpy, scikit-learn, LightGBM and penult",
        remedy="if you know where it comes from, load it with trust=[...] naming them",
    )
