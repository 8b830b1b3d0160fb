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
    """Queues of deadlines for all that must be settled in time; no timer a caller.

    All deadlines are the same time away, so each queue is in order by itself. Time in which this
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
        self._commits: dict[PendingCommit, Cell] = {}
        # Until they are over and at the front; one that is watched again is there twice.
        self._messages: deque[tuple[float, Envelope, Cell]] = deque()
        self._filled = anyio.Event()

    def add(self, cell: Cell, item: PendingCommit | Envelope) -> None:
        """Tell the engine if the item isn't settled in time.

        Of a message that is watched already the time begins anew.
        """
        now, commits, messages = self._clock.read(), self._commits, self._messages
        if not (commits or messages):
            self._looked, self._late = now, now + 2 * self._look_seconds
            self._filled.set()
        elif now > self._late:
            self._look(now)
        item.deadline = deadline = now + self._patience
        if isinstance(item, PendingCommit):
            commits[item] = cell
        else:
            messages.append((deadline, item, cell))

    def remove(self, commit: PendingCommit) -> None:
        """It is settled."""
        self._commits.pop(commit, None)

    def prune(self) -> None:
        """Let go of messages that are over, as far as nothing is older that isn't."""
        messages = self._messages
        while messages:
            deadline, message, _ = messages[0]
            if not message.done and message.deadline == deadline:
                return
            messages.popleft()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.prune()
            oldest = self._oldest()
            if oldest is None:
                self._filled = anyio.Event()
                await self._filled.wait()
                continue
            deadline, item, cell = oldest
            self._look(self._clock.read())
            wait = deadline - (self._looked - self._stood_still)
            if wait > 0:
                await anyio.sleep(min(wait, self._look_seconds))
                continue
            if isinstance(item, PendingCommit):
                del self._commits[item]
            else:
                self._messages.popleft()
            if self._engine.settlement.expire(cell, item):
                self.add(cell, item)

    def _oldest(self) -> tuple[float, PendingCommit | Envelope, Cell] | None:
        message = self._messages[0] if self._messages else None
        # Only here: the beginning of a dict, where all those over had been, takes long to pass.
        for commit, cell in self._commits.items():
            if message is None or commit.deadline < message[0]:
                return commit.deadline, commit, cell
            break
        return message

    def _look(self, now: float) -> None:
        """Note how long this process has been awake, while there was something to watch."""
        beyond = now - self._looked - self._look_seconds
        if beyond > self._look_seconds:
            self._stood_still += beyond
            self._patience = self._timeout_seconds - self._stood_still
        self._looked, self._late = now, now + 2 * self._look_seconds
