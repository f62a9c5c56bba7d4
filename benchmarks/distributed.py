"""The engine on Ray beside the local one: what it costs on one node, how it grows with nodes, what follows for many.

    python -m benchmarks.distributed --write                   some twenty-five minutes on two quiet cores
    python -m benchmarks.distributed --count 200 --rounds 1    a small trial, two minutes

On one node, both engines have the same cores and the same images, in turns; Ray's cluster runs before, as a cluster
does. A job of one image tells what is paid once, and the difference what an image costs. Then nodes of one core each
carry the same images, as far as there are cores. The table of many images is computed from these rates and from those
of `benchmarks/scale.json`, with the formulas that stand in `planned`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.extract import PHOTOS
from benchmarks.extract_data import make_small, photos_of

HERE = Path(__file__).parent
CORES = len(os.sched_getaffinity(0))
ROW_BYTES = 1280 * 2
SHARD_ROWS = 16_384
COMMIT_SECONDS = 60


@contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=cpus)
        yield made
    finally:
        made.shutdown()


def seconds_of(images: list[str], options: Any) -> float:
    from penult.pipeline.extraction.extract import extract

    room = tempfile.mkdtemp()
    try:
        receipt = extract(images, room, options=options)
        assert receipt.new == receipt.found == len(images)
        assert receipt.is_complete
        return float(receipt.seconds)
    finally:
        shutil.rmtree(room)


def measured(images: list[str], kinds: dict[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Returns what a job of each kind takes before it has done anything, and its images a second after that.

    The kinds take turns, so that a machine that slows down slows all of them.
    """
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(1, rounds + 1):
        for name, options in kinds.items():
            for some in (images[:1], images):
                seconds.setdefault((name, len(some)), []).append(seconds_of(some, options))
                took = seconds[name, len(some)][-1]
                print(f"round {number} of {rounds}, {name}: {len(some):,} images in {took:.1f} s", flush=True)
    found = {}
    for name in kinds:
        once, whole = (statistics.median(seconds[name, count]) for count in (1, len(images)))
        found[name] = {"once_s": round(once, 2), "images_per_s": round((len(images) - 1) / (whole - once), 2)}
    return found


def on_one_node(images: list[str], rounds: int) -> dict[str, dict[str, float]]:
    from penult.pipeline.extraction.extract import ExtractOptions

    with cluster(1, CORES) as made:
        ray = ExtractOptions(engine="ray", address=made.address, workers=CORES, actors=1)
        local = ExtractOptions(workers=CORES)
        seconds_of(images[:50], local)  # what is loaded once in this process
        return measured(images, {"local": local, "ray": ray}, rounds)


def on_nodes(images: list[str], rounds: int) -> dict[str, dict[str, float]]:
    from penult.pipeline.extraction.extract import ExtractOptions

    found = {}
    for nodes in range(1, CORES + 1):
        with cluster(nodes, 1) as made:
            options = ExtractOptions(engine="ray", address=made.address, workers=1, actors=nodes)
            found |= measured(images, {str(nodes): options}, rounds)
    return found


@dataclass(frozen=True)
class Rates:
    """What was measured, and is computed with."""

    images_per_core_second: float
    recorded_per_second: float  # by the driver, into the catalog
    found_per_second: float  # in the catalog
    looked_up_per_second: float  # of keys, in the largest space that was measured
    catalog_bytes: float
    listed_bytes: float
    index_bytes: float = 24.0


