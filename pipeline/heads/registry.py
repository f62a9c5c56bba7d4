"""Names of heads, each a lazy ``module:function`` that gives a recipe; other packages add theirs by entry points."""

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from penult.errors import HeadError, InputError, UnknownNameError
from penult.pipeline.heads.names import AUTO, CLASS_HEADS, DEFAULT, GROUP, Task

if TYPE_CHECKING:  # so that listing names does not load scikit-learn
    from penult.pipeline.heads.recipe import HeadOptions, Recipe

__all__ = [
    "check_head",
    "default_head",
    "head_kind",
    "head_maker",
    "head_names",
    "recipe_of",
    "register",
]


def _targets(module: str, names: tuple[str, ...]) -> dict[str, str]:
    return {name: f"penult.pipeline.heads.{module}:{name.replace('-', '_')}" for name in names}


_TARGETS: dict[Task, dict[str, str]] = {
    "classification": _targets("recipes", CLASS_HEADS),
    "regression": _targets("number_recipes", ("ridge", "svr", "lightgbm")),
    "multilabel": _targets("tag_recipes", ("logistic", "ridge")),
}
GROUPS: dict[Task, str] = {
    "classification": GROUP,
    "regression": f"{GROUP}.regression",
    "multilabel": f"{GROUP}.multilabel",
}


def register(name: str, target: str, task: Task = "classification") -> None:
    """Adds a head; ``target`` is ``module:function``, a function from ``HeadOptions`` to ``Recipe``."""
    if ":" in name or ":" not in target:
        raise InputError(f"{name!r} → {target!r} is no head", expected="a name without a colon, and module:function")
    if name in _known(task):
        raise InputError(f"a head called {name!r} is registered already", remedy="choose another name")
    _TARGETS[task][name] = target


def head_names(task: Task = "classification") -> tuple[str, ...]:
    """Returns every head that can be named, the built-in ones first."""
    return tuple(_known(task))


def default_head(task: Task) -> str:
    """Returns the head that is taken where none is named: the default one, or the first that the task has."""
    return DEFAULT if DEFAULT in _TARGETS[task] else next(iter(_TARGETS[task]))


def head_kind(head: Any) -> str:
    """Returns what a head's card calls it: its name, or the class of an estimator that was given itself."""
    return head if isinstance(head, str) else f"{type(head).__module__.split('.')[0]}:{type(head).__name__}"


def check_head(head: Any, task: Task = "classification") -> None:
    """Refuses what is no head, and ``auto`` where there are no quick heads to choose from."""
    if not (isinstance(head, str) and head == AUTO):
        head_maker(head, task)
    elif task != "classification":
        raise InputError(
            f"the head {AUTO} is for classes, and this is {task}",
            expected=f"one of {', '.join(_known(task))}",
            remedy="name one of these",
        )


def head_maker(head: Any, task: Task = "classification") -> "Callable[[HeadOptions], Recipe]":
    """Returns what makes the recipe of a head, so that a wrong one is told before any work is done.

    ``head`` is a name, ``module:Class``, or an unfitted scikit-learn estimator such as a ``Pipeline``.
    """
    if not isinstance(head, str):
        if isinstance(head, type) or not (hasattr(head, "fit") and hasattr(head, "get_params")):
            raise InputError(f"{head!r} is no head", expected="a name, or an unfitted scikit-learn estimator")
        return lambda options: _recipe(head, task).weighted(options.class_weight)
    if ":" in head:
        kind = _class_at(head)
        return lambda options: _of_class(kind, {}, task).weighted(options.class_weight)
    known = _known(task)
    if head not in known:
        _refuse_elsewhere(head, task)
        raise UnknownNameError.among("head", head, known)
    maker: Callable[[HeadOptions], Recipe] = _load(known[head])
    return maker


def recipe_of(
    head: Any, options: "HeadOptions", params: Mapping[str, Any] | None = None, task: Task = "classification"
) -> "Recipe":
    """Returns the recipe of a named head, of any scikit-learn estimator, or of one as ``module:Class``.

    ``params`` are fixed, and no longer searched; for ``module:Class`` they are the constructor's.
    """
    if isinstance(head, str) and ":" in head:
        return _of_class(_class_at(head), dict(params or {}), task).weighted(options.class_weight)
    from penult.pipeline.heads.recipe import Recipe

    recipe = head_maker(head, task)(options)
    if not isinstance(recipe, Recipe):
        raise HeadError(
            f"{_known(task)[head]} gave a {type(recipe).__name__}", expected="a penult.pipeline.heads.Recipe"
        )
    return recipe.with_params(params or {})


def _known(task: Task) -> dict[str, str]:
    known = dict(_TARGETS[task])
    for point in _brought(GROUPS[task], tuple(sys.path)):
        if known.get(point.name, point.value) != point.value:
            raise InputError(
                f"two packages bring a head called {point.name!r}: {known[point.name]} and {point.value}",
                remedy="uninstall one of them",
            )
        known[point.name] = point.value
    return known


@cache
def _brought(group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Returns what the packages on the path bring; looking through all of them takes some hundredths of a second."""
    return tuple(entry_points(group=group))


def _refuse_elsewhere(head: str, task: Task) -> None:
    others = [other for other in _TARGETS if other != task and head in _known(other)]
    if others:
        raise InputError(
            f"the head {head} is for {' and '.join(others)}, and this is {task}",
            expected=f"one of {', '.join(_known(task))}",
            remedy="name one of these, or another column to predict",
        )


def _class_at(target: str) -> type:
    made = _load(target)
    if not (isinstance(made, type) and hasattr(made, "fit") and hasattr(made, "get_params")):
        raise InputError(f"{target} is no scikit-learn estimator", expected="module:Class with fit and get_params")
    return made


def _of_class(kind: type, params: dict[str, Any], task: Task) -> "Recipe":
    try:
        estimator = kind(**params)
    except TypeError as error:
        raise InputError(f"{kind.__name__} does not take these parameters: {error}") from error
    return _recipe(estimator, task)


def _recipe(estimator: Any, task: Task) -> "Recipe":
    from sklearn.base import is_classifier, is_regressor
    from sklearn.calibration import CalibratedClassifierCV

    from penult.pipeline.heads.estimators.one_per_tag import EachTag
    from penult.pipeline.heads.number_recipes import NumberRecipe
    from penult.pipeline.heads.recipe import Recipe

    is_for_numbers = task == "regression"
    if is_regressor(estimator) if not is_for_numbers else is_classifier(estimator):
        given, wanted = ("regressor", "classifier") if not is_for_numbers else ("classifier", "regressor")
        raise InputError(f"{type(estimator).__name__} is a {given}, and this is {task}", expected=f"a {wanted}")
    if task == "multilabel":
        is_sure = hasattr(estimator, "predict_proba")
        return Recipe(EachTag(estimator if is_sure else CalibratedClassifierCV(estimator, ensemble=False)))
    return NumberRecipe(estimator) if is_for_numbers else Recipe(estimator)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"{target} cannot be imported: {error}", expected="module:object that can be imported"
        ) from error
