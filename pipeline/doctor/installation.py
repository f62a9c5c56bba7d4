"""Lists the installed libraries and providers, and finds problems with them."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from typing import Any

from penult.cores import allowed_cores, usable_cores
from penult.defaults import PROVIDERS
from penult.pipeline.runtime.providers import obstacle

LIBRARIES = (
    "penult",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "openvino",
    "onnx",
    "numpy",
    "pillow",
    "h5py",
    "scikit-learn",
    "lightgbm",
    "pyarrow",
    "torch",
    "torchvision",
    "timm",
    "keras",
    "tensorrt",
)


@dataclass(frozen=True)
class Provider:
    """A provider, and why it cannot be used here (empty if it can)."""

    name: str
    obstacle: str


@dataclass(frozen=True)
class Installation:
    """The machine, the versions of the libraries, the providers, and a sentence per problem."""

    machine: str
    python: str
    cores: int
    allowed_cores: float
    load: float
    libraries: dict[str, str]
    providers: tuple[Provider, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)


def inspect_installation() -> Installation:
    """Returns what is installed; tests each provider by running a small graph."""
    libraries = installed_versions()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return Installation(
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        python=platform.python_version(),
        cores=usable_cores(),
        allowed_cores=round(allowed_cores(), 2),
        load=round(load, 2),
        libraries=libraries,
        providers=tuple(Provider(name, obstacle(name, is_tried=True)) for name in PROVIDERS),
        problems=tuple(_problems(libraries, load)),
    )


def installed_versions() -> dict[str, str]:
    """Returns the versions of the installed `LIBRARIES`."""
    found = {(each.name or "").lower().replace("_", "-"): each.version for each in distributions()}
    return {name: found[name] for name in LIBRARIES if name in found}


def _problems(libraries: dict[str, str], load: float) -> list[str]:
    problems = []
    builds = [name for name in libraries if name == "onnxruntime" or name.startswith("onnxruntime-")]
    if len(builds) > 1:
        problems.append(
            f"{' and '.join(builds)} are installed together and overwrite each other's files: uninstall all of them "
            "(pip uninstall " + " ".join(builds) + "), then install the one that you want"
        )
    if allowed_cores() < usable_cores():
        problems.append(
            f"this process sees {usable_cores()} cores but may use the time of {allowed_cores():.1f}; "
            "the number of workers follows the second number"
        )
    if load > usable_cores() * 0.5:
        problems.append(f"the machine is busy (load {load:.1f}): the measured rates are too low")
    if not _has_fast_jpeg():
        problems.append("this Pillow was built without libjpeg-turbo, so it decodes JPEG several times slower")
    return problems


def _has_fast_jpeg() -> bool:
    from PIL import features

    return bool(features.check("libjpeg_turbo"))
