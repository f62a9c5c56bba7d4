"""Opening a catalog: made whole or not at all, refused where it is none, readable where nothing can be written."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penult.errors import MissingFileError, StoreDamagedError, StoreFormatError, StoreWriteError
from penult.store.catalog import Catalog, schema
from penult.store.catalog.files import FileStat, SeenFile
from penult.store.tables.table import Table

GOLDEN = Path(__file__).parent / "golden_catalog"
SEEN = SeenFile("a.jpg", 10, 5, b"k" * 16)
STAT = FileStat("a.jpg", 10, 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        catalog.files.record([SEEN])
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents everybody may enter, for tests as another user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def direct(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def as_nobody(script: str, folder: Path) -> str:
    """Runs Python code as a user who may only read, and returns what it prints."""
    # Everything is loaded before the rights go, since the libraries may lie where only their owner reads.
    code = f"""
        import os, tempfile
        from pathlib import Path
        from penult.errors import StoreWriteError
        from penult.store.catalog import schema
        from penult.store.catalog import Catalog
        from penult.store.catalog.files import FileStat
        schema.expected(1)
        os.getuid() or os.setuid(65534)
        path = Path({str(folder / "catalog.sqlite")!r})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_journaled_ahead_where_the_file_system_allows(path: Path) -> None:
    with Catalog(path) as catalog:
        assert catalog.journal_mode == "wal"
        assert (catalog.readonly, catalog.notes) == (False, ())


def test_another_journal_serves_where_it_does_not_and_a_note_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    direct(path, "PRAGMA journal_mode = DELETE")
    monkeypatch.setattr("penult.store.catalog.database._ask_for_journal", lambda *_: "delete")
    with Catalog(path) as catalog:
        catalog.files.record([SeenFile("b.jpg", 1, 1, b"l" * 16)])
        assert catalog.files.known([STAT]) == [b"k" * 16]
        assert "allows no write-ahead log" in catalog.notes[0]
        assert catalog.journal_mode == "delete"
    assert "allows no write-ahead log" in caplog.text


@pytest.fixture
def on_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"36 27 0:52 / {tmp_path} rw,relatime shared:1 - nfs4 server:/export rw\n")
    monkeypatch.setattr("penult.store.files.local.MOUNTS", table)


@pytest.mark.usefixtures("on_a_network")
def test_where_other_machines_may_write_no_log_with_shared_memory_is_used(path: Path) -> None:
    direct(path, "PRAGMA journal_mode = WAL")
    with Catalog(path) as first, Catalog(path) as second:
        assert (first.journal_mode, second.journal_mode, first.notes) == ("delete", "delete", ())
        for number, catalog in enumerate((first, second, first, second)):
            catalog.files.record([SeenFile(f"{number}.jpg", 1, 1, b"l" * 16)])
        assert (len(first.files), len(second.files)) == (5, 5)
        assert not list(path.parent.glob("catalog.sqlite-*"))


@pytest.mark.usefixtures("on_a_network")
def test_one_that_a_process_of_the_disks_own_machine_has_open_is_left_to_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penult.store.catalog.database.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    with pytest.raises(StoreWriteError, match="Another process has locked"):
        Catalog(path)
    holder.close()
    Catalog(path).close()


def test_a_path_with_signs_of_its_own_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "50% off? #1 & more"
    folder.mkdir()
    with Catalog(folder / "catalog.sqlite") as catalog:
        catalog.files.record([SEEN])
    with Catalog(folder / "catalog.sqlite", readonly=True) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]
    assert [entry.name for entry in folder.iterdir()] == ["catalog.sqlite"]


def test_one_that_is_dropped_is_closed(path: Path) -> None:
    catalog = Catalog(path)
    catalog.files.record([SEEN])
    assert path.with_name("catalog.sqlite-wal").exists()
    del catalog
    assert [entry.name for entry in path.parent.iterdir()] == ["catalog.sqlite"]


def test_reading_only_changes_nothing_and_refuses_to_write(path: Path) -> None:
    before = path.read_bytes()
    with Catalog(path, readonly=True) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]
        for act in (
            lambda: catalog.files.record([SEEN]),
            lambda: catalog.ledger.forget(["a"]),
            lambda: catalog.jobs.start("extract", {}),
            lambda: catalog.datasets.save("D", Table(np.zeros((0, 16), np.uint8), ())),
        ):
            with pytest.raises(StoreWriteError, match="open for reading only"):
                act()
    assert path.read_bytes() == before


