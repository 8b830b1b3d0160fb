"""Typed keys in the tables of an SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

from gamegirl.actors import Stored, WrongType
from gamegirl.supervisor.stores import _typed

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    key BLOB PRIMARY KEY, type TEXT NOT NULL, text BLOB, expires REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_by_expiry ON keys (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS fields (
    key BLOB NOT NULL REFERENCES keys ON DELETE CASCADE,
    field BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (key, field)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    key BLOB NOT NULL REFERENCES keys ON DELETE CASCADE,
    position INTEGER NOT NULL, item BLOB NOT NULL, PRIMARY KEY (key, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS due (member TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due_by_time ON due (at, member);
"""


class Tables:
    """Typed keys in a database; whoever uses them holds a transaction.

    Args:
        wall: The clock for times to live, in epoch seconds: other processes read them too.
    """

    def __init__(self, connection: sqlite3.Connection, wall: Callable[[], float]) -> None:
        self._run = connection.execute
        self._run_many = connection.executemany
        self._wall = wall

    def create(self) -> None:
        """Make the tables, unless they are there."""
        for statement in _SCHEMA.split(";"):
            self._run(statement)
        self._run(f"PRAGMA user_version = {SCHEMA_VERSION:d}")

    def version(self) -> int:
        """The version of the tables; 0: there are none."""
        (version,) = self._run("PRAGMA user_version").fetchone()
        return int(version)

    def forget_expired(self) -> None:
        """Remove what nobody can see any more."""
        self._run("DELETE FROM keys WHERE expires <= ?", (self._wall(),))

    def type_of(self, key: bytes) -> str | None:
        """The type's name; None: the key is absent."""
        row = self._row(key)
        if row is not None:
            return row[0]
        return _typed.INDEX if key == _typed.DUE_KEY and self._any_due() else None

    def fields(self, key: bytes, names: Sequence[bytes]) -> Sequence[bytes | None]:
        """Fields of a hash (or of an absent key)."""
        if self._row(key) is None:
            return [None] * len(names)
        found: list[bytes | None] = []
        for name in names:
            row = self._run("SELECT value FROM fields WHERE key = ? AND field = ?", (key, name))
            value = row.fetchone()
            found.append(None if value is None else value[0])
        return found

    def load(self, key: bytes) -> Stored:
        """What the key holds."""
        row = self._row(key)
        if row is None:
            return WrongType(_typed.INDEX) if self.type_of(key) else None
        kind, text, _ = row
        if kind == _typed.TEXT:
            return text
        if kind == _typed.HASH:
            return dict(self._run("SELECT field, value FROM fields WHERE key = ?", (key,)))
        query = "SELECT item FROM items WHERE key = ? ORDER BY position"
        return [item for (item,) in self._run(query, (key,))]

    def ttl(self, key: bytes) -> int:
        """Seconds to live; -1: for ever, or absent."""
        row = self._row(key)
        return -1 if row is None or row[2] is None else round(row[2] - self._wall())

    def put_text(self, key: bytes, text: bytes) -> None:
        """Replace the key by a text."""
        self.drop(key)
        self._run("INSERT INTO keys VALUES (?, ?, ?, NULL)", (key, _typed.TEXT, text))

    def put_hash(self, key: bytes, fields: Mapping[bytes, bytes], ttl_seconds: int | None) -> None:
        """Replace the key by a hash."""
        self.drop(key)
        if fields:
            expires = None if ttl_seconds is None else self._wall() + ttl_seconds
            self._run("INSERT INTO keys VALUES (?, ?, NULL, ?)", (key, _typed.HASH, expires))
            self._add_fields(key, fields)

    def patch_hash(
        self, key: bytes, fields: Mapping[bytes, bytes], remove: Sequence[bytes]
    ) -> None:
        """Set fields, then remove fields; a hash without any is gone."""
        if fields:
            self._ensure(key, _typed.HASH)
            self._add_fields(key, fields)
        if remove:
            rows = [(key, name) for name in remove]
            self._run_many("DELETE FROM fields WHERE key = ? AND field = ?", rows)
            self._drop_if_empty(key, "fields")

    def put_list(self, key: bytes, items: Sequence[bytes]) -> None:
        """Replace the key by a list."""
        self.drop(key)
        self.append_list(key, items, len(items))

    def append_list(self, key: bytes, items: Sequence[bytes], keep: int) -> None:
        """Put items at the list's end, then let only the last `keep` stay."""
        if items:
            self._ensure(key, _typed.LIST)
        elif self._row(key) is None:
            return
        query = "SELECT min(position), max(position) FROM items WHERE key = ?"
        first, last = self._run(query, (key,)).fetchone()
        start = 0 if last is None else last + 1
        rows = [(key, start + index, item) for index, item in enumerate(items)]
        self._run_many("INSERT INTO items VALUES (?, ?, ?)", rows)
        end = start + len(items)
        if first is None or first < end - keep:
            self._run("DELETE FROM items WHERE key = ? AND position < ?", (key, end - keep))
        self._drop_if_empty(key, "items")

    def drop(self, key: bytes) -> None:
        """Remove the key, whatever it holds (its fields and items go with it)."""
        self._run("DELETE FROM keys WHERE key = ?", (key,))
        if key == _typed.DUE_KEY:
            self._run("DELETE FROM due")

    def schedule(self, member: str, at: float | None) -> None:
        """Put the actor into the due index, or take it out."""
        if at is None:
            self._run("DELETE FROM due WHERE member = ?", (member,))
        else:
            self._run("INSERT OR REPLACE INTO due VALUES (?, ?)", (member, at))

    def due(self, until: float, since: float) -> list[tuple[str, float]]:
        """The members of the due index from one time to another, in its order."""
        query = "SELECT member, at FROM due WHERE at BETWEEN ? AND ? ORDER BY at, member"
        return self._run(query, (since, until)).fetchall()

    def names(self, prefix: bytes, after: bytes, count: int) -> list[bytes]:
        """The next names that begin so, in their order."""
        query = (
            "SELECT key FROM keys WHERE key >= ? AND key > ? AND substr(key, 1, ?) = ?"
            " AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?"
        )
        end = _next_prefix(prefix)
        arguments: tuple[object, ...] = (prefix, after, len(prefix), prefix, self._wall(), count)
        if end is not None:
            query = query.replace(" ORDER BY", " AND key < ? ORDER BY")
            arguments = (*arguments[:-1], end, count)
        return [name for (name,) in self._run(query, arguments)]

    def has_index(self) -> bool:
        """Whether anything is in the due index."""
        return self._any_due()

    def _row(self, key: bytes) -> tuple[str, bytes, float | None] | None:
        query = "SELECT type, text, expires FROM keys WHERE key = ?"
        row: tuple[str, bytes, float | None] | None = self._run(query, (key,)).fetchone()
        if row is None or (row[2] is not None and row[2] <= self._wall()):
            return None
        return row

    def _any_due(self) -> bool:
        return self._run("SELECT 1 FROM due LIMIT 1").fetchone() is not None

    def _ensure(self, key: bytes, kind: str) -> None:
        if self._row(key) is None:
            self.drop(key)
            self._run("INSERT INTO keys VALUES (?, ?, NULL, NULL)", (key, kind))

    def _add_fields(self, key: bytes, fields: Mapping[bytes, bytes]) -> None:
        rows = [(key, name, value) for name, value in fields.items()]
        self._run_many("INSERT OR REPLACE INTO fields VALUES (?, ?, ?)", rows)

    def _drop_if_empty(self, key: bytes, table: str) -> None:
        query = f"SELECT 1 FROM {table} WHERE key = ? LIMIT 1"
        if self._run(query, (key,)).fetchone() is None:
            self.drop(key)


def _next_prefix(prefix: bytes) -> bytes | None:
    """The first name after all that begin so; None: there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
