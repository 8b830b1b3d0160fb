"""Narrators that are cancelled, replaced, restarted, or close their supervisor."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import SessionRef
from gamegirl.actors.session import ClosedTurn, Session, TurnGivenUp
from gamegirl.supervisor import Supervisor
from gamegirl.supervisor._cell import Cell
from gamegirl.supervisor._performer import Performer
from gamegirl.supervisor.stores import ActorKey
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _has(items: list[int], count: int) -> bool:
    return len(items) == count


async def recorded(supervisor: Supervisor) -> SessionRef:
    """A session with one turn, once that is recorded."""
    session = supervisor.session("c")
    await session.boot("G")
    await session.press("1", "Ana", "x")
    await session.close_window()
    with anyio.fail_after(10):
        while not await session.history():
            await anyio.lowlevel.checkpoint()
    return session


async def test_a_cancellation_out_of_the_narrators_own_client_is_a_failed_attempt() -> None:
    """A CancelledError that nobody asked for ends neither the turn nor the supervisor."""
    attempts: list[int] = []

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        attempts.append(turn.attempt)
        if len(attempts) == 1:
            raise anyio.get_cancelled_exc_class() if _on_asyncio() else ConnectionError("no model")
        return "told"

    async with hosted(on_turn=narrate) as supervisor:
        await recorded(supervisor)
        assert attempts == [1, 2]


async def test_a_narrator_whose_own_client_is_cancelled_each_time_is_given_up() -> None:
    """As one that raises each time: the turn gets an empty record, and its channel plays on."""

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        raise anyio.get_cancelled_exc_class() if _on_asyncio() else ConnectionError("no model")

    async with hosted(on_turn=narrate, turn_retries_max=2, restarts_max=1) as supervisor:
        session = await recorded(supervisor)
        assert not supervisor.crashes()
        assert (await session.press("1", "Ana", "y")).opened


async def test_the_next_narrator_waits_until_the_cancelled_one_has_cleaned_up() -> None:
    """One at a time per channel, also while the one before still edits its message."""
    running, most = 0, 0
    cleaning, clean = anyio.Event(), anyio.Event()

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            if session.game_name == "First":
                await anyio.sleep_forever()
            return "x"
        finally:
            with anyio.CancelScope(shield=True):
                if session.game_name == "First":
                    cleaning.set()
                    await clean.wait()
            running -= 1

    async with hosted(on_turn=narrate) as supervisor:
        session = supervisor.session("c")
        for name in ("First", "Second", "Third"):
            await session.swap(name)
            await session.press("1", "Ana", "x")
            await session.close_window()
            await eventually(lambda: running)
        await cleaning.wait()
        clean.set()
        with anyio.fail_after(5):
            while not await session.history():
                await anyio.lowlevel.checkpoint()
        assert most == 1


async def test_a_narrator_cancelled_while_it_waited_leaves_nothing_behind() -> None:
    """Once the one before it has cleaned up, nothing of either is kept."""
    clean = anyio.Event()

    class Slow(Adder):
        async def perform(self, work: object) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await clean.wait()

    def unheard(*_: object) -> None:
        raise AssertionError("cancelled work has no result")

    async with anyio.create_task_group() as tasks:
        performer = Performer(tasks, 4, unheard, unheard)
        cell = Cell(ActorKey("adder", "a"), Slow())
        for _ in range(3):
            performer.start(cell, "work", None)
            await anyio.wait_all_tasks_blocked()
        performer.cancel_all(cell)
        await anyio.wait_all_tasks_blocked()
        kept = performer._latest  # pyright: ignore[reportPrivateUsage]
        assert kept, "the next one would have to wait"
        clean.set()
        await anyio.wait_all_tasks_blocked()
        assert not kept


async def test_restarts_use_up_no_retries() -> None:
    """Only failures of `on_turn` count; being handed out again after a release doesn't."""
    attempts: list[int] = []

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        attempts.append(turn.attempt)
        if turn.attempt <= 3:
            await anyio.sleep_forever()
        raise ConnectionError("the first failure")

    async with hosted(on_turn=narrate, turn_retries_max=1) as supervisor:
        events = supervisor.events()
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        for count in range(1, 4):
            await eventually(partial(_has, attempts, count))
            await supervisor.release("c")
            await session.state()
        with anyio.fail_after(10):
            async for event in events:
                if isinstance(event, TurnGivenUp):
                    break
        assert attempts == [1, 2, 3, 4, 5]


async def test_aclose_may_be_called_from_a_narrator() -> None:
    """It stops the supervisor as soon as the narrator lets go, and waits for nothing."""
    done = anyio.Event()
    box: list[Supervisor] = []

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        await box[0].aclose()
        done.set()
        return "x"

    async with hosted(on_turn=narrate) as supervisor:
        box.append(supervisor)
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        with anyio.fail_after(2):
            await done.wait()


async def test_aclose_waits_in_what_a_narrator_has_started() -> None:
    """A task that outlives the narrator is no narrator: the supervisor is closed afterwards."""
    told, states = anyio.Event(), list[str]()

    async def close_later(supervisor: Supervisor) -> None:
        await told.wait()
        await supervisor.aclose()
        states.append(repr(supervisor))

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        tasks.start_soon(close_later, box[0])
        return "x"

    box: list[Supervisor] = []
    async with anyio.create_task_group() as tasks, hosted(on_turn=narrate) as supervisor:
        box.append(supervisor)
        with anyio.fail_after(5):
            await recorded(supervisor)
            told.set()
            await eventually(lambda: states)
    assert "closed" in states[0]


async def test_a_cancelled_narrator_that_fails_while_it_cleans_up_harms_nobody() -> None:
    """Also in a task group of its own, which raises the failure and the cancellation together."""
    started = anyio.Event()

    async def stream() -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            raise ValueError("the stream could not be closed")

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream)
            await anyio.sleep_forever()
        return "never"

    async with hosted(on_turn=narrate) as supervisor:
        sibling, session = supervisor.session("b"), supervisor.session("c")
        await sibling.boot("Other")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        with anyio.fail_after(5):
            await started.wait()
            await session.exit()
            await eventually(lambda: supervisor.statistics().working == 0)
            for _ in range(3):  # What the scope lets through would break it in the next steps.
                await anyio.lowlevel.checkpoint()
            assert (await sibling.state()).active
