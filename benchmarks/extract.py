"""Compares extraction, from JPEG files to committed features, with other libraries and with this machine's limits.

    python -m benchmarks.extract --peers PYTHON --write      the whole table, some 20 minutes on two idle cores
    python -m benchmarks.extract --peers PYTHON --scale 0.1  a small trial
    python -m benchmarks.extract --only mobilenet_v2         one of the networks

PYTHON is an interpreter with torch, torchvision and timm, and optionally keras, img2vec_pytorch, fastembed and
thingsvision. You can repeat the option; each peer runs in the first interpreter that has it. The table lists peers that
no interpreter has. Without the option, penult runs its built-in backbone and the limits only.

Every contender runs in a separate process, in turn, for some rounds, and its best round counts. The time includes
opening penult's session and committing its rows, but not importing libraries and loading weights. Each peer first tries
its settings on a few images and uses the best. The limits are a bare session on ready tensors, and bare decoding of
bytes in memory, each with as many threads as cores. Both need the same cores, so the limit for both together is
1 / (1 / session + 1 / decode) images per second. The features of the DataLoader and of penult are compared.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.extract_data import make_large, make_small, photos_of
from benchmarks.extract_peers import CORES, PEERS, peak_bytes, spent_cpu
from benchmarks.extract_table import PENULT, heading, table

HERE = Path(__file__).parent
TABLE = Path(__file__).with_suffix(".md")
PHOTOS = HERE.parents[1] / "shared" / "data" / "images" / "hymenoptera"

NETWORKS = {
    "resnet50": ("torchvision:resnet50", 400, 80),
    "mobilenet_v2": ("torchvision:mobilenet_v2", 2000, 120),
    "efficientnet_lite0": ("timm:efficientnet_lite0", 2000, 120),
}
"""Each network's source, and the number of images of each size."""

LIMIT_SECONDS = 5.0
BATCH_SECONDS = 1.5
OURS = ("penult", "limits")


def run_penult(spec: dict[str, Any]) -> dict[str, Any]:
    from penult.exporters import load_backbone
    from penult.pipeline.extraction.extract import extract

    backbone = load_backbone(Path(spec["backbone"]))
    room = Path(spec["room"])
    shutil.rmtree(room / "store", ignore_errors=True)
    extract(spec["images"][:2], room / "warm", backbone=backbone)
    cpu, wall = spent_cpu(), time.perf_counter()
    receipt = extract(spec["images"], room / "store", backbone=backbone)
    wall, cpu = time.perf_counter() - wall, spent_cpu() - cpu
    assert receipt.rows == len(spec["images"]), receipt
    return {
        "seconds": wall,
        "cpu": cpu,
        "peak_bytes": peak_bytes(),
        "setting": {"workers": receipt.workers},
        "stages": receipt.stage_seconds,
        "difference": difference_from_torch(spec, room),
    }


def difference_from_torch(spec: dict[str, Any], room: Path) -> float | None:
    """Returns the relative difference (in norm) of penult's features from the DataLoader's."""
    from penult.store import key_of, open_store

    theirs = room / "torch.npy"
    if not theirs.exists():
        return None
    (space,) = open_store(room / "store").spaces()
    ours = space.gather([key_of(Path(path).read_bytes()) for path in spec["images"]])
    other = np.load(theirs).astype(np.float32)
    return float(np.linalg.norm(ours - other) / np.linalg.norm(other))


def run_limits(spec: dict[str, Any]) -> dict[str, Any]:
    from penult.exporters import load_backbone
    from penult.pipeline.images.decode import decode
    from penult.pipeline.runtime.session import Session

    backbone = load_backbone(Path(spec["backbone"]))
    preprocessing = backbone.card.preprocessing
    files = [Path(path).read_bytes() for path in spec["images"][:64]]
    session = Session(backbone, ["penultimate"])
    ready = np.stack([decode(data, preprocessing) for data in files[: session.batch_size]])
    rates = {
        "session": rate_of(lambda _: len(session.run(ready)["penultimate"])),
        "decode": rate_of(lambda number: int(decode(files[number % len(files)], preprocessing).shape[2] == 3)),
    }
    return {"seconds": 1.0, **rates, "choices": choices(backbone, ready) if spec["is_small"] else {}}


def choices(backbone: Any, pixels: np.ndarray) -> dict[str, float]:
    """Returns the rates of a session by batch size, also for one caller whose session uses all cores."""
    import onnxruntime

    from penult.pipeline.runtime.providers import open_session

    batches = {size: np.resize(pixels, (size, *pixels.shape[1:])) for size in (1, 2, 4, 8, 32)}
    graph = backbone.serialized(["penultimate"])
    ours = open_session(graph, "cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    wide = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(session: Any, size: int, threads: int) -> float:
        return rate_of(lambda _: len(session.run(None, {"pixels": batches[size]})[0]), BATCH_SECONDS, threads)

    found = {f"{CORES} callers, batch {size}": run(ours, size, CORES) for size in batches}
    return found | {f"1 caller with {CORES} threads, batch {size}": run(wide, size, 1) for size in (4, 32)}


def rate_of(action: Any, seconds: float = LIMIT_SECONDS, threads: int = CORES) -> float:
    """Returns the images per second of ``action(number)`` in ``threads`` threads."""
    action(0)
    begin = time.perf_counter()

    def repeat(first: int) -> int:
        done, number = 0, first
        while time.perf_counter() - begin < seconds:
            done += action(number)
            number += threads
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(repeat, range(threads)))
    return float(done / (time.perf_counter() - begin))


