"""The store in Redis (or Valkey), standalone: one script call for each portion of a batch.

The synchronous client runs in worker threads: it behaves alike under asyncio and trio, a cancelled
caller can't leave a connection with half an answer in it, and for batches it is faster than the
asynchronous one. redis-py's own retries are off: whoever has the commit ids decides what to resend.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import attrs
import redis
from anyio import CancelScope, CapacityLimiter, to_thread
from redis.exceptions import NoScriptError, ResponseError

from gamegirl.actors import Fate, Stored, StoreUnavailableError
from gamegirl.supervisor.stores import (
    _encode,
    _redis_claims,
    _redis_client,
    _redis_errors,
    _redis_rights,
    _redis_wire,
    _scripts,
    _typed,
)
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

T = TypeVar("T")

_Call: TypeAlias = tuple[list[Any], list[Any]]
"""A script's keys and arguments."""

_PORTION = 64
"""Commits, claims or keys a script call: few enough that nobody else waits long for the server."""

_PAGE = 1000

"""Members of the due index a script call, and key names a SCAN."""

_RUN_ID = re.compile(rb"run_id:([0-9a-f]+)")
"""A server's name for its own run: another one after every restart or failover."""

_UPTIME = re.compile(rb"uptime_in_seconds:([0-9]+)")
"""How long a server has run, rounded up or down."""

_SIDE_THREADS = 4
"""Threads for all that isn't a commit, so that a lease renewal never queues behind a batch."""


