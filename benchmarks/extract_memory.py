"""Measures the memory of an extraction over a large collection in which every image is decoded.

    python -m benchmarks.extract_memory --write          100,000 images; some ten minutes on two idle cores
    python -m benchmarks.extract_memory --count 3000     a small trial

The images are small photos, and one in forty is large. Each contains a different comment, so that no two are the same
sample. One in five hundred is truncated. `penult extract` runs in a separate process. Twice a second, this program
measures its resident set, and the memory of the process together with its decoders, where shared memory counts once.
Only Linux provides these figures.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TABLE = Path(__file__).with_suffix(".md")
SHARED = HERE.parents[1] / "shared" / "data" / "images"

LARGE_EVERY, CUT_EVERY = 40, 500
PARTS = 10
SECONDS = 0.5


@dataclass(frozen=True)
class Look:
    """One measurement: images done, and the megabytes of the process alone and with its decoders."""

    done: int
    own: float
    whole: float


def commented(jpeg: bytes, text: str) -> bytes:
    """Returns the same picture with a comment after its first marker."""
    content = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def make(folder: Path, count: int, small: list[bytes], large: list[bytes]) -> int:
    """Writes the collection, a thousand images per folder, and returns how many of them are truncated."""
    cut = 0
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        if not number % 1000:
            path.parent.mkdir(parents=True)
        source = large if large and not number % LARGE_EVERY else small
        data = commented(source[number % len(source)], f"image {number}")
        if number % CUT_EVERY == CUT_EVERY - 1:
            data, cut = data[: len(data) // 2], cut + 1
        path.write_bytes(data)
    return cut


def jpegs_of(folder: Path, most: int = 2_000) -> list[bytes]:
    """Returns the bytes of the JPEG files in a folder."""
    found = (path.read_bytes() for path in sorted(folder.rglob("*.jpg")))
    return [
        data for _, data in zip(range(most), (each for each in found if each.startswith(b"\xff\xd8\xff")), strict=False)
    ]


def resident(process: int) -> float:
    """Returns the megabytes of a process's resident set."""
    return float(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0]) / 1e3


def proportional(process: int) -> float:
    """Returns the megabytes of a process and its children; a shared page is divided among them."""
    total = 0.0
    for each in [process, *children(process)]:
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:  # it has just ended
            continue
        total += sum(map(float, re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE))) / 1e3
    return total


def children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def done_of(metrics: Path) -> int:
    """Returns how many images are done, according to the job's metrics."""
    try:
        text = metrics.read_text()
    except OSError:
        return 0
    return sum(
        int(float(count)) for count in re.findall(r"^penult_extract_images_total\{[^}]*\} (\S+)", text, re.MULTILINE)
    )


def watch(images: Path, room: Path, backbone: str) -> tuple[list[Look], str]:
    """Runs the job, and returns the measurements and its receipt."""
    metrics = room / "job.prom"
    command = [sys.executable, "-m", "penult", "extract", str(images), "--store", str(room / "store")]
    command += ["--backbone", backbone, "--metrics", str(metrics)]
    with (room / "out.txt").open("w+") as told, (room / "error.txt").open("w+") as errors:
        started = subprocess.Popen(command, stdout=told, stderr=errors, env={**os.environ, "OMP_NUM_THREADS": "1"})
        looks = []
        while started.poll() is None:
            try:
                looks.append(Look(done_of(metrics), resident(started.pid), proportional(started.pid)))
            except (OSError, IndexError):  # it ends at this moment
                break
            time.sleep(SECONDS)
        started.wait()
        told.seek(0)
        errors.seek(0)
        if started.returncode not in (0, 3):
            raise SystemExit(errors.read())
        return looks, told.readline().strip()


def table(looks: list[Look], count: int) -> list[str]:
    """Returns the peak in each part of the job, by images done."""
    lines = ["| images done | resident, MB | with decoders, MB |", "|---|---|---|"]
    for part in range(PARTS):
        among = [look for look in looks if part * count <= look.done * PARTS < (part + 1) * count]
        if among:
            first, last = part * count // PARTS, (part + 1) * count // PARTS
            own, whole = max(look.own for look in among), max(look.whole for look in among)
            lines.append(f"| {first:,} to {last:,} | {own:,.0f} | {whole:,.0f} |")
    return lines


def growth(looks: list[Look], count: int) -> float:
    """Returns the growth of the resident set in megabytes per 100,000 images, after the first fifth."""
    late = [look for look in looks if look.done > count / 5]
    if len({look.done for look in late}) < 2:
        return float("nan")
    slope, _ = np.polyfit([look.done for look in late], [look.own for look in late], 1)
    return float(slope) * 1e5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--small", type=Path, default=SHARED / "flowers5", help="a folder of small JPEG files")
    parser.add_argument("--large", type=Path, default=SHARED / "hymenoptera", help="a folder of larger ones")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--room", type=Path, help="where to write the collection  [default: a temporary folder]")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.room) as temporary:
        room = Path(temporary)
        cut = make(room / "images", asked.count, jpegs_of(asked.small), jpegs_of(asked.large))
        began = time.perf_counter()
        looks, receipt = watch(room / "images", room, asked.backbone)
        seconds = time.perf_counter() - began
    peak, whole = max(look.own for look in looks), max(look.whole for look in looks)
    how = (
        f"`python -m benchmarks.extract_memory --count {asked.count}`: {asked.count:,} different JPEG files, of which "
        f"{cut:,} are truncated, in {seconds:,.0f} s with {os.cpu_count()} cores and {Path(asked.backbone).name}"
    )
    grown = growth(looks, asked.count)
    lines = [
        "# The memory of an extraction",
        "",
        f"Written by {how}. {receipt}",
        "",
        *table(looks, asked.count),
        "",
        f"Peak: {peak:,.0f} MB resident; {whole:,.0f} MB with decoders, with shared memory counted once.",
        f"Growth of the resident set after the first fifth: {grown:+,.1f} MB per 100,000 images.",
    ]
    print("\n".join(lines))
    if asked.write:
        TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
