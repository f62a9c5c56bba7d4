"""Extracts the features of images into one or more spaces; a second run only processes new images."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from penult.errors import InputError
from penult.exporters import Backbone, load_backbone
from penult.pipeline.extraction.job import ExtractionJob, paused_collector
from penult.pipeline.extraction.options import ExtractOptions
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.extraction.recorder import forget_deleted_files
from penult.pipeline.images.image_file import ImageFile
from penult.pipeline.images.listing import list_images, list_sources
from penult.pipeline.images.sharding import files_of_shard
from penult.pipeline.images.views import IDENTITY, parse_views, row_name
from penult.pipeline.progress import Progress, Silent
from penult.store import Space, SpaceSpec, Store, as_store
from penult.store.spec import FeatureType

__all__ = ["ExtractOptions", "extract", "find_images", "open_spaces"]

# Files listed between two updates of the progress: an update per file would take longer than the listing.
LIST_FILES = 64


def extract(
    images: str | Path | Iterable[str | Path | ImageFile | NDArray[Any]],
    store: str | Path | Store = "penult-store",
    *,
    backbone: str | Path | Backbone = "efficientnet-lite0",
    taps: str | Sequence[str] = ("penultimate",),
    options: ExtractOptions | None = None,
    progress: Progress | None = None,
) -> Receipt:
    """Extracts the features of all ``images`` that are not in the store yet, and returns the receipt.

    Every image ends either as rows of the store or in the ledger. Rows are committed while the job runs. A job that was
    killed or interrupted continues where it stopped when it is run again. Ctrl-C and SIGTERM raise KeyboardInterrupt
    after everything finished is committed.
    """
    options = options or ExtractOptions()
    progress = progress or Silent()
    opened = as_store(store, create=True)
    network = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    files = find_images(images, progress, shard=options.shard)[: options.limit]
    taps = [taps] if isinstance(taps, str) else list(taps)
    spaces = open_spaces(opened, network, taps, options.dtype, parse_views(options.views))
    catalog = opened.catalog
    # A read-only store is enough for a job that finds no new image.
    number = (
        None
        if catalog.readonly
        else catalog.jobs.start("extract", {"backbone": network.name, "taps": taps, **asdict(options)})
    )
    receipt = Receipt(found=len(files), spaces=[space.spec.id for space in spaces.values()])
    try:
        with progress.task("Extracting", total=len(files)) as task:
            ExtractionJob(opened, spaces, options, receipt, task).run(network, files)
        is_whole = receipt.is_complete and options.limit is None and options.shard is None
        if is_whole and number is not None and isinstance(images, str | Path) and Path(images).is_dir():
            forget_deleted_files(catalog, Path(images), files)
    except BaseException as error:
        receipt.stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
        raise
    finally:
        receipt.now()
        if number is not None:
            catalog.jobs.finish(number, receipt.to_json())
    return receipt


def find_images(
    images: str | Path | Iterable[str | Path | ImageFile | NDArray[Any]],
    progress: Progress,
    *,
    shard: str | None = None,
) -> list[ImageFile]:
    """Returns all images, or those of one part; raises InputError if the source has none.

    Files of other parts are dropped during the listing, so that only one part is in memory.
    """
    if not isinstance(images, str | Path):
        listed = list_sources(images)
        return list(listed) if shard is None else files_of_shard(listed, shard)
    count = 0
    with progress.task("Listing", unit="files") as task, paused_collector():
        files: list[ImageFile] = []
        found = iter(list_images(images))
        while some := list(islice(found, LIST_FILES)):
            files += some if shard is None else files_of_shard(some, shard, images)
            count += len(some)
            task.advance(len(some))
    if not count:
        raise InputError(
            f"There is no image in {str(images)!r}",
            expected="a folder with images at any depth, or a table with a column 'path'",
            remedy="check that this is the folder that you meant",
        )
    return files


def open_spaces(
    store: Store,
    backbone: Backbone,
    taps: Sequence[str],
    dtype: FeatureType,
    views: Sequence[str] = (IDENTITY,),
) -> dict[str, Space]:
    """Returns the space of each tap in each view, and saves a copy of the backbone in the store."""
    if not taps:
        raise InputError("No tap was given", expected="at least one", remedy="use 'penultimate'")
    widths = {name: backbone.tap(name).width for name in taps}
    store.add_backbone(backbone.name, backbone.fingerprint, backbone.to_bytes())
    return {
        row_name(name, view): store.space(
            SpaceSpec(
                backbone=backbone.name,
                fingerprint=backbone.fingerprint,
                tap=name,
                width=width,
                view=view,
                dtype=dtype,
                card=backbone.card.to_json(),
            )
        )
        for view in views
        for name, width in widths.items()
    }
