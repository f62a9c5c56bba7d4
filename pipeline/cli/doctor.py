"""`penult doctor`: what runs on this machine, how fast, and why not faster."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import penult
from penult.pipeline.cli.options import backbone_option, json_option, provider_option, store_option
from penult.pipeline.cli.output import print_json, print_table

if TYPE_CHECKING:
    from penult.pipeline.doctor.diagnosis import Diagnosis

ADVICE = {
    "session": "the network. A smaller backbone, a GPU or more cores help; smaller image files do not",
    "decode": "decoding. Smaller image files and more cores help; a faster network does not",
    "disk": "the disk under the store. A disk that flushes faster helps",
}


@click.command()
@click.argument("images", type=click.Path(path_type=Path), required=False)
@store_option
@backbone_option
@provider_option("backbone")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Time to measure each part.",
)
@json_option
def doctor(images: Path | None, store: Path, backbone: str, provider: str, seconds: float, as_json: bool) -> None:
    """Check this machine, and measure its speed and bottleneck.

    Measures with IMAGES, or with two photos that penult includes.
    """
    found = penult.diagnose(images, store, backbone=backbone, provider=provider, seconds=seconds)
    if as_json:
        print_json(found.to_json())
        return
    _print_installation(found)
    _print_rates(found)


def _print_installation(found: "Diagnosis") -> None:
    installed = found.installation
    click.echo(f"{installed.machine}; {installed.allowed_cores:g} cores available; Python {installed.python}")
    click.echo(", ".join(f"{name} {version}" for name, version in installed.libraries.items()))
    print_table(("provider", "can be used"), [(each.name, each.obstacle or "yes") for each in installed.providers])
    for problem in installed.problems:
        click.echo(f"Problem: {problem}.")


def _print_rates(found: "Diagnosis") -> None:
    decoding = f"{found.workers} threads, images of {found.image_bytes / 1e3:,.0f} kB on average"
    running = f"{found.backbone} on {found.provider}, {found.workers} threads, batches of {found.batch_size}"
    disk = f"{found.disk_bytes_per_second / 1e6:,.0f} MB/s, flushed"
    rows = (
        ("decode", found.decode, decoding),
        ("session", found.session, running),
        ("disk", found.rows_per_second, disk),
    )
    print_table(("part", "images/s", "measured alone with"), [(name, f"{rate:,.0f}", how) for name, rate, how in rows])
    click.echo(f"Expect up to {found.expected:,.0f} images/s on this machine.")
    click.echo(f"The bottleneck is {ADVICE[found.bottleneck]}.")
    if found.why_not_better:
        click.echo(f"It runs on {found.provider}, because {found.why_not_better}.")
