"""The errors: one tree, drawn in one docstring, each also the builtin that a caller expects."""

import inspect
import pickle

import pytest

from penult import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]


def test_all_is_sorted_and_complete() -> None:
    defined = [
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == errors.__name__
    ]
    assert errors.__all__ == sorted(defined)


@pytest.mark.parametrize("kind", CLASSES)
def test_each_stands_in_the_docstring_with_the_builtin_that_it_is(kind: type[errors.PenultError]) -> None:
    assert errors.__doc__ is not None
    (line,) = [line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f" {line.strip('│├└─ ')} "]
    for base in kind.__bases__:
        if base.__module__ == "builtins" and base is not Exception:
            assert f"({base.__name__})" in line


@pytest.mark.parametrize("kind", CLASSES)
def test_each_tells_the_three_things_and_survives_another_process(kind: type[errors.PenultError]) -> None:
    error = kind("C is -1", expected="above 0", remedy="leave C out")
    assert str(error) == "C is -1. Expected: above 0. What to do: leave C out."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
