"""Rounds of timers: all are set ahead of time, and each notes how late it fires."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import TypeAlias

import anyio

from benchmarks._contest import Measure, Sample, Site

TIMERS = 50_000
ONE_INSTANT = "50,000 timers due at one instant"
ONE_SECOND = "50,000 timers due within one second"

_LOOK_SECONDS = 0.01
"""So often it is looked whether all have fired: rarely, since that is in the way of the timers."""

_LEAD_FIRST_SECONDS = 0.5
_LEAD_MAX_SECONDS = 60.0
_LEAST_REST_SECONDS = 0.1
"""So long before the first deadline all timers must be set."""


SetTimers: TypeAlias = Callable[[Sequence[float]], Awaitable[Sequence[float]]]
"""Sets a timer for each of these moments of the monotonic clock, and returns when all are set.

What it gives is filled in, as the timers fire, with how many seconds each is late.
"""


def timing(site: Site, set_timers: SetTimers) -> Measure:
    """A measure of all timers, which sets them as far ahead as that takes."""
    step = (1.0 if site.variant == ONE_SECOND else 0.0) / TIMERS
    lead = _LEAD_FIRST_SECONDS

    async def measure() -> Sample:
        nonlocal lead
        while lead < _LEAD_MAX_SECONDS:
            first = monotonic() + lead
            late = await set_timers([first + step * number for number in range(TIMERS)])
            rest = first - monotonic()
            await anyio.sleep(max(0.0, rest))
            while len(late) < TIMERS:  # noqa: ASYNC110 - an event of ours would be one more timer
                await anyio.sleep(_LOOK_SECONDS)
            if rest >= _LEAST_REST_SECONDS:
                return _sample(late)
            # The first were due before all were set, which measures the setting: more time for it.
            lead = (lead - rest) * 1.3 + _LEAST_REST_SECONDS
        raise TimeoutError(f"{TIMERS} timers can't be set within {_LEAD_MAX_SECONDS:g} s")

    return measure


def _sample(late: Sequence[float]) -> Sample:
    ordered = sorted(late)
    return {
        "p50_ms": ordered[TIMERS // 2] * 1000,
        "p99_ms": ordered[TIMERS * 99 // 100] * 1000,
        "max_ms": ordered[-1] * 1000,
    }
