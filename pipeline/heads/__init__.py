"""Heads: scikit-learn estimators that turn stored features and labels into classes, numbers or tags.

Importing this package is light. `head.Head`, `recipe.Recipe`, `out_of_fold` and the estimators load scikit-learn.
"""

from penult.pipeline.heads.names import DEFAULT
from penult.pipeline.heads.registry import head_names, recipe_of, register

__all__ = ["DEFAULT", "head_names", "recipe_of", "register"]
