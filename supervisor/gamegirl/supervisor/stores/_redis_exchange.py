"""One exchange with a Redis: packed commands out, their answers back, on one connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis
from redis.exceptions import ResponseError

from gamegirl.actors import Fate
from gamegirl.supervisor.stores import _redis_errors
from gamegirl.supervisor.stores._redis_calls import Request


def exchange(pool: Any, doing: str, requests: Iterable[Request]) -> list[list[Any]]:
    """Send requests and read what each is answered: values, or a `ResponseError` for a refusal.

    Args:
        pool: Where the connection comes from.
        doing: What for, to say so if it fails.
        requests: They go out one after the other, so that the server works while the next one is
            made.

    Raises:
        StoreUnavailableError: There was no connection, or it broke.
    """
    connection = connect(pool, doing)
    whole = False
    try:
        counts: list[int] = []
        for parts, count in requests:
            connection.send_packed_command((b"".join(parts),))
            counts.append(count)
        answers = [_read(connection, count) for count in counts]
        whole = all(map(ended, answers))
        return answers
    except (redis.RedisError, OSError) as error:
        raise _redis_errors.unavailable(error, doing, Fate.IN_DOUBT) from error
    finally:
        if not whole:
            connection.disconnect()  # There may be half an answer in it, or half a transaction.
        pool.release(connection)


def connect(pool: Any, doing: str) -> Any:
    """A connection of the pool's, which must get it back.

    Raises:
        StoreUnavailableError: There is none to be had.
    """
    try:
        return pool.get_connection()
    except (redis.RedisError, OSError, ValueError) as error:
        raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error


def own(pool: Any, doing: str) -> Any:
    """A connection as the pool makes them, of which it knows nothing.

    Raises:
        StoreUnavailableError: There is none to be had.
    """
    try:
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.connect()
    except (redis.RedisError, OSError, ValueError) as error:
        raise _redis_errors.unavailable(error, doing, Fate.NOT_EXECUTED) from error
    return connection


def ended(answers: list[Any]) -> bool:
    """Whether a transaction, if it was one, is over: who may not end it has it left open."""
    return len(answers) == 1 or isinstance(answers[-1], list)


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
