"""The built-in heads: for each a function from `HeadOptions` to a `Recipe`."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, SVR

from penult.cores import usable_cores
from penult.pipeline.heads.estimators.boosted import BoostedClassifier, BoostedRegressor
from penult.pipeline.heads.estimators.centroid import NearestMean
from penult.pipeline.heads.estimators.lda import ShrunkenDiscriminant
from penult.pipeline.heads.estimators.linear_svm import LinearSVCPath
from penult.pipeline.heads.estimators.one_per_tag import PerTagClassifier
from penult.pipeline.heads.estimators.ridge import RidgePath, RidgeRegressor
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.names import class_weight_error
from penult.pipeline.heads.recipe import HeadOptions, Recipe

KERNEL_C = (1.0, 10.0, 100.0)


def logistic(options: HeadOptions) -> Recipe:
    """Multinomial logistic regression, C chosen along its regularisation path."""
    return Recipe(LogisticPath(class_weight=options.class_weight, random_state=options.seed))


def ridge(options: HeadOptions) -> Recipe:
    """Ridge regression on class indicators, alpha chosen by leave-one-out."""
    return Recipe(RidgePath(class_weight=options.class_weight))


def lda(options: HeadOptions) -> Recipe:
    """Linear discriminant analysis, shrinkage chosen by leave-one-out."""
    return Recipe(ShrunkenDiscriminant(class_weight=options.class_weight))


def centroid(options: HeadOptions) -> Recipe:
    """The nearest class mean."""
    return Recipe(NearestMean(class_weight=options.class_weight))


def linear_svc(options: HeadOptions) -> Recipe:
    """A linear support-vector machine, C chosen by cross-validation."""
    return Recipe(LinearSVCPath(class_weight=options.class_weight, random_state=options.seed))


def svc(options: HeadOptions) -> Recipe:
    """A support-vector machine with an RBF kernel; often the most accurate head, but slow from 10,000 images on."""
    estimator = SVC(kernel="rbf", cache_size=500, class_weight=options.class_weight, random_state=options.seed)
    grid = {"svc__C": KERNEL_C, "svc__gamma": _gammas(options)}
    return Recipe(make_pipeline(StandardScaler(), estimator), grid, scoring="accuracy", search_rows=2000)


def knn(options: HeadOptions) -> Recipe:
    """The nearest neighbours by cosine distance."""
    _check_unweighted(options, "knn")
    most = max(1, options.n_rows // 2)
    sizes = tuple(sorted({min(k, most) for k in (1, 3, 5, 10, 20, 50)}))
    neighbours = KNeighborsClassifier(n_jobs=usable_cores())
    return Recipe(make_pipeline(Normalizer(), neighbours), {"kneighborsclassifier__n_neighbors": sizes}, "accuracy")


def gaussian_nb(options: HeadOptions) -> Recipe:
    """Naive Bayes with a Gaussian per feature and class."""
    # Weights that are constant within a class change only the priors.
    priors = None if options.class_weight is None else [1 / options.n_classes] * options.n_classes
    grid = {"gaussiannb__var_smoothing": (1e-9, 1e-3, 1e-2, 1e-1, 1.0, 10.0)}
    # Scored by accuracy: its probabilities are overconfident at every smoothing, and the smoothing with the lowest
    # log-loss costs accuracy.
    return Recipe(make_pipeline(StandardScaler(), GaussianNB(priors=priors)), grid, scoring="accuracy")


def random_forest(options: HeadOptions) -> Recipe:
    """A random forest of 300 trees."""
    forest = RandomForestClassifier(
        300, class_weight=options.class_weight, random_state=options.seed, n_jobs=usable_cores()
    )
    return Recipe(forest, {"min_samples_leaf": (1, 5)}, search_rows=2000, quick={"n_estimators": 50})


def mlp(options: HeadOptions) -> Recipe:
    """A neural network with one hidden layer of 256 units."""
    _check_unweighted(options, "mlp")
    # Early stopping holds out a tenth of the rows, which must contain at least one row of each class.
    stops = options.n_rows >= 50 * options.n_classes
    network = MLPClassifier((256,), early_stopping=stops, max_iter=300, random_state=options.seed)
    grid = {"mlpclassifier__alpha": (1e-4, 1e-1, 10.0)}
    return Recipe(make_pipeline(StandardScaler(), network), grid, search_rows=2000)


def lightgbm(options: HeadOptions) -> Recipe:
    """Gradient-boosted trees, their number chosen by early stopping."""
    return Recipe(BoostedClassifier(class_weight=options.class_weight, random_state=options.seed))


def regression_ridge(options: HeadOptions) -> Recipe:
    """Ridge regression, alpha chosen by leave-one-out."""
    return Recipe(RidgeRegressor())


def regression_svr(options: HeadOptions) -> Recipe:
    """Support-vector regression with an RBF kernel; often the most accurate head, but slow from 10,000 images on."""
    estimator = make_pipeline(StandardScaler(), SVR(kernel="rbf", cache_size=500))
    scaled = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    grid = {"regressor__svr__C": KERNEL_C, "regressor__svr__gamma": _gammas(options)}
    return Recipe(scaled, grid, search_rows=2000)


def regression_lightgbm(options: HeadOptions) -> Recipe:
    """Gradient-boosted trees, their number chosen by early stopping."""
    return Recipe(BoostedRegressor(random_state=options.seed))


def multilabel_logistic(options: HeadOptions) -> Recipe:
    """One logistic regression per tag, each with its own C."""
    estimator = LogisticPath(class_weight=options.class_weight, random_state=options.seed)
    return Recipe(PerTagClassifier(estimator))


def multilabel_ridge(options: HeadOptions) -> Recipe:
    """One ridge regression per tag, each with its own alpha."""
    return Recipe(PerTagClassifier(RidgePath(class_weight=options.class_weight)))


def _gammas(options: HeadOptions) -> tuple[float, ...]:
    return tuple(factor / options.width for factor in (0.1, 0.3, 1.0))


def _check_unweighted(options: HeadOptions, name: str) -> None:
    if options.class_weight is not None:
        raise class_weight_error(name)
