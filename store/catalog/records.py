"""The catalog's tables of jobs and heads: small records as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penult.errors import UnknownNameError
from penult.store.catalog.database import Database
from penult.store.catalog.rows import now, row_seal, to_json
from penult.store.catalog.sqlite_errors import damaged


@dataclass(frozen=True)
class RecordedJob:
    """One run of a job; ``finished`` and ``receipt`` are None if it is still running or was killed."""

    id: int
    kind: str
    arguments: dict[str, Any]
    started: str
    finished: str | None
    receipt: dict[str, Any] | None


class Jobs:
    """The table of jobs, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, kind: str, arguments: Mapping[str, Any]) -> int:
        """Records a job that starts now, and returns its number."""
        text, started = to_json(arguments), now()
        with self._database.writing(may_wait=True) as connection:
            number = connection.execute(
                "INSERT INTO jobs (kind, arguments, started, seal) VALUES (?, ?, ?, 0)", (kind, text, started)
            ).lastrowid
            assert number is not None
            seal = row_seal(number, kind, text, started, None, None)
            connection.execute("UPDATE jobs SET seal = ? WHERE id = ?", (seal, number))
        return number

    def finish(self, number: int, receipt: Mapping[str, Any]) -> None:
        """Records the receipt of a finished job."""
        text, finished = to_json(receipt), now()
        with self._database.writing() as connection:
            row = connection.execute("SELECT kind, arguments, started FROM jobs WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise UnknownNameError(
                    f"There is no job with the number {number}", expected="a number that start() returned"
                )
            connection.execute(
                "UPDATE jobs SET finished = ?, receipt = ?, seal = ? WHERE id = ?",
                (finished, text, row_seal(number, *row, finished, text), number),
            )

    def all(self) -> list[RecordedJob]:
        """Returns all jobs."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT id, kind, arguments, started, finished, receipt, seal FROM jobs ORDER BY id"
            ).fetchall()
        for row in rows:
            if row[-1] != row_seal(*row[:-1]):
                raise damaged(self._database.path, f"the row of job {row[0]} fails its checksum")
        return [
            RecordedJob(
                number, kind, json.loads(arguments), started, finished, json.loads(receipt) if receipt else None
            )
            for number, kind, arguments, started, finished, receipt, _ in rows
        ]


class Heads:
    """The table of heads: the card of each, a dict of plain values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, name: str, card: Mapping[str, Any]) -> None:
        """Records a head; replaces one of the same name."""
        text, recorded = to_json(card), now()
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)",
                (name, text, recorded, row_seal(name, text, recorded)),
            )

    def get(self, name: str) -> dict[str, Any]:
        """Returns the card of one head."""
        cards = self.all()
        if name not in cards:
            raise UnknownNameError.among("head", name, cards)
        return cards[name]

    def all(self) -> dict[str, dict[str, Any]]:
        """Returns the cards of all heads by name, sorted by name."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, card, recorded, seal FROM heads ORDER BY name").fetchall()
        for *values, seal in rows:
            if seal != row_seal(*values):
                raise damaged(self._database.path, f"the row of the head {values[0]!r} fails its checksum")
        return {name: json.loads(card) for name, card, _, _ in rows}

    def remove(self, name: str) -> None:
        """Removes the row of a head."""
        with self._database.writing() as connection:
            if connection.execute("DELETE FROM heads WHERE name = ?", (name,)).rowcount:
                return
        raise UnknownNameError.among("head", name, self.all())