def test_one_that_is_not_there_is_not_made_for_reading(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="run extract"):
        Catalog(tmp_path / "catalog.sqlite", readonly=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_opens_for_reading_and_says_so(path: Path, open_folder: Path) -> None:
    shutil.copy(path, open_folder / "catalog.sqlite")
    (open_folder / "catalog.sqlite").chmod(0o444)
    open_folder.chmod(0o555)
    script = """
        with Catalog(path) as catalog:
            print(catalog.readonly, catalog.files.known([FileStat("a.jpg", 10, 5)]), catalog.notes)
            try:
                catalog.files.forget(["a"])
            except StoreWriteError as error:
                print("refused:", error)
    """
    printed = as_nobody(script, open_folder)
    assert printed.startswith("True [b'kkkkkkkkkkkkkkkk']")
    assert "open for reading only: the file or its folder is read-only" in printed
    assert "refused:" in printed


def test_what_a_killed_writer_left_in_the_log_is_read_where_nothing_may_be_written(
    path: Path, open_folder: Path
) -> None:
    catalog = Catalog(path)
    catalog.files.record([SeenFile("b.jpg", 1, 1, b"l" * 16)])
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", open_folder / f"catalog.sqlite{suffix}")
    catalog.close()
    assert (open_folder / "catalog.sqlite-wal").stat().st_size
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(0o555)
    script = """
        with Catalog(path, readonly=True) as catalog:
            print([row.path for row in catalog.files.all()])
    """
    assert as_nobody(script, open_folder).startswith("['a.jpg', 'b.jpg']")


def test_a_folder_that_was_left_without_one_and_cannot_be_written_has_an_empty_one(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    script = """
        with Catalog(path) as catalog:
            print(catalog.readonly, catalog.datasets.names(), len(catalog.files), catalog.find_damage(), catalog.notes)
    """
    assert as_nobody(script, open_folder).startswith("True [] 0 []")
    assert not list(open_folder.iterdir())


@pytest.mark.parametrize("target", ["catalog.sqlite", "nowhere", "."])
def test_a_link_that_leads_to_no_file_is_refused(target: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").symlink_to(target)
    with pytest.raises(StoreFormatError, match="is not a file"):
        Catalog(tmp_path / "catalog.sqlite")


@pytest.mark.parametrize("readonly", [True, False])
def test_a_newer_catalog_is_refused(path: Path, readonly: bool) -> None:
    direct(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match=r"a catalog of version 99.*upgrade penult"):
        Catalog(path, readonly=readonly)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["PRAGMA application_id = 7"], "an SQLite file of another program"),
        (["PRAGMA user_version = 0"], "no catalog version"),
        (["DROP TABLE heads"], "not those of a catalog of version 1"),
        (["CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM ledger; END"], "it contains t"),
        (["CREATE TEMP TABLE x (y)", "ALTER TABLE heads RENAME TO h", "CREATE VIEW heads AS SELECT * FROM h"], "heads"),
    ],
)
def test_what_is_no_catalog_of_ours_is_refused(path: Path, statements: list[str], words: str) -> None:
    direct(path, *statements)
    with pytest.raises(StoreFormatError, match=words):
        Catalog(path)


def test_a_table_that_a_user_added_is_left_alone(path: Path) -> None:
    direct(path, "CREATE TABLE notes (text)")
    with Catalog(path) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
@pytest.mark.parametrize("readonly", [True, False])
def test_a_damaged_one_says_that_features_are_safe(path: Path, content: bytes, readonly: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"features are safe.*move the catalog aside, run extract again"):
        Catalog(path, readonly=readonly)
    assert path.read_bytes() == content


def test_a_migration_happens_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripts = {"catalog_1.sql": schema.script("catalog_1.sql")}
    monkeypatch.setattr(schema, "script", lambda name: scripts[name])
    monkeypatch.setattr(schema, "MIGRATIONS", ("catalog_1.sql", "catalog_2.sql"))
    scripts["catalog_2.sql"] = "CREATE TABLE extra (a INTEGER) STRICT;\nINSERT INTO extra VALUES (1), ('no number');\n"
    schema.expected.cache_clear()
    with pytest.raises(sqlite3.IntegrityError):
        Catalog(path)
    scripts["catalog_2.sql"] = "CREATE TABLE extra (a INTEGER) STRICT;\nINSERT INTO extra VALUES (1);\n"
    schema.expected.cache_clear()
    before = path.read_bytes()
    with Catalog(path, readonly=True) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]
        assert "read from a temporary copy" in catalog.notes[0]
    assert path.read_bytes() == before
    with Catalog(path) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]
    with Catalog(path) as catalog:
        assert not catalog.notes
    schema.expected.cache_clear()


