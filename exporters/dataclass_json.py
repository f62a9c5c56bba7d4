"""Reads dataclasses from JSON types and validates them by their annotations."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from penult.errors import BackboneError

__all__ = ["dataclass_from_json"]

T = TypeVar("T")


def dataclass_from_json(kind: type[T], data: object, where: str) -> T:
    """Returns an instance of ``kind`` made from ``data``; ``where`` names the value in errors.

    >>> from penult.exporters.card import Normalisation
    >>> dataclass_from_json(Normalisation, {"mean": [127, 127, 127]}, "normalisation").mean
    (127.0, 127.0, 127.0)
    """
    if not isinstance(data, Mapping):
        raise _wrong(where, data, f"an object with the fields of {kind.__name__}")
    hints = get_type_hints(kind)
    declared = {item.name: item for item in fields(cast("Any", kind))}
    unknown = sorted(set(map(str, data)) - set(declared))
    if unknown:
        raise _wrong(where, unknown, f"only the fields {', '.join(declared)}")
    needed = [n for n, item in declared.items() if item.default is MISSING and item.default_factory is MISSING]
    missing = sorted(set(needed) - set(data))
    if missing:
        raise BackboneError(f"{where} lacks {', '.join(missing)}", expected=f"the fields {', '.join(needed)}")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def _value(hint: Any, value: object, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _any_of(get_args(hint), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise _wrong(where, value, f"one of {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is tuple:
        return _tuple(get_args(hint), value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return dataclass_from_json(hint, value, where)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    accepted: Any = Mapping if origin is not None else hint  # the only other generic on a card is a mapping
    if hint is not float and isinstance(value, accepted) and not (hint is int and isinstance(value, bool)):
        return value
    raise _wrong(where, value, getattr(hint, "__name__", str(hint)))


def _any_of(hints: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and NoneType in hints:
        return None
    kinds = [hint for hint in hints if hint is not NoneType]
    if len(kinds) == 1:
        return _value(kinds[0], value, where)
    for hint in kinds:
        with suppress(BackboneError):
            return _value(hint, value, where)
    raise _wrong(where, value, " or ".join(str(hint) if get_args(hint) else hint.__name__ for hint in kinds))


def _tuple(hints: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, value, "a list")
    if len(hints) == 2 and hints[1] is Ellipsis:
        return tuple(_value(hints[0], item, where) for item in value)
    if len(value) != len(hints):
        raise _wrong(where, value, f"{len(hints)} values")
    return tuple(_value(hint, item, where) for hint, item in zip(hints, value, strict=True))


def _wrong(where: str, value: object, expected: str) -> BackboneError:
    return BackboneError(f"{where} is {str(value)[:80]!r}", expected=expected)
