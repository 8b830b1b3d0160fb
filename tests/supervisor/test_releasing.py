"""Giving a channel up while it has something to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf

import anyio
import anyio.lowlevel
import pytest
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import (
    Fate,
    OwnershipLostError,
    StoreUnavailableError,
    SupervisorClosedError,
    UnknownGameError,
)
from gamegirl.actors.session import ClosedTurn, Session, TurnClosed
from gamegirl.supervisor import MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import Broken, Claim, Claimed, Due, Owned
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio


async def test_a_message_inherited_over_a_release_gets_its_error_in_time() -> None:
    """The next life's claim fails: its callers are told within the commit timeout."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, commit_timeout_seconds=1.0) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        store.hold()
        errors: list[StoreUnavailableError] = []

        async def press() -> None:
            try:
                await session.press("1", "Ana", "x")
            except StoreUnavailableError as error:
                errors.append(error)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(supervisor.release, "c")
                await eventually(lambda: len(store.commits) == 2)
                tasks.start_soon(press)
                await eventually(lambda: supervisor.statistics().unsettled == 1)
                store.claims_down = True
                store.let_go()
        assert [error.fate for error in errors] == [Fate.NOT_EXECUTED]
        store.claims_down = False
        assert not (await session.state()).pending_choices


async def test_release_gives_up_a_channel_that_is_waited_for_and_watched() -> None:
    """Waiters are told, watchers wait for the next change: nobody claims it back."""
    async with hosted() as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        ended: list[OwnershipLostError] = []
        seen: list[int] = []

        async def wait() -> None:
            try:
                await session.next_turn()
            except OwnershipLostError as error:
                ended.append(error)

        async def watch() -> None:
            async for state in session.watch():
                seen.append(len(state.players))  # noqa: PERF401 - it is looked at meanwhile

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(watch)
            await eventually(lambda: seen and supervisor.statistics().unsettled == 1)
            await supervisor.release("c")
            await eventually(lambda: ended)
            assert supervisor.statistics().live["session"] == 0
            await session.join("1", "Ana")
            await eventually(lambda: seen[-1] == 1)
            tasks.cancel_scope.cancel()


async def test_release_behind_a_refused_message_still_releases() -> None:
    """Somebody else's refusal is not the release's."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, behaviours=[Adder()]) as supervisor:
        actor = supervisor.actor("adder", "a")
        await actor.ask(1)
        store.hold()
        refused: list[UnknownGameError] = []

        async def guarded() -> None:
            try:
                await actor.ask("guarded")
            except UnknownGameError as error:
                refused.append(error)

        async def release() -> None:
            await supervisor.release("a", kind="adder")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(guarded)
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            tasks.start_soon(release)
            await anyio.lowlevel.checkpoint()
            store.let_go()
        assert len(refused) == 1
        assert supervisor.statistics().live["adder"] == 0


async def test_release_is_bounded_when_the_store_is_away() -> None:
    """It raises in time, and can be asked for again."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, commit_timeout_seconds=0.1, window_seconds=0.1) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        store.down = True
        with pytest.raises(StoreUnavailableError):
            await session.press("1", "Ana", "x")
        with anyio.fail_after(5), pytest.raises(StoreUnavailableError, match="released"):
            await supervisor.release("c")
        store.down = False
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        await supervisor.release("c")


async def test_a_window_given_up_by_a_drain_closes_on_time_elsewhere() -> None:
    """The next process looks when somebody else's window should have closed."""
    store = MemoryStore()
    first = Supervisor(store, settings=Settings(window_seconds=0.6, sweep_seconds=0.2))
    await first.start()
    async with hosted(store.sibling(), window_seconds=0.6, sweep_seconds=0.2) as second:
        events = second.events()
        session = first.session("c")
        await session.boot("G")
        pressed = await session.press("1", "Ana", "x")
        await first.aclose()
        with anyio.fail_after(5):
            async for event in events:
                if isinstance(event, TurnClosed):
                    break
        assert (await second.session("c").state()).closed_turns[0].closed_at == pytest.approx(
            pressed.deadline, abs=0.001
        )


async def test_a_window_that_ends_while_its_channel_is_released_closes_at_once() -> None:
    """Its deadline passes while the release is on its way: nobody need look for it first."""
    store = FaultyStore(MemoryStore())
    # The next look would come after 20 s.
    async with hosted(store, window_seconds=0.5, lease_seconds=60, sweep_seconds=60) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        pressed = await session.press("1", "Ana", "x")
        events = supervisor.events()
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.release, "c")
            await eventually(lambda: store.commits[-1][0].release)
            await eventually(lambda: time.time() > pressed.deadline)
            store.let_go()
        with anyio.fail_after(5):
            async for event in events:
                if isinstance(event, TurnClosed):
                    break
        turn = (await session.state()).closed_turns[0]
        assert turn.closed_at == pytest.approx(pressed.deadline, abs=0.001)


class _StuckStore(FaultyStore):
    """A claim of the channel `stuck` is never answered."""

    stuck = False

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        if any(claim.actor.actor_id == "stuck" for claim in claims):
            self.stuck = True
            await anyio.sleep_forever()
        return await super().claim(claims)


class _BlindStore(FaultyStore):
    """Knows of nothing that is due, so that nothing is taken over by itself."""

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        await anyio.lowlevel.checkpoint()
        return ()


async def test_a_drain_claims_nothing_however_long_it_takes() -> None:
    """Neither what it has let go of, nor what others have, though a turn is still to be told."""

    async def narrate(turn: ClosedTurn, session: Session) -> None:
        await anyio.sleep_forever()

    async def with_a_turn(supervisor: Supervisor, channel: str) -> None:
        session = supervisor.session(channel)
        await session.boot(f"G{channel}")
        await session.press("1", "Ana", "x")
        await session.close_window()

    keys = MemoryStore()
    store = _StuckStore(keys.sibling())
    settings = Settings(sweep_seconds=0.05, drain_seconds=0.5)  # Time for ten looks.
    first = Supervisor(store, settings=settings, on_turn=narrate)
    await first.start()
    await with_a_turn(first, "mine")

    async def stay_stuck() -> None:
        with pytest.raises(SupervisorClosedError):
            await first.session("stuck").state()

    async with hosted(_BlindStore(keys.sibling()), on_turn=narrate) as second:
        await with_a_turn(second, "theirs")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay_stuck)
            await eventually(lambda: store.stuck)
            store.claims.clear()
            tasks.start_soon(first.aclose)
            await eventually(lambda: first.get("mine") is None)
            await second.release("theirs")
    assert store.claims == []