def test_a_catalog_of_version_1_is_opened_for_ever(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "version_1.sqlite", tmp_path / "catalog.sqlite")
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        assert not catalog.find_damage()
        assert list(catalog.files.all()) == [
            SeenFile("/images/ant.jpg", 1234, 1_700_000_000_000_000_000, bytes(range(16))),
            SeenFile("/images/caf\udce9.jpg", 2345, 1_700_000_000_000_000_001, bytes(range(16, 32))),
        ]
        (row,) = catalog.ledger.failures()
        assert (row.path, row.size, row.mtime_ns, row.reason) == ("/images/broken.jpg", 3, 4, "truncated")
        assert catalog.datasets.names() == ["insects"]
        first, second = (catalog.datasets.load("insects", version) for version in (1, 2))
        assert first.columns["label"].tolist() == ["ant", None]
        assert second.columns["label"].tolist() == ["ant", "bee"]
        assert second.paths == ("/images/ant.jpg", "/images/caf\udce9.jpg")
        assert second.keys.tobytes() == bytes(range(32))
        assert {name: column.tolist() for name, column in second.columns.items()} == {
            "label": ["ant", "bee"],
            "split": ["train", "test"],
            "legs": [6, None],
            "length_cm": [0.5, 1.25],
            "flies": [False, True],
        }
        assert second.digest == "640d1570e14968afee846e5a57fa39bae5bfacf8402260ccfd8a7d9631c3a38f"
        assert catalog.heads.get("insects") == {"dataset": "insects", "version": 2, "accuracy": 0.5}
        (job,) = catalog.jobs.all()
        assert (job.kind, job.arguments, job.receipt) == ("extract", {"images": "/images"}, {"new": 2})


WRITER = """
    import sys
    from pathlib import Path
    import numpy as np
    from penult.store.catalog import Catalog
    from penult.store.catalog.files import SeenFile
    from penult.store.tables.table import Table
    catalog = Catalog(Path(sys.argv[1]))
    start = len(catalog.jobs.all())
    for turn in range(start, start + 10_000):
        catalog.files.record([SeenFile(f"{turn}.jpg", turn, turn, turn.to_bytes(16, "big"))])
        keys = np.full((3, 16), turn % 251, np.uint8)
        catalog.datasets.save("D", Table(keys, ("a", "b", "c"), {"label": [turn] * 3}))
        catalog.jobs.start("turn", {"turn": turn})
        print(turn, flush=True)
"""


def test_kill_at_any_moment_leaves_all_that_was_done(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    rng = np.random.default_rng(0)
    done = -1
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(int(rng.integers(1, 8))):
            done = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        done = int(rest[-1]) if rest else done
        with Catalog(path) as catalog:
            assert not catalog.find_damage()
            assert [job.arguments["turn"] for job in catalog.jobs.all()][: done + 1] == list(range(done + 1))
            stats = [FileStat(f"{turn}.jpg", turn, turn) for turn in range(done + 1)]
            assert catalog.files.known(stats) == [turn.to_bytes(16, "big") for turn in range(done + 1)]
            newest = catalog.datasets.load("D")
            assert newest.version in {done + 1, done + 2}
            assert newest.columns["label"].tolist() == [newest.version - 1] * 3


def test_another_process_that_holds_it_too_long_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.store.catalog.database.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    with Catalog(path) as catalog:
        holder.execute("BEGIN IMMEDIATE")
        assert catalog.files.known([STAT]) == [b"k" * 16]
        with pytest.raises(StoreWriteError, match=r"Another process has locked .* for more than 0.05 s"):
            catalog.files.record([SEEN])
    holder.close()


def test_a_disk_that_is_really_full_is_called_so(small_disk: Path) -> None:
    Catalog(small_disk / "catalog.sqlite").close()
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    files = [SeenFile(f"{number:0200}.jpg", 1, 1, b"k" * 16) for number in range(2000)]
    with (
        Catalog(small_disk / "catalog.sqlite") as catalog,
        pytest.raises(StoreWriteError, match="no space is left on its disk"),
    ):
        catalog.files.record(files)


def test_a_full_disk_takes_back_what_does_not_fit_and_keeps_the_rest(path: Path) -> None:
    with Catalog(path) as catalog:
        connection = catalog._database._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        keys = np.random.default_rng(0).integers(0, 256, (5000, 16), np.uint8)
        with pytest.raises(StoreWriteError, match=r"cannot be written: database or disk is full.*free some space"):
            catalog.datasets.save("D", Table(keys, tuple(f"{number}.jpg" for number in range(5000))))
        with pytest.raises(StoreWriteError, match="disk is full"):
            catalog.files.record(SeenFile(f"{number}.jpg", 1, 1, b"k" * 16) for number in range(5000))
        assert (catalog.datasets.names(), catalog.files.known([STAT]), len(catalog.files)) == ([], [b"k" * 16], 1)
        connection.execute("PRAGMA max_page_count = 100000")
        assert catalog.datasets.save("D", Table(keys, tuple(f"{number}.jpg" for number in range(5000)))).version == 1
        assert not catalog.find_damage()
