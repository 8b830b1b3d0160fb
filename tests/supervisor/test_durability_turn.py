"""`Durability.TURN`: presses are answered from memory, everything else waits, nothing has holes.

The promise: a press or a join is answered at once and committed within `flush_seconds`. Whatever a
turn depends on (boot, close, record, exit …) is answered once it is committed, with all that came
before it. A process that is killed loses at most the presses and joins of its last `flush_seconds`
(of up to the commit timeout, if the store is slow), always the latest ones of a channel: no press
survives an earlier one, and no turn that was closed or recorded changes.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from gamegirl.actors import Fate, OwnedElsewhereError, StoreUnavailableError
from gamegirl.actors.session import ChoicePressed, SessionRef
from gamegirl.supervisor import Durability, MemoryStore, RedisStore, Settings, Supervisor
from gamegirl.supervisor.stores import Commit, Outcome
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Stores = Callable[[], Any]

FLUSH_SECONDS = 0.05
SLACK_SECONDS = 1.0
"""A machine that does other things too may be late by so much."""

TURN = Settings(
    durability=Durability.TURN,
    flush_seconds=FLUSH_SECONDS,
    commit_timeout_seconds=0.3,
    window_seconds=60.0,
    drain_seconds=2.0,
    lease_seconds=0.3,
)
SLOW = attrs.evolve(TURN, flush_seconds=3600.0)
"""Nothing is flushed by itself: what is stored was taken along by something that waited."""


class Timed(FaultyStore):
    """Notes when each commit was through."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.through: list[float] = []

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = await super().commit(commits)
        self.through.append(time.monotonic())
        return outcomes


@pytest.fixture(params=["memory", "redis"])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Makes handles on one and the same store."""
    if request.param == "memory":
        return MemoryStore().sibling
    url: str = request.getfixturevalue("redis_url")
    return lambda: RedisStore(url)


@asynccontextmanager
async def hosted(store: Any, settings: Settings) -> AsyncGenerator[Supervisor]:
    async with Supervisor(store, settings=settings) as supervisor:
        yield supervisor


@asynccontextmanager
async def killed(store: FaultyStore, settings: Settings) -> AsyncGenerator[Supervisor]:
    """A supervisor of which nothing reaches the store after the block, as after SIGKILL."""
    supervisor = Supervisor(store, settings=attrs.evolve(settings, drain_seconds=0.01))
    await supervisor.start()
    try:
        yield supervisor
    finally:
        store.down = True
        store.let_go()
        await supervisor.aclose()


async def taken_over(supervisor: Supervisor, channel_id: str) -> SessionRef:
    """The session, once the process that had it is known to be dead."""
    session = supervisor.session(channel_id)
    with anyio.fail_after(10):
        while True:
            try:
                await session.state()
            except OwnedElsewhereError:
                await anyio.sleep(0.01)
            else:
                return session


async def press(session: SessionRef, number: int) -> Any:
    return await session.press(str(number), f"P{number}", f"x{number}", press_id=f"id{number}")


async def choices(session: SessionRef) -> list[int]:
    return [int(user_id) for user_id in (await session.state()).pending_choices]


@pytest.mark.parametrize("durability", list(Durability))
async def test_a_press_is_answered_before_it_is_committed(
    stores: Stores, durability: Durability
) -> None:
    """While commits hang, presses and joins are answered; with COMMITTED, the control, not."""
    store = FaultyStore(stores())
    settings = attrs.evolve(TURN, durability=durability, commit_timeout_seconds=30.0)
    async with hosted(store, settings) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        events = supervisor.events()
        store.hold()
        answered: list[int] = []

        async def play() -> None:
            for number in range(5):
                await press(session, number)
                await session.join(f"j{number}", "Joe")
                answered.append(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            if durability is Durability.TURN:
                await eventually(lambda: answered == list(range(5)))
                assert await choices(session) == list(range(5))
            await eventually(lambda: len(store.commits) == 2)
            assert len(answered) == (5 if durability is Durability.TURN else 0)
            await anyio.lowlevel.checkpoint()
            store.let_go()
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        events.close()
        told = [event.user_id async for event in events if isinstance(event, ChoicePressed)]
        assert told == [str(number) for number in range(5)]


async def test_no_event_tells_of_a_press_that_is_not_committed(stores: Stores) -> None:
    """Callers are answered early; observers are not."""
    store = FaultyStore(stores())
    async with killed(store, SLOW) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        events = supervisor.events()
        await press(session, 1)
        events.close()
        assert [event async for event in events if isinstance(event, ChoicePressed)] == []


async def test_a_press_is_committed_within_flush_seconds(stores: Stores) -> None:
    """Counted from the oldest press that isn't; those of many channels go out together."""
    store = Timed(stores())
    settings = attrs.evolve(TURN, flush_seconds=0.2)
    async with hosted(store, settings) as supervisor:
        sessions = [supervisor.session(f"c{number}") for number in range(20)]
        async with anyio.create_task_group() as tasks:
            for session in sessions:
                tasks.start_soon(session.boot, "G")
        for number in range(3):
            before = len(store.through)
            began = time.monotonic()
            for session in sessions:
                await press(session, number)
            await eventually(lambda: supervisor.statistics().unsettled == 0)
            took = store.through[-1] - began
            assert 0.1 <= took <= 0.2 + SLACK_SECONDS
            assert len(store.through) - before < len(sessions)


