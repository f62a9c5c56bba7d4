"""The recipes of the heads for images that bear several labels at once: a classifier for each tag."""

from penult.pipeline.heads.estimators.one_per_tag import EachTag
from penult.pipeline.heads.estimators.ridge import RidgePath
from penult.pipeline.heads.logistic.path import LogisticPath
from penult.pipeline.heads.recipe import HeadOptions, Recipe


def logistic(options: HeadOptions) -> Recipe:
    """Logistic regression for each tag, each along its own path of C."""
    return Recipe(EachTag(LogisticPath(class_weight=options.class_weight, random_state=options.seed)))


def ridge(options: HeadOptions) -> Recipe:
    """Least squares for each tag, each with an alpha by leave-one-out."""
    return Recipe(EachTag(RidgePath(class_weight=options.class_weight)))
