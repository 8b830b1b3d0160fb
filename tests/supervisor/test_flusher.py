"""The flusher by itself: one actor whose commits the store can't take, and all the others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from gamegirl.actors import Fate, PutText, StoreUnavailableError
from gamegirl.supervisor._cell import Cell, Cohort, PendingCommit, Status
from gamegirl.supervisor._events import StoreBack, StoreLost
from gamegirl.supervisor._flusher import Flusher
from gamegirl.supervisor.stores import ActorKey, Commit, Done
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio

_POISON = "poison"
"""The id of the actor whose commits the store can't take."""


class Choking:
    """A store that can't take the commits of one actor.

    Attributes:
        portion: So many commits it takes at a time.
        alone: Called when these come alone, once.
        settled: The ids of the actors whose commits it took.
        refused: So often it took none.
        success: Is set, and replaced, when it has taken some.
        patient: It refuses only when it has taken others meanwhile.
    """

    threaded = False

    def __init__(self, portion: int = 64) -> None:
        self.portion = portion
        self.alone: Callable[[], None] | None = None
        self.settled: list[str] = []
        self.refused = 0
        self.success = anyio.Event()
        self.patient = False

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Done]:
        names = [commit.actor.actor_id for commit in commits]
        if _POISON in names:
            if self.patient:
                await self.success.wait()
            if len(names) == 1 and self.alone is not None:
                self.alone()
                self.alone = None
            self.refused += 1
            raise StoreUnavailableError("it chokes", fate=Fate.IN_DOUBT)
        await checkpoint()
        self.settled += names
        success, self.success = self.success, anyio.Event()
        success.set()
        return [Done() for _ in commits]


def cell_of(actor_id: str) -> Cell:
    behaviour: Any = None
    cell = Cell(ActorKey("session", actor_id), behaviour)
    cell.status = Status.LIVE
    cell.owner, cell.stem = "1:a:p", "a."
    return cell


def change(cell: Cell) -> None:
    """Give an actor something to commit."""
    cell.busy().put(PendingCommit(Cohort(), (PutText("k", "v"),), urgent=True))


def commit_soon(flusher: Flusher, cell: Cell) -> None:
    """Give an actor something to commit, for which somebody waits."""
    change(cell)
    flusher.add(cell, urgent=True)


def soon(failures: int) -> float:
    return 0.001 * failures


@asynccontextmanager
async def flushing(
    store: Any, *, again: Iterable[Cell] = (), delay: Callable[[int], float] = soon
) -> AsyncGenerator[tuple[Flusher, list[object]], None]:
    """A flusher at work, whose engine only takes what is settled off the backlog.

    Args:
        store: Where it commits.
        again: These have something to commit again, as soon as they have committed.
        delay: How long a failure keeps it waiting.

    Yields:
        It, and all events.
    """
    events: list[object] = []
    busy = set(again)

    def settle(cell: Cell, commit: PendingCommit, _: Done) -> None:
        cell.busy().take()
        commit.settled = True
        cell.rest()
        if cell in busy:
            change(cell)

    async def later(seconds: float, call: Callable[[Any, float], None], subject: object) -> None:
        await anyio.sleep(seconds)
        call(subject, 0.0)

    def after(seconds: float, call: Callable[[Any, float], None], subject: object) -> None:
        tasks.start_soon(later, seconds, call, subject)

    engine: Any = SimpleNamespace(
        settlement=SimpleNamespace(settle=settle),
        hub=SimpleNamespace(publish=events.append),
        timers=SimpleNamespace(after=after),
        retry_delay=delay,
    )
    courtesy: Any = SimpleNamespace(call=nullcontext)
    clock: Any = SimpleNamespace(monotonic=lambda: 0.0)
    flusher = Flusher(engine, store, clock, courtesy, 1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flusher.run)
        yield flusher, events
        tasks.cancel_scope.cancel()


async def test_an_actor_whose_commit_was_aborted_behind_a_failing_one_commits_again() -> None:
    """Commits go one by one then; those behind the one that fails are put back without a try."""
    store, choking, other = Choking(), cell_of(_POISON), cell_of("other")
    aborted = anyio.Event()

    def abort() -> None:
        other.busy().take()
        aborted.set()

    store.alone = abort
    async with flushing(store) as (flusher, _):
        for cell in (choking, other):
            commit_soon(flusher, cell)
        await aborted.wait()
        await eventually(lambda: not other.busy().listed)
        commit_soon(flusher, other)
        await eventually(lambda: "other" in store.settled)


