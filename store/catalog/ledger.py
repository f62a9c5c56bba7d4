"""The ledger: images that could not be used, with the reason and the times of the first and last failure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from penult.store.catalog.database import Database
from penult.store.catalog.files import Stat
from penult.store.catalog.rows import BLOCK, loaded_path, now, row_seal, rows_at, scan, stored_path
from penult.store.catalog.sqlite_errors import damaged

_COLUMNS = "size, mtime_ns, reason, first_seen, last_seen, seal"


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be used, and the reason."""

    path: str
    size: int
    mtime_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A failure as the ledger stores it; the times are UTC in ISO 8601."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    first_seen: str
    last_seen: str


class Ledger:
    """The table of failures, with one row for each path."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __len__(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM ledger").fetchone()[0])

    def record(self, failures: Iterable[Failure]) -> int:
        """Records failures and returns the number of new rows; a known path keeps its first time."""
        moment = now()
        remaining, new = iter(failures), 0
        while block := list({failure.path: failure for failure in islice(remaining, BLOCK)}.values()):
            with self._database.writing(may_wait=True) as connection:
                paths = [failure.path for failure in block]
                first = dict(rows_at(connection, "ledger", "first_seen", paths))
                connection.executemany(
                    "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (_stored(failure, first.get(place, moment), moment) for place, failure in enumerate(block)),
                )
            new += len(block) - len(first)
        return new

    def known(self, stats: Sequence[Stat]) -> list[str | None]:
        """Returns the reason for each file that failed before and is unchanged since, else None."""
        with self._database.reading() as connection:
            if not connection.execute("SELECT EXISTS (SELECT 1 FROM ledger)").fetchone()[0]:
                return [None] * len(stats)
        reasons: list[str | None] = []
        for start in range(0, len(stats), BLOCK):
            block = stats[start : start + BLOCK]
            found: list[str | None] = [None] * len(block)
            with self._database.reading() as connection:
                for place, *values in rows_at(connection, "ledger", _COLUMNS, [stat.path for stat in block]):
                    row = LedgerRow(block[place].path, *values[:-1])
                    is_unchanged = (row.size, row.mtime_ns) == (block[place].size, block[place].mtime_ns)
                    if is_unchanged and values[-1] == _seal(row):
                        found[place] = row.reason
            reasons += found
        return reasons

    def failures(self) -> list[LedgerRow]:
        """Returns all rows in path order."""
        rows = []
        for stored, *values in scan(self._database, "ledger", _COLUMNS):
            row = LedgerRow(loaded_path(stored), *values[:-1])
            if values[-1] != _seal(row):
                raise damaged(self._database.path, f"the ledger's row of {row.path!r} fails its checksum")
            rows.append(row)
        return rows

    def forget(self, paths: Iterable[str]) -> None:
        """Removes the rows of ``paths``, for images that can be used now or should be tried again."""
        with self._database.writing(may_wait=True) as connection:
            connection.executemany("DELETE FROM ledger WHERE path = ?", ((stored_path(path),) for path in paths))


def _stored(failure: Failure, first_seen: str, last_seen: str) -> tuple[str | bytes | int, ...]:
    reason = failure.reason.encode("utf-8", "backslashreplace").decode()
    row = LedgerRow(failure.path, failure.size, failure.mtime_ns, reason, first_seen, last_seen)
    return stored_path(row.path), row.size, row.mtime_ns, row.reason, first_seen, last_seen, _seal(row)


def _seal(row: LedgerRow) -> int:
    return row_seal(row.path, row.size, row.mtime_ns, row.reason, row.first_seen, row.last_seen)
