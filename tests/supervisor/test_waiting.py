"""Who waits, for how long, and what is left of it."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import Fate, MailboxFullError, StoreUnavailableError
from gamegirl.actors.session import ClosedTurn, SessionRef
from gamegirl.supervisor import Clock, Durability, MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import Commit, Outcome
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio


def _never() -> Any:
    raise AssertionError("it is live")


async def test_cancelled_waiters_of_a_cold_channel_leave_nothing() -> None:
    """Whoever was cancelled before the channel was even restored takes no room in it."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        await supervisor.session("c").boot("G")
    async with hosted(store.sibling(), mailbox_max=8) as supervisor:
        session = supervisor.session("c")
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(session.next_turn)
            await eventually(lambda: supervisor.statistics().unsettled == 8)
            tasks.cancel_scope.cancel()
        await eventually(lambda: supervisor.statistics().unsettled == 0)  # Once it is restored.
        await session.press("1", "Ana", "x")
        assert supervisor.statistics().unsettled == 0


async def test_a_clock_set_back_delays_neither_flush_nor_errors() -> None:
    """Durations run on the monotonic clock; only stamps follow the wall clock."""
    ahead = [0.0]
    clock = Clock(wall=lambda: time.time() + ahead[0])
    store = FaultyStore(MemoryStore())
    settings = Settings(
        durability=Durability.TURN,
        flush_seconds=0.1,
        commit_timeout_seconds=0.1,
        sweep_seconds=0.01,
        window_seconds=300,
    )
    async with Supervisor(store, settings=settings, clock=clock) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        ahead[0] = -3600.0
        with anyio.fail_after(5):
            await eventually(lambda: supervisor.statistics().unsettled == 0)
            store.down = True
            ahead[0] = -7200.0
            with pytest.raises(StoreUnavailableError):
                await session.close_window()
        store.down = False


async def test_a_caller_that_is_only_refused_still_yields() -> None:
    """A loop of refusals can't starve what would relieve the mailbox."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, behaviours=[Adder()], mailbox_max=1) as supervisor:
        actor = supervisor.actor("adder", "a")
        await actor.ask(1)
        store.hold()
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(actor.ask, 1)
            tasks.start_soon(other)
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            before = others
            for _ in range(640):
                with pytest.raises(MailboxFullError):
                    await actor.ask(1)
            assert others - before >= 9
            store.let_go()
            tasks.cancel_scope.cancel()


async def test_waiters_outlive_an_outage_however_they_came_in() -> None:
    """A store that is away ends no `next_turn`."""
    inner = MemoryStore()
    async with hosted(inner) as supervisor:
        await supervisor.session("c").boot("G")
    store = FaultyStore(inner.sibling())
    async with hosted(store, commit_timeout_seconds=0.05) as supervisor:
        session = supervisor.session("c")
        turns: list[ClosedTurn] = []

        async def wait() -> None:
            turns.append(await session.next_turn())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.get("c"))
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            store.down = True
            with pytest.raises(StoreUnavailableError):
                await session.press("1", "Ana", "x")
            store.down = False
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            await session.close_window()
        assert len(turns) == 2


async def test_with_turn_durability_a_close_is_seen_only_once_it_is_committed() -> None:
    """Presses are answered from memory; who waits for a turn waits for its commit."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, durability=Durability.TURN) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        store.hold()
        turns: list[ClosedTurn] = []

        async def wait() -> None:
            turns.append(await session.next_turn())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.close_window)
            await eventually(lambda: not (session.peek() or _never()).pending_choices)
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.statistics().unsettled >= 2)
            assert turns == []
            store.let_go()
        assert len(turns) == 1


async def test_obsolete_timers_and_dropped_observers_keep_no_memory() -> None:
    """Re-arming one timer thousands of times leaves about one; so do streams nobody holds."""
    async with hosted(window_seconds=600, sweep_seconds=0.01) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        for _ in range(1100):
            await session.press("1", "Ana", "x")
            await session.swap("G")
        for _ in range(20):
            supervisor.events()
        await eventually(lambda: supervisor.statistics().timers < 100)
        assert supervisor.statistics().observers == 0


class _Choosy(MemoryStore):
    """A store that refuses the commits of one channel, once it is told to."""

    refused = ""

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        if self.refused in [commit.actor.actor_id for commit in commits]:
            raise StoreUnavailableError("it doesn't like them", fate=Fate.NOT_EXECUTED)
        return await super().commit(commits)


async def test_callers_are_told_why_their_own_commit_failed_while_others_succeed() -> None:
    """The store's last word on others is none on theirs."""
    store = _Choosy()
    async with hosted(store, commit_timeout_seconds=0.3) as supervisor:
        for channel in ("one", "other"):
            await supervisor.session(channel).boot("G")
        store.refused = "one"

        async def press_on() -> None:
            while True:
                await supervisor.session("other").press("1", "Ana", "x")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(press_on)
            with pytest.raises(StoreUnavailableError, match="doesn't like them") as told:
                await supervisor.session("one").press("1", "Ana", "x")
            assert told.value.fate is Fate.IN_DOUBT
            tasks.cancel_scope.cancel()
        store.refused = ""
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        assert (await supervisor.session("one").press("1", "Ana", "y")).turn == 1


async def test_what_callers_were_told_in_an_outage_is_let_go_of_when_it_is_over() -> None:
    """Their frames hold the errors, and those the frames of whoever refused them."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, commit_timeout_seconds=0.1) as supervisor:

        async def complain(session: SessionRef) -> weakref.ref[StoreUnavailableError]:
            kept: list[StoreUnavailableError] = []
            for _ in range(2):  # The first is in doubt, the second refused at once.
                with pytest.raises(StoreUnavailableError) as told:
                    await session.press("1", "Ana", "x")
                kept.append(told.value)
            assert [error.fate for error in kept] == [Fate.IN_DOUBT, Fate.NOT_EXECUTED]
            return weakref.ref(kept[1])

        sessions = [supervisor.session(channel) for channel in "abcd"]
        for session in sessions:
            await session.boot("G")
        store.hold()
        told = [await complain(session) for session in sessions]
        store.let_go()
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        gc.collect()
        # The watchdog keeps what it looked at last until it looks again.
        assert len([error for error in told if error() is not None]) <= 1
