"""Exports every architecture of the sources with random weights, and writes a table of what was proven.

``python -m benchmarks.exporters`` runs all of them one after another, each in a separate process with a memory limit.
It keeps the results in a JSON lines file, so that it can continue where it stopped. Random weights are chosen so that
no branch of a network is silent: BatchNorm's statistics and gains, and the gains of residual branches, are far from 0
and 1. Then BatchNorm's statistics are scaled, as `penult export` does for random weights, so that values neither grow
nor shrink from layer to layer. The table is written next to this program.
"""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.exporter_cases import CASES, FIRST, LARGE, SKIPPED
from benchmarks.exporter_weights import DRAWING
from tests.exporters.torchvision_shim import import_torchvision

GIB = 6
SECONDS = 900
TWICE_SECONDS = 12  # CPU seconds; networks that take longer are not exported a second time
TABLE = Path(__file__).with_suffix(".md")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--one", help="export only this source, and print the result as JSON")
    parser.add_argument("--only", choices=["torchvision", "timm", "keras"], help="run the sources of one prefix only")
    parser.add_argument("--first", action="store_true", help="run one architecture of each family only")
    parser.add_argument("--large", action="store_true", help="also run the largest, which need --gib 14")
    parser.add_argument("--gib", type=int, default=GIB, help="stop an export that takes more memory")
    parser.add_argument(
        "--results", type=Path, default=Path("exporters.jsonl"), help="the file with the results so far"
    )
    parser.add_argument("--table", type=Path, default=TABLE, help="where the table is written")
    parser.add_argument("--again", action="store_true", help="also run what failed before")
    asked = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    if asked.one:
        if not asked.one.startswith("keras"):
            import_torchvision()
        print("RESULT " + json.dumps(one(asked.one)))
        return
    found = read(asked.results)
    with contextlib.suppress(ImportError):
        if asked.only != "keras":
            import_torchvision()
        importlib.import_module(asked.only or "torch")
    for source in FIRST if asked.first else (*CASES, *LARGE) if asked.large else CASES:
        known = found.get(source)
        if (known and not (asked.again and known["verdict"] != "the same")) or not source.startswith(asked.only or ""):
            continue
        result = in_a_process(source, gib=asked.gib)
        found[source] = result
        with asked.results.open("a") as stream:
            stream.write("\n" + json.dumps(result) + "\n")  # the last line may be incomplete
        print(f"{source:50} {result['seconds']:6.1f} s  {result['verdict']}", flush=True)
        asked.table.write_text(table(found))
    asked.table.write_text(table(found))


def read(path: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):  # an incomplete line is run again
            result = json.loads(line)
            found[result["source"]] = result
    return found


def in_a_process(source: str, *, gib: int = GIB) -> dict[str, Any]:
    """Runs one export in a process with limits on memory and time, forked so that nothing is imported twice."""
    start = time.perf_counter()
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(theirs, source))
    process.start()
    theirs.close()
    verdict = ""
    while process.is_alive() and not ours.poll(0.2):
        if resident_bytes(process.pid or 0) > gib << 30:
            verdict = f"stopped: more than {gib} GiB of memory"
        elif time.perf_counter() - start > SECONDS:
            verdict = f"stopped: more than {SECONDS} s"
        if verdict:
            process.kill()
    try:
        result = {"verdict": verdict} if verdict else ours.recv()
    except EOFError:
        result = {"verdict": "the process ended without a result"}
    process.join()
    return {**result, "source": source, "weights": "scaled", "seconds": time.perf_counter() - start}


def _send(pipe: Any, source: str) -> None:
    try:
        pipe.send(one(source))
    except Exception as reason:  # noqa: BLE001 - every error belongs in the table
        pipe.send({"verdict": f"{type(reason).__name__}: {reason}"[:400]})


def resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return pages * resource.getpagesize()


def one(source: str) -> dict[str, Any]:
    """Exports one network twice from a file of random weights."""
    from penult.errors import PenultError
    from penult.exporters.exporting import export, export_network
    from penult.exporters.requests import ExportRequest
    from penult.exporters.sources.lookup import find_source
    from penult.pipeline.images.decode import decode

    prefix, _, name = source.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = DRAWING[prefix](name, Path(folder))
            backbone = export(f"{source}@{path}", ExportRequest(), decode=decode)
            if time.process_time() > TWICE_SECONDS:
                return found_of(backbone, None)
            request = ExportRequest(taps=())
            exporter, rest = find_source(f"{source}@{path}")
            network = exporter(rest, request)
            again = export_network(replace(network, run=None), request, decode=decode)
        except PenultError as reason:
            return {"verdict": f"{type(reason).__name__}: {reason}"[:400]}
    return found_of(backbone, again.fingerprint == _penultimate_alone(backbone))


