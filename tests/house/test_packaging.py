"""The package as others get it: all of its parts in the wheel, and no name of its own in anybody's way."""

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import penult
from penult.pipeline.cli.app import VERBS

HEAVY = {"torch", "sklearn", "scipy", "numpy", "onnxruntime", "onnx", "lightgbm", "h5py", "PIL", "ray"}

ROOMS = {"penult.pipeline": "pipeline", "penult.exporters": "exporters", "penult.store": "store"}


def test_every_nested_package_is_listed(project: Path) -> None:
    listed = set(tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"penult"}
    for package, folder in ROOMS.items():
        for init in (project / folder).rglob("__init__.py"):
            nested = init.parent.relative_to(project / folder).parts
            found.add(".".join((package, *nested)))
    assert listed == found


def test_the_links_for_type_checkers_lead_to_the_rooms(project: Path) -> None:
    for folder in ROOMS.values():
        link = project / "src" / "penult" / folder
        assert link.is_symlink()
        assert link.resolve() == project / folder


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_neither_the_import_nor_the_help_of_a_verb_loads_a_heavy_library(verb: str) -> None:
    command = "import sys, penult\n"
    if verb:
        command += "from penult.pipeline.cli.app import app\n"
        command += f"app([{verb!r}, '--help'], standalone_mode=False)\n"
    command += f"print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def wheel_venv(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the built wheel; the wheels that it depends on are taken from this environment."""
    room = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", room, project], check=True)
    (wheel,) = room.glob("penult-*.whl")
    venv.create(room / "env", symlinks=True)
    python = room / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    _lend_dependencies(python)
    return python


def _lend_dependencies(python: Path) -> None:
    """Lets the new environment see this one's libraries, but not its editable penult."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, new = (Path(_output(python.parent, each, "-c", where).strip()) for each in (Path(sys.executable), python))
    for path in own.iterdir():
        target = new / path.name
        if "penult" not in path.name and not target.exists():
            target.symlink_to(path)


def test_the_wheel_works_beside_folders_of_the_same_names(wheel_venv: Path, tmp_path: Path) -> None:
    for name in ("pipeline.py", "store.py", "exporters.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the user was imported')")
    rooms = "import penult, penult.pipeline.fit, penult.store, penult.exporters; print(penult.__file__)"
    assert "site-packages" in _output(tmp_path, wheel_venv, "-c", rooms)
    assert _output(tmp_path, wheel_venv.with_name("penult"), "--version").split()[-1] == penult.__version__
    assert "efficientnet-lite0" in _output(tmp_path, wheel_venv.with_name("penult"), "backbones")


def test_the_wheel_holds_every_data_file(wheel_venv: Path, project: Path, tmp_path: Path) -> None:
    where = "import penult, pathlib; print(pathlib.Path(penult.__file__).parent)"
    installed = Path(_output(tmp_path, wheel_venv, "-c", where).strip())
    for folder in ROOMS.values():
        for path in (project / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / folder / path.relative_to(project / folder)).is_file(), path


def _output(folder: Path, *command: str | Path) -> str:
    """Runs a command in ``folder``, where no file of the repository is in its way, and returns what it prints."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
