"""What stands in docstrings is true: every example in them runs."""

import doctest
import importlib
import pkgutil

import pytest

import penult

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(penult.__path__, "penult.") if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["penult", *MODULES])
def test_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed
    assert module.__doc__, "a module's docstring says why the module exists"
