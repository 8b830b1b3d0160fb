"""W6: restore 10,000 cold sessions of eight players, claims included, from a real Redis.

1,000 callers want ten sessions each, one after the other. The supervisor is a fresh one each round;
nobody owns the sessions. A round restores all of them, however long that takes.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import perf_counter

import anyio

from benchmarks import _cold
from benchmarks._contest import (
    ASYNCIO,
    OWN,
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
from benchmarks._floor import decoding_floor, floor
from benchmarks._presses import CHANNELS, channel_name
from benchmarks._reads import one_reader, sequential_reads
from benchmarks._servers import script_calls
from gamegirl.supervisor import Supervisor

_LOOPS = (ASYNCIO, UVLOOP, TRIO)
_PEER = "3 sequential reads and cattrs"
_ONE_READER = f"{_PEER}, one session after the other"
_FLOOR = "floor: our commands alone, answers parsed and dropped"
_DECODING_FLOOR = "floor: the same, and each JSON form decoded"


@asynccontextmanager
async def _gamegirl(site: Site) -> AsyncGenerator[Measure, None]:
    await _cold.make(site.redis)

    async def measure() -> Sample:
        await anyio.to_thread.run_sync(_cold.renew, site.redis)
        async with Supervisor(site.redis) as supervisor:
            gc.collect()
            before = await anyio.to_thread.run_sync(script_calls, site.redis)
            started = perf_counter()
            await _cold.restore(supervisor)
            took = perf_counter() - started
            calls = await anyio.to_thread.run_sync(script_calls, site.redis) - before
            await _check(supervisor, site.redis)
        return {"per_second": CHANNELS / took, "calls_per_restore": calls / CHANNELS}

    yield measure


async def _check(supervisor: Supervisor, url: str) -> None:
    owned = await anyio.to_thread.run_sync(_cold.owners, url)
    live, claims = supervisor.statistics().live["session"], supervisor.statistics().claims
    if not owned == live == claims == CHANNELS:
        raise ValueError(f"{live} sessions are live, {claims} were claimed, {owned} are owned")
    for channel in range(CHANNELS):
        session = supervisor.session(channel_name(channel))
        state, records = await session.state(), await session.history(50)
        players = tuple(
            (user_id, state.players[user_id].user_name, state.players[user_id].last_active_turn)
            for user_id in sorted(state.players)
        )
        told = tuple((one.turn, dict(one.choices), one.narrative_summary) for one in records)
        said = (state.game_id, state.game_name, state.active, state.turn_number, players, told)
        _cold.check(channel, said)


W6 = Workload(
    name="W6",
    promise="restore 10,000 cold sessions of 8 players, claims included",
    figure="per_second",
    unit="sessions/s",
    variants=(Variant("AOF off", aof="no"),),
    contestants=(
        Contestant("gamegirl", _LOOPS, _gamegirl),
        Contestant(_PEER, _LOOPS, sequential_reads),
        Contestant(_ONE_READER, _LOOPS, one_reader),
        Contestant(_FLOOR, (OWN,), floor),
        Contestant(_DECODING_FLOOR, (OWN,), decoding_floor),
    ),
    goals=(Goal(_PEER, 6.0), Goal(_ONE_READER), Goal(_FLOOR), Goal(_DECODING_FLOOR)),
    round_seconds=0.0,
    laps=2,
    details=("calls_per_restore", "connections"),
)
