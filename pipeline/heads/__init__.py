"""Heads: what turns stored features and labels into a classifier, each a scikit-learn estimator.

Importing this room is light; the estimators' own modules bring scikit-learn.
"""

from penult.pipeline.heads.names import DEFAULT
from penult.pipeline.heads.registry import head_names, recipe_of, register

__all__ = ["DEFAULT", "head_names", "recipe_of", "register"]
