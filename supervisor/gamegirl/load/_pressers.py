"""Those who press: tasks that are made when they are needed and used again, up to a bound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
import attrs
from anyio.abc import TaskGroup

T = TypeVar("T")


@attrs.define(eq=False)
class _Presser(Generic[T]):
    job: T
    wanted: anyio.Event = attrs.Factory(anyio.Event)


class Pressers(Generic[T]):
    """Does jobs side by side; one that finds everybody busy is not taken, and never waits.

    Args:
        tasks: Where they run.
        most: So many jobs at once.
        work: Does a job.
    """

    def __init__(self, tasks: TaskGroup, most: int, work: Callable[[T], Awaitable[None]]) -> None:
        self._tasks = tasks
        self._most = most
        self._work = work
        self._idle: list[_Presser[T]] = []
        self._all = 0

    @property
    def busy(self) -> int:
        """How many jobs are being done."""
        return self._all - len(self._idle)

    def take(self, job: T) -> bool:
        """Have a job begun, at the next turn of the loop; False if everybody is busy."""
        if self._idle:
            presser = self._idle.pop()
            presser.job = job
            presser.wanted.set()
            return True
        if self._all >= self._most:
            return False
        self._all += 1
        self._tasks.start_soon(self._run, _Presser(job))
        return True

    async def _run(self, presser: _Presser[T]) -> None:
        while True:
            await self._work(presser.job)
            presser.wanted = anyio.Event()
            self._idle.append(presser)
            await presser.wanted.wait()
