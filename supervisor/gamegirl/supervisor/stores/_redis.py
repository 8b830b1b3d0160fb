"""The store in Redis (or Valkey), standalone: one script call for each portion of a batch.

Commits travel on a connection that the loop itself serves (`Wire`). All else, and commits on a
client that can't have such a one, is done by the synchronous client in worker threads: it behaves
alike under asyncio and trio, and a cancelled caller can't leave a connection with half an answer in
it. redis-py's own retries are off: whoever has the commit ids decides what to resend.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, TypeVar

import redis
from anyio import CancelScope, CapacityLimiter, Lock, to_thread
from redis.exceptions import ResponseError

from gamegirl.actors import Fate, Stored, StoreUnavailableError
from gamegirl.supervisor.stores import (
    _encode,
    _redis_claims,
    _redis_client,
    _redis_errors,
    _redis_exchange,
    _redis_rights,
    _scripts,
    _typed,
)
from gamegirl.supervisor.stores._packing import parts_of
from gamegirl.supervisor.stores._protocol import (
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
from gamegirl.supervisor.stores._redis_calls import PORTION, Batch, Refused, Steps, evaluation
from gamegirl.supervisor.stores._redis_exchange import Connections
from gamegirl.supervisor.stores._redis_wire import Wire

T = TypeVar("T")

_PAGE = 1000
"""Members of the due index a script call, and key names a SCAN."""

_RUN_ID = re.compile(rb"run_id:([0-9a-f]+)")
"""A server's name for its own run: another one after every restart or failover."""

_UPTIME = re.compile(rb"uptime_in_seconds:([0-9]+)")
"""How long a server has run, rounded up or down."""

_NONSENSE = (LookupError, TypeError, ValueError, AttributeError)
"""What comes of answers that no script of ours gives."""

_SIDE_THREADS = 4
"""Threads for all that isn't a commit, so that a lease renewal never queues behind a batch."""


