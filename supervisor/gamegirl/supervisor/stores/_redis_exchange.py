"""One exchange with a Redis: packed commands out, their answers back, on one connection."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import attrs
import redis
from redis.exceptions import ExecAbortError, ResponseError

from gamegirl.actors import Fate
from gamegirl.supervisor.stores import _redis_errors
from gamegirl.supervisor.stores._redis_calls import Request

_PUSHED = frozenset(
    (
        "maint_notifications_config",
        "maint_notifications_pool_handler",
        "oss_cluster_maint_notifications_handler",
    )
)
"""Options for messages that come between answers; with them some parsers take protocol 3 only."""


@attrs.define(eq=False)
class Connections:
    """Connections to the primary, as a client's pool makes them.

    After a failover the old primary may live on as a replica and keep its clients, which came to it
    by a name that leads elsewhere now. It refuses what they write, but answers what they read. So
    once one connection has found out, all that are older are made anew before they are used.

    Attributes:
        pool: The client's; or one of ours like it, if connecting would take as long as it likes.
        timeout_seconds: For connecting and for each answer, if the client has no timeout: a network
            that just falls silent would end nothing for as long as the system keeps on trying.
        moves: How often a server was found not to be the primary any more.
    """

    pool: Any
    timeout_seconds: float
    moves: int = 0
    _made: redis.ConnectionPool | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._made = _bounded(self.pool, self.timeout_seconds)
        if self._made is not None:
            self.pool = self._made

    def close(self) -> None:
        """Close those that aren't the client's own."""
        if self._made is not None:
            self._made.disconnect()

    def moved(self, since: int) -> None:
        """One that was made after so many moves has found its server not to be the primary."""
        if self.moves == since:  # Else others of its age have found out before.
            self.moves += 1

    def take(self, doing: str) -> Any:
        """A connection of the pool's, which must be given back.

        Raises:
            StoreUnavailableError: There is none to be had.
        """
        since = self.moves
        try:
            connection = self.pool.get_connection()
            try:
                if getattr(connection, "gamegirl_moves", 0) != since:
                    connection.disconnect()
                    connection.connect()
                connection.gamegirl_moves = since
                _limit(connection, self.timeout_seconds)
            except BaseException:
                self.pool.release(connection)
                raise
        except (redis.RedisError, OSError, ValueError) as error:
            raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error
        return connection

    def give_back(self, connection: Any) -> None:
        """Let the pool have a connection again, as it was: its host may wait for ever on it."""
        with suppress(OSError):
            _limit(connection, None)
        self.pool.release(connection)

    def own(self, doing: str) -> Any:
        """A connection like the pool's, of which it knows nothing, but with protocol 2.

        Returns:
            None if the pool's connections can't be made so.

        Raises:
            StoreUnavailableError: There is none to be had.
        """
        try:
            try:
                options = {**self.pool.connection_kwargs, "protocol": 2}
                for name in _PUSHED.intersection(options):
                    del options[name]
                connection = self.pool.connection_class(**options)
                for name in ("socket_timeout", "socket_connect_timeout"):
                    if getattr(connection, name) is None:
                        setattr(connection, name, self.timeout_seconds)
            except (AttributeError, TypeError):  # A pool or connections of the host's own making.
                return None
            connection.connect()
        except (redis.RedisError, OSError, ValueError) as error:
            raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error
        return connection


def exchange(connections: Connections, doing: str, requests: Iterable[Request]) -> list[list[Any]]:
    """Send requests and read what each is answered: values, or a `ResponseError` for a refusal.

    Args:
        connections: Where the connection comes from.
        doing: What for, to say so if it fails.
        requests: They go out one after the other, so that the server works while the next one is
            made.

    Raises:
        StoreUnavailableError: There was no connection, or it broke.
    """
    connection = connections.take(doing)
    keep = False
    try:
        counts: list[int] = []
        for parts, count in requests:
            connection.send_packed_command((b"".join(parts),))
            counts.append(count)
        answers = [_read(connection, count) for count in counts]
        if any(map(_elsewhere, answers)):
            connections.moved(connection.gamegirl_moves)
        else:
            keep = all(map(ended, answers))
        return answers
    except (redis.RedisError, OSError) as error:
        raise _redis_errors.unavailable(error, doing, Fate.IN_DOUBT) from error
    finally:
        if not keep:
            # There may be half an answer in it, or half a transaction, or it leads to a replica.
            connection.disconnect()
        connections.give_back(connection)


def ended(answers: list[Any]) -> bool:
    """Whether a transaction, if it was one, is over: who may not end it has it left open.

    One of which a command was refused (the server is full, or still loads) is thrown away by its
    `EXEC`, which says so.
    """
    return len(answers) == 1 or isinstance(answers[-1], list | ExecAbortError)


_KINDS = (redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection)
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")


def _bounded(pool: Any, seconds: float) -> redis.ConnectionPool | None:
    """A pool like a client's but with timeouts, if that one has none and is an ordinary one."""
    options: dict[str, Any] = getattr(pool, "connection_kwargs", {})
    missing = [name for name in _TIMEOUTS if options.get(name) is None]
    ordinary = isinstance(pool, redis.ConnectionPool) and pool.connection_class in _KINDS
    if not missing or not ordinary:
        return None
    timeouts = dict.fromkeys(missing, seconds)
    make: Any = redis.ConnectionPool
    made: redis.ConnectionPool = make(pool.connection_class, **{**options, **timeouts})
    return made


def _limit(connection: Any, seconds: float | None) -> None:
    """Let a connection that has no timeout of its own wait no longer than that."""
    own = getattr(connection, "_sock", None)
    if isinstance(own, socket.socket) and connection.socket_timeout is None:
        own.settimeout(seconds)


def _elsewhere(answers: list[Any]) -> bool:
    """Whether a server says to a request that another one is the primary now."""
    said = list(answers)
    if len(answers) > 1 and isinstance(answers[-1], list):
        said += answers[-1]  # What EXEC gives.
    return any(map(_redis_errors.elsewhere, said))


def _read(connection: Any, count: int) -> list[Any]:
    """Read so many answers.

    redis-py takes microseconds to look at each answer that is already here, so those are taken from
    the parser it has read them into. Under protocol 3 there may be messages between them, which are
    redis-py's to see to.
    """
    parser = getattr(connection, "_parser", None)
    reader = getattr(parser, "_reader", None) if connection.protocol in (2, "2") else None
    answers: list[Any] = []
    while len(answers) < count:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:
            answers.append(error)
        if reader is None:
            continue
        while len(answers) < count and reader.has_data():
            answer = reader.gets()
            if type(answer) is object:  # What redis-py has it give for half an answer.
                break
            if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                raise answer
            answers.append(answer)
    return answers
