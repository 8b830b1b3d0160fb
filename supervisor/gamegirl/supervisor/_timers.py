"""All timers of a supervisor in one heap, with one task."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from gamegirl.supervisor._clock import Clock

_SLICE = 64
"""So many timers fire before others get a turn on the loop."""


class Timers:
    """Calls a function at a time; whoever set it checks whether that still matters.

    Timers are not cancelled: an obsolete one calls for nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._order = count()
        self._sooner = anyio.Event()

    def add(self, when: float, call: Callable[[Any, float], None], subject: Any) -> None:
        """Call `call(subject, when)` at `when`, epoch seconds."""
        heap = self._heap
        if not heap or when < heap[0][0]:
            self._sooner.set()
        heapq.heappush(heap, (when, next(self._order), call, subject))

    def moved(self) -> None:
        """The clock was adjusted: look again."""
        self._sooner.set()

    async def run(self) -> None:
        """Fire timers until cancelled."""
        heap = self._heap
        while True:
            self._sooner = anyio.Event()
            now = self._clock.now()
            fired = 0
            while heap and heap[0][0] <= now:
                when, _, call, subject = heapq.heappop(heap)
                call(subject, when)
                fired += 1
                if fired % _SLICE == 0:
                    await checkpoint()
                    now = self._clock.now()
            if heap:
                with anyio.move_on_after(max(0.0, heap[0][0] - self._clock.now())):
                    await self._sooner.wait()
            else:
                await self._sooner.wait()
