"""Timers fire in order, at their time, however many are due together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import pytest

from gamegirl.supervisor import Clock
from gamegirl.supervisor._timers import Timers
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio


class Fired:
    """Notes what fired, and when each was told that it was due."""

    def __init__(self) -> None:
        self.names: list[object] = []
        self.times: list[float] = []

    def note(self, name: object, when: float) -> None:
        self.names.append(name)
        self.times.append(when)


@asynccontextmanager
async def running(timers: Timers) -> AsyncGenerator[None, None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(timers.run)
        yield
        tasks.cancel_scope.cancel()


async def test_timers_fire_by_time_then_in_the_order_of_setting() -> None:
    """Whatever order they are set in, and however finely their times differ."""
    clock, fired = Clock(), Fired()
    timers = Timers(clock)
    start = clock.now() - 1000.0  # All are due.
    times = [start + (number * 7919 % 1000) * 0.001 for number in range(1000)] + [start] * 3
    for position, when in enumerate(times):
        timers.add(when, fired.note, position)
    assert len(timers) == len(times)
    async with running(timers):
        await eventually(lambda: len(fired.names) == len(times))
    assert fired.names == sorted(range(len(times)), key=lambda position: times[position])
    assert fired.times == sorted(times)
    assert not len(timers)


async def test_no_timer_fires_before_its_time() -> None:
    """Not even within the same tick as one that is due."""
    now = 1000.0
    clock, fired = Clock(lambda: now, lambda: now), Fired()
    timers = Timers(clock)
    for milliseconds in (0, 1, 2, 3):
        timers.add(1000.0 + milliseconds / 1000, fired.note, milliseconds)
    async with running(timers):
        await eventually(lambda: fired.names)
        assert fired.names == [0]
        now = 1000.002
        timers.after(0.0, fired.note, "last")  # It wakes the task up, and is due after those.
        await eventually(lambda: "last" in fired.names)
        assert fired.names == [0, 1, 2, "last"]
        assert len(timers) == 1


async def test_many_are_sorted_before_they_are_due_and_fire_no_sooner() -> None:
    """Sorting tens of thousands takes longer than any of them need be late."""
    now = 1000.0
    fired = Fired()
    timers = Timers(Clock(lambda: now, lambda: now))
    async with running(timers):
        await anyio.wait_all_tasks_blocked()
        timers.add(1000.125, fired.note, "few")
        for number in range(2000, 0, -1):
            timers.add(1000.0625 + number * 1e-6, fired.note, number)
        await anyio.wait_all_tasks_blocked()
        opened = timers._open  # pyright: ignore[reportPrivateUsage]
        assert not opened
        now = 1000.046875  # A 64th of a second before the first of them.
        await eventually(lambda: len(opened) == 2000)
        timers.add(1000.0625, fired.note, 0)
        timers.add(1000.0, fired.note, "due")
        await eventually(lambda: fired.names)
        assert fired.names == ["due"]
        now = 1000.0635
        await eventually(lambda: len(fired.names) > 1000)
        now = 2000.0
        await eventually(lambda: "few" in fired.names)
    assert fired.names == ["due", *range(2001), "few"]


async def test_an_earlier_timer_is_not_late_for_a_later_one() -> None:
    """The task that sleeps until the first one is woken up."""
    fired = Fired()
    timers = Timers(Clock())
    async with running(timers):
        timers.after(1000.0, fired.note, "late")
        await anyio.wait_all_tasks_blocked()
        timers.after(0.0, fired.note, "early")
        await eventually(lambda: fired.names)
    assert fired.names == ["early"]


async def test_a_timer_may_set_others() -> None:
    """Those that are due at once fire after what is due already."""
    fired = Fired()
    timers = Timers(Clock())

    def again(name: str, when: float) -> None:
        fired.note(name, when)
        timers.add(when, fired.note, "again")

    timers.add(5.0, again, "first")
    timers.add(5.0, fired.note, "second")
    async with running(timers):
        await eventually(lambda: len(fired.names) == 3)
    assert fired.names == ["first", "second", "again"]


async def test_others_get_a_turn_while_thousands_fire() -> None:
    """A burst of timers doesn't hold up the loop."""
    now, fired = 1000.0, Fired()
    timers = Timers(Clock(lambda: now, lambda: now))

    def slow(name: object, when: float) -> None:
        nonlocal now
        fired.note(name, when)
        now += 0.0001  # So long it takes.

    for number in range(1000):
        timers.add(5.0, slow, number)
    seen: list[int] = []
    async with running(timers):
        while len(fired.names) < 1000:
            seen.append(len(fired.names))
            await anyio.lowlevel.checkpoint()
    steps = [after - before for before, after in pairwise(seen)]
    assert 0 < max(steps) <= 32


async def test_timers_that_do_much_hold_nobody_up_after_many_that_did_nothing() -> None:
    """How quickly those before them were done says nothing of them."""
    now, fired = 1000.0, Fired()
    timers = Timers(Clock(lambda: now, lambda: now))
    turns: list[float] = []

    def slow(name: object, when: float) -> None:
        nonlocal now
        fired.note(name, when)
        now += 0.0002  # So long it takes.

    for number in range(400):
        timers.add(5.0, fired.note, number)
    for number in range(400, 800):
        timers.add(5.0, slow, number)
    async with running(timers):
        while len(fired.names) < 800:
            turns.append(now)
            await anyio.lowlevel.checkpoint()
    assert fired.names == list(range(800))
    assert max(after - before for before, after in pairwise(turns)) < 0.008


@pytest.mark.parametrize("when", [0.0, 1e300, 1.7e308])
async def test_any_time_will_do(when: float) -> None:
    """Long gone, or further away than the world lasts."""
    fired = Fired()
    timers = Timers(Clock())
    timers.add(when, fired.note, "far")
    timers.add(1.0, fired.note, "near")
    async with running(timers):
        await eventually(lambda: "near" in fired.names)
        assert len(timers) == (when > 1.0)
    assert len(timers) == 0, "nothing is kept for whoever is gone"


async def test_obsolete_timers_are_let_go_of_when_there_are_many() -> None:
    """Those that still matter fire all the same."""
    clock, fired = Clock(), Fired()
    timers = Timers(clock)
    for number in range(4000):
        timers.add(clock.now() + (1000.0 if number % 2 else -1.0), fired.note, number)
    timers.prune(lambda _call, subject, _when: subject not in (10, 11))
    assert len(timers) == 2
    async with running(timers):
        await eventually(lambda: fired.names)
        assert fired.names == [10]
        timers.prune(lambda _call, _subject, _when: True)  # Few are not searched.
        assert len(timers) == 1
