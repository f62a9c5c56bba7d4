"""The tables of the catalog, and the migration of an older catalog."""

import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from penult.errors import StoreFormatError

APPLICATION_ID = 0x50454E55
"""``PENU`` in the header of the SQLite file, where the ``file`` command finds it too."""

MIGRATIONS: tuple[str, ...] = ("catalog_1.sql",)
"""The scripts in order: the n-th migrates version n - 1 to version n. A published script is never edited."""


def migrate(connection: sqlite3.Connection) -> None:
    """Migrates the catalog to the newest version in one transaction, if it is older."""
    if version_of(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Reads the version again: another process may have migrated while this one waited for the lock.
        for number, name in enumerate(MIGRATIONS[version_of(connection) :], start=version_of(connection) + 1):
            for statement in _statements(name):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreFormatError unless the file is a catalog of a known version."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreFormatError(f"{path} is an SQLite file of another program", expected="a catalog that penult made")
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreFormatError(
            f"{path} is a catalog of version {version}",
            expected=f"version {len(MIGRATIONS)} or older",
            remedy="upgrade penult on this machine",
        )
    if version < 1:
        raise StoreFormatError(f"{path} has no catalog version", expected=f"1 to {len(MIGRATIONS)}")
    found = dict(_objects(connection))
    # A trigger or view from elsewhere would run inside our own statements.
    alien = sorted(name for kind, name in found if kind in {"trigger", "view"})
    if alien or any(found.get(known) != sql for known, sql in expected(version).items()):
        raise StoreFormatError(
            f"The tables of {path} are not those of a catalog of version {version}"
            + (f": it contains {', '.join(alien)}" if alien else ""),
            expected="a catalog that only penult has changed",
            remedy="move it aside, run extract again, and import the datasets from their exports; features are safe",
        )


def version_of(connection: sqlite3.Connection) -> int:
    """Returns the version of the file, 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@cache
def script(name: str) -> str:
    """Returns the text of a migration script."""
    return (files("penult.store.catalog") / name).read_text(encoding="utf-8")


@cache
def expected(version: int) -> dict[tuple[str, str], str]:
    """Returns the tables of a version and the statement that creates each."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for name in MIGRATIONS[:version]:
            for statement in _statements(name):
                connection.execute(statement)
        return dict(_objects(connection))
    finally:
        connection.close()


def _objects(connection: sqlite3.Connection) -> Iterator[tuple[tuple[str, str], str]]:
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return (((kind, name), sql) for kind, name, sql in rows)


def _statements(name: str) -> Iterator[str]:
    lines: list[str] = []
    for line in script(name).splitlines():
        if line.startswith("--"):
            continue
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines = []
