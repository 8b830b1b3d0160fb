"""What takes longer than the commit timeout is noticed in time, whatever else is watched."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from tests.supervisor.hosts import hosted

from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor import Clock
from gamegirl.supervisor._cell import Cell, PendingCommit
from gamegirl.supervisor._watchdog import Watchdog
from gamegirl.supervisor.stores import ActorKey
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio


async def test_what_is_watched_again_is_watched_after_the_others() -> None:
    """A message that is inherited over a release delays nobody else's error."""
    expired: list[object] = []

    def expire(_: object, item: object) -> bool:
        expired.append(item)
        return False

    engine: Any = SimpleNamespace(settlement=SimpleNamespace(expire=expire))
    time = 0.0
    watchdog = Watchdog(engine, Clock(lambda: time, lambda: time), 0.4)
    cell = cast(Any, None)
    inherited, other = Envelope("inherited", 0.0), Envelope("other", 0.0)
    watchdog.add(cell, inherited)
    watchdog.add(cell, other)
    time = 0.1
    watchdog.renew(cell, inherited)

    def other_expired() -> bool:
        nonlocal time
        time = min(time + 0.002, 0.45)  # About as fast as the loop's own.
        return expired == [other]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        await eventually(other_expired)
        tasks.cancel_scope.cancel()


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


async def test_of_a_cohort_only_what_is_not_settled_is_late_and_only_once() -> None:
    """Commits of a moment are watched together; each has the whole timeout, and one verdict."""
    expired: list[object] = []

    def expire(_: object, commit: object) -> bool:
        expired.append(commit)
        return False

    engine: Any = SimpleNamespace(settlement=SimpleNamespace(expire=expire))
    time = 0.0
    watchdog = Watchdog(engine, Clock(lambda: time, lambda: time), 0.4)
    cells = [Cell(ActorKey("kind", name), cast(Any, None)) for name in "abc"]

    def decided(cell: Cell) -> PendingCommit:
        commit = PendingCommit(cohort=watchdog.enter(cell))
        cell.busy().put(commit)
        return commit

    def passed(until: float) -> bool:
        nonlocal time
        time = min(time + 0.002, until)  # About as fast as the loop's own.
        return time == until

    async with anyio.create_task_group() as tasks:
        settled, late = decided(cells[0]), decided(cells[1])
        tasks.start_soon(watchdog.run)
        settled.over()
        cells[0].busy().take()
        await eventually(lambda: passed(0.2))
        later = decided(cells[2])
        await eventually(lambda: passed(0.39))
        assert not expired
        await eventually(lambda: passed(0.55) and bool(expired))
        assert expired == [late]
        await eventually(lambda: passed(0.7) and len(expired) > 1)
        assert expired == [late, later]
        tasks.cancel_scope.cancel()
