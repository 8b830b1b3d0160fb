"""Conditions of a Redis in which it is there, and doesn't do what it is asked."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import redis
from anyio import to_thread

from gamegirl.chaos._errors import BenchError
from gamegirl.chaos._redis_server import RedisServer

_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.01
_JUNK = "junk:"
_JUNK_BYTES = 10_000
_LOADED_KEYS = 9_000
_LOAD_MICROSECONDS = "60"
_SECRET = "another password"
_IDLE = 3


class Condition:
    """One of them, at one server.

    Attributes:
        name: What it is, for people.
        says: Parts of the texts of which an error in this condition must have one.
        options: Of the server, from its start.
        lasts: It ends by itself; `begin` returns when it has.
        admits: Some commits are made all the same.
    """

    name = ""
    says: tuple[str, ...] = ()
    options: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    lasts = False
    admits = False

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client: Any = server.client()

    async def prepare(self) -> None:
        """Before any load."""

    async def ready(self) -> None:
        """Before each time."""

    async def begin(self) -> None:
        """From now on."""

    def over(self) -> float:
        """The earliest moment at which it may be over, on the monotonic clock; asked at its end."""
        return time.monotonic()

    async def end(self) -> None:
        """No longer."""

    def close(self) -> None:
        """Let go of the server."""
        self.client.close()

    async def _do(self, work: Callable[[], Any]) -> Any:
        return await to_thread.run_sync(work)


class OutOfMemory(Condition):
    """`maxmemory` is reached, and nothing is evicted.

    A script may go on that has freed something before it takes anything, as a close does and a
    record, with all that is behind it in the same call.
    """

    name = "maxmemory reached"
    says = ("it is out of memory",)
    admits = True

    async def begin(self) -> None:
        await self._do(self._fill)

    def _fill(self) -> None:
        used = self.client.info("memory")["used_memory"]
        self.client.config_set("maxmemory", used + 40 * _JUNK_BYTES)
        with contextlib.suppress(redis.OutOfMemoryError):
            for number in range(1000):
                self.client.set(f"{_JUNK}{number}", b"x" * _JUNK_BYTES)
        # What the load frees must not be enough for it: it is full, and stays so.
        self.client.config_set("maxmemory", self.client.info("memory")["used_memory"] // 2)

    async def end(self) -> None:
        def work() -> None:
            self.client.delete(*self.client.keys(f"{_JUNK}*"))
            self.client.config_set("maxmemory", 0)

        await self._do(work)


class Replica(Condition):
    """A failover has made it a replica of a server that can't be reached."""

    name = "turned replica"
    says = ("it is a read-only replica",)

    async def begin(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
        await self._do(lambda: self.client.replicaof("127.0.0.1", port))

    async def end(self) -> None:
        await self._do(lambda: self.client.replicaof("NO", "ONE"))


class CantSave(Condition):
    """MISCONF: its snapshots fail, since their file can't be written."""

    name = "MISCONF"
    says = ("it can't save to its disk",)

    async def begin(self) -> None:
        snapshot = self.server.folder / "dump.rdb"
        snapshot.unlink(missing_ok=True)
        snapshot.mkdir()  # Not by rights: they would not stop a superuser.
        await self._save("err")
        await self._do(lambda: self.client.config_set("save", "3600 1"))

    async def end(self) -> None:
        (self.server.folder / "dump.rdb").rmdir()
        await self._save("ok")
        await self._do(lambda: self.client.config_set("save", ""))

    async def _save(self, wanted: str) -> None:
        def ended() -> bool:
            found = self.client.info("persistence")
            if found["rdb_bgsave_in_progress"]:
                return False
            if found["rdb_last_bgsave_status"] == wanted:
                return True
            self.client.bgsave()
            return False

        def work() -> None:
            self.client.bgsave()
            _wait_until(ended, f"a snapshot of redis-server does not end with {wanted!r}")

        await self._do(work)


class Busy(Condition):
    """Somebody else's script runs and runs."""

    name = "BUSY"
    says = ("it is busy with somebody's long script", "it did not answer in time")

    async def prepare(self) -> None:
        await self._do(lambda: self.client.config_set("lua-time-limit", 50))

    async def begin(self) -> None:
        # The answer, that it was killed, is nobody's to read.
        self._script = socket.create_connection(("127.0.0.1", self.server.port))
        self._script.sendall(b'EVAL "while true do end" 0\r\n')

    async def end(self) -> None:
        await self._do(lambda: _wait_until(self._killed, "the long script can't be killed"))
        self._script.close()

    def _killed(self) -> bool:
        with contextlib.suppress(redis.ResponseError):
            self.client.script_kill()
            return True
        return False


class Loading(Condition):
    """It was started anew and reads its data.

    Meanwhile it answers after so many bytes of a snapshot, but only every thousand commands of a
    log: it would be silent for as long as callers wait. So its log is hardly more than a snapshot.
    """

    name = "LOADING"
    says = ("it is still loading its data set", "no connection", "it did not answer in time")
    options = {  # noqa: RUF012
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-use-rdb-preamble": "yes",
        "loading-process-events-interval-bytes": "1024",
    }
    lasts = True

    async def prepare(self) -> None:
        def work() -> None:
            pipe = self.client.pipeline(transaction=False)
            for number in range(_LOADED_KEYS):
                pipe.set(f"{_JUNK}{number}", b"x")
            pipe.execute()

        await self._do(work)

    async def ready(self) -> None:
        def work() -> None:
            self.client.bgrewriteaof()
            _wait_until(self._rewritten, "redis-server does not rewrite its log")

        await self._do(work)

    def _rewritten(self) -> bool:
        found = self.client.info("persistence")
        return not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])

    async def begin(self) -> None:
        self.server.kill()
        await self.server.start(**{"key-load-delay": _LOAD_MICROSECONDS})

    def over(self) -> float:
        return self.server.refused