async def test_whose_commits_are_settled_meanwhile_don_t_keep_others_from_being_settled() -> None:
    """Two share a portion with the one that fails; portions of others succeed all the time."""
    store = Choking(portion=3)
    store.patient = True
    shared = [cell_of(name) for name in ("one", _POISON, "two")]
    others = [cell_of(f"busy {number}") for number in range(6)]
    async with flushing(store, again=others) as (flusher, _):
        for cell in (*shared, *others):
            commit_soon(flusher, cell)
        await eventually(lambda: {"one", "two"} <= set(store.settled))
    assert _POISON not in store.settled


async def test_nobody_waits_for_the_next_try_of_another_s_commit() -> None:
    """Whoever has something to commit while the failing one is kept back is settled at once."""
    store, choking = Choking(), cell_of(_POISON)

    def delay(_: int) -> float:
        return 3600.0 if store.settled else 0.001

    async with flushing(store, delay=delay) as (flusher, _):
        commit_soon(flusher, choking)
        await eventually(lambda: store.refused > 2)
        for name in ("one", "two"):
            cell = cell_of(name)
            commit_soon(flusher, cell)
            await eventually(partial(store.settled.count, name))
            await anyio.wait_all_tasks_blocked()


async def test_one_commit_that_fails_all_the_time_is_no_outage() -> None:
    """The store is lost with its first failure, back with the next success, and not lost again."""
    store, choking, other = Choking(), cell_of(_POISON), cell_of("other")
    async with flushing(store, again=[other]) as (flusher, events):
        for cell in (choking, other):
            commit_soon(flusher, cell)
        await eventually(lambda: store.refused > 9)
        assert [type(event) for event in events] == [StoreLost, StoreBack]
        commit = choking.busy().commit
    assert commit is not None
    assert commit.trouble == "it chokes", "its callers can be told"


async def test_an_outage_that_pauses_for_one_commit_is_told_of() -> None:
    """Although all commits have failed before, so that each is tried alone."""

    class Flapping:
        portion = 64
        threaded = False
        takes = calls = 0

        async def commit(self, commits: Sequence[Commit]) -> Sequence[Done]:
            await checkpoint()
            self.calls += 1
            if not self.takes:
                raise StoreUnavailableError("it is down", fate=Fate.IN_DOUBT)
            self.takes -= 1
            return [Done() for _ in commits]

    store = Flapping()
    cells = [cell_of(f"{number}") for number in range(5)]
    async with flushing(store) as (flusher, events):
        for cell in cells:
            commit_soon(flusher, cell)
        await eventually(lambda: store.calls > 20)  # Each has failed more than twice.
        store.takes = 1
        await eventually(lambda: len(events) > 2)
        store.takes = 100
        await eventually(lambda: flusher.sent == len(cells))
    assert [type(event) for event in events] == [StoreLost, StoreBack, StoreLost, StoreBack]


class Slow:
    """A store with small portions, whose calls wait until they are let go.

    Attributes:
        portion: So many commits it takes at a time.
        down: It fails instead.
        calls: How many commits each call that waits has.
        most: So many calls have waited side by side at most.
        go: Lets all go.
    """

    def __init__(self, *, portion: int = 2, threaded: bool = False) -> None:
        self.portion = portion
        self.threaded = threaded
        self.down = False
        self.calls: list[int] = []
        self.most = 0
        self.go = anyio.Event()

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Done]:
        self.calls.append(len(commits))
        self.most = max(self.most, len(self.calls))
        await self.go.wait()
        await checkpoint()
        self.calls.pop()
        if self.down:
            raise StoreUnavailableError("it is down", fate=Fate.IN_DOUBT)
        return [Done() for _ in commits]


async def test_each_portion_goes_when_it_has_gathered_however_many_are_under_way() -> None:
    """What is decided doesn't wait for answers; what is less than a portion does.

    Of that, half a portion goes if it would keep the store busy behind the only other one.
    """
    store = Slow(portion=4)
    async with flushing(store) as (flusher, _):
        for number in range(14):
            commit_soon(flusher, cell_of(f"{number}"))
            await anyio.wait_all_tasks_blocked()
        # The first found none under way, the second one.
        assert store.calls == [1, 2, 4, 4]
        store.go.set()
        await eventually(lambda: flusher.sent == 14)


async def test_half_a_portion_waits_for_company_if_the_store_has_a_thread_for_it() -> None:
    """Such a store makes its commits one after the other: fewer calls are worth more to it."""
    store = Slow(portion=4, threaded=True)
    async with flushing(store) as (flusher, _):
        for number in range(8):
            commit_soon(flusher, cell_of(f"{number}"))
            await anyio.wait_all_tasks_blocked()
        assert store.calls == [1, 4]
        store.go.set()
        await eventually(lambda: flusher.sent == 8)


