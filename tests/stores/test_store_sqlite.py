"""What the SQLite store does with other processes, full disks and files that aren't its own."""

from __future__ import annotations

import errno
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gamegirl.actors import Fate, PutHash, PutText, StoreUnavailableError
from gamegirl.supervisor.stores import (
    ActorKey,
    Claim,
    Claimed,
    Commit,
    Done,
    Owned,
    Process,
    SqliteStore,
)
from gamegirl.supervisor.stores._locks import ProcessLocks

pytestmark = pytest.mark.anyio

ACTOR = ActorKey("session", "1234")

OTHER_PROCESS = """
import sys, anyio
from gamegirl.supervisor.stores import *

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open(Process("other"), 3.0)
    (result,) = await store.claim([Claim(ActorKey("session", "1234"), [], "n")])
    print(result.owner, flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


@contextmanager
def other_process(path: Path) -> Generator[subprocess.Popen[str]]:
    """Another operating system process that owns the actor."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(path)]
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().endswith(":n:other\n")
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "games.db"


async def owned(store: SqliteStore) -> Claimed:
    await store.open(Process("p1"), 3.0)
    (result,) = await store.claim([Claim(ACTOR, [], "n")])
    assert isinstance(result, Claimed)
    return result


def write(claim: Claimed, text: str = "x") -> Commit:
    return Commit(ACTOR, claim.owner, claim.revision + 1, "c", [PutText("t", text)])


async def test_other_process_keeps_its_actor_until_it_dies(path: Path) -> None:
    """A live process of the same machine is respected; a killed one is dead at once."""
    store = SqliteStore(path)
    await store.open(Process("p1"), 3.0)
    lock = Path(f"{path}.locks") / "other.lock"
    with other_process(path) as process:
        (result,) = await store.claim([Claim(ACTOR, [], "n")])
        assert isinstance(result, Owned)
        assert result.owner.endswith(":n:other")
        assert result.lease_seconds == 0.5
        assert lock.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        (result,) = await store.claim([Claim(ACTOR, [], "n")])
        assert isinstance(result, Claimed)
        assert (result.previous or "").endswith(":n:other")
        assert not lock.exists()
    await store.aclose()
    assert list(lock.parent.iterdir()) == []


async def test_busy_database(path: Path) -> None:
    """A database that somebody else is writing to is unavailable, and nothing was executed."""
    store = SqliteStore(path, timeout_seconds=0.05)
    claim = await owned(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="busy") as caught:
        await store.commit([write(claim)])
    assert caught.value.fate is Fate.NOT_EXECUTED
    assert list(await store.read(["t"])) == [None]
    other.execute("ROLLBACK")
    other.close()
    assert list(await store.commit([write(claim)])) == [Done()]
    await store.aclose()


async def test_new_database_that_another_is_making(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens a database while another process writes its first tables waits for that."""
    connect: Any = sqlite3.connect
    tries = 0
    other = connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    def connect_again(*arguments: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 2:
            other.execute("ROLLBACK")
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_again)
    store = SqliteStore(path)
    assert list(await store.commit([write(await owned(store))])) == [Done()]
    await store.aclose()
    other.close()


async def test_new_database_that_stays_busy(path: Path) -> None:
    """Opening a database is given up once it was busy for as long as was said."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="could not open: another process is busy"):
        await SqliteStore(path, timeout_seconds=0.05).open(Process("p1"), 3.0)
    other.close()


async def test_full_disk(path: Path) -> None:
    """A batch that finds the disk full is undone as a whole and can be sent again."""
    store = SqliteStore(path)
    claim = await owned(store)
    connection: Any = store._connection  # pyright: ignore[reportPrivateUsage]
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        await store.commit([write(claim, "x" * 1_000_000)])
    connection.execute("PRAGMA max_page_count = 1000000")
    assert list(await store.commit([write(claim, "x" * 1_000_000)])) == [Done()]
    await store.aclose()


class FailingCommit:
    """A connection whose transactions can't be ended."""

    def __init__(self, connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
        self._connection = connection
        self._statements = statements

    def execute(self, statement: str) -> object:
        if statement in self._statements:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("statements", [("COMMIT",), ("COMMIT", "ROLLBACK")])
async def test_failing_commit_is_in_doubt(path: Path, statements: tuple[str, ...]) -> None:
    """If the transaction's end fails, nobody knows, and sending it again settles it."""
    store = SqliteStore(path)
    claim = await owned(store)
    connection = store._connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None
    failing: Any = FailingCommit(connection, statements)
    store._connection = failing  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StoreUnavailableError, match="I/O") as caught:
        await store.commit([write(claim)])
    assert caught.value.fate is Fate.IN_DOUBT
    if "ROLLBACK" in statements:
        connection.execute("ROLLBACK")
    store._connection = connection  # pyright: ignore[reportPrivateUsage]
    assert list(await store.commit([write(claim)])) == [Done()]
    await store.aclose()


async def test_files_that_are_no_database(path: Path, tmp_path: Path) -> None:
    """Another file, a directory and a newer database are refused with what is wrong."""
    diary = anyio.Path(path)
    await diary.write_text("This is a diary, not a database. " * 50)
    with pytest.raises(StoreUnavailableError, match="no database"):
        await SqliteStore(path).open(Process("p1"), 3.0)
    assert (await diary.read_text()).startswith("This is a diary")
    with pytest.raises(StoreUnavailableError, match="open"):
        await SqliteStore(tmp_path).open(Process("p1"), 3.0)
    with pytest.raises(StoreUnavailableError, match=r"games\.db"):
        await SqliteStore(path / "below" / "a.db").open(Process("p1"), 3.0)
    newer = tmp_path / "newer.db"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailableError, match="newer GameGirl"):
        await SqliteStore(newer).open(Process("p1"), 3.0)


