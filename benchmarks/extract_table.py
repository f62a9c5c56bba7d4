"""The table of `benchmarks.extract`: penult compared with each contender and with the machine's limits."""

import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.extract_peers import CORES, PEERS

PENULT = "penult"


def table(title: str, found: dict[str, Any], count: int) -> str:
    """Returns one table with the contenders and the limits, and notes below it."""
    limits, ran = found["limits"], {name: one for name, one in found.items() if "cpu" in one}
    allowed = 1 / (1 / limits["session"] + 1 / limits["decode"])
    ours = count / found[PENULT]["seconds"]
    lines = [
        f"## {title}",
        "",
        "| contender | images/s | speed-up of penult | CPU ms/image | peak MB | best setting |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in sorted(ran.items(), key=lambda item: item[1]["seconds"]):
        setting = ", ".join(f"{key} {value}" for key, value in one["setting"].items())
        lines.append(
            f"| {name} | {count / one['seconds']:.1f} | {one['seconds'] * ours / count:.2f}x | "
            f"{1000 * one['cpu'] / count:.1f} | {one['peak_bytes'] / 1e6:.0f} | {setting} |"
        )
    lines += [
        f"| *limit: session alone* | {limits['session']:.1f} | {ours / limits['session']:.2f}x | | | |",
        f"| *limit: decoding alone* | {limits['decode']:.1f} | {ours / limits['decode']:.2f}x | | | |",
        f"| *limit: both on these cores* | {allowed:.1f} | {ours / allowed:.2f}x | | | |",
        "",
    ]
    if limits["choices"]:
        rates = ", ".join(f"{how}: {rate:.1f}" for how, rate in limits["choices"].items())
        lines += [f"The session alone, in images/s: {rates}.", ""]
    spent = found[PENULT]["stages"]
    stages = ", ".join(f"{stage} {seconds / sum(spent.values()):.0%}" for stage, seconds in spent.items())
    lines.append(f"{count:,} images. Penult's busy time: {stages}.")
    if found[PENULT]["difference"] is not None:
        lines.append(
            f"Its features differ from the DataLoader's by {found[PENULT]['difference']:.1e} (in norm, float16)."
        )
    lines += [f"{name} was left out: {one['left_out']}." for name, one in found.items() if "left_out" in one]
    return "\n".join([*lines, ""])


def heading(pythons: dict[str, str]) -> str:
    ours = ", ".join(f"{name} {_version(name)}" for name in ("onnxruntime-gpu", "onnxruntime", "pillow", "numpy"))
    asked = "torch", "torchvision", "timm", "keras", "img2vec_pytorch", "fastembed", "thingsvision", "onnxruntime"
    code = (
        "from importlib.metadata import distributions as every\n"
        "has = {one.name: one.version for one in every()}\n"
        f"print(', '.join(f'{{name}} {{has[name]}}' for name in {asked!r} if name in has))"
    )
    theirs = [
        subprocess.run([p, "-c", code], capture_output=True, text=True, check=False).stdout
        for p in sorted(set(pythons.values()))
    ]
    absent = [name for name in PEERS if name not in pythons]
    return (
        "# Extraction, end to end\n\n`python -m benchmarks.extract` wrote this page. It measures the way from JPEG "
        "files in the page cache to features on disk, in float32, with random weights (the same in penult and in "
        "PyTorch). The top of `benchmarks/extract.py` explains the method.\n\n"
        f"{_processor()}, {CORES} cores, Python {platform.python_version()}; {ours}. "
        f"Peers: {'; '.join(theirs) or 'none'}. Left out, because not installed: {', '.join(absent) or 'none'}.\n"
    )


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", about.read_text()) if about.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "(none)"
