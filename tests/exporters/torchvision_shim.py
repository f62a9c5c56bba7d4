"""Imports torchvision even if its compiled operators do not match the installed torch.

No classification network uses those operators. But torchvision registers fake versions of them on import, and torch
rejects these if the operators are missing. For tests only.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest import mock

import pytest

__all__ = ["import_or_skip", "import_torchvision"]


def import_or_skip(*names: str) -> None:
    """Skips the tests of a module if a library is not installed; importing it would take seconds."""
    for name in names:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)


def import_torchvision() -> Any:
    torch = import_module("torch")
    register: Callable[..., Any] = torch.library.register_fake

    def lenient(operator: Any, function: Any = None, /, **options: Any) -> Any:
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return (lambda given: given) if function is None else function
        return register(operator, function, **options)

    with mock.patch.object(torch.library, "register_fake", lenient):
        return import_module("torchvision")
