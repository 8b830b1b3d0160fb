"""Notices what takes longer than the commit timeout."""

from __future__ import annotations

from collections import deque

import anyio

from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Cell, PendingCommit
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._engine import Engine

_LOOKS = 4
"""While something is watched the time is looked at so often within the commit timeout."""


class Watchdog:
    """One queue of deadlines for all that must be settled in time; no timer a caller.

    All deadlines are the same time away, so the queue is in order by itself. Time in which this
    process stood still (stopped, suspended, a blocked loop) doesn't count: the store may have
    answered long ago, and who was taken over meanwhile is to be told that.
    """

    def __init__(self, engine: Engine, clock: Clock, timeout_seconds: float) -> None:
        self._engine = engine
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._look_seconds = timeout_seconds / _LOOKS
        self._looked = 0.0
        self._stood_still = 0.0
        self._items: deque[tuple[float, Cell, PendingCommit | Envelope]] = deque()
        self._filled = anyio.Event()

    def add(self, cell: Cell, item: PendingCommit | Envelope) -> None:
        """Tell the engine if the item isn't settled in time."""
        if not self._items:
            self._looked = self._clock.monotonic()
            self._filled.set()
        self._items.append((self._awake() + self._timeout_seconds, cell, item))

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
            wait = deadline - self._awake()
            if wait > 0:
                await anyio.sleep(min(wait, self._look_seconds))
                continue
            self._items.popleft()
            if self._engine.settlement.expire(cell, item):
                self.add(cell, item)

    def _awake(self) -> float:
        """For how long this process has been awake, while there was something to watch."""
        now = self._clock.monotonic()
        beyond = now - self._looked - self._look_seconds
        if beyond > self._look_seconds:
            self._stood_still += beyond
        self._looked = now
        return now - self._stood_still


def _settled(item: PendingCommit | Envelope) -> bool:
    return item.settled if isinstance(item, PendingCommit) else item.done
