"""The tables of the catalog (files, ledger, jobs and heads), for every possible file name."""

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penult.errors import InputError, StoreDamagedError, UnknownNameError
from penult.store.catalog import Catalog
from penult.store.catalog.files import FileStat, SeenFile
from penult.store.catalog.ledger import Failure

quick = settings(deadline=None, max_examples=30)

NAMES = [
    "a.jpg",
    "b c.jpg",
    "ümlaut.jpg",
    "'quote\"d.jpg",
    "caf\udce9.jpg",
    "lone\ud800.jpg",
    "new\nline.jpg",
    "😀.jpg",
]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "catalog.sqlite") as opened:
        yield opened


def seen(name: str, size: int = 10, mtime_ns: int = 5, key: bytes = b"k" * 16) -> SeenFile:
    return SeenFile(name, size, mtime_ns, key)


def test_an_unchanged_file_is_known_and_any_other_is_not(catalog: Catalog) -> None:
    catalog.files.record(seen(name, key=bytes([place]) * 16) for place, name in enumerate(NAMES))
    stats = [FileStat(name, 10, 5) for name in NAMES]
    assert catalog.files.known(stats) == [bytes([place]) * 16 for place in range(len(NAMES))]
    assert catalog.files.known(stats[::-1]) == [bytes([place]) * 16 for place in reversed(range(len(NAMES)))]
    assert catalog.files.known([stats[0], stats[4], stats[0]]) == [b"\0" * 16, b"\4" * 16, b"\0" * 16]
    for name in NAMES:
        assert (
            catalog.files.known([FileStat(name, 11, 5), FileStat(name, 10, 6), FileStat(name + "x", 10, 5)])
            == [None] * 3
        )


def test_record_replaces_rows_and_forget_removes_them(catalog: Catalog) -> None:
    for name in NAMES:
        catalog.files.record([seen(name), seen(name, size=11), seen(name, size=12, key=b"l" * 16)])
        assert catalog.files.known([FileStat(name, 10, 5), FileStat(name, 12, 5)]) == [None, b"l" * 16]
    assert len(catalog.files) == len(NAMES)
    catalog.files.forget(NAMES[1:])
    assert [row.path for row in catalog.files.all()] == NAMES[:1]


def test_all_files_come_back_in_order_over_many_blocks(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.store.catalog.files.BLOCK", 3)
    monkeypatch.setattr("penult.store.catalog.rows.BLOCK", 3)
    rows = [seen(f"{place}-{name}", size=place) for place in range(3) for name in NAMES]
    catalog.files.record(rows)
    found = list(catalog.files.all())
    assert sorted(found) == sorted(rows)
    assert catalog.files.known([FileStat(row.path, row.size, row.mtime_ns) for row in rows]) == [b"k" * 16] * len(rows)


# A file name cannot contain a zero byte.
names = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=6)
files = st.tuples(names, st.integers(-1, 3), st.integers(0, 3))


@quick
@given(batches=st.lists(st.lists(st.tuples(files, st.binary(min_size=16, max_size=16)), max_size=6), max_size=4))
def test_the_table_of_files_behaves_like_a_dict(batches: list[list[tuple[tuple[str, int, int], bytes]]]) -> None:
    expected: dict[str, SeenFile] = {}
    with TemporaryDirectory() as folder:
        for batch in batches:
            with Catalog(Path(folder, "catalog.sqlite")) as catalog:
                catalog.files.record(SeenFile(*file, key) for file, key in batch)
            expected |= {file[0]: SeenFile(*file, key) for file, key in batch}
        with Catalog(Path(folder, "catalog.sqlite")) as catalog:
            assert {row.path: row for row in catalog.files.all()} == expected
            stats = [FileStat(*file) for batch in batches for file, _ in batch]
            wanted = [expected[stat.path].key if expected[stat.path][:3] == tuple(stat) else None for stat in stats]
            assert catalog.files.known(stats) == wanted


def test_a_flipped_bit_in_a_row_of_files_makes_the_file_unknown(catalog: Catalog, tmp_path: Path) -> None:
    catalog.files.record([seen("a"), seen("b")])
    for change in ("key = x'00'", "key = zeroblob(16)", "size = 11", "mtime_ns = 6", "path = 'c'", "seal = seal + 1"):
        with Catalog(tmp_path / "catalog.sqlite") as other:
            other.files.record([seen("a")])
        with sqlite3.connect(tmp_path / "catalog.sqlite") as direct:
            direct.execute(f"UPDATE files SET {change} WHERE path = 'a'")
        direct.close()
        stats = [FileStat(name, size, time_) for name in "ac" for size in (10, 11) for time_ in (5, 6)]
        assert catalog.files.known(stats) == [None] * 8, change
        assert [row.path for row in catalog.files.all()] == ["b"]
        catalog.files.forget("ac")