async def test_every_commit_waits_for_the_disk(path: Path) -> None:
    """The database is opened with a journal ahead of writes and full synchronisation."""
    store = SqliteStore(path)
    await store.open(Process("p1"), 3.0)
    connection: Any = store._connection  # pyright: ignore[reportPrivateUsage]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await store.aclose()


async def test_expired_keys_are_removed(path: Path) -> None:
    """What nobody can see any more leaves the file with the next claim."""
    now = 1000.0
    store = SqliteStore(path, wall=lambda: now)
    claim = await owned(store)
    commit = Commit(ACTOR, claim.owner, 1, "c", [PutHash("h", {"a": "1"}, ttl_seconds=5)])
    await store.commit([commit])
    now += 5
    await store.claim([Claim(ACTOR, [], "n")])
    connection: Any = store._connection  # pyright: ignore[reportPrivateUsage]
    query = "SELECT count(*) FROM fields WHERE key = ?"
    assert connection.execute(query, (b"h",)).fetchone() == (0,)
    await store.aclose()


async def test_natively_cancelled_caller_leaves_the_connection_alone(path: Path) -> None:
    """However many callers are cancelled, the connection is one thread's at a time."""
    store = SqliteStore(path)
    claim = await owned(store)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.read, ["t"])
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert list(await store.commit([write(claim)])) == [Done()]
    await store.aclose()


# The lock files.


async def test_lost_lock_file_is_made_again(path: Path) -> None:
    """If somebody tidies the lock files away, the next renewal makes ours anew."""
    store, other = SqliteStore(path), SqliteStore(path)
    await owned(store)
    await other.open(Process("p2"), 3.0)
    lock = Path(f"{path}.locks") / "p1.lock"
    await store.renew()
    lock.unlink()
    await store.renew()
    assert lock.exists()
    assert isinstance((await other.claim([Claim(ACTOR, [], "n")]))[0], Owned)
    lock.unlink()
    await store.aclose()
    await other.aclose()


async def test_lost_lock_file_is_made_again_once_it_can_be(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that could open no file fails, and leaves it to the next one to make ours anew."""
    store, other = SqliteStore(path), SqliteStore(path)
    await owned(store)
    await other.open(Process("p2"), 3.0)
    (Path(f"{path}.locks") / "p1.lock").unlink()

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("gamegirl.supervisor.stores._locks.os.open", refuse)
        with pytest.raises(StoreUnavailableError, match="Too many open files"):
            await store.renew()
    await store.renew()
    assert isinstance((await other.claim([Claim(ACTOR, [], "n")]))[0], Owned)
    await store.aclose()
    await other.aclose()


async def test_two_processes_of_one_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process of the same name is refused instead of taken for the first."""
    monkeypatch.setattr("gamegirl.supervisor.stores._locks._MAKE_SECONDS", 0.02)
    store, other = SqliteStore(path), SqliteStore(path)
    await store.open(Process("p1"), 3.0)
    with pytest.raises(StoreUnavailableError, match="'p1'"):
        await other.open(Process("p1"), 3.0)
    await other.aclose()
    await store.aclose()


async def test_lock_that_cannot_be_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is reported as unavailable."""

    def refuse(*_: object) -> None:
        raise OSError("no locks available")

    store = SqliteStore(path)
    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", refuse)
        with pytest.raises(StoreUnavailableError, match="no locks"):
            await store.open(Process("p1"), 3.0)
    await store.aclose()


def test_locks_are_never_lost_to_lookers(tmp_path: Path) -> None:
    """While many look for the dead and remove their files, no living lock disappears."""
    stop = threading.Event()
    faults: list[str] = []

    def look() -> None:
        locks = ProcessLocks(tmp_path)
        while not stop.is_set():
            locks.instance_of_living("p1")

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    mine, judge = ProcessLocks(tmp_path), ProcessLocks(tmp_path)
    for turn in range(300):
        mine.hold(Process("p1", f"bot{turn}"))
        if judge.instance_of_living("p1") != f"bot{turn}":
            faults.append(f"turn {turn}: taken for dead")
        if turn % 2:
            mine.let_go()
    stop.set()
    for looker in lookers:
        looker.join()
    mine.let_go()
    assert faults == []
    assert judge.instance_of_living("p1") is None