class WrongPassword(Condition):
    """Its password was changed, and whoever was connected is thrown out."""

    name = "wrong password"
    says = ("it refuses our user or password",)

    async def begin(self) -> None:
        def work() -> None:
            self.client.config_set("requirepass", _SECRET)
            _throw_out(self.client, [])

        self.client.close()
        self.client = self.server.client()
        # One connection, which stays: it is known already.
        self.client = self.client.client()
        await self._do(work)

    async def end(self) -> None:
        await self._do(lambda: self.client.config_set("requirepass", ""))


class NoConnections(Condition):
    """Others have taken all the connections there may be."""

    name = "max clients"
    says = ("it has no connection left for us",)

    async def begin(self) -> None:
        self.client = self.server.client().client()
        self._idle = [self.server.client().client() for _ in range(_IDLE)]

        def work() -> None:
            ours = [client.client_id() for client in self._idle]
            self.client.config_set("maxclients", 1 + _IDLE)
            _throw_out(self.client, ours)

        await self._do(work)

    async def end(self) -> None:
        def work() -> None:
            self.client.config_set("maxclients", 10_000)
            for client in self._idle:
                client.close()

        await self._do(work)


def _wait_until(done: Callable[[], bool], complaint: str) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > until:
            raise BenchError(complaint)
        time.sleep(_LOOK_SECONDS)


def _throw_out(client: Any, but: list[int]) -> None:
    """Close all connections but the client's own and these."""
    own = client.client_id()
    for found in client.client_list():
        if int(found["id"]) not in (own, *but):
            with contextlib.suppress(redis.ResponseError):  # It has gone by itself.
                client.client_kill_filter(_id=found["id"])


CONDITIONS: tuple[type[Condition], ...] = (
    OutOfMemory,
    Replica,
    CantSave,
    Busy,
    Loading,
    WrongPassword,
    NoConnections,
)


@attrs.frozen
class Span:
    """When a condition held, on the monotonic clock.

    Attributes:
        began: Nothing of it before.
        held: From here on nothing was committed any more, until it was over.
        over: It is over between this and `ended`.
    """

    began: float
    held: float
    over: float
    ended: float


async def hold(condition: Condition, seconds: float) -> Span:
    """Have it for so long, or for as long as it lasts."""
    await condition.ready()
    began = time.monotonic()
    await condition.begin()
    held = began
    if not condition.lasts:
        held = time.monotonic()
        await anyio.sleep(seconds)
    over = condition.over()
    await condition.end()
    return Span(began, over if condition.admits else held, over, time.monotonic())
