"""W4: how late timers fire when many are due together, and how fast sessions close then."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

import attrs

from benchmarks._closing import CLOSING, closing_together
from benchmarks._contest import (
    ASYNCIO,
    TRIO,
    UVLOOP,
    Contestant,
    Goal,
    Measure,
    Sample,
    Site,
    Variant,
    Workload,
)
from benchmarks._lateness import ONE_INSTANT, ONE_SECOND, TIMERS, timing
from benchmarks._windows import task_per_window
from gamegirl.actors import Answer, Behaviour, Woken
from gamegirl.codec import JsonCodec
from gamegirl.supervisor import Clock, Supervisor

_PEER = "a task per window"
_ROUNDING_SECONDS = 1e-6
_NOTHING = Answer()


@attrs.define
class BellState:
    actor_id: str
    wake_at: float | None = None


class Bell(Behaviour[BellState]):
    """Wants to be woken when it is told, and notes how late it is.

    Attributes:
        late: By how many seconds each timer was.
    """

    kind = "bell"
    codec = JsonCodec(BellState)

    def __init__(self, clock: Clock) -> None:
        self._offset = clock.now() - clock.monotonic()
        self.late: list[float] = []

    def initial(self, actor_id: str) -> BellState:
        return BellState(actor_id)

    def handle(self, state: BellState, message: float | Woken, now: float) -> Answer:
        if isinstance(message, float):
            state.wake_at = message
        elif state.wake_at is not None:
            self.late.append(monotonic() + self._offset - state.wake_at)
            state.wake_at = None
        return _NOTHING

    def wake_at(self, state: BellState) -> float | None:
        return state.wake_at

    def due_at(self, state: BellState) -> float | None:
        return None  # It would be a commit for each timer, and is none of the timer's cost.


@asynccontextmanager
async def _gamegirl(site: Site) -> AsyncGenerator[Measure, None]:
    if site.variant == CLOSING:
        async with closing_together() as measure:
            yield measure
        return
    clock = Clock()
    offset, bell = clock.now() - clock.monotonic(), Bell(clock)
    async with Supervisor("memory://", behaviours=[bell], clock=clock) as supervisor:
        references = [supervisor.actor(Bell.kind, str(number)) for number in range(TIMERS)]
        for reference in references:
            reference.tell(Woken())  # All are activated together.
        for reference in references:
            await reference.ask(Woken())

        async def set_timers(deadlines: Sequence[float]) -> Sequence[float]:
            bell.late = []
            for reference, deadline in zip(references, deadlines, strict=True):
                await reference.ask(deadline + offset)
            return bell.late

        measure = timing(site, set_timers)

        async def checked() -> Sample:
            sample = await measure()
            if bell.late and min(bell.late) < -_ROUNDING_SECONDS:
                raise ValueError("a timer fired before its time")
            return sample

        yield checked


_LOOPS = (ASYNCIO, UVLOOP, TRIO)

W4 = Workload(
    name="W4",
    promise="timers due together: lateness, and session closes before commits",
    figure="p99_ms",
    unit="ms late (p99)",
    variants=(
        Variant(ONE_INSTANT, goals=(Goal(at_most=50.0), Goal(_PEER))),
        Variant(ONE_SECOND, goals=(Goal(at_most=15.0), Goal(_PEER))),
        Variant(
            CLOSING,
            figure="per_second",
            unit="closes/s",
            goals=(Goal(at_least=20_000.0), Goal(_PEER)),
        ),
    ),
    contestants=(
        Contestant("gamegirl", _LOOPS, _gamegirl),
        Contestant(_PEER, _LOOPS, task_per_window),
    ),
    goals=(),
    round_seconds=0.0,
    laps=2,
    details=("p50_ms", "max_ms"),
)
