"""Opening a catalog: atomic creation, errors for other files, and reading without write permission."""

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
    """A folder that every user can reach, for tests as another user."""
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
    """Runs Python code as a user who can only read, and returns its output."""
    # Imports everything before it drops its rights, because only the owner may be able to read the libraries.
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


def test_the_journal_mode_is_wal_on_a_local_disk(path: Path) -> None:
    with Catalog(path) as catalog:
        assert catalog.journal_mode == "wal"
        assert (catalog.readonly, catalog.notes) == (False, ())


def test_a_file_system_without_wal_gets_another_journal_and_a_note(
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
def test_a_shared_file_system_does_not_use_wal(path: Path) -> None:
    direct(path, "PRAGMA journal_mode = WAL")
    with Catalog(path) as first, Catalog(path) as second:
        assert (first.journal_mode, second.journal_mode, first.notes) == ("delete", "delete", ())
        for number, catalog in enumerate((first, second, first, second)):
            catalog.files.record([SeenFile(f"{number}.jpg", 1, 1, b"l" * 16)])
        assert (len(first.files), len(second.files)) == (5, 5)
        assert not list(path.parent.glob("catalog.sqlite-*"))


@pytest.mark.usefixtures("on_a_network")
def test_a_catalog_that_another_process_has_open_in_wal_mode_is_busy(
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


def test_a_path_with_special_characters_opens(tmp_path: Path) -> None:
    folder = tmp_path / "50% off? #1 & more"
    folder.mkdir()
    with Catalog(folder / "catalog.sqlite") as catalog:
        catalog.files.record([SEEN])
    with Catalog(folder / "catalog.sqlite", readonly=True) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]
    assert [entry.name for entry in folder.iterdir()] == ["catalog.sqlite"]


def test_a_catalog_closes_when_it_is_garbage_collected(path: Path) -> None:
    catalog = Catalog(path)
    catalog.files.record([SEEN])
    assert path.with_name("catalog.sqlite-wal").exists()
    del catalog
    assert [entry.name for entry in path.parent.iterdir()] == ["catalog.sqlite"]


def test_a_readonly_catalog_changes_nothing_and_raises_on_writes(path: Path) -> None:
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


def test_a_readonly_open_does_not_make_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="run extract"):
        Catalog(tmp_path / "catalog.sqlite", readonly=True)
    assert not list(tmp_path.iterdir())


def test_a_catalog_in_a_readonly_folder_opens_for_reading_with_a_note(path: Path, open_folder: Path) -> None:
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


def test_a_readonly_open_reads_the_log_of_a_killed_writer(path: Path, open_folder: Path) -> None:
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


def test_a_readonly_folder_without_a_catalog_has_an_empty_one(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    script = """
        with Catalog(path) as catalog:
            print(catalog.readonly, catalog.datasets.names(), len(catalog.files), catalog.find_damage(), catalog.notes)
    """
    assert as_nobody(script, open_folder).startswith("True [] 0 []")
    assert not list(open_folder.iterdir())


@pytest.mark.parametrize("target", ["catalog.sqlite", "nowhere", "."])
def test_a_broken_link_raises(target: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").symlink_to(target)
    with pytest.raises(StoreFormatError, match="is not a file"):
        Catalog(tmp_path / "catalog.sqlite")


@pytest.mark.parametrize("readonly", [True, False])
def test_a_newer_catalog_raises(path: Path, readonly: bool) -> None:
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
def test_a_file_that_is_not_a_catalog_raises(path: Path, statements: list[str], words: str) -> None:
    direct(path, *statements)
    with pytest.raises(StoreFormatError, match=words):
        Catalog(path)


def test_a_table_that_a_user_added_stays(path: Path) -> None:
    direct(path, "CREATE TABLE notes (text)")
    with Catalog(path) as catalog:
        assert catalog.files.known([STAT]) == [b"k" * 16]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
@pytest.mark.parametrize("readonly", [True, False])
def test_the_error_for_a_damaged_catalog_says_that_features_are_safe(
    path: Path, content: bytes, readonly: bool
) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"features are safe.*move the catalog aside, run extract again"):
        Catalog(path, readonly=readonly)
    assert path.read_bytes() == content


def test_a_migration_is_atomic(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


def test_a_catalog_of_version_1_opens(tmp_path: Path) -> None:
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


def test_a_kill_at_any_moment_keeps_all_committed_rows(tmp_path: Path) -> None:
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


def test_a_lock_that_another_process_keeps_too_long_raises(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penult.store.catalog.database.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    with Catalog(path) as catalog:
        holder.execute("BEGIN IMMEDIATE")
        assert catalog.files.known([STAT]) == [b"k" * 16]
        with pytest.raises(StoreWriteError, match=r"Another process has locked .* for more than 0.05 s"):
            catalog.files.record([SEEN])
    holder.close()


def test_the_error_for_a_full_disk_says_so(small_disk: Path) -> None:
    Catalog(small_disk / "catalog.sqlite").close()
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    files = [SeenFile(f"{number:0200}.jpg", 1, 1, b"k" * 16) for number in range(2000)]
    with (
        Catalog(small_disk / "catalog.sqlite") as catalog,
        pytest.raises(StoreWriteError, match="no space is left on its disk"),
    ):
        catalog.files.record(files)


def test_a_full_disk_rolls_back_only_the_failed_transaction(path: Path) -> None:
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
