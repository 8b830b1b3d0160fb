"""What takes longer than the commit timeout is noticed in time, whatever else is watched."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import attrs
import pytest
from tests.supervisor.hosts import hosted

from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor import Clock
from gamegirl.supervisor._cell import Cell, PendingCommit
from gamegirl.supervisor._watchdog import Watchdog
from gamegirl.supervisor.stores import ActorKey
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio


@attrs.define
class Watched:
    """A watchdog with a commit timeout of 0.4 s, whose time goes by as it is told.

    Attributes:
        time: Seconds.
        expired: What was late.
    """

    time: float = 0.0
    expired: list[object] = attrs.Factory(list[object])
    dog: Watchdog = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        engine: Any = SimpleNamespace(settlement=self)
        self.dog = Watchdog(engine, Clock(lambda: self.time, lambda: self.time), 0.4)

    def expire(self, _: object, item: object) -> bool:
        """As `Settlement` does."""
        self.expired.append(item)
        return False

    def decide(self) -> tuple[Cell, PendingCommit]:
        """A commit, and whose it is."""
        cell = Cell(ActorKey("kind", "id"), cast(Any, None))
        commit = PendingCommit(self.dog.enter(cell))
        cell.busy().put(commit)
        return cell, commit

    async def until(self, time: float) -> None:
        """Have time go by, about as fast as the loop's own."""

        def passed() -> bool:
            self.time = min(self.time + 0.002, time)
            return self.time == time

        await eventually(passed)
        await eventually(lambda: self.looked >= time or self.at_rest)

    @property
    def looked(self) -> float:
        """When it has looked the last time."""
        return self.dog._looked  # pyright: ignore[reportPrivateUsage]

    @property
    def at_rest(self) -> bool:
        """Whether it waits for nothing but something to watch."""
        return not self.dog._filled.is_set()  # pyright: ignore[reportPrivateUsage]


@asynccontextmanager
async def watching() -> AsyncGenerator[Watched, None]:
    """One that runs."""
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched.dog.run)
        yield watched
        tasks.cancel_scope.cancel()


async def test_what_is_watched_again_is_watched_after_the_others() -> None:
    """A message that is inherited over a release delays nobody else's error."""
    async with watching() as watched:
        cell = cast(Any, None)
        inherited, other = Envelope("inherited", 0.0), Envelope("other", 0.0)
        watched.dog.add(cell, inherited)
        watched.dog.add(cell, other)
        watched.time = 0.1
        watched.dog.renew(cell, inherited)
        await watched.until(0.45)
        await eventually(lambda: watched.expired == [other])


async def test_who_waited_for_a_claim_is_let_go_of_when_it_is_answered() -> None:
    """Thousands of channels restored in a burst leave no messages for the next look."""

    def kept() -> int:
        gc.collect()
        return sum(isinstance(one, Envelope) for one in gc.get_objects())

    before = kept()
    async with hosted(commit_timeout_seconds=3600.0) as supervisor:
        async with anyio.create_task_group() as tasks:
            for channel in range(300):
                tasks.start_soon(supervisor.session(str(channel)).active)
        assert kept() - before < 100  # Of the last batch.


def settle(cell: Cell, commit: PendingCommit) -> None:
    cell.busy().take()
    commit.over()


async def test_of_a_cohort_only_what_is_not_settled_is_late_and_only_once() -> None:
    """Commits of a moment are watched together; each has the whole timeout, and one verdict."""
    async with watching() as watched:
        settled, late = watched.decide(), watched.decide()
        settle(*settled)
        await watched.until(0.2)
        later, last = watched.decide(), watched.decide()
        await watched.until(0.39)
        assert not watched.expired
        await watched.until(0.5)
        assert watched.expired == [late[1]]
        settle(*last)
        await watched.until(0.7)
        assert watched.expired == [late[1], later[1]]
        watched.decide()
        await watched.until(1.0)
        assert watched.expired == [late[1], later[1]]


async def test_when_all_is_settled_nobody_looks() -> None:
    """At rest the watchdog takes no turn of the loop, whatever else was late."""
    async with watching() as watched:
        first, second = watched.decide(), watched.decide()
        await eventually(lambda: not watched.at_rest)
        settle(*first)
        await watched.until(0.1)
        assert not watched.at_rest
        settle(*second)
        await eventually(lambda: watched.at_rest)


async def test_what_a_commit_had_left_before_its_process_stood_still_it_has_afterwards() -> None:
    """However long a process was stopped, the store gets the rest of the timeout to answer in."""
    async with watching() as watched:
        _, commit = watched.decide()
        await watched.until(0.3)
        watched.time = 10.3
        await eventually(lambda: watched.looked == 10.3)
        await watched.until(10.37)
        assert not watched.expired
        await watched.until(10.5)
        assert watched.expired == [commit]
