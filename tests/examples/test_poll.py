"""A second behaviour has the runtime's promises without a line about it in the runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from gamegirl.actors import (
    Fate,
    InvalidInputError,
    OwnershipLostError,
    SupervisorClosedError,
)
from gamegirl.supervisor import MemoryStore, RedisStore, Settings, SqliteStore, Supervisor
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

OPTIONS = ["cave", "tower"]
LONG = 3600.0
SHORT = 0.3

Stores = Callable[[], Any]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Makes handles on one and the same store."""
    if request.param == "memory":
        return MemoryStore().sibling
    if request.param == "sqlite":
        return lambda: SqliteStore(str(tmp_path / "polls.db"))
    url: str = request.getfixturevalue("redis_url")
    return lambda: RedisStore(url)


@pytest.fixture
def poll(example: Callable[[str], ModuleType]) -> Any:
    return example("poll")


@asynccontextmanager
async def hosted(poll: Any, store: Any) -> AsyncGenerator[Supervisor]:
    settings = Settings(lease_seconds=0.2, sweep_seconds=0.05, drain_seconds=0.2)
    async with Supervisor(store, settings=settings, behaviours=[poll.Poll()]) as supervisor:
        yield supervisor


async def test_the_latest_vote_counts_and_waiters_get_the_result(poll: Any, stores: Stores) -> None:
    results: list[dict[str, int]] = []
    async with hosted(poll, stores()) as supervisor:
        ballot = supervisor.actor("poll", "p")

        async def wait() -> None:
            results.append(await ballot.ask("result"))

        await ballot.ask(("open", OPTIONS, SHORT))
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait)
            await ballot.ask(("vote", "42", "cave"))
            await ballot.ask(("vote", "43", "cave"))
            await ballot.ask(("vote", "42", "tower"))
        assert results == [{"cave": 1, "tower": 1}] * 3
        assert await ballot.ask("result") == results[0]


async def test_votes_survive_a_restart_of_the_supervisor(poll: Any, stores: Stores) -> None:
    async with hosted(poll, stores()) as supervisor:
        ballot = supervisor.actor("poll", "p")
        await ballot.ask(("open", OPTIONS, LONG))
        await ballot.ask(("vote", "42", "cave"))
    async with hosted(poll, stores()) as supervisor:
        ballot = supervisor.actor("poll", "p")
        await ballot.ask(("vote", "43", "tower"))
        state = supervisor.peek("poll", "p")
        assert state is not None
        assert state.votes == {"42": "cave", "43": "tower"}


async def test_a_dead_processes_poll_closes_elsewhere_although_nobody_speaks(
    poll: Any, stores: Stores
) -> None:
    """And whoever waited in the dead process is told so, and gets the result by asking again."""
    failed: list[SupervisorClosedError] = []
    store = FaultyStore(stores())
    async with anyio.create_task_group() as tasks, hosted(poll, stores()) as survivor:
        async with hosted(poll, store) as victim:
            ballot = victim.actor("poll", "p")

            async def wait() -> None:
                with pytest.raises(SupervisorClosedError) as caught:
                    await ballot.ask("result")
                failed.append(caught.value)

            await ballot.ask(("open", OPTIONS, SHORT))
            await ballot.ask(("vote", "42", "cave"))
            tasks.start_soon(wait)
            await eventually(lambda: victim.statistics().unsettled)
            store.down = True  # it can do nothing more, as after a SIGKILL

        def closed() -> bool:
            state = survivor.peek("poll", "p")
            return state is not None and state.closes_at is None

        await eventually(closed)
        assert await survivor.actor("poll", "p").ask("result") == {"cave": 1, "tower": 0}
    assert [error.fate for error in failed] == [Fate.NOT_EXECUTED]


async def test_a_waiter_is_told_when_the_poll_is_released(poll: Any, stores: Stores) -> None:
    """Who waits for the result learns that this process has given the poll up."""
    told: list[OwnershipLostError] = []
    async with hosted(poll, stores()) as supervisor:
        ballot = supervisor.actor("poll", "p")

        async def wait() -> None:
            try:
                await ballot.ask("result")
            except OwnershipLostError as error:
                told.append(error)

        await ballot.ask(("open", OPTIONS, LONG))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.statistics().unsettled)
            await supervisor.release("p", kind="poll")
    assert len(told) == 1


@pytest.mark.parametrize(
    "message",
    [
        ("open", OPTIONS, LONG),
        ("vote", "42", "harbour"),
        ("vote", 42, "cave"),
        "close",
        None,
    ],
    ids=str,
)
async def test_what_a_poll_refuses_changes_nothing(
    poll: Any, stores: Stores, message: object
) -> None:
    async with hosted(poll, stores()) as supervisor:
        ballot = supervisor.actor("poll", "p")
        await ballot.ask(("open", OPTIONS, LONG))
        before = supervisor.statistics().commits
        with pytest.raises(InvalidInputError):
            await ballot.ask(message)
        assert supervisor.statistics().commits == before


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
async def test_a_poll_without_a_future_is_not_opened(poll: Any, seconds: float) -> None:
    async with hosted(poll, MemoryStore()) as supervisor:
        ballot = supervisor.actor("poll", "p")
        for message in (("open", OPTIONS, seconds), ("vote", "42", "cave"), "result"):
            with pytest.raises(InvalidInputError):
                await ballot.ask(message)


def test_a_behaviour_is_short() -> None:
    source = Path(__file__).parents[2] / "examples" / "poll.py"
    assert len(source.read_text().splitlines()) <= 60