class RedisStore:
    """Keeps actors in a standalone Redis 6.2 or later, or Valkey.

    Args:
        target: A URL (`redis://`, `rediss://` or `unix://`), or a synchronous client, which stays
            yours to close (it must not decode responses; its retries should be off).
        timeout_seconds: For connecting and for each answer; the target's own `socket_timeout` wins.

    Raises:
        InvalidInputError: The target is no such URL or client.
    """

    portion = PORTION

    def __init__(self, target: str | redis.Redis, *, timeout_seconds: float = 2.0) -> None:
        if isinstance(target, str):
            self._client = _redis_client.client_for(target, timeout_seconds)
            self._shown = repr(_redis_client.shown(target))
        else:
            self._client = _redis_client.checked_client(target)
            self._shown = "<a client>"
        self._ours = isinstance(target, str)
        self._connections = Connections(self._client.connection_pool, timeout_seconds)
        self._process: Process | None = None
        self._lease_milliseconds = 0
        self._habits = _redis_claims.Habits()
        self._server = b""
        self._grace_ends = 0.0
        self._commit_threads: CapacityLimiter | None = None
        self._side_threads: CapacityLimiter | None = None
        self._wire: Wire | None = None
        self._wire_since = 0
        self._wiring = Lock()
        self._unfit = False
        self._closed = False
        self.threaded = True

    def __repr__(self) -> str:
        return f"RedisStore({self._shown})"

    async def open(self, process: Process, lease_seconds: float) -> None:
        """Get ready and make the process known as alive.

        Raises:
            StoreUnavailableError: Redis can't be reached, or our user lacks a right that it names.
        """
        self._process, self._closed = process, False
        self._lease_milliseconds = max(round(lease_seconds * 1000), 1)
        if self._wire is not None:
            await self._wire.aclose()
        self._commit_threads = self._side_threads = self._wire = None
        self._wiring = Lock()
        self._unfit = False
        await self._aside(self._check_rights)
        await self.renew()

    async def renew(self) -> bool:
        """Say that this process lives, for another `lease_seconds`."""
        process = self._opened()
        key = _typed.LEASE_PREFIX + process.name
        lease = ("SET", key, process.instance, "PX", str(self._lease_milliseconds), "GET")

        def run() -> bool:
            before, info = self._exchange("renew the lease", [lease, ("INFO", "server")])
            self._unfailed("renew the lease", [before])
            # Who may not ask for INFO still notices a lost lease.
            before_it = self._server
            self._see_server(info if isinstance(info, bytes) else b"")
            return before is not None and self._server == before_it

        return await self._aside(run)

    async def aclose(self) -> None:
        """Give up the lease and close the connections, unless the client is the caller's."""
        process, self._process = self._process, None
        self._closed = True
        if process is None and not self._ours:
            return

        def close() -> None:
            try:
                if process is not None:
                    key = _typed.LEASE_PREFIX + process.name
                    gone: tuple[Any, ...] = ("DEL", key)
                    if self._grace_left():
                        # A missing lease would be waited for.
                        gone = ("SET", key, b"\0", "PX", self._lease_milliseconds)
                    self._call("close", [gone])
            except StoreUnavailableError:
                pass  # The lease runs out by itself.
            finally:
                self._connections.close()
                if self._ours:
                    self._client.close()

        # Behind a batch that is still under way, whose connection must not be closed under it.
        with CancelScope(shield=True):  # Each of its waits has a timeout.
            if self._wire is not None:
                await self._wire.aclose()
            await to_thread.run_sync(close, limiter=self._committing())

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """Own each actor that is free."""
        claimer = [*self._claimer(self._opened()), b"%d" % (time.time() * 1000)]
        steps = _redis_claims.claiming(claims, claimer, self._habits)
        wire = await self._wired("claim")
        if wire is not None:
            return await self._over(wire, "claim", steps)
        return await self._aside(partial(self._through, "claim", steps))

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Make each commit, once, however often it is sent."""
        if self._closed:  # It would connect anew, and nobody would hang up.
            self._opened()
        steps = Batch(_typed.DUE_KEY, commits).steps(_scripts.COMMIT)
        wire = await self._wired("commit")
        if wire is not None:
            return await self._over(wire, "commit", steps, first=True)
        through = partial(self._through, "commit", steps)
        return await to_thread.run_sync(through, limiter=self._committing())

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the keys hold, without any claim."""
        steps = _redis_claims.holding(keys)
        if self._wire is not None and self._wire.alive:
            return await self._over(self._wire, "read", steps)
        return await self._aside(partial(self._through, "read", steps))

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """The keys as they are stored; absent ones have the value None."""
        steps = _redis_claims.reading(_redis_claims.portions_of(keys))
        answers = await self._aside(partial(self._through, "read", steps))
        return [_encode.entry(key, item) for key, item in zip(keys, answers, strict=True)]

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """The actors due from `since` to `until` (epoch seconds), both included, oldest first."""
        process = self._opened()
        first = b"-inf" if since == -inf else _encode.seconds(float(since))
        head = [*self._claimer(process), first, _encode.seconds(float(until))]

        def run() -> list[Due]:
            found: dict[str, Due] = {}  # A member that moves between two pages is seen twice.
            offset = 0
            while True:
                page = [*head, b"%d" % offset, b"%d" % _PAGE]
                steps = evaluation(_scripts.DUE, [([_typed.DUE_KEY], page)])
                answers = self._through("list what is due", steps)
                count, actors = self._understood(partial(_encode.due_actors, answers[0]))
                found.update(actors)
                offset += _PAGE
                if count < _PAGE:
                    return sorted(found.values(), key=lambda due: due.at)

        return await self._aside(run)

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """The names of the keys that begin so, in batches; each name once."""
        pattern = _typed.key_bytes(_escaped_glob(prefix) + "*")
        seen: set[bytes] = set()  # SCAN may give a key twice.
        cursor = b"0"
        since = self._connections.moves
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(_PAGE))

            def run(command: tuple[Any, ...] = command) -> tuple[bytes, list[bytes]]:
                (answer,) = self._call("list its keys", [command])
                return self._understood(lambda: (bytes(answer[0]), list(answer[1])))

            cursor, names = await self._aside(run)
            if self._connections.moves != since:
                # Another server's cursors say nothing to this one: names would be left out.
                raise StoreUnavailableError(
                    "Redis could not list its keys: another server became the primary meanwhile; "
                    "list them again",
                    fate=Fate.NOT_EXECUTED,
                )
            fresh = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(fresh)
            shown = [_typed.key_name(name) for name in fresh]
            if batch := [name for name in shown if not name.startswith(_typed.LEASE_PREFIX)]:
                yield batch
            if cursor == b"0":
                return

    def _claimer(self, process: Process) -> list[Any]:
        """Who asks, as the scripts want to know it: with the server that it knows."""
        grace, lease = b"%d" % self._grace_left(), b"%d" % self._lease_milliseconds
        return [process.name.encode(), process.instance.encode(), self._server, grace, lease]

    def _grace_left(self) -> int:
        """So many milliseconds nobody is taken over from for want of a lease."""
        return max(0, round((self._grace_ends - time.monotonic()) * 1000)) if self._server else 0

    # What runs in a worker thread.

    def _see_server(self, info: bytes) -> None:
        """Note which server it is; a new one may have lost the leases of the living."""
        run, up = _RUN_ID.search(info), _UPTIME.search(info)
        known, self._server = self._server, run[1] if run else b""
        if self._server != known:
            # One that was there long before us, and isn't in another's place, has lost none.
            age = max(int(up[1]) - 1, 0) if up and not known else 0
            self._grace_ends = time.monotonic() + self._lease_milliseconds / 1000 - age

    def _through(self, doing: str, steps: Steps[T]) -> T:
        """Take the steps on a connection of the pool's."""
        answers: list[list[Any]] | None = None
        while True:
            try:
                requests = next(steps) if answers is None else steps.send(answers)
            except StopIteration as done:
                result: T = done.value
                return result
            except Refused as refused:
                raise self._refusal(doing, refused.answers) from refused
            except _NONSENSE as error:
                raise _redis_errors.nonsense(error) from error
            answers = _redis_exchange.exchange(self._connections, doing, requests)

    def _check_rights(self) -> None:
        lacking = self._lacking("open")
        if lacking:
            raise StoreUnavailableError(
                f"Redis could not open: {_redis_errors.lacking(lacking)}", fate=Fate.NOT_EXECUTED
            )

    def _lacking(self, doing: str) -> Sequence[str]:
        question = [_redis_rights.QUESTION]
        (answers,) = _redis_exchange.exchange(self._connections, doing, question)
        try:
            return _redis_rights.lacking(answers)
        except ResponseError as error:
            raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error

    def _call(self, doing: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._unfailed(doing, self._exchange(doing, commands))

    def _unfailed(self, doing: str, answers: list[Any]) -> list[Any]:
        if any(isinstance(answer, ResponseError) for answer in answers):
            raise self._refusal(doing, answers)
        return answers

    def _refusal(self, doing: str, answers: Sequence[Any]) -> StoreUnavailableError:
        """The error for the first refusal among answers."""
        answer = next(one for one in answers if isinstance(one, ResponseError))
        # Other portions may have succeeded; all are idempotent and may be sent again.
        fate = Fate.IN_DOUBT if len(answers) > 1 else _fate_of(answer)
        lacking: Sequence[str] = ()
        if _redis_errors.denied(answer):
            with suppress(StoreUnavailableError):  # The refusal is said without it, too.
                lacking = self._lacking(doing)
        error = _redis_errors.unavailable(answer, doing, fate, lacking)
        error.__cause__ = answer
        return error

    def _exchange(self, doing: str, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send commands on one connection and read an answer (or a ResponseError) for each."""
        requests = ((parts_of(command), 1) for command in commands)
        answers = _redis_exchange.exchange(self._connections, doing, requests)
        return [answer for (answer,) in answers]

    def _understood(self, decode: Callable[[], T]) -> T:
        try:
            return decode()
        except _NONSENSE as error:
            raise _redis_errors.nonsense(error) from error

    # What the loop does itself.

    async def _wired(self, doing: str) -> Wire | None:
        """The connection that the loop serves, made if need be; None: ours don't fit."""
        if self._wire is not None and self._wire.alive:
            return self._wire
        async with self._wiring:
            if self._unfit:
                return None
            if self._wire is not None and self._wire.alive:
                return self._wire
            self._wire = None
            self._wire_since = self._connections.moves
            with CancelScope(shield=True):  # Or a connection could be lost on the way.
                connection = await self._aside(partial(self._connections.own, doing))
                if connection is not None and Wire.fits(connection):
                    self._wire = Wire(connection, connection.socket_timeout)
                elif connection is not None:
                    connection.disconnect()
                self.threaded = self._unfit = self._wire is None
            return self._wire

    async def _over(self, wire: Wire, doing: str, steps: Steps[T], *, first: bool = False) -> T:
        """Take the steps over the connection that the loop serves; `Wire.exchange` says more."""
        answers: list[list[Any]] | None = None
        while True:
            try:
                requests = list(next(steps) if answers is None else steps.send(answers))
            except StopIteration as done:
                result: T = done.value
                return result
            except Refused as refused:
                if any(map(_redis_errors.elsewhere, refused.answers)) and wire.failure is None:
                    self._connections.moved(self._wire_since)
                    self._leave_replica()
                refusal = partial(self._refusal, doing, refused.answers)
                raise await self._aside(refusal) from refused
            except _NONSENSE as error:
                wire.fail(ConnectionError(f"it answered nonsense: {error}"))
                raise _redis_errors.nonsense(error) from error
            try:
                answers = await wire.exchange(requests, first=first)
            except OSError as error:
                raise _redis_errors.unavailable(error, doing, Fate.IN_DOUBT) from error

    def _leave_replica(self) -> None:
        """Give up a connection that was made before another server was found to be the primary.

        What is under way on it is in doubt; a replica would have refused it.
        """
        if self._wire is not None and self._wire_since != self._connections.moves:
            self._wire.fail(ConnectionError("it is a read-only replica, no longer the primary"))

    # Threads.

    async def _aside(self, run: Callable[[], T]) -> T:
        if self._side_threads is None:
            self._side_threads = CapacityLimiter(_SIDE_THREADS)
        try:
            return await to_thread.run_sync(run, limiter=self._side_threads)
        finally:
            self._leave_replica()

    def _committing(self) -> CapacityLimiter:
        if self._commit_threads is None:
            self._commit_threads = CapacityLimiter(1)
        return self._commit_threads

    def _opened(self) -> Process:
        if self._process is None:
            raise StoreUnavailableError(
                f"{self!r} is not open: await its open() first", fate=Fate.NOT_EXECUTED
            )
        return self._process


def _fate_of(error: ResponseError) -> Fate:
    """A script that was refused before its first write did nothing; one that died may have."""
    return Fate.IN_DOUBT if "script" in str(error) else Fate.NOT_EXECUTED


def _escaped_glob(prefix: str) -> str:
    """The prefix as a pattern of SCAN that matches nothing else."""
    return "".join("\\" + mark if mark in "*?[]\\^" else mark for mark in prefix)
