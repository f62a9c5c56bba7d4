"""Compares the Ray engine with the local one: its overhead on one node, how it scales, and what many images cost.

    python -m benchmarks.distributed --write                   some twenty-five minutes on two idle cores
    python -m benchmarks.distributed --count 200 --rounds 1    a small trial, two minutes

On one node, both engines process the same images on the same cores, in turn. Ray's cluster is already running, as a
real cluster is. A job of one image measures the start-up time, and the difference to the whole job measures the time
per image. Then several nodes of one core each process the same images, up to the number of cores. The table of many
images is computed by `planned` from these rates and from those in `benchmarks/scale.json`.
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

from penult.cores import usable_cores

HERE = Path(__file__).parent
CORES = usable_cores()
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
    """Returns the start-up time of a job of each kind, and its images per second after that.

    The kinds take turns, so that a slower machine affects all of them.
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
        seconds_of(images[:50], local)  # loads what this process loads only once
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
    """The measured rates that the plans are computed from."""

    images_per_core_second: float
    recorded_per_second: float  # by the driver, into the catalog
    found_per_second: float  # in the catalog
    looked_up_per_second: float  # keys, in the largest space measured
    catalog_bytes: float
    listed_bytes: float
    index_bytes: float = 24.0


def planned(images: int, cores: int, rates: Rates) -> dict[str, Any]:
    """Returns what ``images`` new images cost on ``cores`` cores, with four cores per actor.

    While actors work, the driver looks up each image in the catalog and records it. It looks up twice, because another
    job may have been faster. After the actors have finished, it looks up each key itself.
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
    parser.add_argument("--rounds", type=int, default=3, help="the number of rounds, of which the median is used")
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
        "`python -m benchmarks.distributed --write` wrote this page. The top of `benchmarks/distributed.py` explains "
        "what it measures.",
        "",
        f"{CORES} cores, {platform.machine()}, Python {platform.python_version()}, {count:,} images of 500 x 375, the "
        f"built-in backbone; {took:,.0f} s in total.",
        "",
        "| engine, one node | start-up, s | images/s |",
        "|---|---|---|",
        *(f"| {name}, {CORES} cores | {each['once_s']} | {each['images_per_s']} |" for name, each in one.items()),
        "",
        f"Time per image on Ray compared with the local engine, on the same cores: {overhead:+.1%}.",
        "",
        "| nodes of one core | start-up, s | images/s | relative to one node |",
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
        "## Computed: many images",
        "",
        f"Computed from {images_per_core_second:.1f} images per second and core, and from the rates in "
        f"[scale.md](scale.md). Per second, the driver records {rates.recorded_per_second:,.0f} files, finds "
        f"{rates.found_per_second:,.0f} in the catalog, and looks up {rates.looked_up_per_second:,.0f} keys in a space "
        f"of {scale['probe']['rows']:,} rows. Rows have 1,280 float16 numbers.",
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