async def test_presses_are_refused_once_the_oldest_is_overdue(stores: Stores) -> None:
    """After the commit timeout nothing new is taken, without effect; what was accepted is kept."""
    store = FaultyStore(stores())
    async with hosted(store, TURN) as supervisor:
        session, other = supervisor.session("c"), supervisor.session("other")
        await session.boot("G")
        await other.boot("G")
        store.down = True
        began = time.monotonic()
        accepted: list[int] = []

        async def press_on() -> None:
            while True:
                await press(session, len(accepted))
                accepted.append(len(accepted))
                await anyio.sleep(0.005)

        with anyio.fail_after(10), pytest.raises(StoreUnavailableError) as caught:
            await press_on()
        waited = time.monotonic() - began
        assert caught.value.fate is Fate.NOT_EXECUTED
        allowed = TURN.commit_timeout_seconds + TURN.flush_seconds
        assert TURN.commit_timeout_seconds <= waited <= allowed + SLACK_SECONDS
        assert len(accepted) > 1
        again = await press(session, 0)  # Answered before: it is answered alike, not refused.
        assert again.opened
        await press(other, 1)  # No other channel has anything overdue.
        store.down = False
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        assert await choices(session) == accepted
        await press(session, len(accepted))
    async with hosted(stores(), TURN) as second:
        assert await choices(second.session("c")) == [*accepted, len(accepted)]
        assert await choices(second.session("other")) == [1]


async def close(session: SessionRef) -> object:
    return await session.close_window()


async def record_after_close(session: SessionRef) -> object:
    turn = await session.close_window()
    assert turn is not None
    await press(session, 9)
    return await session.record(turn, "told")


WAITING: dict[str, Callable[[SessionRef], Awaitable[object]]] = {
    "close": close,
    "record": record_after_close,
    "narrate": lambda session: session.narrate("told"),
    "crown": lambda session: session.set_crown("1"),
    "title": lambda session: session.set_title_screen("https://example.org/t.webp"),
    "save": lambda session: session.save(),
    "exit": lambda session: session.exit(),
    "swap": lambda session: session.swap("Next"),
}


@pytest.mark.parametrize("what", WAITING)
async def test_all_else_waits_and_takes_along_what_came_before(stores: Stores, what: str) -> None:
    """Once it is answered it survives a kill, together with every press before it."""
    store = FaultyStore(stores())
    async with killed(store, attrs.evolve(SLOW, commit_timeout_seconds=30.0)) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("G")
        for number in (1, 2, 3):
            await press(session, number)
        assert len(store.commits) == 1  # The boot's: it was waited for, presses were not.
        store.hold()
        answered: list[object] = []

        async def act() -> None:
            answered.append(await WAITING[what](session))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(act)
            await eventually(lambda: len(store.commits) == 2)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert answered == []
            store.let_go()
        assert len(answered) == 1
    async with hosted(stores(), TURN) as second:
        session = await taken_over(second, "c")
        if what in ("exit", "swap"):
            assert (await session.state()).game_name == ("G" if what == "exit" else "Next")
            await session.load(booted.game_id)
        state = await session.state()
        assert list(state.players)[:3] == ["1", "2", "3"]
        history = await session.history()
        if what == "record":
            assert dict(history[0].choices) == {"1": "x1", "2": "x2", "3": "x3"}
            assert state.pending_choices == {"9": "x9"}
        elif what == "close":
            (turn,) = state.closed_turns
            assert list(turn.choices) == ["1", "2", "3"]
        else:
            assert list(state.pending_choices) == ["1", "2", "3"]
        assert (state.crown_holder == "1") is (what == "crown")
        assert len(history) == (what in ("record", "narrate"))


