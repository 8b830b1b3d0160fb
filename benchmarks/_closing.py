"""Rounds of closing: 2,000 sessions of eight players whose windows have the same deadline.

Four of the eight have chosen, so that a close has choices to move and skips to count. What is timed
is from the deadline until the last window is closed: the timers, and the decisions with all that
they write, encoded and frozen. No commit is made meanwhile: the store keeps the first batch waiting
until the clock is stopped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic, time
from typing import Any, Protocol

import anyio

from benchmarks._booting import GAME_NAME, game_id
from benchmarks._contest import Measure, Sample
from benchmarks._presses import CHOICE, channel_name, player_id, player_name
from benchmarks._turns import NARRATIVE
from gamegirl.actors.session import SessionRef
from gamegirl.supervisor import Clock, MemoryStore, Settings, Supervisor
from gamegirl.testing import FaultyStore, eventually

CLOSING = "2,000 sessions of 8 players closing together"
SESSIONS = 2_000

_SEATS = 8
_CHOOSING = 4
_CALLERS = 500
_LONG = 100_000.0
_LOOK_SECONDS = 0.001

SETTINGS = Settings(
    window_seconds=0.5, commit_timeout_seconds=_LONG, lease_seconds=_LONG, sweep_seconds=_LONG
)
"""Nothing happens but the closing."""


class Hosting(Protocol):
    """Who hosts the sessions."""

    def session(self, channel_id: str) -> SessionRef:
        """A reference."""
        ...


class Watch:
    """A clock that can be stopped, so that all windows are opened at the same moment."""

    def __init__(self) -> None:
        self._behind = 0.0
        self._stopped: float | None = None
        ahead = time() - monotonic()
        self.clock = Clock(self.seconds, lambda: self.seconds() + ahead)

    def seconds(self) -> float:
        return (monotonic() if self._stopped is None else self._stopped) - self._behind

    def stop(self) -> None:
        self._stopped = monotonic()

    def go_on(self) -> None:
        assert self._stopped is not None
        self._behind += monotonic() - self._stopped
        self._stopped = None


async def seat(hosting: Hosting) -> None:
    """Boot all games and have their players join."""

    async def boot(channel: int) -> None:
        session = hosting.session(channel_name(channel))
        await session.boot(GAME_NAME, game_id=game_id(channel))
        for player in range(_SEATS):
            await session.join(player_id(player), player_name(player))

    await _everywhere(boot)


async def choose(hosting: Hosting) -> float:
    """Open all windows, half of the players having chosen.

    Returns:
        Their deadline, epoch seconds.
    """
    deadlines: set[float] = set()

    async def press(channel: int) -> None:
        session = hosting.session(channel_name(channel))
        for player in range(_CHOOSING):
            pressed = await session.press(player_id(player), player_name(player), CHOICE)
            deadlines.add(pressed.deadline)

    await _everywhere(press)
    (deadline,) = deadlines
    return deadline


async def record(hosting: Hosting) -> None:
    """Record the turns that were closed."""

    async def narrate(channel: int) -> None:
        session = hosting.session(channel_name(channel))
        turn = await session.next_turn()
        if len(turn.choices) != _CHOOSING:
            raise ValueError(f"{len(turn.choices)} choices are in the turn, not {_CHOOSING}")
        await session.record(turn, NARRATIVE)

    await _everywhere(narrate)


def sample_of(watch: Watch, deadline: float) -> Sample:
    """The figures, when the last window has just been closed."""
    return {"per_second": SESSIONS / (watch.clock.now() - deadline)}


@asynccontextmanager
async def closing_together() -> AsyncGenerator[Measure, None]:
    """Ours."""
    watch = Watch()
    store = FaultyStore(MemoryStore())
    async with Supervisor(store, settings=SETTINGS, clock=watch.clock) as supervisor:
        await seat(supervisor)

        async def measure() -> Sample:
            watch.stop()
            deadline = await choose(supervisor)
            store.commits.clear()
            store.hold()
            watch.go_on()
            await _closed(supervisor)
            sample = sample_of(watch, deadline)
            store.let_go()
            await record(supervisor)
            await eventually(lambda: supervisor.statistics().unsettled == 0)
            return sample

        yield measure


async def _closed(supervisor: Supervisor) -> None:
    """Wait until all windows are closed, without keeping them from it."""

    def is_closed(channel: int) -> bool:
        state: Any = supervisor.peek("session", channel_name(channel))
        return state.window is None

    for channel in range(SESSIONS):
        while not is_closed(channel):  # noqa: ASYNC110 - an event only comes with the commit
            await anyio.sleep(_LOOK_SECONDS)


async def _everywhere(act: Callable[[int], Awaitable[None]]) -> None:
    async def call(channels: range) -> None:
        for channel in channels:
            await act(channel)

    async with anyio.create_task_group() as tasks:
        for first in range(_CALLERS):
            tasks.start_soon(partial(call, range(first, SESSIONS, _CALLERS)))
