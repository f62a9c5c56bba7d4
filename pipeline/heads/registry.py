"""Names of heads, each a lazy ``module:function`` that gives a recipe; other packages add theirs by entry points."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from penult.errors import HeadError, InputError, UnknownNameError

if TYPE_CHECKING:  # so that listing names does not load scikit-learn
    from penult.pipeline.heads.recipe import HeadOptions, Recipe

__all__ = ["DEFAULT", "GROUP", "head_maker", "head_names", "recipe_of", "register"]

DEFAULT = "logistic"
GROUP = "penult.heads"

_TARGETS: dict[str, str] = {
    name: f"penult.pipeline.heads.recipes:{name.replace('-', '_')}"
    for name in (
        "logistic",
        "ridge",
        "lda",
        "linear-svc",
        "svc",
        "knn",
        "centroid",
        "gaussian-nb",
        "random-forest",
        "mlp",
        "lightgbm",
    )
}


def register(name: str, target: str) -> None:
    """Adds a head; ``target`` is ``module:function``, a function from ``HeadOptions`` to ``Recipe``."""
    if ":" in name or ":" not in target:
        raise InputError(f"{name!r} → {target!r} is no head", expected="a name without a colon, and module:function")
    if name in _known():
        raise InputError(f"a head called {name!r} is registered already", remedy="choose another name")
    _TARGETS[name] = target


def head_names() -> tuple[str, ...]:
    """Returns every head that can be named, the built-in ones first."""
    return tuple(_known())


def head_maker(head: str) -> "Callable[[HeadOptions], Recipe]":
    """Returns what makes the recipe of a named head, so that a wrong name is told before any work is done."""
    if ":" in head:
        kind = _class_at(head)
        return lambda _: _of_class(kind, {})
    known = _known()
    if head not in known:
        raise UnknownNameError.among("head", head, known)
    maker: Callable[[HeadOptions], Recipe] = _load(known[head])
    return maker


def recipe_of(head: str, options: "HeadOptions", params: Mapping[str, Any] | None = None) -> "Recipe":
    """Returns the recipe of a named head, or of any scikit-learn classifier as ``module:Class``.

    ``params`` are fixed, and no longer searched; for ``module:Class`` they are the constructor's.
    """
    if ":" in head:
        return _of_class(_class_at(head), dict(params or {}))
    from penult.pipeline.heads.recipe import Recipe

    recipe = head_maker(head)(options)
    if not isinstance(recipe, Recipe):
        raise HeadError(f"{_known()[head]} gave a {type(recipe).__name__}", expected="a penult.pipeline.heads.Recipe")
    return recipe.with_params(params or {})


def _known() -> dict[str, str]:
    known = dict(_TARGETS)
    for point in entry_points(group=GROUP):
        if known.get(point.name, point.value) != point.value:
            raise InputError(
                f"two packages bring a head called {point.name!r}: {known[point.name]} and {point.value}",
                remedy="uninstall one of them",
            )
        known[point.name] = point.value
    return known


def _class_at(target: str) -> type:
    made = _load(target)
    if not (isinstance(made, type) and hasattr(made, "fit") and hasattr(made, "get_params")):
        raise InputError(f"{target} is no scikit-learn estimator", expected="module:Class with fit and get_params")
    return made


def _of_class(kind: type, params: dict[str, Any]) -> "Recipe":
    from penult.pipeline.heads.recipe import Recipe

    try:
        return Recipe(kind(**params))
    except TypeError as error:
        raise InputError(f"{kind.__name__} does not take these parameters: {error}") from error


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"{target} cannot be imported: {error}", expected="module:object that can be imported"
        ) from error
