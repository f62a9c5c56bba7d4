"""The shape of the code: no cycles, one definition per public class, and folders of a reasonable size."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PARTS = ("pipeline", "exporters", "store")
MOST_SIBLINGS = 20
MOST_PIPELINE_FILES = 170


def _modules(project: Path) -> Iterator[tuple[str, ast.Module]]:
    for part in PARTS:
        for path in sorted((project / part).rglob("*.py")):
            yield str(path.relative_to(project)), ast.parse(path.read_text())


def test_every_public_class_is_defined_once(project: Path) -> None:
    places = defaultdict(list)
    for path, module in _modules(project):
        for node in module.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_folder_has_too_many_modules(project: Path) -> None:
    counts = Counter(str(Path(path).parent) for path, _ in _modules(project) if not path.endswith("__init__.py"))
    assert {folder: count for folder, count in counts.items() if count > MOST_SIBLINGS} == {}
    assert sum(path.startswith("pipeline/") for path, _ in _modules(project)) <= MOST_PIPELINE_FILES


def _imports(module: ast.Module, names: set[str]) -> Iterator[str]:
    """Yields the modules of penult that a module imports, anywhere in its code."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("penult"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in names else node.module


def test_no_two_modules_import_each_other_even_indirectly(project: Path) -> None:
    modules = {
        "penult." + path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): module
        for path, module in _modules(project)
    }
    graph = {name: set(_imports(module, set(modules))) & set(modules) - {name} for name, module in modules.items()}
    # Modules that import nothing left are taken away until none remains but those on a cycle.
    while ready := [name for name, targets in graph.items() if not targets]:
        for name in ready:
            del graph[name]
        for targets in graph.values():
            targets.difference_update(ready)
    assert graph == {}


@pytest.mark.parametrize("part", PARTS)
def test_every_package_describes_itself(project: Path, part: str) -> None:
    for init in (project / part).rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text())), init
