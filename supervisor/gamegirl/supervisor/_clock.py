"""Time as the runtime sees it: the monotonic clock, told in epoch seconds."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Epoch seconds that never jump.

    The monotonic clock is anchored to the wall clock once, so that deadlines in a process do not
    depend on what somebody does to the wall clock. `drift` says how far the two have come apart
    (a machine that slept, a clock that was set) and `adjust` follows it on purpose.

    Args:
        monotonic: Seconds that only ever grow.
        wall: Seconds since the epoch.

    Attributes:
        read: The monotonic clock itself, for durations and for whoever reads it very often.
        offset: What must be added to what it says to have epoch seconds.
    """

    __slots__ = ("_wall", "offset", "read")

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.read = monotonic
        self._wall = wall
        self.offset = wall() - monotonic()

    def now(self) -> float:
        """Epoch seconds."""
        return self.read() + self.offset

    def monotonic(self) -> float:
        """Seconds for durations: `adjust` doesn't move it."""
        return self.read()

    def monotonic_at(self, when: float) -> float:
        """What `monotonic` will say at `when`, in epoch seconds."""
        return when - self.offset

    def drift(self) -> float:
        """How far the wall clock is ahead of this one, in seconds."""
        return self._wall() - self.now()

    def adjust(self, seconds: float) -> None:
        """Move on by so many seconds at once."""
        self.offset += seconds
