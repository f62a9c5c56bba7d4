"""The jobs that ran over a store: what was asked, when, and the receipt of what came of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from penult.errors import InputError, UnknownNameError
from penult.store.catalog.database import Database
from penult.store.catalog.seals import row_seal
from penult.store.catalog.sqlite_errors import damaged


@dataclass(frozen=True)
class Job:
    """One run; ``finished`` and ``receipt`` are None for one that runs still or was killed."""

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
        """Enters a job that begins now and returns its number."""
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
        """Enters the receipt of a job that is over."""
        text, finished = to_json(receipt), now()
        with self._database.writing() as connection:
            row = connection.execute("SELECT kind, arguments, started FROM jobs WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise UnknownNameError(f"No job has the number {number}", expected="a number that start() returned")
            connection.execute(
                "UPDATE jobs SET finished = ?, receipt = ?, seal = ? WHERE id = ?",
                (finished, text, row_seal(number, *row, finished, text), number),
            )

    def all(self) -> list[Job]:
        """Returns every job."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT id, kind, arguments, started, finished, receipt, seal FROM jobs ORDER BY id"
            ).fetchall()
        for row in rows:
            if row[-1] != row_seal(*row[:-1]):
                raise damaged(self._database.path, f"the row of job {row[0]} fails its checksum")
        return [
            Job(number, kind, json.loads(arguments), started, finished, json.loads(receipt) if receipt else None)
            for number, kind, arguments, started, finished, receipt, _ in rows
        ]


def now() -> str:
    """Returns the time as the catalog writes it: UTC in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_json(values: Mapping[str, Any]) -> str:
    """Returns plain values as JSON text."""
    try:
        return json.dumps(dict(values))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The catalog cannot keep these values: {error}",
            expected="text, numbers, truth values, None, and lists and dicts of these",
        ) from error