async def test_one_portion_at_a_time_tries_whether_the_store_is_back_and_then_all_go() -> None:
    """A store that is down isn't called by many, nor those with much to send by one."""
    store = Slow()
    store.down = True
    async with flushing(store) as (flusher, _):
        for number in range(12):
            commit_soon(flusher, cell_of(f"{number}"))
        await eventually(lambda: len(store.calls) == 6)
        store.go.set()  # All six fail side by side.
        await eventually(lambda: not store.calls)
        store.go, store.most = anyio.Event(), 0
        await eventually(lambda: len(store.calls) == 1)
        idle = flusher._idle  # pyright: ignore[reportPrivateUsage]
        await eventually(lambda: len(idle) == 15)  # The others have given up for now.
        assert store.most == 1
        store.down = False
        store.go.set()
        store.go = anyio.Event()
        await eventually(lambda: len(store.calls) > 4)
        store.go.set()
        await eventually(lambda: flusher.sent == 12)


async def test_few_portions_wait_for_the_thread_of_a_store_that_has_one() -> None:
    """When such a store fails each of them takes a timeout, one after the other."""
    store = Slow(threaded=True)
    async with flushing(store) as (flusher, _):
        for number in range(20):
            commit_soon(flusher, cell_of(f"{number}"))
        await anyio.wait_all_tasks_blocked()
        assert store.calls == [2, 2, 2, 2]
        store.go.set()
        await eventually(lambda: flusher.sent == 20)
    assert store.most == 4


async def test_a_call_that_hangs_keeps_nobody_from_trying_again() -> None:
    """Another one fails at once meanwhile; then the store works, but for the call that hangs."""

    class Hanging:
        portion = 2
        threaded = False
        calls = 0
        never = anyio.Event()

        async def commit(self, commits: Sequence[Commit]) -> Sequence[Done]:
            self.calls += 1
            if self.calls == 1:
                await self.never.wait()
            await checkpoint()
            if self.calls == 2:
                raise StoreUnavailableError("it hiccups", fate=Fate.IN_DOUBT)
            return [Done() for _ in commits]

    store = Hanging()
    async with flushing(store) as (flusher, _):
        for number in range(9):
            commit_soon(flusher, cell_of(f"{number}"))
            await anyio.wait_all_tasks_blocked()
        await eventually(lambda: flusher.sent == 8)


async def test_an_older_success_does_not_say_that_the_store_is_back() -> None:
    """Its answer had come before the store went; only a call that began after that can tell."""

    class Stepwise:
        portion = 2
        threaded = False

        def __init__(self) -> None:
            self.calls: list[anyio.Event] = []
            self.down = True

        async def commit(self, commits: Sequence[Commit]) -> Sequence[Done]:
            number = len(self.calls)
            self.calls.append(anyio.Event())
            await self.calls[number].wait()
            if number > 1 and self.down:
                raise StoreUnavailableError("it is down", fate=Fate.IN_DOUBT)
            return [Done() for _ in commits]

    store = Stepwise()
    async with flushing(store) as (flusher, events):
        for number in range(4):
            commit_soon(flusher, cell_of(f"{number}"))
            await anyio.wait_all_tasks_blocked()
        assert len(store.calls) == 3
        store.calls[2].set()
        await eventually(lambda: len(events) == 1)
        store.calls[0].set()
        store.calls[1].set()
        await eventually(lambda: flusher.sent == 2)
        assert [type(event) for event in events] == [StoreLost]
        assert not flusher.returned.is_set()
        store.down = False
        await eventually(lambda: len(store.calls) == 4)
        store.calls[3].set()
        await eventually(lambda: flusher.sent == 4)
        assert [type(event) for event in events] == [StoreLost, StoreBack]
        assert flusher.returned.is_set()


async def test_one_portion_tries_the_store_also_if_nothing_was_left_to_try_it_with() -> None:
    """All that had failed was taken back; what comes then must not go all at once."""
    store, first = Slow(), cell_of("first")
    store.down = True
    async with flushing(store) as (flusher, _):
        commit_soon(flusher, first)
        await eventually(lambda: len(store.calls) == 1)
        first.busy().take()
        first.rest()
        store.go.set()
        idle = flusher._idle  # pyright: ignore[reportPrivateUsage]
        await eventually(lambda: len(idle) == 16)
        store.go, store.most = anyio.Event(), 0
        for number in range(12):
            commit_soon(flusher, cell_of(f"{number}"))
        await anyio.wait_all_tasks_blocked()
        assert store.most == 1
        store.down = False
        store.go.set()
        await eventually(lambda: flusher.sent == 12)
