"""Common ways to train a classifier on features, each from rows and labels to probabilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CAREFUL = 10.0 ** np.arange(-4, 3)
"""The seven values of C that a careful user searches."""

Predict = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray], Predict]

KEPT = "kept.npz"
"""The file with the statistics that a store would keep."""


def keep_statistics(folder: Path) -> None:
    """Computes the statistics that a store keeps of the rows in ``folder``, and saves them there."""
    from penult.pipeline.heads.numerics.basis import Basis

    basis = Basis.of(np.load(folder / "X.npy"))
    parts = ("mean", "scale", "spread", "axes")
    np.savez(folder / KEPT, n=basis.n, **{part: getattr(basis, part) for part in parts})


def kept_statistics(folder: Path) -> Any:
    from penult.pipeline.heads.numerics.basis import Basis

    with np.load(folder / KEPT) as held:
        parts = [held[part] for part in ("mean", "scale", "spread", "axes")]
        return Basis(int(held["n"]), *parts)


def penult_head(name: str, **known: Any) -> Fit:
    def fit(X: np.ndarray, y: np.ndarray) -> Predict:
        from penult.pipeline.heads.recipe import HeadOptions
        from penult.pipeline.heads.registry import recipe_of

        recipe = recipe_of(name, HeadOptions(len(y), int(y.max()) + 1, X.shape[1]))
        estimator: Any = recipe.fit(X, y, **known).estimator
        return lambda Z: np.asarray(estimator.predict_proba(Z))

    return fit


def logistic(C: float) -> Any:
    """scikit-learn's logistic regression on scaled features, as a careful user sets it up."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def careful(X: np.ndarray, y: np.ndarray) -> Predict:
    """One fit per value of C on nine tenths; the best by accuracy on the last tenth is fitted again on all rows."""
    from sklearn.model_selection import train_test_split

    X_in, X_out, y_in, y_out = train_test_split(X, y, test_size=0.1, stratify=y, random_state=0)
    best = max(CAREFUL, key=lambda c: logistic(c).fit(X_in, y_in).score(X_out, y_out))
    return logistic(best).fit(X, y).predict_proba


def one_fit(X: np.ndarray, y: np.ndarray) -> Predict:
    return logistic(300 / len(y)).fit(X, y).predict_proba


def clip(X: np.ndarray, y: np.ndarray) -> Predict:
    """The CLIP paper's protocol: seven values of C over twelve decades, then a binary search to 1/8 of a decade."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    X_in, X_out, y_in, y_out = train_test_split(X, y, test_size=0.1, stratify=y, random_state=0)
    scores: dict[float, float] = {}

    def score(power: float) -> float:
        if power not in scores:
            model = LogisticRegression(C=10**power, max_iter=1000).fit(X_in, y_in)
            scores[power] = model.score(X_out, y_out)
        return scores[power]

    best = max(np.arange(-6.0, 7.0, 2.0), key=score)
    step = 1.0
    while step >= 1 / 8:
        best = max((best - step, best, best + step), key=score)
        step /= 2
    return LogisticRegression(C=10**best, max_iter=1000).fit(X, y).predict_proba


def cross_validated(X: np.ndarray, y: np.ndarray) -> Predict:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegressionCV(
        Cs=CAREFUL, cv=5, max_iter=1000, scoring="neg_log_loss", use_legacy_attributes=False, l1_ratios=(0.0,)
    )
    return make_pipeline(StandardScaler(), model).fit(X, y).predict_proba


def boosted(X: np.ndarray, y: np.ndarray) -> Predict:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_jobs=1, verbose=-1, random_state=0).fit(X, y).predict_proba


OURS: dict[str, Callable[..., Fit]] = {
    "penult logistic, statistics kept": lambda **known: penult_head("logistic", **known),
    "penult logistic": lambda **_: penult_head("logistic"),
    "penult ridge": lambda **_: penult_head("ridge"),
    "penult lda": lambda **_: penult_head("lda"),
    "penult lightgbm": lambda **_: penult_head("lightgbm"),
}
PEERS: dict[str, Fit] = {
    "StandardScaler + LogisticRegression, 7 C": careful,
    "CLIP sweep": clip,
    "LogisticRegressionCV, 5 folds, 7 C": cross_validated,
    "LightGBM, default": boosted,
    "StandardScaler + LogisticRegression, 1 C": one_fit,
}


def fit_of(name: str, folder: Path) -> Fit:
    """Returns a protocol ready to be timed."""
    if name in PEERS:
        return PEERS[name]
    return OURS[name](**({"basis": kept_statistics(folder)} if "kept" in name else {}))
