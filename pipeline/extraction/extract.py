"""The batch job: images in, rows of one or more spaces out; run again, it costs only what is new."""

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

# After how many listed files the count is shown anew; to show each of a million would take longer than to list them.
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
    """Extracts the features of all ``images`` that the store does not hold yet, and returns the receipt.

    Every image ends in rows of the store or in its ledger. What is done is committed as the job goes; a job that was
    killed, or stopped by Ctrl-C or SIGTERM (which raise KeyboardInterrupt here once all is committed), goes on where
    it was when it is run again.
    """
    options = options or ExtractOptions()
    progress = progress or Silent()
    opened = as_store(store, create=True)
    network = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    files = find_images(images, progress, shard=options.shard)[: options.limit]
    taps = [taps] if isinstance(taps, str) else list(taps)
    spaces = open_spaces(opened, network, taps, options.dtype, parse_views(options.views))
    catalog = opened.catalog
    # A store that cannot be written serves a job that finds nothing new; no other comes to an end in it.
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
    """Returns the list of all images, or of one part of them; raises InputError where a source has none.

    What belongs to other parts is let go as it is listed, so that memory is needed for one part alone.
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
            remedy="look whether this is the folder that you meant",
        )
    return files


def open_spaces(
    store: Store,
    backbone: Backbone,
    taps: Sequence[str],
    dtype: FeatureType,
    views: Sequence[str] = (IDENTITY,),
) -> dict[str, Space]:
    """Returns the space of each tap in each view, and keeps a copy of the backbone beside them in the store."""
    if not taps:
        raise InputError("No tap was asked for", expected="at least one", remedy="ask for 'penultimate'")
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
