"""Datasets: named tables of samples with immutable versions; the only place where labels are stored."""

import json
from dataclasses import dataclass
from hashlib import sha256
from sqlite3 import Connection
from typing import Any

from penult.errors import InputError, UnknownNameError
from penult.store.catalog import blocks
from penult.store.catalog.database import Database
from penult.store.catalog.rows import now, row_seal
from penult.store.catalog.sqlite_errors import damaged
from penult.store.tables.differences import Difference, difference
from penult.store.tables.table import Table


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(Table):
    """One version of a named table; equal content has an equal ``digest``."""

    name: str
    version: int
    created: str
    digest: str


@dataclass(frozen=True)
class Version:
    """The description of a version, without its rows."""

    name: str
    version: int
    created: str
    digest: str
    is_removed: bool
    rows: int
    columns: tuple[str, ...]


class Datasets:
    """The datasets of a catalog and all their versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, name: str, table: Table) -> Dataset:
        """Saves ``table`` as a new version of ``name``, unless the newest version is equal to it.

        The order of the rows matters for equality; the order of the columns does not. Versions share equal blocks.
        """
        if not name or not name.isprintable():
            raise InputError(f"{name!r} is not a valid name for a dataset", expected="one or more printable characters")
        with self._database.writing() as connection:
            contents = blocks.put(connection, table)
            digest = sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
            history = self._history(connection, name)
            if history and not history[-1].is_removed and history[-1].digest == digest:
                return _dataset(table, history[-1])
            number, created = len(history) + 1, now()
            # Stored separately, because the digest sorts the columns; loading restores the given order.
            text = json.dumps(contents | {"order": list(table.columns)})
            connection.execute(
                "INSERT OR REPLACE INTO datasets VALUES (?, ?, ?)", (name, number, row_seal(name, number))
            )
            values = (name, number, created, digest, text)
            connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", (*values, row_seal(*values)))
        return _dataset(table, Version(name, number, created, digest, False, len(table), tuple(table.columns)))

    def load(self, name: str, version: int | None = None) -> Dataset:
        """Loads one version of a dataset, by default the newest, and verifies every byte."""
        with self._database.reading() as connection:
            known = self._find(connection, name, version)
            text = connection.execute(
                "SELECT contents FROM versions WHERE name = ? AND version = ?", (name, known.version)
            ).fetchone()[0]
            try:
                table = blocks.get(connection, json.loads(text))
            except (ValueError, LookupError, TypeError) as error:
                raise damaged(self._database.path, f"version {known.version} of dataset {name!r}: {error}") from error
        return _dataset(table, known)

    def names(self) -> list[str]:
        """Returns the names of the datasets that have at least one version."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, newest, seal FROM datasets ORDER BY name").fetchall()
            if any(seal != row_seal(name, newest) for name, newest, seal in rows):
                raise damaged(self._database.path, "the row of a dataset fails its checksum")
            names = [name for name, _, _ in rows]
            if {name for (name,) in connection.execute("SELECT DISTINCT name FROM versions")} - set(names):
                raise damaged(self._database.path, "there are versions of a dataset whose own row is missing")
            histories = [self._history(connection, name) for name in names]
        return [versions[0].name for versions in histories if not all(version.is_removed for version in versions)]

    def versions(self, name: str) -> list[Version]:
        """Returns the descriptions of the versions of a dataset that were not removed, oldest first."""
        with self._database.reading() as connection:
            left = [version for version in self._history(connection, name) if not version.is_removed]
        if not left:
            raise UnknownNameError.among("dataset", name, self.names())
        return left

    def diff(self, name: str, old: int, new: int) -> Difference:
        """Returns the changes from one version to another."""
        return difference(self.load(name, old), self.load(name, new))

    def remove(self, name: str, version: int | None = None) -> None:
        """Removes one version, or all of them; later versions do not reuse their numbers."""
        with self._database.writing() as connection:
            self._find(connection, name, version)
            for known in self._history(connection, name):
                if version in {None, known.version}:
                    values = (name, known.version, known.created, known.digest, None)
                    connection.execute(
                        "INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?)", (*values, row_seal(*values))
                    )
            rows = connection.execute("SELECT contents FROM versions WHERE contents IS NOT NULL").fetchall()
            blocks.keep_only(connection, [json.loads(text) for (text,) in rows])

    def _find(self, connection: Connection, name: str, version: int | None) -> Version:
        left = {known.version: known for known in self._history(connection, name) if not known.is_removed}
        if not left:
            raise UnknownNameError.among("dataset", name, self.names())
        if version is not None and version not in left:
            numbers = ", ".join(map(str, left))
            raise UnknownNameError(f"Dataset {name!r} has no version {version}", expected=f"one of {numbers}")
        return left[max(left) if version is None else version]

    def _history(self, connection: Connection, name: str) -> list[Version]:
        """Returns all versions that were ever saved, in order; raises an error if one is missing."""
        found = connection.execute("SELECT newest, seal FROM datasets WHERE name = ?", (name,)).fetchone()
        if found and found[1] != row_seal(name, found[0]):
            raise damaged(self._database.path, f"the row of dataset {name!r} fails its checksum")
        newest = found[0] if found else 0
        rows = connection.execute(
            "SELECT name, version, created, digest, contents, seal FROM versions WHERE name = ? ORDER BY version",
            (name,),
        ).fetchall()
        if [row[1] for row in rows] != list(range(1, newest + 1)):
            raise damaged(self._database.path, f"a version of dataset {name!r} is missing")
        return [self._version(*row) for row in rows]

    def _version(self, *row: Any) -> Version:
        name, number, created, digest, text, seal = row
        if seal != row_seal(name, number, created, digest, text):
            raise damaged(self._database.path, f"version {number} of dataset {name!r} fails its checksum")
        if text is None:
            return Version(name, number, created, digest, True, 0, ())
        contents = json.loads(text)
        return Version(name, number, created, digest, False, contents["rows"], tuple(contents["order"]))


def _dataset(table: Table, known: Version) -> Dataset:
    return Dataset(
        table.keys,
        table.paths,
        table.columns,
        name=known.name,
        version=known.version,
        created=known.created,
        digest=known.digest,
    )
