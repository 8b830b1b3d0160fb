"""The store in a file: durable, without a server, for all processes of one machine.

One connection, one thread. A batch is one transaction (`BEGIN IMMEDIATE`, `synchronous=FULL`): one
wait for the disk. A commit's checks precede its writes, so one that is refused has written nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

from gamegirl.actors import Fate, Stored, StoreUnavailableError
from gamegirl.supervisor.stores import _typed
from gamegirl.supervisor.stores._locks import ProcessLocks
from gamegirl.supervisor.stores._protocol import (
    ActorKey,
    Broken,
    Claim,
    Claimed,
    Commit,
    Due,
    Entry,
    Outcome,
    Owned,
    Process,
)
from gamegirl.supervisor.stores._tables import SCHEMA_VERSION, Tables

T = TypeVar("T")

_SCAN_BATCH = 1000

_POLL_SECONDS = 0.5
"""What a live owner's lease is said to last: a file lock has no time, so ask again after that."""

_BUSY_SECONDS = 0.005
"""How long to wait before a busy database is opened again."""


class SqliteStore:
    """Keeps actors in an SQLite database.

    Beside it are SQLite's own `-wal` and `-shm` files and a directory `<path>.locks` that shows
    which processes live. The file must be on a local disk.

    Args:
        path: The database; it and its directories are made if missing.
        timeout_seconds: How long to wait for another process's transaction.
        wall: What times to live run on, in epoch seconds.
    """

    portion = 1024  # One transaction, one sync of the disk.
    threaded = True

    def __init__(
        self,
        path: str | Path,
        *,
        timeout_seconds: float = 2.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(path)
        self._timeout = timeout_seconds
        self._wall = wall
        self._locks = ProcessLocks(self._path.with_name(self._path.name + ".locks"))
        self._process: Process | None = None
        self._connection: sqlite3.Connection | None = None
        self._tables: Tables | None = None
        self._threads: CapacityLimiter | None = None
        # An asyncio task that is cancelled the native way leaves the limiter before its thread
        # is done; the connection must stay one thread's at a time all the same.
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._path)!r})"

    async def open(self, process: Process, lease_seconds: float) -> None:
        """Get ready and make the process known as alive, as long as it holds its file lock."""
        self._threads = None

        def run() -> None:
            self._connect()
            self._locks.hold(process)
            self._process = process

        await self._in_thread("open", run)

    async def renew(self) -> bool:
        """See to it that the process's lock file is still there."""
        await self._in_thread("renew the lock", self._locks.renew)
        return True

    async def aclose(self) -> None:
        """Give up the file lock and close the database."""

        def run() -> None:
            self._process = None
            self._locks.let_go()
            if self._connection is not None:
                connection, self._connection, self._tables = self._connection, None, None
                connection.close()

        with CancelScope(shield=True):
            await self._in_thread("close", run)

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """Own each actor that is free."""

        def run() -> list[Claimed | Owned | Broken]:
            process = self._opened()
            remaining = self._remaining_for(process)
            with self._transaction("IMMEDIATE") as tables:
                tables.forget_expired()
                moment = self._wall()
                return [
                    _typed.make_claim(tables, claim, process, remaining, moment) for claim in claims
                ]

        return await self._in_thread("claim", run)

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Make each commit, once, however often it is sent."""

        def run() -> list[Outcome]:
            with self._transaction("IMMEDIATE") as tables:
                return [_typed.make_commit(tables, commit) for commit in commits]

        return await self._in_thread("commit", run)

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the keys hold, without any claim."""

        def run() -> list[Stored]:
            with self._transaction("DEFERRED") as tables:
                return [tables.load(_typed.key_bytes(key)) for key in keys]

        return await self._in_thread("read", run)

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """The actors due from `since` to `until` (epoch seconds), both included, oldest first."""

        def run() -> list[Due]:
            remaining = self._remaining_for(self._opened())
            found: list[Due] = []
            with self._transaction("DEFERRED") as tables:
                for member, at in tables.due(until, since):
                    actor = ActorKey.of_member(member)
                    (value,) = tables.fields(_typed.key_bytes(actor.fence), (b"owner",))
                    owner = (value or b"").decode("utf-8", "replace")
                    seconds = remaining(_typed.process_of(owner)) if owner else 0.0
                    found.append(Due(actor, at, owner, seconds))
            return found

        return await self._in_thread("list what is due", run)

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """The names of the keys that begin so, in batches."""
        begin = _typed.key_bytes(prefix)
        after = b""
        while True:

            def run(after: bytes = after) -> list[bytes]:
                with self._transaction("DEFERRED") as tables:
                    names = tables.names(begin, after, _SCAN_BATCH)
                    if not after and tables.has_index() and _typed.DUE_KEY.startswith(begin):
                        names.append(_typed.DUE_KEY)
                    return names

            names = await self._in_thread("list its keys", run)
            if names:
                yield [_typed.key_name(name) for name in names]
            if len(names) < _SCAN_BATCH:
                return
            after = names[_SCAN_BATCH - 1]

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """The keys as they are stored; absent ones have the value None."""

        def run() -> list[Entry]:
            with self._transaction("DEFERRED") as tables:
                named = [(key, _typed.key_bytes(key)) for key in keys]
                return [Entry(key, tables.load(name), tables.ttl(name)) for key, name in named]

        return await self._in_thread("read", run)

    # What runs in the thread.

    def _connect(self) -> Tables:
        if self._connection is not None and self._tables is not None:
            return self._tables
        self._path.parent.mkdir(parents=True, exist_ok=True)
        deadline, left = time.monotonic() + self._timeout, self._timeout
        while True:
            try:
                self._connection, self._tables = self._new_connection(left)
                return self._tables
            except sqlite3.OperationalError as error:
                # Processes that meet at a new database would wait for each other while it is
                # turned to write-ahead logging: SQLite tells them "busy" without any wait.
                left = deadline - time.monotonic()
                if _code(error) != sqlite3.SQLITE_BUSY or left <= 0.0:
                    raise
            time.sleep(min(left, _BUSY_SECONDS))

    def _new_connection(self, timeout: float) -> tuple[sqlite3.Connection, Tables]:
        connection = sqlite3.connect(
            self._path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            tables = Tables(connection, self._wall)
            if (version := tables.version()) > SCHEMA_VERSION:
                raise StoreUnavailableError(
                    f"{self._path} was written by a newer GameGirl (tables of version {version}, "
                    f"this one knows {SCHEMA_VERSION}): upgrade, or use another file",
                    fate=Fate.NOT_EXECUTED,
                )
            if version < SCHEMA_VERSION:
                connection.execute("BEGIN IMMEDIATE")
                tables.create()
                connection.execute("COMMIT")
            connection.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000):d}")
        except BaseException:
            connection.close()
            raise
        return connection, tables

    @contextmanager
    def _transaction(self, kind: str) -> Generator[Tables]:
        tables = self._connect()
        connection = self._connection
        assert connection is not None
        connection.execute(f"BEGIN {kind}")
        try:
            yield tables
        except BaseException:
            _roll_back(connection)
            raise
        try:
            connection.execute("COMMIT")
        except BaseException as error:
            # A full disk, say: the transaction may still be open, and may be on the disk.
            _roll_back(connection)
            raise _InDoubtError from error

    def _remaining_for(self, process: Process) -> Callable[[str], float]:
        known: dict[str, float] = {}

        def remaining(name: str) -> float:
            if name not in known:
                instance = self._locks.instance_of_living(name) if name else None
                other = name != process.name
                taken_over = other and instance == process.instance and instance != ""
                known[name] = 0.0 if instance is None or taken_over else _POLL_SECONDS
            return known[name]

        return remaining

    def _opened(self) -> Process:
        if self._process is None:
            raise StoreUnavailableError(
                f"{self!r} is not open: await its open() first", fate=Fate.NOT_EXECUTED
            )
        return self._process

    async def _in_thread(self, doing: str, run: Callable[[], T]) -> T:
        if self._threads is None:
            self._threads = CapacityLimiter(1)

        def locked() -> T:
            with self._one_at_a_time:
                try:
                    return run()
                except _InDoubtError as error:
                    raise self._unavailable(doing, error.__cause__, Fate.IN_DOUBT) from error
                except (sqlite3.Error, OSError) as error:
                    raise self._unavailable(doing, error, Fate.NOT_EXECUTED) from error

        return await to_thread.run_sync(locked, limiter=self._threads)

    def _unavailable(
        self, doing: str, error: BaseException | None, fate: Fate
    ) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the database {self._path} could not {doing}: {_reason(error)}", fate=fate
        )


class _InDoubtError(Exception):
    """Ending a transaction failed; its cause says why."""


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.interrupt()  # SQLite has rolled back itself; what is wrong is raised anyway.


def _code(error: BaseException | None) -> int:
    """SQLite's primary code of an error; 0: it is none of SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _reason(error: BaseException | None) -> str:
    meaning = {
        sqlite3.SQLITE_BUSY: "another process is busy with it: it is tried again",
        sqlite3.SQLITE_LOCKED: "another process is busy with it: it is tried again",
        sqlite3.SQLITE_FULL: "the disk is full: make room, all goes on then",
        sqlite3.SQLITE_READONLY: "it is read-only: look at its permissions",
        sqlite3.SQLITE_CANTOPEN: "it can't be opened: look at its path and permissions",
        sqlite3.SQLITE_NOTADB: "the file is no database: give another path",
        sqlite3.SQLITE_CORRUPT: "the database is damaged: restore it from a copy",
        sqlite3.SQLITE_IOERR: "the disk fails",
    }.get(_code(error))
    return f"{meaning} ({error})" if meaning else str(error)