def found_of(backbone: Any, twice: bool | None) -> dict[str, Any]:
    card = backbone.card
    errors = {tap: figures["relative_error"] for tap, figures in card.proof["outputs"].items()}
    worst = max(errors, key=lambda tap: errors[tap])
    whole = backbone.model(["penultimate"]).SerializeToString()
    return {
        "verdict": "the same",
        "size": card.preprocessing.crop[0],
        "taps": [f"{tap.width}" if tap.name == "penultimate" else f"{tap.width}/{tap.reduction}" for tap in card.taps],
        "width": card.taps[-1].width,
        "worst": errors[worst],
        "of": worst,
        "proven": sorted(errors),
        "unproven": sorted({tap.name for tap in card.taps} - set(errors)),
        "batch": card.proof["batch_against_single"],
        "twice": twice,
        "bytes": len(whole),
        "classes": card.classes is not None,
    }


def _penultimate_alone(backbone: Any) -> str:
    """Returns the fingerprint of the first export, reduced to the outputs of a second one."""
    from penult.exporters import Backbone

    outputs = ["penultimate", *(["logits"] if "logits" in backbone.outputs else [])]
    card = replace(backbone.card, taps=tuple(tap for tap in backbone.card.taps if tap.name == "penultimate"))
    return str(Backbone(backbone.model(outputs), card).fingerprint)


_NOT_REACHED = "not reached by this run"
_LARGE = "left out, because it is large and takes long (`--large` runs it)"
TWICE = {True: "yes", False: "NO", None: "not run"}


def table(found: dict[str, dict[str, Any]]) -> str:
    stopped = {source: result["verdict"] for source, result in found.items() if result["verdict"].startswith("stopped")}
    done = [found[source] for source in (*CASES, *LARGE) if source in found and source not in stopped]
    skipped = {source: _NOT_REACHED for source in CASES if source not in found} | SKIPPED
    skipped |= {source: _LARGE for source in LARGE if source not in found} | stopped
    same = [result for result in done if result["verdict"] == "the same"]
    lines = [
        "# Exports of every architecture, with random weights",
        "",
        f"{len(same)} of {len(done)} exported networks agree with their source. {len(skipped)} were not run, for the "
        "reasons below. `python -m benchmarks.exporters` wrote this page.",
        "",
        f"On {platform.machine()} with {os.cpu_count()} processors; "
        + ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision", "timm", "keras", "onnx"))
        + f", onnxruntime {importlib.import_module('onnxruntime').__version__}"
        + ".",
        "",
        "- **Taps** are width/reduction of `stage1` and later stages, then the width of `penultimate`.",
        "- **Worst** is the largest relative error over six images, end to end from the files, of any output that the "
        "source can return. **Of** names that output. `unproven` lists taps whose value is not the output of a module "
        "in the source.",
        "- **Twice** says whether a second export from the same file has the same fingerprint.",
        "- **Weights** are random, and chosen so that no branch is silent. `scaled`: BatchNorm's statistics are scaled "
        "so that the values of every layer are near 1. `unscaled`: an earlier run without this step, in which values "
        "grew or shrank from layer to layer. For networks without BatchNorm, both are the same.",
        "",
        "| architecture | pixels | taps | penultimate | worst | of | twice | weights | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in done:
        weights = result.get("weights", "unscaled")
        if result["verdict"] == "the same":
            taps = " ".join(result["taps"])
            unproven = f" (unproven: {', '.join(result['unproven'])})" if result["unproven"] else ""
            lines.append(
                f"| {result['source']} | {result['size']} | {taps}{unproven} | {result['width']} | "
                f"{result['worst']:.1e} | {result['of']} | {TWICE[result['twice']]} | {weights} | the same |"
            )
        else:
            verdict = result["verdict"].replace("|", "/")
            lines.append(f"| {result['source']} | | | | | | | {weights} | {verdict} |")
    lines += ["", "## Not run", "", "| architecture | why |", "|---|---|"]
    lines += [f"| {source} | {reason} |" for source, reason in skipped.items()]
    return "\n".join(lines) + "\n"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"


if __name__ == "__main__":
    main()