def planned(images: int, cores: int, rates: Rates) -> dict[str, Any]:
    """Returns what so many new images cost on so many cores, with four to an actor.

    The driver looks each up in the catalog before (twice, for others may have been quicker) and records it while actors
    work; then it looks for each key itself, while they rest.
    """
    carrying = images / (rates.images_per_core_second * cores)
    driving = images * (2 / rates.found_per_second + 1 / rates.recorded_per_second)
    confirming = images * (1 / rates.found_per_second + 1 / rates.looked_up_per_second)
    per_shard = min(SHARD_ROWS, rates.images_per_core_second * 4 * COMMIT_SECONDS)
    return {
        "images": images,
        "cores": cores,
        "hours": round((max(carrying, driving) + confirming) / 3600, 1),
        "confirming_hours": round(confirming / 3600, 1),
        "driver_busy": f"{driving / max(carrying, driving):.0%}",
        "rows_tb": round(images * ROW_BYTES / 1e12, 3),
        "index_gb": round(images * rates.index_bytes / 1e9, 1),
        "catalog_gb": round(images * rates.catalog_bytes / 1e9, 1),
        "listing_gb": round(images * rates.listed_bytes / 1e9, 1),
        "commits": round(images / per_shard),
        "shards_compacted": max(1, round(images * ROW_BYTES / 2**30)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="images of 500 x 375")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="the photos that the images are made of")
    parser.add_argument("--write", action="store_true", help="write benchmarks/distributed.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        images = make_small(photos_of(asked.photos), Path(room) / "images", asked.count)
        began = time.perf_counter()
        one = on_one_node(images, asked.rounds)
        several = on_nodes(images, asked.rounds)
        took = time.perf_counter() - began
    text = page(one, several, asked.count, took)
    print(text)
    if asked.write:
        (HERE / "distributed.md").write_text(text)


def page(one: dict[str, dict[str, float]], several: dict[str, dict[str, float]], count: int, took: float) -> str:
    overhead = one["local"]["images_per_s"] / one["ray"]["images_per_s"] - 1
    lines = [
        "# The engine on Ray",
        "",
        "Written by `python -m benchmarks.distributed --write`; what is measured stands at the top of "
        "`benchmarks/distributed.py`.",
        "",
        f"{CORES} cores, {platform.machine()}, Python {platform.python_version()}, {count:,} images of 500 x 375, the "
        f"built-in backbone; {took:,.0f} s in all.",
        "",
        "| engine, one node | paid once, s | images/s |",
        "|---|---|---|",
        *(f"| {name}, {CORES} cores | {each['once_s']} | {each['images_per_s']} |" for name, each in one.items()),
        "",
        f"Ray's engine takes {overhead:+.1%} for an image, at the same cores.",
        "",
        "| nodes of one core | paid once, s | images/s | beside one node |",
        "|---|---|---|---|",
        *(
            f"| {nodes} | {each['once_s']} | {each['images_per_s']} | "
            f"{each['images_per_s'] / several['1']['images_per_s']:.2f} |"
            for nodes, each in several.items()
        ),
        "",
    ]
    scale = HERE / "scale.json"
    if scale.exists():
        lines += table(json.loads(scale.read_text()), one["ray"]["images_per_s"] / CORES)
    return "\n".join(lines)


def table(scale: dict[str, Any], images_per_core_second: float) -> list[str]:
    rates = Rates(
        images_per_core_second,
        scale["catalog"]["files_recorded_per_s"],
        scale["catalog"]["files_looked_up_per_s"],
        scale["probe"]["keys_looked_up_per_s"],
        scale["catalog"]["bytes_per_file"],
        scale["listing"]["bytes_per_listed_file"],
    )
    plans = [planned(images, cores, rates) for images in (10**7, 10**8, 10**9) for cores in (64, 1024)]
    return [
        "## Many images, computed",
        "",
        f"From {images_per_core_second:.1f} images a second and core, and the rates of [scale.md](scale.md): "
        f"the driver records {rates.recorded_per_second:,.0f} files a second, finds {rates.found_per_second:,.0f} in "
        f"the catalog, and looks up {rates.looked_up_per_second:,.0f} keys in a space of "
        f"{scale['probe']['rows']:,} rows. Rows of 1,280 float16.",
        "",
        "| " + " | ".join(plans[0]) + " |",
        "|" + "---|" * len(plans[0]),
        *(
            "| " + " | ".join(f"{each:,}" if isinstance(each, int | float) else each for each in plan.values()) + " |"
            for plan in plans
        ),
        "",
    ]


if __name__ == "__main__":
    main()
