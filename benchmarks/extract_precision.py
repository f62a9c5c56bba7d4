"""Measures the effect of bfloat16 on features, and on the heads that are trained on them.

    python -m benchmarks.extract_precision --write                      efficientnet-lite0, some five minutes
    python -m benchmarks.extract_precision --backbone mobilenet.onnx    any other backbone; can be repeated
    python -m benchmarks.extract_precision --images 100                 a small trial

ONNX Runtime and OpenVINO process the same photos in float32, and OpenVINO also in bfloat16. A CPU with AVX-512 but
without bfloat16 emulates it: the rounding is the same, and only the time differs. Each set is split at random several
times, with four fifths for training. Heads are penult's own, on rows rounded to float16 as in a store.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TABLE = Path(__file__).with_suffix(".md")
SETS = HERE.parents[1] / "shared" / "data" / "images"
FOLDERS = ("hymenoptera", "steel_defects", "flowers5")
SPLITS = 5
LOAD = 32
HEAD = "logistic"


def decoded(folder: Path, preprocessing: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels and labels of images spread evenly over a folder."""
    from penult.errors import ImageError
    from penult.pipeline.images.decode import decode
    from penult.pipeline.images.listing import list_images

    files = [file for file in list_images(folder) if file.label is not None]
    files = [files[place] for place in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)]
    pixels, labels = [], []
    for file in files:
        try:
            pixels.append(decode(Path(file.path).read_bytes(), preprocessing))
        except ImageError:
            continue
        labels.append(file.label)
    return np.stack(pixels), np.array(labels)


def features(backbone: Any, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the penultimate features in each of the three ways."""
    from penult.pipeline.runtime.openvino_session import OpenVinoSession
    from penult.pipeline.runtime.providers import open_session

    graph = backbone.serialized(["penultimate"])
    sessions = {
        "fp32": open_session(graph, "cpu"),
        "openvino": OpenVinoSession(graph, "fp32"),
        "bf16": OpenVinoSession(graph, "bf16"),
    }
    whole = [start for start in range(0, len(pixels), LOAD) if start + LOAD <= len(pixels)]
    pixels = pixels[: len(whole) * LOAD]  # one shape, so that nothing is compiled again
    return {
        name: np.concatenate([session.run(["penultimate"], {"pixels": pixels[s : s + LOAD]})[0] for s in whole])
        for name, session in sessions.items()
    }


def drift(rows: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Returns the median and the maximum relative error of the rows."""
    apart = np.linalg.norm(rows - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    return float(np.median(apart)), float(apart.max())


def heads(found: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """Returns accuracies (trained/tested), and the share of test images with another label than with fp32/fp32."""
    from penult.pipeline.heads.recipe import HeadOptions
    from penult.pipeline.heads.registry import recipe_of

    rows = {name: found[name].astype(np.float16).astype(np.float32) for name in ("fp32", "bf16")}
    classes, codes = np.unique(labels, return_inverse=True)
    pairs = (("fp32", "fp32"), ("bf16", "bf16"), ("bf16", "fp32"), ("fp32", "bf16"))
    right = {f"{a}/{b}": 0 for a, b in pairs}
    other = {f"{a}/{b}": 0 for a, b in pairs}
    tested = 0
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(codes))
        test, train = order[: len(order) // 5], order[len(order) // 5 :]
        task = HeadOptions(len(train), len(classes), rows["fp32"].shape[1])
        fitted = {
            name: recipe_of(HEAD, task).fit(each[train], codes[train], groups=None, seed=0, basis=None, start=None)
            for name, each in rows.items()
        }
        said = {f"{a}/{b}": fitted[a].estimator.predict_proba(rows[b][test]).argmax(axis=1) for a, b in pairs}
        tested += len(test)
        for pair, told in said.items():
            right[pair] += int((told == codes[test]).sum())
            other[pair] += int((told != said["fp32/fp32"]).sum())
    return {f"right {pair}": right[pair] / tested for pair in right} | {
        f"other {pair}": other[pair] / tested for pair in other
    }


def line(backbone: Any, folder: Path, most: int) -> str:
    """Measures one backbone on one set, and returns a line of the table."""
    pixels, labels = decoded(folder, backbone.card.preprocessing, most)
    found = features(backbone, pixels)
    count = len(found["fp32"])
    told = heads(found, labels[:count])
    same, bf16 = drift(found["openvino"], found["fp32"]), drift(found["bf16"], found["fp32"])
    cells = [
        backbone.name,
        f"{folder.name}, {count:,}",
        f"{same[0]:.0e} / {same[1]:.0e}",
        f"{bf16[0]:.3f} / {bf16[1]:.3f}",
        *(f"{told[f'right {pair}']:.4f}" for pair in ("fp32/fp32", "bf16/bf16", "bf16/fp32", "fp32/bf16")),
        *(f"{told[f'other {pair}']:.2%}" for pair in ("bf16/bf16", "bf16/fp32")),
    ]
    return f"| {' | '.join(cells)} |"


HEADINGS = (
    "| backbone | set, images | OpenVINO fp32: drift | bf16: drift | accuracy fp32/fp32 | bf16/bf16 | bf16/fp32 "
    "| fp32/bf16 | other labels bf16/bf16 | bf16/fp32 |\n|---|---|---|---|---|---|---|---|---|---|"
)

INTRODUCTION = """# The effect of bfloat16 on features and heads

`python -m benchmarks.extract_precision` wrote this page.

- **Drift** is the relative error of penultimate features compared with ONNX Runtime in float32: median / maximum.
- **Accuracy** is that of logistic heads over {splits} random splits, trained/tested on features of these precisions. \
bf16/fp32 is a head trained on bfloat16 features that runs in float32, as a model file does.
- **Other labels** is the share of test images that get another label than with fp32/fp32.

bfloat16 was {how}. OpenVINO {openvino}, ONNX Runtime {onnxruntime}.
"""


def main() -> None:
    from importlib.metadata import version

    from penult.exporters import load_backbone
    from penult.pipeline.doctor.installation import installed_versions
    from penult.pipeline.runtime.openvino_session import bfloat16_obstacle

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", action="append", help="a name or a file  [default: efficientnet-lite0]")
    parser.add_argument("--sets", type=Path, default=SETS, help="the folder of the sets of images")
    parser.add_argument("--images", type=int, default=1_000, help="the most images of each set")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    asked = parser.parse_args()
    libraries = installed_versions()
    runtime = next(libraries[name] for name in ("onnxruntime-gpu", "onnxruntime") if name in libraries)
    obstacle = bfloat16_obstacle()
    how = "emulated by OpenVINO, because the CPU lacks it" if obstacle else "computed by the CPU"
    lines = [
        INTRODUCTION.format(splits=SPLITS, how=how, openvino=version("openvino"), onnxruntime=runtime),
        HEADINGS,
    ]
    for name in asked.backbone or ["efficientnet-lite0"]:
        backbone = load_backbone(name)
        for folder in FOLDERS:
            lines.append(line(backbone, asked.sets / folder, asked.images))
            print(lines[-1], flush=True)
    if asked.write:
        TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
