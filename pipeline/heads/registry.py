"""The registry of heads: each name refers to a ``module:function`` that is imported when it is needed."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from penult.errors import HeadError, InputError, UnknownNameError
from penult.pipeline.heads.names import AUTO, CLASS_HEADS, DEFAULT, GROUP, Task

if TYPE_CHECKING:  # listing names must not load scikit-learn
    from penult.pipeline.heads.recipe import HeadOptions, Recipe

__all__ = [
    "check_head",
    "default_head",
    "head_kind",
    "head_names",
    "recipe_maker",
    "recipe_of",
    "register",
]


_RECIPES = "penult.pipeline.heads.recipes"
_TARGETS: dict[Task, dict[str, str]] = {
    "classification": {name: f"{_RECIPES}:{name.replace('-', '_')}" for name in CLASS_HEADS},
    "regression": {name: f"{_RECIPES}:regression_{name}" for name in ("ridge", "svr", "lightgbm")},
    "multilabel": {name: f"{_RECIPES}:multilabel_{name}" for name in ("logistic", "ridge")},
}
GROUPS: dict[Task, str] = {
    "classification": GROUP,
    "regression": f"{GROUP}.regression",
    "multilabel": f"{GROUP}.multilabel",
}


def register(name: str, target: str, task: Task = "classification") -> None:
    """Adds a head; ``target`` names a function from ``HeadOptions`` to ``Recipe`` as ``module:function``."""
    if ":" in name or ":" not in target:
        raise InputError(f"{name!r} → {target!r} is not a head", expected="a name without a colon, and module:function")
    if name in _known(task):
        raise InputError(f"a head named {name!r} is already registered", remedy="choose another name")
    _TARGETS[task][name] = target


def head_names(task: Task = "classification") -> tuple[str, ...]:
    """Returns the names of all heads for a task, the built-in heads first."""
    return tuple(_known(task))


def default_head(task: Task) -> str:
    """Returns the head to use where none is named: ``logistic``, or the first head of the task."""
    return DEFAULT if DEFAULT in _TARGETS[task] else next(iter(_TARGETS[task]))


def head_kind(head: Any) -> str:
    """Returns the ``kind`` on a head's card: the head's name, or the class of a given estimator."""
    return head if isinstance(head, str) else f"{type(head).__module__.split('.')[0]}:{type(head).__name__}"


def check_head(head: Any, task: Task = "classification") -> None:
    """Raises InputError for an unknown head, and for ``auto`` with a task other than classification."""
    if not (isinstance(head, str) and head == AUTO):
        recipe_maker(head, task)
    elif task != "classification":
        raise InputError(
            f"the head {AUTO} is for classes, and this is {task}",
            expected=f"one of {', '.join(_known(task))}",
            remedy="name one of these heads",
        )


def recipe_maker(head: Any, task: Task = "classification") -> "Callable[[HeadOptions], Recipe]":
    """Returns the function that makes a head's recipe; raises InputError at once for an unknown head.

    ``head`` is a name, ``module:Class``, or an unfitted scikit-learn estimator such as a ``Pipeline``.
    """
    if not isinstance(head, str):
        if isinstance(head, type) or not (hasattr(head, "fit") and hasattr(head, "get_params")):
            raise InputError(f"{head!r} is not a head", expected="a name, or an unfitted scikit-learn estimator")
        return lambda options: _recipe(head, task).weighted(options.class_weight)
    if ":" in head:
        kind = _class_at(head)
        return lambda options: _of_class(kind, {}, task).weighted(options.class_weight)
    known = _known(task)
    if head not in known:
        _check_task(head, task)
        raise UnknownNameError.among("head", head, known)
    maker: Callable[[HeadOptions], Recipe] = _load(known[head])
    return maker


def recipe_of(
    head: Any, options: "HeadOptions", params: Mapping[str, Any] | None = None, task: Task = "classification"
) -> "Recipe":
    """Returns the recipe of a named head, of a scikit-learn estimator, or of a class as ``module:Class``.

    ``params`` are fixed and not searched; for ``module:Class`` they are constructor arguments.
    """
    if isinstance(head, str) and ":" in head:
        return _of_class(_class_at(head), dict(params or {}), task).weighted(options.class_weight)
    from penult.pipeline.heads.recipe import Recipe

    recipe = recipe_maker(head, task)(options)
    if not isinstance(recipe, Recipe):
        raise HeadError(
            f"{_known(task)[head]} returned a {type(recipe).__name__}", expected="a penult.pipeline.heads.recipe.Recipe"
        )
    return replace(recipe, task=task).with_params(params or {})


def _known(task: Task) -> dict[str, str]:
    known = dict(_TARGETS[task])
    for point in _entry_points(GROUPS[task], tuple(sys.path)):
        if known.get(point.name, point.value) != point.value:
            raise InputError(
                f"two packages register a head named {point.name!r}: {known[point.name]} and {point.value}",
                remedy="uninstall one of them",
            )
        known[point.name] = point.value
    return known


@cache
def _entry_points(group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Returns the entry points of all packages, cached because the search takes some 10 ms."""
    return tuple(entry_points(group=group))


def _check_task(head: str, task: Task) -> None:
    others = [other for other in _TARGETS if other != task and head in _known(other)]
    if others:
        raise InputError(
            f"the head {head} is for {' and '.join(others)}, and this is {task}",
            expected=f"one of {', '.join(_known(task))}",
            remedy="name one of these heads, or predict another column",
        )


def _class_at(target: str) -> type:
    made = _load(target)
    if not (isinstance(made, type) and hasattr(made, "fit") and hasattr(made, "get_params")):
        raise InputError(f"{target} is not a scikit-learn estimator", expected="module:Class with fit and get_params")
    return made


def _of_class(kind: type, params: dict[str, Any], task: Task) -> "Recipe":
    try:
        estimator = kind(**params)
    except TypeError as error:
        raise InputError(f"{kind.__name__} does not accept these parameters: {error}") from error
    return _recipe(estimator, task)


def _recipe(estimator: Any, task: Task) -> "Recipe":
    from sklearn.base import is_classifier, is_regressor
    from sklearn.calibration import CalibratedClassifierCV

    from penult.pipeline.heads.estimators.one_per_tag import PerTagClassifier
    from penult.pipeline.heads.recipe import Recipe

    is_wrong, given, wanted = is_regressor, "regressor", "classifier"
    if task == "regression":
        is_wrong, given, wanted = is_classifier, "classifier", "regressor"
    if is_wrong(estimator):
        raise InputError(f"{type(estimator).__name__} is a {given}, and this is {task}", expected=f"a {wanted}")
    if task == "multilabel":
        has_probabilities = hasattr(estimator, "predict_proba")
        estimator = PerTagClassifier(
            estimator if has_probabilities else CalibratedClassifierCV(estimator, ensemble=False)
        )
    return Recipe(estimator, task=task)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"{target} cannot be imported: {error}", expected="module:object that can be imported"
        ) from error
