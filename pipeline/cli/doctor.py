"""`penult doctor`: what will run where, and why not faster."""

from pathlib import Path

import click

from penult.pipeline.cli.options import backbone_option, default_of, json_option, provider_option, store_option
from penult.pipeline.cli.output import print_json, print_table
from penult.pipeline.doctor.diagnosis import Diagnosis, diagnose

ADVICE = {
    "session": "the network itself: a smaller backbone, a GPU, or more cores help; other image files do not",
    "decode": "decoding: smaller image files help (or copies of them), and more cores; a faster network does not",
    "disk": "the disk under the store: one that flushes faster helps",
}


@click.command()
@click.argument("images", type=click.Path(path_type=Path), required=False)
@store_option
@backbone_option
@provider_option
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=default_of(diagnose, "seconds"),
    show_default=True,
    help="How long each part is measured.",
)
@json_option
def doctor(images: Path | None, store: Path, backbone: str, provider: str, seconds: float, as_json: bool) -> None:
    """Tell what runs where on this machine and why not faster, measured on IMAGES or on two photos of its own."""
    found = diagnose(images, store, backbone=backbone, provider=provider, seconds=seconds)
    if as_json:
        print_json(found.to_json())
        return
    _print_installation(found)
    _print_rates(found)


def _print_installation(found: Diagnosis) -> None:
    installed = found.installation
    click.echo(f"{installed.machine}; {installed.allowed_cores:g} to use; Python {installed.python}")
    click.echo(", ".join(f"{name} {version}" for name, version in installed.libraries.items()))
    print_table(("provider", "can be used"), [(each.name, each.obstacle or "yes") for each in installed.providers])
    for problem in installed.problems:
        click.echo(f"Problem: {problem}.")


def _print_rates(found: Diagnosis) -> None:
    decoding = f"{found.workers} threads, images of {found.image_bytes / 1e3:,.0f} kB on average"
    running = f"{found.backbone} on {found.provider}, {found.workers} threads, batches of {found.batch_size}"
    disk = f"{found.disk_bytes_per_second / 1e6:,.0f} MB/s, flushed"
    rows = (
        ("decode", found.decode, decoding),
        ("session", found.session, running),
        ("disk", found.rows_per_second, disk),
    )
    print_table(("part", "images/s", "measured alone with"), [(name, f"{rate:,.0f}", how) for name, rate, how in rows])
    click.echo(f"A job may come to {found.expected:,.0f} images/s here.")
    click.echo(f"The bottleneck is {ADVICE[found.bottleneck]}.")
    if found.why_not_better:
        click.echo(f"It runs on {found.provider}, because {found.why_not_better}.")
