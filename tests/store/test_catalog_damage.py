"""Damage to a catalog: any flipped byte is harmless or reported, and rescue keeps all undamaged rows."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penult.errors import PenultError, StoreDamagedError, UnknownNameError
from penult.store.catalog import Catalog
from penult.store.catalog.files import FileStat, SeenFile
from penult.store.catalog.ledger import Failure
from penult.store.keys import key_array, key_of
from penult.store.tables.table import Table

NAMES = [f"/images/{place:03d}.jpg" for place in range(60)]
STATS = [FileStat(name, 10, 5) for name in NAMES]
KEYS = [key_of(name.encode()) for name in NAMES]


def fill(path: Path) -> Path:
    with Catalog(path) as catalog:
        catalog.files.record(SeenFile(*stat, key) for stat, key in zip(STATS, KEYS, strict=True))
        catalog.ledger.record(Failure(f"/broken/{place}", 1, 2, f"reason {place}") for place in range(20))
        table = Table(key_array(KEYS), tuple(NAMES), {"label": np.array(["ant", "bee", "moth"] * 20)})
        for version in range(3):
            labels = ["ant" if version else "bee", "bee", "moth"] * 20
            catalog.datasets.save("insects", table.with_columns(label=labels, version=[version] * 60))
        catalog.datasets.save("other", table)
        catalog.datasets.remove("insects", 2)
        catalog.heads.record("h", {"accuracy": 0.75})
        catalog.jobs.finish(catalog.jobs.start("extract", {"images": "/images"}), {"new": 60})
    return path


READS: dict[str, Callable[[Catalog], Any]] = {
    "known": lambda catalog: catalog.files.known(STATS),
    "files": lambda catalog: list(catalog.files.all()),
    "failures": lambda catalog: catalog.ledger.failures(),
    "failed": lambda catalog: catalog.ledger.known([FileStat(f"/broken/{place}", 1, 2) for place in range(20)]),
    "jobs": lambda catalog: catalog.jobs.all(),
    "heads": lambda catalog: catalog.heads.all(),
    "names": lambda catalog: catalog.datasets.names(),
    "versions": lambda catalog: catalog.datasets.versions("insects"),
    "newest": lambda catalog: plain(catalog.datasets.load("insects")),
    "first": lambda catalog: plain(catalog.datasets.load("insects", 1)),
    "other": lambda catalog: plain(catalog.datasets.load("other")),
}


def plain(table: Table) -> Any:
    return table.keys.tobytes(), table.paths, {name: values.tolist() for name, values in table.columns.items()}


def answers(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        with Catalog(path) as catalog:
            for name, read in READS.items():
                try:
                    found[name] = read(catalog)
                except PenultError as error:
                    found[name] = error
            found["damage"] = catalog.find_damage()
    except PenultError as error:
        found["open"] = error
    return found


def is_harmless(name: str, found: Any, expected: Any) -> bool:
    """Whether a result is right, an error, or only makes a job read a file again."""
    if isinstance(found, PenultError) or found == expected:
        return True
    if name in {"known", "failed"}:
        return all(one in (None, other) for one, other in zip(found, expected, strict=True))
    return name == "files" and set(found) < set(expected)


def check_flips(folder: Path, places: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    whole = fill(folder / "whole.sqlite").read_bytes()
    path = folder / "catalog.sqlite"
    path.write_bytes(whole)
    expected = answers(path)
    assert not expected["damage"]
    unnoticed = 0
    for place in places.tolist():
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        found = answers(path)
        if "open" in found:
            continue
        wrong = [name for name in READS if not is_harmless(name, found[name], expected[name])]
        # SQLite itself may miss some rows, such as the last rows of a page; at least the full check finds these.
        assert not wrong or found["damage"], f"byte {place}: {wrong}"
        assert not {"names", "versions", "newest", "first", "other"} & set(wrong), f"byte {place}: {wrong}"
        unnoticed += found == expected
    assert unnoticed < len(places)


def test_a_flipped_byte_is_harmless_or_reported(tmp_path: Path) -> None:
    size = fill(tmp_path / "probe.sqlite").stat().st_size
    check_flips(tmp_path, np.random.default_rng(1).choice(size, 150, replace=False))


@pytest.mark.slow
def test_many_flipped_bytes_are_harmless_or_reported(tmp_path: Path) -> None:
    check_flips(tmp_path, np.arange(7, fill(tmp_path / "probe.sqlite").stat().st_size, 23))


def damage(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_an_undamaged_catalog_reports_no_damage(tmp_path: Path) -> None:
    with Catalog(fill(tmp_path / "catalog.sqlite")) as catalog:
        assert catalog.find_damage() == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE files SET size = 11 WHERE path < '/images/003'", "3 rows of the table files fail their checksums"),
        ("UPDATE ledger SET reason = 'x' WHERE path = '/broken/3'", "1 rows of the table ledger"),
        ("UPDATE versions SET created = 'x' WHERE version = 3", "1 rows of the table versions"),
        ("UPDATE datasets SET newest = 2", "2 rows of the table datasets"),
        ("UPDATE heads SET card = '{}'", "1 rows of the table heads"),
        ("UPDATE jobs SET receipt = NULL", "1 rows of the table jobs"),
        ("UPDATE blocks SET data = zeroblob(20)", "dataset 'insects': a block of rows cannot be decompressed"),
        ("UPDATE blocks SET size = 1 << 40", "a block of rows claims 1099511627776 bytes"),
        ("UPDATE blocks SET size = size - 1", "a block of rows fails its checksum"),
        ("DELETE FROM blocks", "a block of rows is missing"),
    ],
)
def test_damage_is_found_and_rescue_keeps_the_other_rows(statement: str, words: str, tmp_path: Path) -> None:
    path = fill(tmp_path / "catalog.sqlite")
    damage(path, statement)
    with Catalog(path) as catalog:
        assert any(words in line for line in catalog.find_damage())
    before = path.read_bytes()
    rescued = Catalog.rescue(path)
    assert rescued.aside == tmp_path / "catalog.sqlite.damaged-1"
    assert rescued.aside.read_bytes() == before
    assert any(words in line for line in rescued.lost)
    with Catalog(path) as catalog:
        assert catalog.find_damage() == []
        assert len(catalog.files) == rescued.kept["files"] == (57 if "files" in statement else 60)
        assert len(catalog.ledger) == rescued.kept["ledger"] == (19 if "ledger" in statement else 20)
        if "blocks" not in statement:
            assert plain(catalog.datasets.load("other"))[2] == {"label": ["ant", "bee", "moth"] * 20}
        if "versions" in statement:
            assert [version.version for version in catalog.datasets.versions("insects")] == [1]
        table = Table(key_array(KEYS), tuple(NAMES))
        assert catalog.datasets.save("insects", table).version == 4


def test_a_missing_dataset_version_raises(tmp_path: Path) -> None:
    path = fill(tmp_path / "catalog.sqlite")
    damage(path, "DELETE FROM versions WHERE name = 'insects' AND version = 3")
    with Catalog(path) as catalog:
        for act in (lambda: catalog.datasets.load("insects"), catalog.datasets.names):
            with pytest.raises(StoreDamagedError, match="a version of dataset 'insects' is missing"):
                act()
    assert "version 3 of dataset 'insects' is lost" in Catalog.rescue(path).lost
    with Catalog(path) as catalog:
        assert catalog.datasets.load("insects").version == 1
        with pytest.raises(UnknownNameError, match=r"no version 3.*one of 1"):
            catalog.datasets.load("insects", 3)


def test_rescue_keeps_the_rows_on_both_sides_of_a_damaged_page(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    rows = [SeenFile(f"/images/{place:05d}.jpg", place, place, KEYS[place % 60]) for place in range(4000)]
    with Catalog(path) as catalog:
        catalog.files.record(rows)
        catalog.heads.record("h", {"accuracy": 0.75})
    data = bytearray(path.read_bytes())
    page = data.find(b"/images/02000.jpg") // 4096
    data[4096 * page : 4096 * page + 4096] = bytes(4096)
    path.write_bytes(data)
    with Catalog(path) as catalog, pytest.raises(StoreDamagedError, match="features are safe"):
        list(catalog.files.all())
    rescued = Catalog.rescue(path)
    assert any("the table files cannot be read to its end" in line for line in rescued.lost)
    with Catalog(path) as catalog:
        kept = [row.path for row in catalog.files.all()]
        assert 3500 < len(kept) < 4000
        assert kept[0] == rows[0].path
        assert kept[-1] == rows[-1].path
        assert catalog.heads.get("h") == {"accuracy": 0.75}


def test_rescue_moves_a_file_that_is_not_a_database_aside(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    for number in (1, 2):
        path.write_bytes(b"rubbish" * 1000)
        rescued = Catalog.rescue(path)
        assert rescued.aside == tmp_path / f"catalog.sqlite.damaged-{number}"
        assert rescued.aside.read_bytes() == b"rubbish" * 1000
        assert "the file cannot be read" in rescued.lost[0]
        with Catalog(path) as catalog:
            assert not len(catalog.files)


def test_rescue_keeps_rows_that_are_only_in_the_log(tmp_path: Path) -> None:
    source = Catalog(tmp_path / "live.sqlite")
    source.files.record([SeenFile(*STATS[0], KEYS[0])])
    path = tmp_path / "catalog.sqlite"
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live.sqlite{suffix}", f"{path}{suffix}")
    source.close()
    assert Catalog.rescue(path).kept["files"] == 1
    with Catalog(path) as catalog:
        assert catalog.files.known(STATS[:1]) == KEYS[:1]


def test_a_table_out_of_order_raises_instead_of_looping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.store.catalog.rows.BLOCK", 10)
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as catalog:
        catalog.files.record(SeenFile(*stat, key) for stat, key in zip(STATS, KEYS, strict=True))
    data = path.read_bytes()
    assert data.count(b"/images/059.jpg") == 1
    path.write_bytes(data.replace(b"/images/059.jpg", b"/images/000.jpg"))
    with Catalog(path) as catalog, pytest.raises(StoreDamagedError, match="the table files is out of order"):
        list(catalog.files.all())
