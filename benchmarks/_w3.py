"""W3: whole turns of four presses, a close and a record, on a real Redis.

1,000 callers play in 10,000 live channels of four players: each caller alone in ten of its own, or
four of them at a table, in forty of its own. Every answer means that the step is stored.

The sequential design has as many connections, and so as many steps under way, as are best for it.
What has more callers than it needs has more in memory than a processor's own cache holds. So the
turns are also played by 125 callers, in eighty channels each.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio

from benchmarks._booting import boot_all
from benchmarks._contest import (
    ASYNCIO,
    SOURCES,
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
from benchmarks._presses import CALLERS, CHANNEL_NAMES, PLAYERS, USERS, pressing_at
from benchmarks._rules_floor import deciding
from benchmarks._sequential import sequential_tables, sequential_turns
from benchmarks._servers import script_calls
from benchmarks._turn_floor import turn_floor
from benchmarks._turns import NARRATIVE, Play, Rota, check_stored, turning, turning_at_tables
from gamegirl.actors import ClosedTurn
from gamegirl.supervisor import Settings, Supervisor

_LOOPS = (ASYNCIO, UVLOOP, TRIO)
_FLOOR = "floor: our callers, wire and commands alone"
_RULES_FLOOR = "floor: that, and the rules decided and spelled"
_PEER = "a lock and 26 sequential commands"
"""Four writes for each of the presses and the close, six for the record."""


_FEW = 125


@asynccontextmanager
async def _gamegirl(site: Site, callers: int = CALLERS) -> AsyncGenerator[Measure, None]:
    async with _playing(site) as play:
        rota = Rota(callers)
        await rota.spread(play)
        yield _checked(site, rota, turning(rota, play, site.round_seconds))


@asynccontextmanager
async def _tables(site: Site) -> AsyncGenerator[Measure, None]:
    async with _playing(site) as play:
        rota = Rota()
        yield _checked(site, rota, turning_at_tables(rota, play, site.round_seconds))


@asynccontextmanager
async def _playing(site: Site) -> AsyncGenerator[Play, None]:
    async with Supervisor(site.redis, settings=Settings(window_seconds=3600.0)) as supervisor:
        session = supervisor.session

        async def join(channel: int, player: int) -> None:
            await session(CHANNEL_NAMES[channel]).join(*USERS[player])

        def close(channel: int) -> Coroutine[Any, Any, ClosedTurn | None]:
            return session(CHANNEL_NAMES[channel]).close_window()

        def record(channel: int, turn: ClosedTurn) -> Coroutine[Any, Any, object]:
            return session(CHANNEL_NAMES[channel]).record(turn, NARRATIVE)

        await boot_all(supervisor, PLAYERS, join)
        yield Play(pressing_at(supervisor), close, record)


@asynccontextmanager
async def _rules_floor(site: Site) -> AsyncGenerator[Measure, None]:
    async with deciding(site.redis) as play:
        rota = Rota()
        await rota.spread(play)
        yield _checked(site, rota, turning(rota, play, site.round_seconds))


def _checked(site: Site, rota: Rota, measure: Measure) -> Measure:
    async def checked() -> Sample:
        before = await anyio.to_thread.run_sync(script_calls, site.redis)
        sample = await measure()
        calls = await anyio.to_thread.run_sync(script_calls, site.redis) - before
        await anyio.to_thread.run_sync(check_stored, site.redis, rota)
        return {**sample, "calls_per_turn": calls / sample["turns"]}

    return checked


_VARIANTS = (Variant("AOF off", aof="no"), Variant("AOF everysec", aof="everysec"))

W3 = Workload(
    name="W3",
    promise="whole turns: 4 presses, close, record; 1,000 callers on 10,000 channels",
    figure="per_second",
    unit="turns/s",
    variants=_VARIANTS,
    contestants=(
        Contestant("gamegirl", _LOOPS, _gamegirl),
        Contestant(SOURCES, (ASYNCIO,), _gamegirl, from_sources=True),
        Contestant(_PEER, _LOOPS, sequential_turns),
        Contestant(_FLOOR, (ASYNCIO,), turn_floor),
        Contestant(_RULES_FLOOR, (ASYNCIO,), _rules_floor),
    ),
    goals=(Goal(_PEER, 8.0), Goal(_FLOOR), Goal(_RULES_FLOOR), Goal(SOURCES)),
    round_seconds=2.0,
    laps=2,
    details=("step_p50_ms", "step_p99_ms", "calls_per_turn", "connections"),
)

W3_FEW = Workload(
    name="W3F",
    promise="the same turns, of 125 callers instead of 1,000",
    figure=W3.figure,
    unit=W3.unit,
    variants=_VARIANTS,
    contestants=(
        Contestant("gamegirl", _LOOPS, partial(_gamegirl, callers=_FEW)),
        Contestant(_PEER, _LOOPS, partial(sequential_turns, callers=_FEW)),
    ),
    goals=(Goal(_PEER, 8.0),),
    round_seconds=1.0,
    laps=2,
    details=W3.details,
)

W3_TABLES = Workload(
    name="W3T",
    promise="the same turns with a caller for each player: 250 tables of four press side by side",
    figure=W3.figure,
    unit=W3.unit,
    variants=_VARIANTS,
    contestants=(
        Contestant("gamegirl", _LOOPS, _tables),
        Contestant(_PEER, _LOOPS, sequential_tables),
    ),
    goals=(Goal(_PEER),),
    round_seconds=1.0,
    details=W3.details,
)
