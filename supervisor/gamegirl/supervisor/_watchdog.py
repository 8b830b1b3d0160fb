"""Notices what takes longer than the commit timeout."""

from __future__ import annotations

from itertools import takewhile
from math import inf

import anyio

from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Cell, Cohort
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._engine import Engine

_LOOKS = 40
_LOOK_SECONDS = 0.05
"""While something is watched it is looked at so often within the commit timeout, or more often.

A commit gets the timeout, and at most the time between two looks in addition.
"""

_STILL = 2
"""Who doesn't look for this part of the timeout has stood still."""


class Watchdog:
    """Deadlines for all that must be settled in time, without a timer for each.

    All deadlines are the same time away, so what was watched first is due first. Messages wait in
    one queue, and are taken out when they are over. Commits, of which there are many more, are
    watched by cohorts: as long as all of a cohort are settled in time nobody looks at any of them.

    Time in which this process stood still (stopped, suspended, a blocked loop) doesn't count: the
    store may have answered long ago, and who was taken over meanwhile is to be told that.
    """

    def __init__(self, engine: Engine, clock: Clock, timeout_seconds: float) -> None:
        self._engine = engine
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._look_seconds = min(timeout_seconds / _LOOKS, _LOOK_SECONDS)
        self._still_seconds = timeout_seconds / _STILL
        self._looked = 0.0
        self._stood_still = 0.0
        self._late = 0.0  # If it isn't looked before that, this process has stood still.
        self._patience = timeout_seconds  # A deadline is so far away as the clock has it.
        self._messages: dict[Envelope, Cell] = {}
        self._cohort = Cohort()  # Which takes whatever is decided now.
        self._cells: list[Cell] = []  # Whose commits are in it.
        self._cohorts: list[tuple[float, Cohort, list[Cell]]] = []  # With their deadlines.
        self._filled = anyio.Event()

    def add(self, cell: Cell, message: Envelope) -> None:
        """Tell the engine if the message, which is new, isn't answered in time."""
        now = self._clock.read()
        if not self._filled.is_set():
            self._wake(now)
        elif now > self._late:
            self._look(now)
        message.deadline = now + self._patience
        self._messages[message] = cell

    def renew(self, cell: Cell, message: Envelope) -> None:
        """The same, with the time beginning anew, for one that may be watched already."""
        self._messages.pop(message, None)  # It goes to the end, where the latest are.
        self.add(cell, message)

    def enter(self, cell: Cell) -> Cohort:
        """Tell the engine if a commit of the actor's, which is new, isn't settled in time.

        Returns:
            Whose `left` is counted down when the commit is settled.
        """
        cells, cohort = self._cells, self._cohort
        if not (cells or self._filled.is_set()):
            self._wake(self._clock.read())
        cells.append(cell)
        cohort.left += 1
        return cohort

    def prune(self) -> None:
        """Let go of what is over, of messages as far as none is older that isn't."""
        if self._messages:
            self._prune_messages()
        if self._cells:
            self._close_cohort()
        self._cohorts = [one for one in self._cohorts if one[1].left]

    def _prune_messages(self) -> None:
        # In one pass: what was taken from the beginning of a dict is passed each time it is begun.
        for message in list(takewhile(_is_over, self._messages)):
            del self._messages[message]

    def _close_cohort(self) -> None:
        """What is decided from now on is due later."""
        now = self._clock.read()
        if now > self._late:
            self._look(now)
        self._cohorts.append((now + self._patience, self._cohort, self._cells))
        self._cohort, self._cells = Cohort(), []

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self.prune()
            if not self._messages and not self._cohorts:
                self._filled = anyio.Event()
                await self._filled.wait()
                continue
            self._look(self._clock.read())
            awake = self._looked - self._stood_still
            self._expire(awake)
            wait = self._next() - awake
            await anyio.sleep(min(wait, self._look_seconds))

    def _next(self) -> float:
        """When the next of all is due."""
        message = next(iter(self._messages), None)
        return min(
            inf if message is None else message.deadline,
            self._cohorts[0][0] if self._cohorts else inf,
        )

    def _expire(self, now: float) -> None:
        """Tell the engine of all that is due.

        Args:
            now: The time without that in which this process stood still.
        """
        messages, settlement = self._messages, self._engine.settlement
        while self._cohorts and self._cohorts[0][0] <= now:
            _, cohort, cells = self._cohorts.pop(0)
            for cell in dict.fromkeys(cells):
                for commit in () if cell.backlog is None else cell.backlog.commits():
                    if commit.cohort is cohort:
                        settlement.expire(cell, commit)
        # One behind a commit may be due just before that; it is renewed, and answered with it.
        while messages:
            message, cell = next(iter(messages.items()))
            if message.deadline > now:
                break
            del messages[message]
            if settlement.expire(cell, message):
                self.add(cell, message)

    def _wake(self, now: float) -> None:
        self._looked, self._late = now, now + self._still_seconds
        self._filled.set()

    def _look(self, now: float) -> None:
        """Note how long this process has been awake, while there was something to watch."""
        if now > self._late:
            self._stood_still += now - self._looked - self._look_seconds
            self._patience = self._timeout_seconds - self._stood_still
        self._looked, self._late = now, now + self._still_seconds


def _is_over(message: Envelope) -> bool:
    return message.done
