"""Rounds of asking: each caller asks so often that a round takes as long as it shall."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter

import anyio

from benchmarks._contest import Measure, Sample

_FIRST = 10
_LONG_ENOUGH = 0.25
"""The part of a round that a trial must take, so that its speed says something."""


def asking(callers: Sequence[Callable[[int], Awaitable[None]]], seconds: float) -> Measure:
    """A measure that has each caller ask its own actor, as often as fits into the time.

    The callers are started before the clock is: what is measured is the asking.
    """
    count = 0

    async def together(count: int) -> float:
        if len(callers) == 1:
            started = perf_counter()
            await callers[0](count)
            return perf_counter() - started
        start = anyio.Event()
        started = 0.0

        async def wait_and_call(caller: Callable[[int], Awaitable[None]]) -> None:
            await start.wait()
            await caller(count)

        async with anyio.create_task_group() as tasks:
            for caller in callers:
                tasks.start_soon(wait_and_call, caller)
            await anyio.wait_all_tasks_blocked()
            start.set()
            started = perf_counter()  # Nobody runs before this task waits.
        return perf_counter() - started

    async def measure() -> Sample:
        nonlocal count
        if not count:
            trial = _FIRST
            while (took := await together(trial)) < seconds * _LONG_ENOUGH:
                trial *= 4
            count = max(1, round(trial * seconds / took))
        took = await together(count)
        return {"per_second": count * len(callers) / took}

    return measure
