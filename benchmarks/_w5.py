"""W5: the memory of a live idle session beyond its own data, registry and supervision included.

Every figure is a difference of what is resident (RSS) in a process of its own: `_footprint.py` says
how. Ours is that of a session of eight players, live in a supervisor, less that of the same state
without a runtime. The peers' actors have no data to speak of, and so nothing is taken off.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio

from benchmarks import _mailboxes
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
    uninstalled,
)
from benchmarks._footprint import BARE, PYKKA, SESSIONS, TASKS

_ROOT = Path(__file__).resolve().parent.parent
_IDLE = Path(__file__).with_name("idle.erl")
_LOOPS = (ASYNCIO, UVLOOP, TRIO)
_TASK = "a task and a queue"
_ERLANG = "Erlang gen_server"

_FEW = (500, 2_000)
_THREADS = (100, 900)
_MANY = (1_000, 50_000)
"""So many actors before the first look, and so many more before the second."""


async def _footprint(who: str, site: Site, actors: tuple[int, int] = _FEW) -> float:
    numbers = map(str, actors)
    command = [sys.executable, "-m", "benchmarks._footprint", who, site.host, *numbers]
    done = await anyio.run_process(command, cwd=_ROOT, stderr=None)
    return float(done.stdout)


@asynccontextmanager
async def _gamegirl(site: Site) -> AsyncGenerator[Measure, None]:
    async def measure() -> Sample:
        own, whole = await _footprint(BARE, site), await _footprint(SESSIONS, site)
        return {"bytes": whole - own, "own_data_bytes": own, "whole_bytes": whole}

    yield measure


def _peer(
    who: str, actors: tuple[int, int]
) -> Callable[[Site], AbstractAsyncContextManager[Measure]]:
    @asynccontextmanager
    async def enter(site: Site) -> AsyncGenerator[Measure, None]:
        async def measure() -> Sample:
            return {"bytes": await _footprint(who, site, actors)}

        yield measure

    return enter


@asynccontextmanager
async def _erlang(_: Site) -> AsyncGenerator[Measure, None]:
    with tempfile.TemporaryDirectory() as folder:
        await anyio.run_process(["erlc", "-o", folder, str(_IDLE)])
        command = ["erl", "+S", "1:1", "-noshell", "-pa", folder, "-run", "idle", "main"]
        command += map(str, _MANY)

        async def measure() -> Sample:
            done = await anyio.run_process(command)
            return {"bytes": float(done.stdout)}

        yield measure


W5 = Workload(
    name="W5",
    promise="memory of a live idle session beyond its own data",
    figure="bytes",
    unit="bytes",
    variants=(Variant("idle"),),
    contestants=(
        Contestant("gamegirl", _LOOPS, _gamegirl),
        Contestant(_TASK, _LOOPS, _peer(TASKS, _FEW)),
        Contestant(_ERLANG, (OWN,), _erlang, _mailboxes.no_erlang),
        Contestant("Pykka", (OWN,), _peer(PYKKA, _THREADS), uninstalled("pykka")),
    ),
    goals=(Goal(at_most=1024.0), Goal(_TASK), Goal(_ERLANG), Goal("Pykka")),
    round_seconds=0.0,
    details=("own_data_bytes", "whole_bytes"),
)
