"""Runs the job that a TOML file describes: one run of `extract` for each of its backbones, over all of its sources."""

import time
from dataclasses import replace
from pathlib import Path

from penult.exporters import Backbone, load_backbone
from penult.pipeline.extraction.extract import extract, find_images
from penult.pipeline.extraction.images import ImageFile
from penult.pipeline.extraction.job_file import BackboneRequest, JobFile, read_job_file, telling_line
from penult.pipeline.extraction.receipt import Receipt
from penult.pipeline.progress import Progress, Silent
from penult.store import open_store


def extract_job(job: str | Path | JobFile, *, progress: Progress | None = None) -> list[Receipt]:
    """Returns a receipt for each backbone that was begun; the time of ``max_seconds`` is that of all together."""
    asked = job if isinstance(job, JobFile) else read_job_file(job)
    progress = progress or Silent()
    # A backbone or a tap that is not there is an error now, and not after the hours that the others take.
    networks = [(_loaded(request), request.taps) for request in asked.backbones]
    files: list[ImageFile] = []
    with telling_line(asked.images_where):
        for source in asked.images:
            files += find_images(source, progress, shard=asked.options.shard)
    store = open_store(asked.store)
    began, receipts = time.monotonic(), []
    for network, taps in networks:
        options = replace(asked.options, shard=None)
        if options.max_seconds is not None:
            left = options.max_seconds - (time.monotonic() - began)
            options = replace(options, max_seconds=max(left, 1e-3))
        receipts.append(extract(files, store, backbone=network, taps=taps, options=options, progress=progress))
    return receipts


def _loaded(request: BackboneRequest) -> Backbone:
    with telling_line(request.where):
        network = load_backbone(request.name)
    with telling_line(request.taps_where):
        for tap in request.taps:
            network.tap(tap)
    return network
