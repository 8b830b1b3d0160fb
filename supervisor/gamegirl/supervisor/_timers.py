"""All timers of a supervisor, with one task.

Windows that were opened together are due together, tens of thousands at one instant. So timers are
not sorted one by one when they are set: they are gathered by the tick that they are due in, and a
tick is sorted once, when it has come, or before it if there are many in it: to go through tens of
thousands takes as long as memory does, for which none of them need be late. Most of it is in order
by then, which makes that cheap.
"""

from __future__ import annotations

import heapq
from bisect import insort_left
from collections.abc import Callable
from math import inf
from operator import attrgetter
from typing import Any, TypeAlias

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from gamegirl.supervisor._clock import Clock

_TICK_SECONDS = 1 / 64
"""A power of two, so that a tick begins exactly when the first timer in it can be due."""

_MANY = 1024
"""So many timers of one tick are sorted a tick ahead."""

_LOOK = 16
"""After so many timers it is looked what time it is."""

_TAKE = 128
"""So many are taken off the list at a time, which takes longer than to fire one."""

_SLICE_SECONDS = 0.001
"""After so long others get a turn on the loop."""

_PRUNE = 1024
"""Obsolete timers are looked for when there are twice as many timers as before, and so many."""

Call: TypeAlias = Callable[[Any, float], None]


class _Timer(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What to call, and when.

    The garbage collector need not know of it: of the windows that were closed before their time
    each leaves one, and it would walk through them again and again.

    Attributes:
        at: When it is due on the monotonic clock.
        call: What to call.
        subject: With what.
        when: When it is due in epoch seconds.
    """

    at: float
    call: Call
    subject: Any
    when: float


_AT: Callable[[_Timer], float] = attrgetter("at")


class Timers:
    """Calls a function at a time; whoever set it checks whether that still matters.

    Timers are not cancelled: an obsolete one calls for nothing, and `prune` removes those that
    there are too many of. Setting the clock moves no timer.

    Attributes:
        now: When it was looked what is due, while timers fire; epoch seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self.now = 0.0
        self._clock = clock
        self._ticks: dict[float, list[_Timer]] = {}
        self._numbers: list[float] = []  # Of these ticks, as a heap.
        self._open: list[_Timer] = []  # The timers of ticks that have come, the next one last.
        self._opened = -inf  # The number of the latest of these.
        self._wake_up = -inf  # When the task looks again; it needn't be woken for later timers.
        self._sooner = anyio.Event()
        self._pruned = 0
        self._over = False

    def __len__(self) -> int:
        return len(self._open) + sum(map(len, self._ticks.values()))

    def add(self, when: float, call: Call, subject: Any) -> None:
        """Call `call(subject, when)` at `when`, epoch seconds."""
        self._push(self._clock.monotonic_at(when), call, subject, when)

    def after(self, seconds: float, call: Call, subject: Any) -> None:
        """Call `call(subject, when)` after so many seconds."""
        self._push(self._clock.monotonic() + seconds, call, subject, self._clock.now() + seconds)

    def _push(self, at: float, call: Call, subject: Any, when: float) -> None:
        if self._over:
            return
        timer = _Timer(at, call, subject, when)
        number = at // _TICK_SECONDS
        if number <= self._opened:
            # To the left of those that are due at the same time: they were set before.
            insort_left(self._open, timer, key=_from_the_end)
        else:
            tick = self._ticks.get(number)
            if tick is None:
                self._ticks[number] = [timer]
                heapq.heappush(self._numbers, number)
            else:
                tick.append(timer)
                if len(tick) == _MANY:
                    at = _ahead(number)
        if at < self._wake_up:
            self._wake_up = at
            self._sooner.set()

    def prune(self, obsolete: Callable[[Call, Any, float], bool]) -> None:
        """Let go of obsolete timers, if there can be many."""
        if len(self) < max(_PRUNE, 2 * self._pruned):
            return
        for timers in (self._open, *self._ticks.values()):
            timers[:] = [
                timer for timer in timers if not obsolete(timer.call, timer.subject, timer.when)
            ]
        self._ticks = {number: timers for number, timers in self._ticks.items() if timers}
        self._numbers[:] = sorted(self._ticks)
        self._pruned = len(self)

    async def run(self) -> None:
        """Fire timers until cancelled."""
        monotonic = self._clock.monotonic
        try:
            while True:
                await self._fire()
                self._wake_up = self._first()
                while (rest := self._wake_up - monotonic()) > 0:
                    self._sooner = anyio.Event()
                    with anyio.move_on_after(rest):
                        await self._sooner.wait()
                self._wake_up = -inf
        finally:
            # What they lead to leads back to them, which the collector would not see.
            self._over = True
            self._open.clear()
            self._ticks.clear()
            self._numbers.clear()

    async def _fire(self) -> None:
        """Fire all that is due, in the order of their times, then of being set."""
        timers, clock, monotonic = self._open, self._clock, self._clock.monotonic
        some: list[_Timer] = []
        timer: _Timer | None = None
        began = now = monotonic()
        self.now = now + clock.offset
        try:
            while timers or self._open_next(now):
                some = timers[-_TAKE:]
                while some and some[0].at > now:
                    del some[0]
                if not some:
                    return
                del timers[-len(some) :]
                some.reverse()
                for position in range(0, len(some), _LOOK):
                    for timer in some[position : position + _LOOK]:
                        timer.call(timer.subject, timer.when)
                    now = monotonic()
                    self.now = now + clock.offset
                    if now - began > _SLICE_SECONDS:
                        timers.extend(reversed(some[position + _LOOK :]))
                        await checkpoint()
                        began = now = monotonic()
                        self.now = now + clock.offset
                        break
        finally:
            # A crash keeps its frames, and this is one of them: nothing in it may keep a timer.
            del some, timer

    def _open_next(self, now: float) -> bool:
        """Sort the timers of the next tick, if it has come."""
        numbers = self._numbers
        if not numbers or self._opens(numbers[0]) > now:
            return False
        self._opened = heapq.heappop(numbers)
        tick = self._ticks.pop(self._opened)
        tick.sort(key=_AT)
        tick.reverse()
        self._open.extend(tick)
        return True

    def _first(self) -> float:
        """When the next timer is due, or a tick of many is to be sorted."""
        if self._open:
            return self._open[-1].at
        if not self._numbers:
            return inf
        number = self._numbers[0]
        tick = self._ticks[number]
        return min(map(_AT, tick)) if len(tick) < _MANY else _ahead(number)

    def _opens(self, number: float) -> float:
        """From when on a tick may be sorted."""
        many = len(self._ticks[number]) >= _MANY
        return _ahead(number) if many else number * _TICK_SECONDS


def _ahead(number: float) -> float:
    return (number - 1) * _TICK_SECONDS


def _from_the_end(timer: _Timer) -> float:
    return -timer.at
