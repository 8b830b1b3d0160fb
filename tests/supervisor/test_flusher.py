"""The flusher by itself: what becomes of an actor whose commits were aborted while it waited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from gamegirl.actors import Fate, PutText, StoreUnavailableError
from gamegirl.supervisor._cell import Cell, PendingCommit, Status
from gamegirl.supervisor._flusher import Flusher
from gamegirl.supervisor.stores import ActorKey, Commit, Done
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio

_POISON = "poison"
"""The id of the actor whose commits the store can't take."""


class Choking:
    """A store that can't take the commits of one actor.

    Attributes:
        alone: Called when these come alone, once.
        settled: The ids of the actors whose commits it took.
    """

    portion = 64

    def __init__(self) -> None:
        self.alone: Callable[[], None] | None = None
        self.settled: list[str] = []

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Done]:
        names = [commit.actor.actor_id for commit in commits]
        if _POISON in names:
            if len(names) == 1 and self.alone is not None:
                self.alone()
                self.alone = None
            raise StoreUnavailableError("it chokes", fate=Fate.IN_DOUBT)
        self.settled += names
        return [Done() for _ in commits]


def cell_of(actor_id: str) -> Cell:
    behaviour: Any = None
    cell = Cell(ActorKey("session", actor_id), behaviour)
    cell.status = Status.LIVE
    cell.owner, cell.stem = "1:a:p", "a."
    return cell


def change(cell: Cell) -> None:
    """Give an actor something to commit."""
    cell.busy().put(PendingCommit((PutText("k", "v"),), urgent=True))


@asynccontextmanager
async def flushing(store: Any) -> AsyncGenerator[Flusher, None]:
    """A flusher at work, whose engine only takes what is settled off the backlog."""

    def nothing(_: object = None) -> None: ...

    def settle(cell: Cell, commit: PendingCommit, _: Done) -> None:
        cell.busy().take()
        commit.settled = True
        cell.rest()

    def retry_delay(failures: int) -> float:
        return 0.001 * failures

    engine: Any = SimpleNamespace(
        settlement=SimpleNamespace(settle=settle),
        hub=SimpleNamespace(publish=nothing),
        retry_delay=retry_delay,
    )
    watchdog: Any = SimpleNamespace(prune=nothing)
    courtesy: Any = SimpleNamespace(call=nullcontext)
    clock: Any = SimpleNamespace(monotonic=lambda: 0.0)
    flusher = Flusher(engine, store, clock, watchdog, courtesy, 1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flusher.run)
        yield flusher
        tasks.cancel_scope.cancel()


async def test_an_actor_whose_commit_was_aborted_behind_a_failing_one_commits_again() -> None:
    """Commits go one by one then; those behind the one that fails are put back without a try."""
    store, choking, other = Choking(), cell_of(_POISON), cell_of("other")
    aborted = anyio.Event()

    def abort() -> None:
        other.busy().take()
        aborted.set()

    store.alone = abort
    async with flushing(store) as flusher:
        for cell in (choking, other):
            change(cell)
            flusher.add(cell, urgent=True)
        await aborted.wait()
        await eventually(lambda: not other.busy().listed)
        change(other)
        flusher.add(other, urgent=True)
        await eventually(lambda: "other" in store.settled)
