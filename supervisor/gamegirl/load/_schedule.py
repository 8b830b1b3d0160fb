"""When presses come: a schedule that is made before anything is answered, and keeps to itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from gamegirl.load._plan import Arrivals, Step


def arrivals(
    steps: Sequence[Step], kind: Arrivals, share: float, randomness: random.Random
) -> Iterator[float]:
    """The times at which presses are to begin, in seconds from the start, never going back.

    Args:
        steps: The rates, one after the other.
        kind: How presses follow each other.
        share: The part of them that comes from here; Poisson arrivals that are split by chance
            are Poisson arrivals again.
        randomness: Makes the schedule: the same seed, the same schedule.

    Example:
        >>> list(arrivals([Step(4.0, 1.0)], Arrivals.CONSTANT, 0.5, random.Random(1)))
        [0.067..., 0.567...]
    """
    begin = 0.0
    for step in steps:
        end = begin + step.seconds
        rate = step.rate * share
        if rate > 0:
            poisson = kind is Arrivals.POISSON
            # Processes that beat alike must not beat together.
            at = begin + (randomness.expovariate(rate) if poisson else randomness.random() / rate)
            while at < end:
                yield at
                at += randomness.expovariate(rate) if poisson else 1 / rate
        begin = end
