"""What a caller waits on: one event for one waiter, or a turn of the loop, of the backend's making.

An `anyio.Event` asks each time which backend runs, and is three objects on asyncio. Every answer
that is not there at once takes one, so on asyncio it is a plain future, and on trio a small class
that is set like one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Protocol, cast

from gamegirl.actors._mailbox import Signal


class Awaited(Signal, Protocol):
    """Awaited by one task, once; set by anybody on the same loop, before or after."""

    def __await__(self) -> Generator[Any, Any, object]: ...


class _TrioSignal:
    __slots__ = ("_lowlevel", "_set", "_task")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel
        self._set = False
        self._task: Any = None

    def done(self) -> bool:
        return self._set

    def set_result(self, _: None, /) -> None:
        self._set = True
        task, self._task = self._task, None
        if task is not None:
            self._lowlevel.reschedule(task)

    def __await__(self) -> Generator[Any, Any, None]:
        # Not a generator of its own, which the scheduler would go through each time.
        if self._set:
            return cast("Generator[Any, Any, None]", iter(()))
        self._task = self._lowlevel.current_task()
        waiting: Generator[Any, Any, None] = self._lowlevel.wait_task_rescheduled(
            self._abort
        ).__await__()
        return waiting

    def _abort(self, _: object) -> Any:
        self._task = None
        return self._lowlevel.Abort.SUCCEEDED


def signal_maker() -> Callable[[], Awaited]:
    """Makes signals for the loop that this is called on."""
    if (lowlevel := _trio()) is not None:
        return partial(_TrioSignal, lowlevel)
    future: type[asyncio.Future[None]] = asyncio.Future
    return partial(future, loop=asyncio.get_running_loop())


def yielder() -> Callable[[], Awaitable[None]]:
    """Makes what gives all others on the loop that this is called on a turn: a checkpoint."""
    # As anyio's own, which asks each time which backend runs: a fiftieth of what 64 asks take.
    if (lowlevel := _trio()) is not None:
        checkpoint: Callable[[], Awaitable[None]] = lowlevel.checkpoint
        return checkpoint
    return partial(asyncio.sleep, 0)


def _trio() -> Any:
    """Its low level, if it runs here."""
    trio = sys.modules.get("trio")
    return trio.lowlevel if trio is not None and trio.lowlevel.in_trio_task() else None