def test_the_ledger_keeps_the_first_time_and_updates_the_last(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(f"2026-01-0{day}T00:00:00+00:00" for day in range(1, 9))
    monkeypatch.setattr("penult.store.catalog.ledger.now", lambda: next(times))
    assert catalog.ledger.record([Failure("a", 1, 2, "truncated"), Failure("b\udce9", 1, 2, "no image")]) == 2
    assert catalog.ledger.record([Failure("a", 9, 9, "still truncated"), Failure("c", 1, 2, "empty")]) == 1
    rows = {row.path: row for row in catalog.ledger.failures()}
    assert list(rows) == ["a", "c", "b\udce9"]
    assert (rows["a"].reason, rows["a"].first_seen[:10], rows["a"].last_seen[:10]) == (
        "still truncated",
        "2026-01-01",
        "2026-01-02",
    )
    assert rows["b\udce9"].first_seen == rows["b\udce9"].last_seen == "2026-01-01T00:00:00+00:00"
    assert len(catalog.ledger) == 3


def test_the_ledger_knows_a_failure_until_the_file_changes_or_is_forgotten(catalog: Catalog) -> None:
    catalog.ledger.record(
        [Failure(name, 1, 2, f"reason {name}") for name in NAMES] + [Failure(NAMES[0], 1, 2, "later")]
    )
    stats = [FileStat(NAMES[0], 1, 2), FileStat(NAMES[4], 1, 2), FileStat(NAMES[1], 2, 2), FileStat("new", 1, 2)]
    assert catalog.ledger.known(stats) == ["later", f"reason {NAMES[4]}".replace("\udce9", "\\udce9"), None, None]
    catalog.ledger.forget(NAMES[1:])
    assert [row.path for row in catalog.ledger.failures()] == NAMES[:1]


def test_a_finished_job_has_a_receipt(catalog: Catalog) -> None:
    first = catalog.jobs.start("extract", {"images": "caf\udce9", "batch": 32})
    second = catalog.jobs.start("train", {})
    catalog.jobs.finish(first, {"new": 3, "rate": 1.5, "stages": {"decode": [1, None]}})
    done, running = catalog.jobs.all()
    assert (done.id, done.kind, done.arguments) == (first, "extract", {"images": "caf\udce9", "batch": 32})
    assert done.receipt == {"new": 3, "rate": 1.5, "stages": {"decode": [1, None]}}
    assert done.finished is not None
    assert done.started <= done.finished
    assert (running.id, running.finished, running.receipt) == (second, None, None)
    with pytest.raises(UnknownNameError, match="no job with the number 99"):
        catalog.jobs.finish(99, {})
    with pytest.raises(InputError, match="cannot store these values"):
        catalog.jobs.start("extract", {"path": Path()})


def test_a_head_has_one_card_and_an_unknown_name_raises(catalog: Catalog) -> None:
    catalog.heads.record("flowers", {"dataset": "flowers5", "version": 2})
    catalog.heads.record("ants", {"dataset": "hymenoptera", "version": 1})
    catalog.heads.record("flowers", {"dataset": "flowers5", "version": 3})
    assert list(catalog.heads.all()) == ["ants", "flowers"]
    assert catalog.heads.get("flowers") == {"dataset": "flowers5", "version": 3}
    catalog.heads.remove("ants")
    for act in (catalog.heads.get, catalog.heads.remove):
        with pytest.raises(UnknownNameError, match="did you mean 'flowers'"):
            act("flower")


@pytest.mark.parametrize(
    ("table", "change", "read"),
    [
        ("ledger", "reason = 'other'", "failures"),
        ("jobs", "receipt = '{}'", "all"),
        ("heads", "card = '{}'", "all"),
    ],
)
def test_a_changed_row_raises_and_is_never_returned(
    catalog: Catalog, table: str, change: str, read: str, tmp_path: Path
) -> None:
    catalog.ledger.record([Failure("a", 1, 2, "truncated")])
    catalog.jobs.start("extract", {})
    catalog.heads.record("h", {"accuracy": 0.9})
    with sqlite3.connect(tmp_path / "catalog.sqlite") as direct:
        direct.execute(f"UPDATE {table} SET {change}")
    direct.close()
    with pytest.raises(StoreDamagedError, match=r"fails its checksum.*features are safe"):
        getattr(getattr(catalog, table), read)()
    assert catalog.ledger.known([FileStat("a", 1, 2)]) == [None if table == "ledger" else "truncated"]


def record_many(path: Path, writer: int) -> None:
    with Catalog(path) as catalog:
        for batch in range(10):
            catalog.files.record(seen(f"{writer}-{batch}-{place}") for place in range(50))
            catalog.ledger.record([Failure(f"{writer}-{batch}", 1, 2, "bad")])


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=record_many, args=(path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with Catalog(path) as catalog:
        assert (len(catalog.files), len(catalog.ledger)) == (1500, 30)
        assert not catalog.find_damage()
    assert not [entry for entry in tmp_path.iterdir() if entry != path]


def test_threads_share_one_catalog(catalog: Catalog) -> None:
    def work(writer: int) -> None:
        for batch in range(10):
            catalog.files.record(seen(f"{writer}-{batch}-{place}") for place in range(20))
            assert catalog.files.known([FileStat(f"{writer}-{batch}-0", 10, 5)]) == [b"k" * 16]

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.files) == 800


@pytest.mark.slow
def test_a_million_unchanged_files_are_known_within_ten_seconds(catalog: Catalog) -> None:
    rows = [seen(f"/data/camera-{n % 50:03d}/2024/IMG_{n:08d}.jpg", size=n) for n in range(1_000_000)]
    catalog.files.record(rows)
    stats = [FileStat(row.path, row.size, row.mtime_ns) for row in rows]
    start = time.process_time()
    assert catalog.files.known(stats).count(None) == 0
    assert time.process_time() - start < 10
