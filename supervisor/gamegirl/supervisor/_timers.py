"""All timers of a supervisor in one heap, with one task."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from gamegirl.supervisor._clock import Clock

_SLICE = 64
"""So many timers fire before others get a turn on the loop."""

_PRUNE = 1024
"""A heap is searched for obsolete timers when it has doubled, and is at least so large."""

Call: TypeAlias = Callable[[Any, float], None]


class Timers:
    """Calls a function at a time; whoever set it checks whether that still matters.

    Timers are not cancelled: an obsolete one calls for nothing, and `prune` removes those that
    there are too many of. Setting the clock moves no timer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Call, Any, float]] = []
        self._order = count()
        self._sooner = anyio.Event()
        self._pruned = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, call: Call, subject: Any) -> None:
        """Call `call(subject, when)` at `when`, epoch seconds."""
        self._push(self._clock.monotonic_at(when), call, subject, when)

    def after(self, seconds: float, call: Call, subject: Any) -> None:
        """Call `call(subject, when)` after so many seconds."""
        self._push(self._clock.monotonic() + seconds, call, subject, self._clock.now() + seconds)

    def _push(self, at: float, call: Call, subject: Any, when: float) -> None:
        heap = self._heap
        if not heap or at < heap[0][0]:
            self._sooner.set()
        heapq.heappush(heap, (at, next(self._order), call, subject, when))

    def prune(self, obsolete: Callable[[Call, Any, float], bool]) -> None:
        """Let go of obsolete timers, if there can be many."""
        if len(self._heap) < max(_PRUNE, 2 * self._pruned):
            return
        self._heap[:] = [timer for timer in self._heap if not obsolete(*timer[2:])]
        heapq.heapify(self._heap)
        self._pruned = len(self._heap)

    async def run(self) -> None:
        """Fire timers until cancelled."""
        heap, monotonic = self._heap, self._clock.monotonic
        while True:
            self._sooner = anyio.Event()
            now = monotonic()
            fired = 0
            while heap and heap[0][0] <= now:
                _, _, call, subject, when = heapq.heappop(heap)
                call(subject, when)
                fired += 1
                if fired % _SLICE == 0:
                    await checkpoint()
                    now = monotonic()
            if heap:
                with anyio.move_on_after(max(0.0, heap[0][0] - monotonic())):
                    await self._sooner.wait()
            else:
                await self._sooner.wait()
