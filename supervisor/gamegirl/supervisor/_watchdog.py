"""Notices what takes longer than the commit timeout."""

from __future__ import annotations

from itertools import takewhile

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
        self._late = 0.0  # If it isn't looked before that, this process has stood still.
        self._patience = timeout_seconds  # A deadline is so far away as the clock has it.
        self._items: dict[PendingCommit | Envelope, Cell] = {}
        self._messages = 0  # So many of these are messages.
        self._filled = anyio.Event()

    def add(self, cell: Cell, item: PendingCommit | Envelope) -> None:
        """Tell the engine if the item, which is new, isn't settled in time."""
        now, items = self._clock.read(), self._items
        if not items:
            self._looked, self._late = now, now + 2 * self._look_seconds
            self._filled.set()
        elif now > self._late:
            self._look(now)
        item.deadline = now + self._patience
        if item.__class__ is Envelope and item not in items:
            self._messages += 1
        items[item] = cell

    def renew(self, cell: Cell, item: PendingCommit | Envelope) -> None:
        """The same, with the time beginning anew, for one that may be watched already."""
        known = item in self._items
        self.add(cell, item)
        if known:
            self._items[item] = self._items.pop(item)  # To the end, where the latest are.

    def remove(self, commit: PendingCommit) -> None:
        """It is settled."""
        self._items.pop(commit, None)

    def prune(self) -> None:
        """Let go of messages that are over, as far as nothing is older that isn't."""
        if self._messages:  # The beginning of the dict, where all those were, takes long to pass.
            self._prune()

    def _prune(self) -> None:
        # In one pass: what was taken from the beginning of a dict is passed each time it is begun.
        for item in list(takewhile(_is_over, self._items)):
            self._take(item)

    async def run(self) -> None:
        """Watch until cancelled."""
        items = self._items
        while True:
            self._prune()
            if not items:
                self._filled = anyio.Event()
                await self._filled.wait()
                continue
            item, cell = next(iter(items.items()))
            self._look(self._clock.read())
            wait = item.deadline - (self._looked - self._stood_still)
            if wait > 0:
                await anyio.sleep(min(wait, self._look_seconds))
                continue
            self._take(item)
            if self._engine.settlement.expire(cell, item):
                self.add(cell, item)

    def _take(self, item: PendingCommit | Envelope) -> None:
        del self._items[item]
        if isinstance(item, Envelope):
            self._messages -= 1

    def _look(self, now: float) -> None:
        """Note how long this process has been awake, while there was something to watch."""
        beyond = now - self._looked - self._look_seconds
        if beyond > self._look_seconds:
            self._stood_still += beyond
            self._patience = self._timeout_seconds - self._stood_still
        self._looked, self._late = now, now + 2 * self._look_seconds


def _is_over(item: PendingCommit | Envelope) -> bool:
    return item.settled if isinstance(item, PendingCommit) else item.done
