"""Slow work of actors, done outside of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from gamegirl.supervisor._cell import Cell


class Performer:
    """Runs the `Perform` effects, at most so many side by side.

    Args:
        tasks: Where the work runs.
        most: How many pieces of work run at a time; others wait.
        deliver: Takes a finished work's message.
        crashed: Takes work that raised: the actor, the work, the error, its traceback.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        most: int,
        deliver: Callable[[Cell, object], None],
        crashed: Callable[[Cell, object, Exception, str], None],
    ) -> None:
        self._tasks = tasks
        self._limiter = anyio.CapacityLimiter(most)
        self._deliver = deliver
        self._crashed = crashed
        self._running: dict[Cell, dict[str, anyio.CancelScope]] = {}
        self._closed = False

    def start(self, cell: Cell, key: str, work: object, delay: float = 0.0) -> None:
        """Start work under a key, after a while; what runs under it already is cancelled."""
        self.cancel(cell, key)
        if self._closed:
            return
        scope = anyio.CancelScope()
        self._running.setdefault(cell, {})[key] = scope
        self._tasks.start_soon(self._work, cell, key, work, delay, scope)

    def cancel(self, cell: Cell, key: str) -> None:
        """Cancel what runs under the key, if anything does."""
        scopes = self._running.get(cell)
        if scopes and key in scopes:
            scopes.pop(key).cancel()
            if not scopes:
                del self._running[cell]

    def cancel_all(self, cell: Cell) -> None:
        """Cancel all work of an actor."""
        for scope in self._running.pop(cell, {}).values():
            scope.cancel()

    def close(self) -> None:
        """Cancel all work and start no more."""
        self._closed = True
        for cell in tuple(self._running):
            self.cancel_all(cell)

    def works_for(self, cell: Cell) -> bool:
        """Whether any work of the actor runs or waits for its turn."""
        return cell in self._running

    def __len__(self) -> int:
        return sum(map(len, self._running.values()))

    async def _work(
        self, cell: Cell, key: str, work: object, delay: float, scope: anyio.CancelScope
    ) -> None:
        message: Any = None
        failure: tuple[Exception, str] | None = None
        with scope:
            if delay:
                await anyio.sleep(delay)  # Not within the limit: others are ready.
            async with self._limiter:
                try:
                    message = await cell.behaviour.perform(work)
                except Exception as error:  # noqa: BLE001 - reported as a crash
                    failure = (error, traceback.format_exc())
        scopes = self._running.get(cell, {})
        if scopes.get(key) is not scope or scope.cancelled_caught:
            return  # It was cancelled or replaced: its result is nobody's.
        self.cancel(cell, key)
        if failure is not None:
            self._crashed(cell, work, *failure)
        elif message is not None:
            self._deliver(cell, message)
