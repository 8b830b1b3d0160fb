"""W7: what one durable press costs, on a real Redis, as the game and the program around it grow.

With a roster of 1,000 instead of 10, and a history of 50 records instead of none, it is counted
which commands the server runs, those of scripts included, and how many bytes it is sent. With
100,000 live channels instead of 1,000 it is timed how long 1,000 callers wait who press at once,
each in a channel of its own. Both sizes take turns, each in a process and a database of its own.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import perf_counter
from typing import Any

import anyio
import attrs
import redis

from benchmarks._booting import GAME_NAME
from benchmarks._contest import (
    ASYNCIO,
    TRIO,
    UVLOOP,
    Contestant,
    Goal,
    Measure,
    Sample,
    Site,
    Variant,
    Workload,
)
from benchmarks._presses import CHOICE, channel_name, player_id, player_name
from benchmarks._turns import NARRATIVE
from gamegirl.supervisor import Settings, Supervisor

_ROSTER = "roster 10 → 1,000"
_HISTORY = "history 0 → 50"
_CHANNELS = "live channels 1,000 → 100,000"
_LOOPS = (ASYNCIO, UVLOOP, TRIO)
_GROWN = "gamegirl"
_SMALL = "gamegirl, when all was small"

_LONG = 100_000.0
_SETTINGS = Settings(
    window_seconds=_LONG,
    commit_timeout_seconds=30.0,
    lease_seconds=_LONG,
    sweep_seconds=_LONG,
    idle_seconds=_LONG,
)
"""Nobody sends a command but for a press: the server is counted as a whole."""

_SESSIONS = 8
_PRESSES = 10
_CALLERS = 1_000
_LAPS = 4
_BOOTING = 1_000


@attrs.frozen
class _Size:
    """What there is.

    Attributes:
        channels: Live ones.
        players: In each.
        records: In the history of each.
    """

    channels: int
    players: int
    records: int = 0


_SIZES = {
    _ROSTER: (_Size(_SESSIONS, 10), _Size(_SESSIONS, 1_000)),
    _HISTORY: (_Size(_SESSIONS, 10), _Size(_SESSIONS, 10, 50)),
    _CHANNELS: (_Size(1_000, 0), _Size(100_000, 0)),
}


@asynccontextmanager
async def _enter(site: Site, size: _Size) -> AsyncGenerator[Measure, None]:
    async with Supervisor(site.redis, settings=_SETTINGS) as supervisor:
        gc.disable()  # It takes half of the set-up, and has nothing to find.
        await _grow(supervisor, size)
        gc.enable()
        yield (
            _timing(supervisor, size)
            if site.variant == _CHANNELS
            else _counting(supervisor, site.redis)
        )


async def _grow(supervisor: Supervisor, size: _Size) -> None:
    async def play(channels: range) -> None:
        for channel in channels:
            session = supervisor.session(channel_name(channel))
            await session.boot(GAME_NAME)
            for player in range(size.players):
                await session.join(player_id(player), player_name(player))
            for _ in range(size.records):
                await session.narrate(NARRATIVE)

    async with anyio.create_task_group() as tasks:
        for first in range(_BOOTING):
            tasks.start_soon(play, range(first, size.channels, _BOOTING))


def _counting(supervisor: Supervisor, url: str) -> Measure:
    """Count what one press after the other costs the server."""

    async def measure() -> Sample:
        first = await anyio.to_thread.run_sync(_counts, url)
        before = await anyio.to_thread.run_sync(_counts, url)
        for player in range(_PRESSES):
            for channel in range(_SESSIONS):
                session = supervisor.session(channel_name(channel))
                await session.press(player_id(player), player_name(player), CHOICE)
        after = await anyio.to_thread.run_sync(_counts, url)
        presses = _PRESSES * _SESSIONS
        # To ask takes bytes itself.
        commands, received = (
            late - early - (early - earlier)
            for earlier, early, late in zip(first, before, after, strict=True)
        )
        return {"commands": commands / presses, "bytes": received / presses}

    return measure


def _counts(url: str) -> Sequence[int]:
    """Commands, without those of asking for them, and bytes so far."""
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    with client:
        received = int(client.info("stats")["total_net_input_bytes"])
        calls: dict[str, Any] = client.info("commandstats")
    ignored = ("cmdstat_info", "cmdstat_select", "cmdstat_hello", "cmdstat_client")
    own = [one["calls"] for name, one in calls.items() if not name.startswith(ignored)]
    return sum(own), received


def _timing(supervisor: Supervisor, size: _Size) -> Measure:
    """Time how long everybody waits who presses at once."""
    # Those who press are spread over all that live, and always the same, so that their windows are
    # open: opening one costs a little more.
    channels = range(0, size.channels, size.channels // _CALLERS)

    async def measure() -> Sample:
        async def press(channel: int) -> None:
            session = supervisor.session(channel_name(channel))
            await session.press(player_id(0), player_name(0), CHOICE)

        started = perf_counter()
        for _ in range(_LAPS):
            async with anyio.create_task_group() as tasks:
                for channel in channels:
                    tasks.start_soon(press, channel)
        took = perf_counter() - started
        if supervisor.statistics().live["session"] != size.channels:
            raise ValueError("not all channels are live")
        return {"us": took / (_LAPS * _CALLERS) * 1_000_000}

    return measure


def _sized(grown: int) -> Callable[[Site], AbstractAsyncContextManager[Measure]]:
    return lambda site: _enter(site, _SIZES[site.variant][grown])


_COUNTED = (
    Goal(_SMALL, at_most=1.05, figure="commands", unit="commands"),
    Goal(_SMALL, at_most=1.05, figure="bytes", unit="bytes"),
)

W7 = Workload(
    name="W7",
    promise="what one durable press costs as everything grows",
    figure="commands",
    unit="commands/press",
    variants=(
        Variant(_ROSTER, aof="no", goals=_COUNTED),
        Variant(_HISTORY, aof="no", goals=_COUNTED),
        Variant(
            _CHANNELS, aof="no", figure="us", unit="µs/press", goals=(Goal(_SMALL, at_most=1.5),)
        ),
    ),
    contestants=(
        Contestant(_GROWN, _LOOPS, _sized(1)),
        Contestant(_SMALL, _LOOPS, _sized(0)),
    ),
    goals=(),
    round_seconds=0.0,
    laps=2,
    details=("bytes",),
)
