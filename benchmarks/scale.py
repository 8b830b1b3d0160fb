"""What one process holds: `python -m benchmarks.scale` (or `make scale`) prints it, step by step.

In one process more and more channels are brought to life on a redis-server of its own, each with a
game of four players. At each size it is measured what memory they take here and there, what the
process and the server compute while nobody plays, and how long a thousand callers wait who press at
once. At the end it is measured how long leaving takes. Nothing is frozen or switched off.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import redis

from benchmarks._booting import GAME_NAME
from benchmarks._contest import ASYNCIO, TRIO, UVLOOP
from benchmarks._presses import CHOICE, PLAYERS, channel_name, player_id, player_name
from benchmarks._servers import redis_server
from gamegirl.supervisor import Settings, Supervisor

_SIZES = (1_000, 10_000, 100_000)
_CALLERS = 500
_PRESSING = 1_000
_LAPS = 3
_REST_SECONDS = 10.0
_MEBI = 1 << 20


def main() -> int:
    """The exit status says only that it ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=_SIZES, metavar="CHANNELS")
    parser.add_argument("--host", choices=(ASYNCIO, UVLOOP, TRIO), default=ASYNCIO)
    parser.add_argument("--rest", type=float, default=_REST_SECONDS, help="seconds at rest")
    arguments = parser.parse_args()
    backend = "trio" if arguments.host == TRIO else "asyncio"
    options = {"use_uvloop": True} if arguments.host == UVLOOP else {}
    with redis_server("no") as url:
        anyio.run(
            _grow,
            url + "0",
            sorted(arguments.sizes),
            arguments.rest,
            backend=backend,
            backend_options=options,
        )
    return 0


async def _grow(url: str, sizes: Sequence[int], rest_seconds: float) -> None:
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    settings = Settings(window_seconds=3600.0, drain_seconds=600.0, commit_timeout_seconds=30.0)
    supervisor = Supervisor(url, settings=settings)
    await supervisor.start()
    gc.collect()
    resident, held, live = _resident(), _used(client), 0
    _tell("channels", "boots and joins /s", "bytes each", "in Redis each", "CPU at rest", "Redis'")
    _tell("", "µs a press", "p99 ms", "commands /s at rest", "full collection ms", "")
    for size in sizes:
        started = time.perf_counter()
        await _boot(supervisor, range(live, size))
        took = time.perf_counter() - started
        made, live = size - live, size
        gc.collect()
        _tell(
            f"{size:,}",
            f"{made * (1 + PLAYERS) / took:,.0f}",
            f"{(_resident() - resident) / size:,.0f}",
            f"{(_used(client) - held) / size:,.0f}",
            *await _rest(client, rest_seconds),
        )
        press_us, p99_ms = await _press(supervisor, size)
        before = _commands(client)
        await anyio.sleep(rest_seconds)
        commands = (_commands(client) - before) / rest_seconds
        started = time.perf_counter()
        gc.collect()
        collection = (time.perf_counter() - started) * 1000
        _tell(
            "", f"{press_us:,.0f}", f"{p99_ms:,.0f}", f"{commands:,.1f}", f"{collection:,.0f}", ""
        )
    started = time.perf_counter()
    await supervisor.aclose()
    print(f"leaving took {time.perf_counter() - started:.1f} s", flush=True)


async def _boot(supervisor: Supervisor, numbers: range) -> None:
    async def play(some: range) -> None:
        for number in some:
            session = supervisor.session(channel_name(number))
            await session.boot(GAME_NAME)
            for player in range(PLAYERS):
                await session.join(player_id(player), player_name(player))

    async with anyio.create_task_group() as tasks:
        for first in range(_CALLERS):
            tasks.start_soon(play, numbers[first::_CALLERS])


async def _rest(client: Any, seconds: float) -> tuple[str, str]:
    """What this process and the server compute while nobody does anything."""
    await anyio.sleep(1.0)
    here, there = time.process_time(), _computed(client)
    await anyio.sleep(seconds)
    here, there = time.process_time() - here, _computed(client) - there
    return f"{here / seconds:.2%}", f"{there / seconds:.2%}"


async def _press(supervisor: Supervisor, size: int) -> tuple[float, float]:
    waited: list[float] = []

    async def press(number: int) -> None:
        before = time.perf_counter()
        session = supervisor.session(channel_name(number))
        await session.press(player_id(0), player_name(0), CHOICE)
        waited.append(time.perf_counter() - before)

    started = time.perf_counter()
    for _ in range(_LAPS):
        async with anyio.create_task_group() as tasks:
            for number in range(0, size, max(1, size // _PRESSING)):
                tasks.start_soon(press, number)
    took = time.perf_counter() - started
    return took / len(waited) * 1e6, sorted(waited)[len(waited) * 99 // 100] * 1000


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def _computed(client: Any) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def _commands(client: Any) -> int:
    return int(client.info("stats")["total_commands_processed"])


def _tell(*cells: str) -> None:
    print("".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
