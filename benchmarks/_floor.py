"""The floor of W6: the commands of its restores, with nothing made of what they are answered.

All that the runtime sends while it restores the sessions is caught once, as it is packed. Each
round sends the same bytes again, two requests under way, and does no more with the answers than any
client in Python must: hiredis parses them. No claim is decided on, no session made, nobody waits.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import urlsplit

import anyio
import hiredis

from benchmarks import _cold
from benchmarks._contest import Measure, Sample, Site
from benchmarks._presses import CHANNELS
from gamegirl.supervisor import Supervisor
from gamegirl.supervisor.stores._redis_calls import Request
from gamegirl.supervisor.stores._redis_wire import Wire

_UNDER_WAY = 2
_CHUNK = 1 << 18


@asynccontextmanager
async def floor(site: Site) -> AsyncGenerator[Measure, None]:
    """The same commands, packed before."""
    await _cold.make(site.redis)
    await anyio.to_thread.run_sync(_cold.renew, site.redis)
    requests = await _caught(site.redis)

    def run() -> Sample:
        _cold.renew(site.redis)
        took = _exchange(site.redis, requests)
        if (owned := _cold.owners(site.redis)) != CHANNELS:
            raise ValueError(f"{owned} sessions were claimed, not {CHANNELS}")
        return {"per_second": CHANNELS / took}

    async def measure() -> Sample:
        return await anyio.to_thread.run_sync(run)

    yield measure


async def _caught(url: str) -> list[Request]:
    """What is sent while all sessions are restored."""
    sent: list[Request] = []
    exchange = Wire.exchange

    async def caught(wire: Wire, requests: Sequence[Request]) -> list[list[Any]]:
        sent.extend(requests)
        return await exchange(wire, requests)

    async with Supervisor(url) as supervisor:
        with patch.object(Wire, "exchange", caught):
            await _cold.restore(supervisor)
        return list(sent)  # Before it closes, which releases them all.


def _exchange(url: str, requests: Sequence[Request]) -> float:
    server = urlsplit(url)
    nothing = object()
    parser = cast(Any, hiredis).Reader(notEnoughData=nothing)
    with socket.create_connection((str(server.hostname), server.port or 6379)) as connection:
        connection.sendall(b"SELECT %s\r\n" % server.path.removeprefix("/").encode())
        parser.feed(connection.recv(_CHUNK))
        if parser.gets() != b"OK":
            raise ValueError("the server has no such database")
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
            if place + _UNDER_WAY < len(requests):
                connection.sendall(requests[place + _UNDER_WAY][0])
        return perf_counter() - started
