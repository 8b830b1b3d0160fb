"""W2: acknowledged durable presses, 1,000 callers on 10,000 live channels, on a real Redis.

All channels have a running game with four players and an open window; the callers press until the
round is over. Windows open and close in W3.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from benchmarks._booting import boot_all
from benchmarks._contest import (
    ASYNCIO,
    OWN,
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
from benchmarks._limit import limit, no_redis_benchmark
from benchmarks._presses import PLAYERS, pressing, pressing_at
from benchmarks._sequential import sequential
from benchmarks._servers import script_calls
from gamegirl.supervisor import Settings, Supervisor

_LOOPS = (ASYNCIO, UVLOOP, TRIO)


@asynccontextmanager
async def _gamegirl(site: Site) -> AsyncGenerator[Measure, None]:
    async with Supervisor(site.redis, settings=Settings(window_seconds=3600.0)) as supervisor:
        press = pressing_at(supervisor)
        await boot_all(supervisor, PLAYERS, press)
        measure = pressing(press, site.round_seconds)

        async def with_calls() -> Sample:
            before = await anyio.to_thread.run_sync(script_calls, site.redis)
            sample = await measure()
            calls = await anyio.to_thread.run_sync(script_calls, site.redis) - before
            return {**sample, "calls_per_press": calls / sample["presses"]}

        yield with_calls


W2 = Workload(
    name="W2",
    promise="acknowledged durable presses, 1,000 callers on 10,000 channels",
    figure="per_second",
    unit="presses/s",
    variants=(Variant("AOF off", aof="no"), Variant("AOF everysec", aof="everysec")),
    contestants=(
        Contestant("gamegirl", _LOOPS, _gamegirl),
        Contestant(SOURCES, (ASYNCIO,), _gamegirl, from_sources=True),
        Contestant("a lock and 4 sequential writes", _LOOPS, sequential),
        Contestant("redis-benchmark -P 64", (OWN,), limit, no_redis_benchmark),
    ),
    goals=(
        Goal("a lock and 4 sequential writes", 10.0, on_trio=8.0),
        Goal("redis-benchmark -P 64", 0.3),
        Goal(SOURCES),
    ),
    round_seconds=0.8,
    laps=2,
    details=("p50_ms", "p99_ms", "calls_per_press", "connections"),
)
