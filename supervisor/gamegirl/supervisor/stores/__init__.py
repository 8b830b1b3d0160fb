"""Stores: memory, SQLite and Redis behind one protocol."""

from gamegirl.supervisor.stores._memory import MemoryStore
from gamegirl.supervisor.stores._open import open_store
from gamegirl.supervisor.stores._protocol import (
    KEEP_DUE,
    ActorKey,
    BadType,
    Broken,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Due,
    Entry,
    Fenced,
    Outcome,
    Owned,
    Process,
    Store,
    Unmet,
)
from gamegirl.supervisor.stores._redis import RedisStore
from gamegirl.supervisor.stores._sqlite import SqliteStore

__all__ = [
    "KEEP_DUE",
    "ActorKey",
    "BadType",
    "Broken",
    "Claim",
    "Claimed",
    "Commit",
    "Conflict",
    "Done",
    "Due",
    "Entry",
    "Fenced",
    "MemoryStore",
    "Outcome",
    "Owned",
    "Process",
    "RedisStore",
    "SqliteStore",
    "Store",
    "Unmet",
    "open_store",
]
