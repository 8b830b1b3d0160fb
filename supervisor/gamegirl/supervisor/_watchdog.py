"""Notices what takes longer than the commit timeout."""

from __future__ import annotations

from collections import deque

import anyio

from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Cell, PendingCommit
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._engine import Engine


class Watchdog:
    """One queue of deadlines for all that must be settled in time; no timer a caller.

    All deadlines are the same time away, so the queue is in order by itself.
    """

    def __init__(self, engine: Engine, clock: Clock, timeout_seconds: float) -> None:
        self._engine = engine
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._items: deque[tuple[float, Cell, PendingCommit | Envelope]] = deque()
        self._filled = anyio.Event()

    def add(self, cell: Cell, item: PendingCommit | Envelope) -> None:
        """Tell the engine if the item isn't settled in time."""
        self._items.append((self._clock.monotonic() + self._timeout_seconds, cell, item))
        if len(self._items) == 1:
            self._filled.set()

    def prune(self) -> None:
        """Let go of what is settled."""
        items = self._items
        while items and _settled(items[0][2]):
            items.popleft()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.prune()
            if not self._items:
                self._filled = anyio.Event()
                await self._filled.wait()
                continue
            deadline, cell, item = self._items[0]
            wait = deadline - self._clock.monotonic()
            if wait > 0:
                await anyio.sleep(wait)
                continue
            self._items.popleft()
            if self._engine.settlement.expire(cell, item):
                self.add(cell, item)


def _settled(item: PendingCommit | Envelope) -> bool:
    return item.settled if isinstance(item, PendingCommit) else item.done
