"""The peer of W4: a task for each window, which sleeps until the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf, nextafter
from time import monotonic
from typing import TypeAlias

import anyio
import trio

from benchmarks._bare import BareSessions
from benchmarks._closing import CLOSING, SESSIONS, SETTINGS, Watch, choose, record, sample_of, seat
from benchmarks._contest import TRIO, Measure, Sample, Site
from benchmarks._lateness import timing
from benchmarks._presses import channel_name
from gamegirl.actors import Woken

_Start: TypeAlias = Callable[[float, Callable[[], None]], None]
"""Starts a task that sleeps until this moment of the monotonic clock, then calls this."""


@asynccontextmanager
async def task_per_window(site: Site) -> AsyncGenerator[Measure, None]:
    """Made and put to sleep by what asyncio and trio themselves have for it."""
    async with _tasks(site.host) as start:
        if site.variant == CLOSING:
            yield await _closing(start)
        else:
            yield timing(site, partial(_set_timers, start))


async def _set_timers(start: _Start, deadlines: Sequence[float]) -> Sequence[float]:
    late: list[float] = []

    def note(deadline: float) -> None:
        late.append(max(0.0, monotonic() - deadline))  # uvloop's come up to 2 ms early.

    for deadline in deadlines:
        start(deadline, partial(note, deadline))
    await _asleep()
    return late


async def _closing(start: _Start) -> Measure:
    """Each task has the same rules decide about the same state, with nothing around them."""
    watch, deadline = Watch(), 0.0
    # Who wakes up a little early (uvloop) closes all the same.
    bare = BareSessions(SETTINGS, lambda: max(watch.clock.now(), nextafter(deadline, inf)))
    await seat(bare)

    async def measure() -> Sample:
        nonlocal deadline
        closed, all_closed = 0, anyio.Event()

        def close(channel_id: str) -> None:
            nonlocal closed
            bare.handle(channel_id, Woken())
            closed += 1
            if closed == SESSIONS:
                all_closed.set()

        deadline = 0.0
        watch.stop()
        deadline = await choose(bare)
        # The first moment at which a press would come too late, as the clock goes on from here.
        until = monotonic() + SETTINGS.window_seconds
        for channel in range(SESSIONS):
            start(until, partial(close, channel_name(channel)))
        await _asleep()
        watch.go_on()
        await all_closed.wait()
        sample = sample_of(watch, deadline)
        await record(bare)
        return sample

    return measure


async def _asleep() -> None:
    """Wait until the tasks that were started have gone to sleep."""
    await anyio.sleep(0.0)
    await anyio.sleep(0.0)


@asynccontextmanager
async def _tasks(host: str) -> AsyncGenerator[_Start, None]:
    if host == TRIO:
        async with trio.open_nursery() as nursery:

            async def trio_window(deadline: float, close: Callable[[], None]) -> None:
                await trio.sleep(max(0.0, deadline - monotonic()))
                close()

            yield lambda deadline, close: nursery.start_soon(trio_window, deadline, close)
        return
    tasks: set[asyncio.Task[None]] = set()

    async def asyncio_window(deadline: float, close: Callable[[], None]) -> None:
        await asyncio.sleep(deadline - monotonic())
        close()

    def start(deadline: float, close: Callable[[], None]) -> None:
        task = asyncio.create_task(asyncio_window(deadline, close))
        tasks.add(task)  # The loop alone doesn't keep it.
        task.add_done_callback(tasks.discard)

    yield start