class RedisStore:
    """Keeps actors in a standalone Redis 6.2 or later, or Valkey.

    Args:
        target: A URL (`redis://`, `rediss://` or `unix://`), or a synchronous client, which stays
            yours to close (it must not decode responses; its retries should be off).
        timeout_seconds: For connecting and for each answer; the URL's `socket_timeout` wins.

    Raises:
        InvalidInputError: The target is no such URL or client.
    """

    def __init__(self, target: str | redis.Redis, *, timeout_seconds: float = 2.0) -> None:
        if isinstance(target, str):
            self._client = _redis_client.client_for(target, timeout_seconds)
            self._shown = repr(_redis_client.shown(target))
        else:
            self._client = _redis_client.checked_client(target)
            self._shown = "<a client>"
        self._ours = isinstance(target, str)
        self._process: Process | None = None
        self._lease_milliseconds = 0
        self._habits = _redis_claims.Habits()
        self._server = b""
        self._grace_ends = 0.0
        self._commit_threads: CapacityLimiter | None = None
        self._side_threads: CapacityLimiter | None = None

    def __repr__(self) -> str:
        return f"RedisStore({self._shown})"

    async def open(self, process: Process, lease_seconds: float) -> None:
        """Get ready and make the process known as alive.

        Raises:
            StoreUnavailableError: Redis can't be reached, or our user lacks a right that it names.
        """
        self._process = process
        self._lease_milliseconds = max(round(lease_seconds * 1000), 1)
        self._commit_threads = self._side_threads = None
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
                if self._ours:
                    self._client.close()

        # Behind a batch that is still under way, whose connection must not be closed under it.
        with CancelScope(shield=True):  # Each of its waits has a timeout.
            await to_thread.run_sync(close, limiter=self._committing())

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """Own each actor that is free."""
        claimer = self._claimer(self._opened())
        return await self._aside(lambda: self._claim(claims, claimer))

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Make each commit, once, however often it is sent."""

        def run() -> list[Outcome]:
            return self._batch(
                "commit",
                _scripts.COMMIT,
                ([_typed.DUE_KEY], []),
                commits,
                _encode.commit_arguments,
                _encode.outcome,
            )

        return await to_thread.run_sync(run, limiter=self._committing())

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the keys hold, without any claim."""
        return await self._aside(lambda: self._hold(keys))

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """The keys as they are stored; absent ones have the value None."""

        def run() -> list[Entry]:
            answers = self._read("read", _portions(keys))
            return [_encode.entry(key, item) for key, item in zip(keys, answers, strict=True)]

        return await self._aside(run)

    async def due(self, until: float) -> Sequence[Due]:
        """The actors due at or before `until` (epoch seconds), oldest first."""
        process = self._opened()
        head = [*self._claimer(process), repr(float(until)).encode()]

        def run() -> list[Due]:
            found: dict[str, Due] = {}  # A member that moves between two pages is seen twice.
            offset = 0
            while True:
                page = [*head, b"%d" % offset, b"%d" % _PAGE]
                script = _scripts.DUE
                answers = self._evaluate("list what is due", script, [([_typed.DUE_KEY], page)])
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
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(_PAGE))

            def run(command: tuple[Any, ...] = command) -> tuple[bytes, list[bytes]]:
                (answer,) = self._call("list its keys", [command])
                return self._understood(lambda: (bytes(answer[0]), list(answer[1])))

            cursor, names = await self._aside(run)
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

    def _batch(
        self,
        doing: str,
        script: _scripts.Script,
        head: _Call,
        requests: Sequence[Any],
        encode: Callable[[Any, list[Any], list[Any]], None],
        decode: Callable[[Any, Any], T],
    ) -> list[Any]:
        """Send the requests in portions, in one go, and bring the results into their order."""
        results: list[Any] = [None] * len(requests)
        sent: list[list[int]] = []

        def portions() -> Iterator[_Call]:
            for start in range(0, len(requests), _PORTION):
                keys, arguments = list(head[0]), list(head[1])
                indexes: list[int] = []
                for index in range(start, min(start + _PORTION, len(requests))):
                    try:
                        encode(requests[index], keys, arguments)
                    except (TypeError, ValueError, AttributeError) as error:
                        results[index] = _typed.unstorable(error)
                    else:
                        indexes.append(index)
                if indexes:
                    sent.append(indexes)
                    yield keys, arguments

        def understand() -> None:
            for indexes, answer in zip(sent, answers, strict=True):
                for index, item in zip(indexes, answer, strict=True):
                    results[index] = decode(requests[index], item)

        if requests:
            answers = self._evaluate(doing, script, portions())
            self._understood(understand)
        return results

    def _claim(
        self, claims: Sequence[Claim], claimer: Sequence[bytes]
    ) -> list[Claimed | Owned | Broken]:
        results: list[Any] = [None] * len(claims)
        portions: list[_redis_claims.Portion] = []

        def requests() -> Iterator[_redis_wire.Request]:
            for start in range(0, len(claims), _PORTION):
                indexes = range(start, min(start + _PORTION, len(claims)))
                portion = _redis_claims.portion_of(claims, indexes, claimer, self._habits, results)
                if portion.indexes:
                    portions.append(portion)
                    yield portion.request

        answers = self._transact("claim", requests(), _scripts.CLAIM)

        def understand() -> list[int]:
            taken = zip(portions, answers, strict=True)
            return [
                index
                for portion, answer in taken
                for index in _redis_claims.take(claims, portion, answer, results)
            ]

        unexpected = [i for i in self._understood(understand) if isinstance(results[i], Claimed)]
        if unexpected:
            parts: list[list[str]] = [[]]
            for i in unexpected:  # All keys of an actor in one part, so that they fit together.
                if len(parts[-1]) + len(claims[i].keys) > _PORTION:
                    parts.append([])
                parts[-1] += claims[i].keys
            loaded = iter(self._read("claim", parts))
            for i in unexpected:
                stored = [_encode.stored(next(loaded)) for _ in claims[i].keys]
                self._habits.note(claims[i].actor.kind, stored)
                results[i] = attrs.evolve(results[i], stored=stored)
        return results

    def _hold(self, keys: Sequence[str]) -> list[Stored]:
        portions = _portions(keys)
        found: list[Stored] = []
        answers = self._transact("read", [_redis_claims.hashes(part) for part in portions])
        for part, values in zip(portions, answers, strict=True):
            if _redis_claims.has_errors(values):
                found += map(_encode.stored, self._read("read", [part]))
            else:
                found += map(_redis_claims.fields_of, values)
        return found

    def _read(self, doing: str, portions: Sequence[Sequence[str]]) -> list[Any]:
        """What the script says of keys; each portion of them at one moment."""
        calls: list[_Call] = [([_typed.key_bytes(key) for key in part], []) for part in portions]
        answers = self._evaluate(doing, _scripts.READ, calls)
        return self._understood(
            lambda: [
                item
                for part, answer in zip(portions, answers, strict=True)
                for _, item in zip(part, answer, strict=True)
            ]
        )

    def _transact(
        self,
        doing: str,
        requests: Iterable[_redis_wire.Request],
        script: _scripts.Script | None = None,
    ) -> list[list[Any]]:
        """Send transactions; what each of their commands is answered, a wrong type included.

        A script that they call, if any, is their first command.
        """
        sent: list[_redis_wire.Request] = []

        def noted() -> Iterator[_redis_wire.Request]:
            for request in requests:
                sent.append(request)
                yield request

        pool = self._client.connection_pool
        answers = [self._executed(doing, a) for a in _redis_wire.exchange(pool, doing, noted())]
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer[0], NoScriptError)]
        if unknown and script is not None:
            # The server was restarted, or flushed its scripts: those did nothing.
            load = (_redis_wire.PACK(("SCRIPT", "LOAD", script.text)), 1)
            again = [load, *(sent[i] for i in unknown)]
            loaded, *rest = _redis_wire.exchange(pool, doing, again)
            self._unfailed(doing, loaded)
            for i, answer in zip(unknown, rest, strict=True):
                answers[i] = self._executed(doing, answer)
        for answer in answers:
            if _redis_claims.has_errors(answer):
                self._unfailed(doing, [one for one in answer if _failed(one)])
        return answers

    def _executed(self, doing: str, answers: list[Any]) -> list[Any]:
        executed: Any = answers[-1]
        if not isinstance(executed, list):
            self._unfailed(doing, answers)  # One of the commands was refused, and so was EXEC.
        return self._understood(lambda: _at_least_one(executed))

    def _evaluate(self, doing: str, script: _scripts.Script, calls: Iterable[_Call]) -> list[Any]:
        """Call the script for each of the keys and arguments, in one round trip if it is known."""
        commands: list[tuple[Any, ...]] = []

        def made() -> Iterator[tuple[Any, ...]]:
            for keys, arguments in calls:
                command = ("EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)
                commands.append(command)
                yield command

        answers = self._exchange(doing, made())
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            # The server was restarted, or flushed its scripts: those calls did nothing.
            again = [("SCRIPT", "LOAD", script.text), *(commands[i] for i in unknown)]
            loaded, *rest = self._exchange(doing, again)
            self._unfailed(doing, [loaded])
            for i, answer in zip(unknown, rest, strict=True):
                answers[i] = answer
        return self._unfailed(doing, answers)

    def _check_rights(self) -> None:
        lacking = self._lacking("open")
        if lacking:
            raise StoreUnavailableError(
                f"Redis could not open: {_redis_errors.lacking(lacking)}", fate=Fate.NOT_EXECUTED
            )

    def _lacking(self, doing: str) -> Sequence[str]:
        pool = self._client.connection_pool
        (answers,) = _redis_wire.exchange(pool, doing, [_redis_rights.QUESTION])
        try:
            return _redis_rights.lacking(answers)
        except ResponseError as error:
            raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error

    def _call(self, doing: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._unfailed(doing, self._exchange(doing, commands))

    def _unfailed(self, doing: str, answers: list[Any]) -> list[Any]:
        for answer in answers:
            if isinstance(answer, ResponseError):
                # Other portions may have succeeded; all are idempotent and may be sent again.
                fate = Fate.IN_DOUBT if len(answers) > 1 else _fate_of(answer)
                lacking: Sequence[str] = ()
                if _redis_errors.denied(answer):
                    with suppress(StoreUnavailableError):  # The refusal is said without it, too.
                        lacking = self._lacking(doing)
                raise _redis_errors.unavailable(answer, doing, fate, lacking) from answer
        return answers

    def _exchange(self, doing: str, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send commands on one connection and read an answer (or a ResponseError) for each."""
        pool: Any = self._client.connection_pool
        try:
            connection = pool.get_connection()
        except (redis.RedisError, OSError, ValueError) as error:
            raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error
        whole = False
        try:
            sent = 0
            for command in commands:
                # One after the other, so that the server works while the next one is made.
                connection.send_packed_command((_redis_wire.PACK(command),))
                sent += 1
            answers: list[Any] = []
            for _ in range(sent):
                try:
                    answers.append(connection.read_response())
                except ResponseError as error:
                    answers.append(error)
            whole = True
            return answers
        except (redis.RedisError, OSError) as error:
            raise _redis_errors.unavailable(error, doing, Fate.IN_DOUBT) from error
        finally:
            if not whole:
                connection.disconnect()  # There may be half an answer in it.
            pool.release(connection)

    def _understood(self, decode: Callable[[], T]) -> T:
        try:
            return decode()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreUnavailableError(
                f"Redis answered a script in a way that nobody understands ({error}): "
                "is it a Redis 6.2 to 8 or a Valkey?",
                fate=Fate.IN_DOUBT,
            ) from error

    # Threads.

    async def _aside(self, run: Callable[[], T]) -> T:
        if self._side_threads is None:
            self._side_threads = CapacityLimiter(_SIDE_THREADS)
        return await to_thread.run_sync(run, limiter=self._side_threads)

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


def _portions(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[at : at + _PORTION] for at in range(0, len(keys), _PORTION)]


def _at_least_one(answers: Any) -> list[Any]:
    if type(cast(object, answers)) is list and answers:
        return cast("list[Any]", answers)
    raise ValueError(f"no answers of a transaction: {answers!r:.200}")


def _failed(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and not str(answer).startswith("WRONGTYPE")


def _fate_of(error: ResponseError) -> Fate:
    """A script that was refused before its first write did nothing; one that died may have."""
    return Fate.IN_DOUBT if "script" in str(error) else Fate.NOT_EXECUTED


def _escaped_glob(prefix: str) -> str:
    """The prefix as a pattern of SCAN that matches nothing else."""
    return "".join("\\" + mark if mark in "*?[]\\^" else mark for mark in prefix)
