"""The floors of W6: the commands of its restores, with next to nothing made of the answers.

All that the runtime sends while it restores the sessions is caught once, as it is packed. Each
round sends the same bytes again, two requests under way, and does no more with the answers than any
client in Python must: hiredis parses them. No claim is decided on, no session made, nobody waits.

The second floor also has each game's JSON form decoded, which no restore can do without, by the
fastest decoder there is.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, TypeAlias, cast
from unittest.mock import patch
from urllib.parse import urlsplit

import anyio
import hiredis

from benchmarks import _cold
from benchmarks._contest import Measure, Sample, Site
from benchmarks._presses import CHANNELS
from gamegirl.actors.session._trusted import decode_form
from gamegirl.supervisor import Supervisor
from gamegirl.supervisor.stores._redis_calls import PORTION, Request
from gamegirl.supervisor.stores._redis_wire import Wire

_Payload: TypeAlias = tuple[bytes, int]
"""Packed commands, and how many there are."""

_UNDER_WAY = 2
_CHUNK = 1 << 18

_FIRST = 4 * PORTION
"""So many are asked for in another way, while the store's habits aren't known yet."""


@asynccontextmanager
async def floor(site: Site) -> AsyncGenerator[Measure, None]:
    """The same commands, packed before."""
    async with _floor(site, lambda _: 0) as measure:
        yield measure


@asynccontextmanager
async def decoding_floor(site: Site) -> AsyncGenerator[Measure, None]:
    """The same, and each JSON form decoded."""
    async with _floor(site, _decode_forms) as measure:
        yield measure


def _decode_forms(answer: Any) -> int:
    """Decode the JSON forms among the answers of a transaction: they alone are plain texts."""
    if isinstance(answer, bytes):
        return 0  # To one of the commands around it.
    answers: Sequence[Any] = answer
    return len([decode_form(one) for one in answers if type(one) is bytes])


@asynccontextmanager
async def _floor(site: Site, use: Callable[[Any], int]) -> AsyncGenerator[Measure, None]:
    await _cold.make(site.redis)
    await anyio.to_thread.run_sync(_cold.renew, site.redis)
    requests = await _caught(site.redis)

    def run() -> Sample:
        _cold.renew(site.redis)
        took, used = _exchange(site.redis, requests, use)
        if 0 < used < CHANNELS - _FIRST:
            raise ValueError(f"{used} forms were decoded, not {CHANNELS}")
        if (owned := _cold.owners(site.redis)) != CHANNELS:
            raise ValueError(f"{owned} sessions were claimed, not {CHANNELS}")
        return {"per_second": CHANNELS / took}

    async def measure() -> Sample:
        return await anyio.to_thread.run_sync(run)

    yield measure


async def _caught(url: str) -> list[_Payload]:
    """What is sent while all sessions are restored."""
    sent: list[_Payload] = []
    exchange = Wire.exchange

    async def caught(wire: Wire, requests: Sequence[Request], **how: bool) -> list[list[Any]]:
        sent.extend((b"".join(parts), count) for parts, count in requests)
        return await exchange(wire, requests, **how)

    async with Supervisor(url) as supervisor:
        with patch.object(Wire, "exchange", caught):
            await _cold.restore(supervisor)
        return list(sent)  # Before it closes, which releases them all.


def _exchange(
    url: str, requests: Sequence[_Payload], use: Callable[[Any], int]
) -> tuple[float, int]:
    server = urlsplit(url)
    nothing = object()
    parser = cast(Any, hiredis).Reader(notEnoughData=nothing)
    with socket.create_connection((str(server.hostname), server.port or 6379)) as connection:
        connection.sendall(b"SELECT %s\r\n" % server.path.removeprefix("/").encode())
        parser.feed(connection.recv(_CHUNK))
        if parser.gets() != b"OK":
            raise ValueError("the server has no such database")
        used = 0
        started = perf_counter()
        for payload, _ in requests[:_UNDER_WAY]:
            connection.sendall(payload)
        for place, (_, count) in enumerate(requests):
            missing = count
            while missing:
                answer = parser.gets()
                if answer is nothing:
                    parser.feed(connection.recv(_CHUNK))
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    missing -= 1
                    used += use(answer)
            if place + _UNDER_WAY < len(requests):
                connection.sendall(requests[place + _UNDER_WAY][0])
        return perf_counter() - started, used
