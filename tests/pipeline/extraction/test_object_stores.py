"""A store in object storage: extract, train on another machine, predict."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from penult.errors import InputError
from penult.exporters.backbone import Backbone
from penult.pipeline.doctor.diagnosis import diagnose
from penult.pipeline.extraction.extract import extract
from penult.pipeline.extraction.job_file import read_job_file
from penult.pipeline.heads.saved_heads import saved_head
from penult.pipeline.models.predict import predict
from penult.pipeline.training.train import train
from penult.store import open_store
from penult.store.diff import diff_stores
from penult.store.tables.table import Table


def test_a_store_in_object_storage_extracts_trains_and_predicts(
    collection: Path, tmp_path: Path, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://bucket/{uuid4().hex}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    first = extract(collection, url, backbone=small_backbone)
    extract(collection, tmp_path / "local", backbone=small_backbone)
    assert all(found.is_empty and found.same for found in diff_stores(open_store(url), open_store(tmp_path / "local")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    again = extract(collection, url, backbone=small_backbone)
    assert (again.new, again.reused) == (0, first.found)
    files = open_store(url).catalog.files.table()
    columns = {
        "label": np.array([Path(path).parent.name for path in files.paths], object),
        "split": np.array(["test" if place % 4 == 0 else "train" for place in range(len(files.paths))], object),
    }
    open_store(url).catalog.datasets.save("colours", Table(files.keys, files.paths, columns))
    trained = train(url, dataset="colours")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "three"))
    head = saved_head(open_store(url), trained.head.card.name)
    told = list(predict(head, collection, store=url))
    assert len(told) == first.found
    assert len(open_store(url).catalog.jobs.all()) >= 2


def test_a_job_file_can_name_a_store_by_url(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('images = "photos"\nstore = "s3://bucket/features"\n')
    job = read_job_file(tmp_path / "job.toml")
    assert job.store == "s3://bucket/features"
    assert job.images == (str(tmp_path / "photos"),)


def test_the_rate_of_object_storage_is_not_measured() -> None:
    with pytest.raises(InputError, match="whose rate is not measured"):
        diagnose(store="s3://bucket/features")
