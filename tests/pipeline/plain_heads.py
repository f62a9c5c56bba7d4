"""For every head the plain scikit-learn (or LightGBM) estimator that it is to agree with, by the settings it chose."""

from collections.abc import Callable
from typing import Any

from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC

Params = dict[str, Any]


def trees(n_rows: int) -> Params:
    return {
        "num_leaves": 15,
        "colsample_bytree": 0.1,
        "max_bin": 63,
        "min_child_samples": min(50, n_rows // 40),
        "random_state": 0,
        "n_jobs": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }


PLAIN: dict[str, Callable[[Params, int], Any]] = {
    "logistic": lambda p, _: make_pipeline(StandardScaler(), LogisticRegression(C=p["C_"], tol=1e-8, max_iter=5000)),
    "ridge": lambda p, _: make_pipeline(StandardScaler(), RidgeClassifier(alpha=p["alpha_"])),
    "lda": lambda p, _: make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=p["shrinkage_"])
    ),
    "linear-svc": lambda p, _: make_pipeline(
        StandardScaler(), LinearSVC(C=p["C_"], dual="auto", max_iter=2000, random_state=0)
    ),
    "svc": lambda p, _: make_pipeline(StandardScaler(), SVC(C=p["svc__C"], gamma=p["svc__gamma"])),
    "knn": lambda p, _: make_pipeline(Normalizer(), KNeighborsClassifier(p["kneighborsclassifier__n_neighbors"])),
    "centroid": lambda *_: make_pipeline(StandardScaler(), NearestCentroid()),
    "gaussian-nb": lambda p, _: make_pipeline(
        StandardScaler(), GaussianNB(var_smoothing=p["gaussiannb__var_smoothing"])
    ),
    "random-forest": lambda p, _: RandomForestClassifier(300, min_samples_leaf=p["min_samples_leaf"], random_state=0),
    "mlp": lambda p, _: make_pipeline(
        StandardScaler(),
        MLPClassifier((256,), alpha=p["mlpclassifier__alpha"], early_stopping=True, max_iter=300, random_state=0),
    ),
    "lightgbm": lambda p, n: LGBMClassifier(n_estimators=p["n_trees_"], **trees(n)),
}

PLAIN_NUMBERS: dict[str, Callable[[Params, int], Any]] = {
    "ridge": lambda p, _: make_pipeline(StandardScaler(), Ridge(alpha=p["alpha_"])),
    "svr": lambda p, _: TransformedTargetRegressor(
        make_pipeline(StandardScaler(), SVR(C=p["regressor__svr__C"], gamma=p["regressor__svr__gamma"])),
        transformer=StandardScaler(),
    ),
    "lightgbm": lambda p, n: LGBMRegressor(n_estimators=p["n_trees_"], **trees(n)),
}

PLAIN_TAGS: dict[str, Callable[[Any], Any]] = {
    "logistic": lambda each: make_pipeline(StandardScaler(), LogisticRegression(C=each.C_, tol=1e-8, max_iter=5000)),
    "ridge": lambda each: make_pipeline(StandardScaler(), RidgeClassifier(alpha=each.alpha_)),
}

LEAST = {"logistic": 0.997, "ridge": 0.995, "linear-svc": 0.99, "svc": 0.98}
"""The share of equal labels; one means all. What converges, or calibrates, may differ on a row between two classes."""
