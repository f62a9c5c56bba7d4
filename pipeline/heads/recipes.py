"""The recipes of the heads that have a name here: estimator, scaling, and what is searched."""

from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from penult.cores import usable_cores
from penult.pipeline.heads.estimators.boosted import BoostedTrees
from penult.pipeline.heads.estimators.centroid import NearestMean
from penult.pipeline.heads.estimators.lda import ShrunkenDiscriminant
from penult.pipeline.heads.estimators.linear_svm import LinearMachine
from penult.pipeline.heads.estimators.ridge import RidgePath
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.names import cannot_weight
from penult.pipeline.heads.recipe import HeadOptions, Recipe


def logistic(options: HeadOptions) -> Recipe:
    """Multinomial logistic regression along its whole path of C."""
    return Recipe(LogisticPath(class_weight=options.class_weight, random_state=options.seed))


def ridge(options: HeadOptions) -> Recipe:
    """Least squares on class indicators, alpha by leave-one-out."""
    return Recipe(RidgePath(class_weight=options.class_weight))


def lda(options: HeadOptions) -> Recipe:
    """Linear discriminant analysis, shrinkage by leave-one-out."""
    return Recipe(ShrunkenDiscriminant(class_weight=options.class_weight))


def centroid(options: HeadOptions) -> Recipe:
    """The nearest class mean."""
    return Recipe(NearestMean(class_weight=options.class_weight))


def linear_svc(options: HeadOptions) -> Recipe:
    """A linear support-vector machine, C by held-out folds."""
    return Recipe(LinearMachine(class_weight=options.class_weight, random_state=options.seed))


def svc(options: HeadOptions) -> Recipe:
    """A support-vector machine with a Gaussian kernel; often the most accurate, and slow from 10,000 images on."""
    machine = SVC(kernel="rbf", cache_size=500, class_weight=options.class_weight, random_state=options.seed)
    widths = tuple(factor / options.width for factor in (0.1, 0.3, 1.0))
    grid = {"svc__C": (1.0, 10.0, 100.0), "svc__gamma": widths}
    return Recipe(make_pipeline(StandardScaler(), machine), grid, scoring="accuracy", search_rows=2000)


def knn(options: HeadOptions) -> Recipe:
    """The nearest neighbours by angle, which on rows of length one is by distance."""
    _refuse_weights(options, "knn")
    most = max(1, options.n_rows // 2)
    sizes = tuple(sorted({min(k, most) for k in (1, 3, 5, 10, 20, 50)}))
    neighbours = KNeighborsClassifier(n_jobs=usable_cores())
    return Recipe(make_pipeline(Normalizer(), neighbours), {"kneighborsclassifier__n_neighbors": sizes}, "accuracy")


def gaussian_nb(options: HeadOptions) -> Recipe:
    """Naive Bayes with a Gaussian per feature and class."""
    # Weights that are the same within a class change nothing but how likely it is before an image is seen.
    shares = None if options.class_weight is None else [1 / options.n_classes] * options.n_classes
    grid = {"gaussiannb__var_smoothing": (1e-9, 1e-3, 1e-2, 1e-1, 1.0, 10.0)}
    # Its chances are too sure however they are smoothed, and the smoothing that mends them most costs right answers.
    return Recipe(make_pipeline(StandardScaler(), GaussianNB(priors=shares)), grid, scoring="accuracy")


def random_forest(options: HeadOptions) -> Recipe:
    """Three hundred trees on random features."""
    forest = RandomForestClassifier(
        300, class_weight=options.class_weight, random_state=options.seed, n_jobs=usable_cores()
    )
    return Recipe(forest, {"min_samples_leaf": (1, 5)}, search_rows=2000, quick={"n_estimators": 50})


def mlp(options: HeadOptions) -> Recipe:
    """One hidden layer of 256 units."""
    _refuse_weights(options, "mlp")
    # Early stopping holds a tenth of the rows out, which must be one of each class at the very least.
    stops = options.n_rows >= 50 * options.n_classes
    network = MLPClassifier((256,), early_stopping=stops, max_iter=300, random_state=options.seed)
    grid = {"mlpclassifier__alpha": (1e-4, 1e-1, 10.0)}
    return Recipe(make_pipeline(StandardScaler(), network), grid, search_rows=2000)


def lightgbm(options: HeadOptions) -> Recipe:
    """Gradient-boosted trees, their number by early stopping."""
    return Recipe(BoostedTrees(class_weight=options.class_weight, random_state=options.seed))


def _refuse_weights(options: HeadOptions, name: str) -> None:
    if options.class_weight is not None:
        raise cannot_weight(name)