async def test_a_window_that_closes_by_itself_takes_its_presses_along(stores: Stores) -> None:
    """Who waits for the turn gets it when it is committed, with every press that counts in it."""
    store = FaultyStore(stores())
    settings = attrs.evolve(SLOW, window_seconds=0.1)
    async with killed(store, settings) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await press(session, 1)
        await press(session, 2)
        with anyio.fail_after(5):
            turn = await session.next_turn()
        assert list(turn.choices) == ["1", "2"]
    async with hosted(stores(), TURN) as second:
        (kept,) = (await (await taken_over(second, "c")).state()).closed_turns
        assert (kept.choices, kept.token) == (turn.choices, turn.token)


async def test_a_kill_loses_only_the_latest_presses_of_the_last_moment(stores: Stores) -> None:
    """Killed at random: no holes, nothing older than flush_seconds, no closed turn changed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    lost_at_all = 0
    for game in range(6):
        channel = f"c{game}"
        store = FaultyStore(stores())
        pressed: dict[int, float] = {}
        closed: dict[int, list[int]] = {}
        recorded: list[int] = []
        async with killed(store, TURN) as supervisor:
            session = supervisor.session(channel)
            await session.boot("G")
            window: list[int] = []
            for number in range(chance.randrange(5, 60)):
                await press(session, number)
                pressed[number] = time.monotonic()
                window.append(number)
                if chance.random() < 0.1:
                    turn = await session.close_window()
                    assert turn is not None
                    closed[turn.turn], window = [int(user) for user in turn.choices], []
                    if chance.random() < 0.5:
                        await session.record(turn, f"told {turn.turn}")
                        recorded.append(turn.turn)
                if chance.random() < 0.2:
                    await anyio.sleep(chance.uniform(0, 0.03))
            store.down = True
            end = time.monotonic()
        async with hosted(stores(), TURN) as second:
            session = await taken_over(second, channel)
            state = await session.state()
            history = {record.turn: record for record in await session.history()}
            found = {turn.turn: [int(user) for user in turn.choices] for turn in state.closed_turns}
            found |= {turn: [int(user) for user in one.choices] for turn, one in history.items()}
            assert found == closed
            assert sorted(history) == recorded
            survived = await choices(session)
            assert survived == window[: len(survived)]
            lost = window[len(survived) :]
            lost_at_all += len(lost)
            assert [n for n in lost if pressed[n] < end - FLUSH_SECONDS - SLACK_SECONDS] == []
            for number in window:
                await press(session, number)
            again = await session.close_window()
            if window:
                assert again is not None
                assert [int(user) for user in again.choices] == window
                assert again.turn == len(closed) + 1
    assert lost_at_all > 0  # Else nothing was shown.


async def test_a_press_repeated_after_its_loss_counts_once(stores: Stores) -> None:
    """Lost or not, who repeats a press with its id is counted once, in one turn."""
    store = FaultyStore(stores())
    async with killed(store, SLOW) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        kept = await press(session, 1)
        await session.set_crown("1")  # It waits, and so takes the press along.
        await press(session, 2)
    async with hosted(stores(), TURN) as second:
        session = await taken_over(second, "c")
        assert await choices(session) == [1]
        again = await press(session, 1)
        assert (again.turn, again.opened, again.deadline) == (1, True, kept.deadline)
        lost = await press(session, 2)
        assert (lost.turn, lost.opened) == (1, False)
        assert await press(session, 2) == lost
        turn = await session.close_window()
        assert turn is not None
        assert await press(session, 2) == lost  # Of a turn that isn't recorded yet.
        assert dict(turn.choices) == {"1": "x1", "2": "x2"}
        assert (await session.state()).pending_choices == {}


async def test_leaving_in_good_order_loses_nothing(stores: Stores) -> None:
    """A drain and a release commit what is only in memory."""
    async with hosted(stores(), SLOW) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await press(session, 1)
        await supervisor.release("c")
        await press(session, 2)
    async with hosted(stores(), TURN) as second:
        assert await choices(second.session("c")) == [1, 2]
