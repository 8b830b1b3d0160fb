"""What a caller waits on: one event for one waiter, of the backend's own making.

An `anyio.Event` asks each time which backend runs, and is three objects on asyncio. Every answer
that is not there at once takes one, so this is worth two small classes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Protocol


class Signal(Protocol):
    """Awaited by one task, once; set by anybody on the same loop, before or after."""

    def set(self) -> None:
        """Wake whoever waits."""
        ...

    def __await__(self) -> Generator[Any, Any, object]: ...


class _AsyncioSignal(asyncio.Future[None]):
    __slots__ = ()

    def set(self) -> None:
        if not self.done():  # The waiter may have been cancelled.
            self.set_result(None)


class _TrioSignal:
    __slots__ = ("_lowlevel", "_set", "_task")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel
        self._set = False
        self._task: Any = None

    def set(self) -> None:
        self._set = True
        task, self._task = self._task, None
        if task is not None:
            self._lowlevel.reschedule(task)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._set:
            return
        self._task = self._lowlevel.current_task()
        await self._lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> Any:
        self._task = None
        return self._lowlevel.Abort.SUCCEEDED


def signal_maker() -> Callable[[], Signal]:
    """Makes signals for the loop that this is called on."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return partial(_TrioSignal, trio.lowlevel)
    return partial(_AsyncioSignal, loop=asyncio.get_running_loop())