def contend(name: str, pythons: dict[str, str], spec: dict[str, Any], room: Path) -> dict[str, Any]:
    """Runs one contender in a separate process."""
    told = room / "spec.json"
    told.write_text(json.dumps(spec))
    if name in OURS:
        command = [sys.executable, "-m", "benchmarks.extract", "--run", name, str(told)]
    else:
        command = [pythons[name], str(HERE / "extract_peers.py"), name, str(told)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=False)
    found = re.findall(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if not found:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        return {"left_out": f"it failed: {lines[-1][:200]}"}
    if name == "PyTorch DataLoader":
        shutil.move(room / "features.npy", room / "torch.npy")
    return dict(json.loads(found[-1]))


def measure(network: str, images: list[str], spec: dict[str, Any], pythons: dict[str, str], rounds: int) -> Any:
    """Runs all contenders in turn, and returns the best round of each."""
    best: dict[str, dict[str, Any]] = {}
    room = Path(spec["room"])
    (room / "torch.npy").unlink(missing_ok=True)
    for _ in range(rounds):
        for name in (*(peer for peer in PEERS if peer in pythons), *OURS):
            before = best.get(name, {})
            if "left_out" in before:
                continue
            found = contend(name, pythons, spec | {"images": images, "setting": before.get("setting")}, room)
            print(f"  {network} {name}: {summary(found, len(images))}", file=sys.stderr, flush=True)
            if name == "limits" and before:
                best[name] = before | {key: max(found[key], before[key]) for key in ("session", "decode")}
            elif not before or found["seconds"] < before["seconds"]:
                best[name] = found
    return best


def summary(found: dict[str, Any], count: int) -> str:
    if "left_out" in found:
        return str(found["left_out"])
    if "session" in found:
        return f"session {found['session']:.1f}/s, decode {found['decode']:.1f}/s"
    return f"{count / found['seconds']:.1f} images/s {found['setting']}"


def find_peers(pythons: list[str]) -> dict[str, str]:
    """Returns for each peer the first interpreter that has its library."""
    found = {}
    for name, (library, _) in PEERS.items():
        test = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({library!r}) is None)"
        for python in pythons:
            if not subprocess.run([python, "-c", test], check=False).returncode:
                found[name] = python
                break
    return found


def write_networks(names: list[str], python: str | None, folder: Path, photos: Path) -> dict[str, dict[str, Any]]:
    """Writes each network's weights and backbone; without torch, only the built-in backbone."""
    from penult.exporters import load_backbone

    if python is None:
        folder.mkdir(parents=True, exist_ok=True)
        load_backbone("efficientnet-lite0").save(folder / "backbone.onnx")
        return {"efficientnet_lite0": {"backbone": str(folder / "backbone.onnx")}}
    specs = {}
    for name in names:
        place = folder / name
        if not (place / "plain" / "config.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            paths = os.pathsep.join(map(str, (HERE.parent / "src", HERE.parent)))
            subprocess.run(
                [python, str(HERE / "extract_data.py"), NETWORKS[name][0], str(place), str(photos)],
                env=os.environ | {"PYTHONPATH": paths},
                check=True,
            )
        card = load_backbone(place / "backbone.onnx").card.to_json()
        specs[name] = {
            "network": NETWORKS[name][0],
            "weights": str(place / "weights.pth"),
            "backbone": str(place / "backbone.onnx"),
            "plain": str(place / "plain"),
            "card": {part: card[part] for part in ("preprocessing", "normalisation")},
        }
    return specs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="append", default=[], metavar="PYTHON", help="an interpreter with peers")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="the photos that the images are made of")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of the number of images; 1 is the size of the committed table"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--room", type=Path, help="a folder that keeps images and backbones for the next run")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {TABLE.name}")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        spec = json.loads(Path(asked.run[1]).read_text())
        print("RESULT " + json.dumps((run_penult if asked.run[0] == PENULT else run_limits)(spec)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        room = (asked.room or Path(temporary)).absolute()
        photos = photos_of(asked.photos)
        pythons = find_peers(asked.peers)
        specs = write_networks(asked.only, pythons.get("PyTorch DataLoader"), room / "networks", asked.photos)
        texts = [heading(pythons)]
        for name, spec in specs.items():
            for size, make, count in (
                ("500 x 375", make_small, NETWORKS[name][1]),
                ("4000 x 3000", make_large, NETWORKS[name][2]),
            ):
                images = make(photos, room / make.__name__, max(8, int(count * asked.scale)))
                few = min(len(images), 16 if make is make_large else 48)
                trial = {"trial": few, "room": str(room), "is_small": make is make_small}
                found = measure(f"{name} {size}", images, spec | trial, pythons, asked.rounds)
                texts.append(table(f"{name}, JPEG of {size}", found, len(images)))
                print(texts[-1], flush=True)
    if asked.write:
        TABLE.write_text("\n".join(texts))


if __name__ == "__main__":
    main()
