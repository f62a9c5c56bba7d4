"""The catalog's rows of heads: what each was trained on, and how well it did."""

import json
from collections.abc import Mapping
from typing import Any

from penult.errors import UnknownNameError
from penult.store.catalog.database import Database
from penult.store.catalog.jobs import now, to_json
from penult.store.catalog.seals import row_seal
from penult.store.catalog.sqlite_errors import damaged


class Heads:
    """The table of heads: a card of plain values under each name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, name: str, card: Mapping[str, Any]) -> None:
        """Enters a head, in place of one of the same name."""
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
        """Returns every card under its head's name, in the order of the names."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, card, recorded, seal FROM heads ORDER BY name").fetchall()
        for *values, seal in rows:
            if seal != row_seal(*values):
                raise damaged(self._database.path, f"the row of the head {values[0]!r} fails its checksum")
        return {name: json.loads(card) for name, card, _, _ in rows}

    def remove(self, name: str) -> None:
        """Drops a head's row."""
        with self._database.writing() as connection:
            if connection.execute("DELETE FROM heads WHERE name = ?", (name,)).rowcount:
                return
        raise UnknownNameError.among("head", name, self.all())
