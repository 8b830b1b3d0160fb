"""How a host starts, uses and closes a supervisor, and what it is told when that is wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from math import inf
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from gamegirl.actors import (
    ActorCrashedError,
    Behaviour,
    Decision,
    Fate,
    InvalidIdError,
    InvalidInputError,
    Restored,
    Stored,
    StoreUnavailableError,
    SupervisorClosedError,
    Woken,
    Write,
    WrongThreadError,
)
from gamegirl.actors.session import GameBooted, PlayerJoined
from gamegirl.actors.session._messages import Join
from gamegirl.supervisor import (
    Clock,
    ClockMoved,
    Durability,
    EventsLost,
    EventStream,
    MemoryStore,
    Settings,
    Supervisor,
)
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio


class BrokenStore(FaultyStore):
    """Breaks in a way that no store may."""

    broken = False

    async def due(self, until: float, since: float = -inf) -> Any:
        if self.broken:
            raise RuntimeError("a bug")
        return await super().due(until, since)


async def test_start_and_aclose_may_be_called_from_different_tasks() -> None:
    """A host without a block to hold starts in one task and closes in another, repeatedly."""
    supervisor = Supervisor("memory://")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.start)
    await supervisor.session("c").boot("G")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(supervisor.aclose)
    await supervisor.aclose()
    with pytest.raises(SupervisorClosedError, match="closed"):
        await supervisor.session("c").state()
    with pytest.raises(SupervisorClosedError, match="make another"):
        await supervisor.start()


async def test_a_failure_inside_is_raised_by_later_calls_and_by_aclose_only() -> None:
    """What breaks the supervisor never escapes into the host's tasks."""
    store = BrokenStore(MemoryStore())
    supervisor = Supervisor(store, settings=Settings(sweep_seconds=0.01))
    await supervisor.start()
    session = supervisor.session("c")
    await session.boot("G")
    waiting: list[SupervisorClosedError] = []

    async def wait() -> None:
        try:
            await session.next_turn()
        except SupervisorClosedError as error:
            waiting.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await eventually(lambda: supervisor.statistics().unsettled == 1)
        store.broken = True
    assert len(waiting) == 1
    with pytest.raises(SupervisorClosedError, match="a bug") as caught:
        await session.state()
    assert caught.value.__cause__ is not None
    with pytest.raises(SupervisorClosedError, match="has failed"):
        await supervisor.aclose()


async def test_an_error_in_the_block_is_not_hidden_by_a_failure_inside() -> None:
    """`async with` raises the block's own error first."""
    store = BrokenStore(MemoryStore())

    async def block() -> None:
        async with Supervisor(store, settings=Settings(sweep_seconds=0.01)) as supervisor:
            store.broken = True
            await eventually(lambda: "broken" in repr(supervisor))
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await block()


async def test_a_store_that_cant_be_reached_fails_the_start() -> None:
    """There is no supervisor without a store."""
    store = FaultyStore(MemoryStore())
    store.down = True
    with pytest.raises(StoreUnavailableError):
        async with Supervisor(store):
            raise AssertionError("it must not start")


async def test_another_thread_is_refused_and_a_portal_serves_it() -> None:
    """One loop, one thread; synchronous code goes through a blocking portal."""
    async with Supervisor("memory://") as supervisor:
        session = supervisor.session("c")
        refused: list[BaseException] = []

        def elsewhere() -> None:
            try:
                supervisor.actor("session", "c").tell(object())
            except WrongThreadError as error:
                refused.append(error)
            anyio.from_thread.run(session.boot, "From a thread")

        await anyio.to_thread.run_sync(elsewhere)
        assert len(refused) == 1
        assert (await session.state()).game_name == "From a thread"


async def test_a_message_whose_content_no_session_can_store_leaves_no_trace() -> None:
    """What a rule finds it can't encode, half-way through, is a crash: memory is loaded anew."""
    async with Supervisor("memory://") as supervisor:
        session, actor = supervisor.session("c"), supervisor.actor("session", "c")
        await session.boot("G")
        half_a_pair = "\ud800"
        with pytest.raises(ActorCrashedError):
            await actor.ask(Join("1", half_a_pair))
        assert await session.roster() == ()
        assert supervisor.statistics().restarts == 1


async def test_a_message_that_no_session_knows_is_refused_and_harms_nothing() -> None:
    """What isn't one of a session's messages is invalid input, not a crash of the channel."""
    async with Supervisor("memory://") as supervisor:
        session, actor = supervisor.session("c"), supervisor.actor("session", "c")
        for message in (object(), "press", None, GameBooted):
            with pytest.raises(InvalidInputError, match="channel 'c'"):
                await actor.ask(message)
        booted = await session.boot("G")
        await session.press("1", "Ana", "x")
        with pytest.raises(InvalidInputError, match="takes no object"):
            await actor.ask(object())
        actor.tell(object())
        state = await session.state()
        assert (state.game_id, state.pending_choices) == (booted.game_id, {"1": "x"})
        assert (supervisor.crashes(), supervisor.statistics().restarts) == ((), 0)


async def test_leaving_a_cancelled_scope_still_drains() -> None:
    """Aclose is shielded: cancellation doesn't lose what was accepted."""
    store = MemoryStore()
    with anyio.CancelScope() as scope:
        async with Supervisor(store) as supervisor:
            await supervisor.session("c").boot("G")
            scope.cancel()
            await anyio.sleep_forever()
    async with Supervisor(store.sibling()) as second:
        assert (await second.session("c").state()).game_name == "G"


async def test_a_drain_is_bounded_when_the_store_is_away() -> None:
    """Leaving takes drain_seconds and little more; those who wait are told."""
    store = FaultyStore(MemoryStore())
    supervisor = Supervisor(store, settings=Settings(drain_seconds=0.05))
    await supervisor.start()
    session = supervisor.session("c")
    await session.boot("G")
    store.down = True
    errors: list[SupervisorClosedError] = []

    async def press() -> None:
        try:
            await session.press("1", "Ana", "x")
        except SupervisorClosedError as error:
            errors.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(press)
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            await supervisor.aclose()
    assert [error.fate for error in errors] == [Fate.IN_DOUBT]


async def test_two_supervisors_in_one_process_share_nothing() -> None:
    """Different stores, different games."""
    async with Supervisor("memory://") as first, Supervisor("memory://") as second:
        await first.session("c").boot("G")
        assert not (await second.session("c").state()).active
        assert len(await first.games()) == 1
        assert await second.games() == ()


async def test_a_slow_observer_loses_the_oldest_events_and_is_told_how_many() -> None:
    """Events never pile up without bound."""
    async with Supervisor("memory://", settings=Settings(events_max=3)) as supervisor:
        async with supervisor.events() as events:
            for number in range(5):
                await supervisor.session(f"c{number}").boot("G")
            first = await anext(events)
            assert first == EventsLost(7)
            rest = [await anext(events) for _ in range(3)]
            assert [type(event) for event in rest].count(GameBooted) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_a_wall_clock_that_jumps_freezes_no_window() -> None:
    """Windows keep what they have left; the jump is reported."""
    ahead = [0.0]
    base = Clock()
    clock = Clock(wall=lambda: base.now() + ahead[0])
    settings = Settings(window_seconds=0.3, sweep_seconds=0.02)
    async with Supervisor("memory://", settings=settings, clock=clock) as supervisor:
        events = supervisor.events()
        session = supervisor.session("c")
        await session.boot("G")
        pressed = await session.press("1", "Ana", "x")
        ahead[0] = -86_400.0
        with anyio.fail_after(5):
            moved = [event async for event in _until(events, ClockMoved)]
            assert moved[-1].seconds == pytest.approx(-86_400, abs=1)
            turn = await session.next_turn()
        assert turn.closed_at == pytest.approx(pressed.deadline - 86_400, abs=1)


async def test_logs_are_one_line_an_event_with_everything_escaped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A name can't forge a line in an operator's log; nothing is configured by us."""
    before = list(logging.getLogger("gamegirl").handlers)  # The program's, if it ran here.
    with caplog.at_level(logging.INFO, "gamegirl"):
        async with Supervisor("memory://") as supervisor:
            session = supervisor.session("c")
            await session.boot("Evil\u202eName '")
            await session.join("1", "An\u202ea")
            await session.set_crown("1")
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "GameBooted" in text
    assert "PlayerJoined" in text
    assert "CrownMoved" in text
    assert "\\u202e" in text
    assert "\u202e" not in text
    assert all(len(record.getMessage().splitlines()) == 1 for record in caplog.records)
    assert logging.getLogger("gamegirl").handlers == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_seconds": 0},
        {"window_seconds": float("nan")},
        {"lease_seconds": "3"},
        {"mailbox_max": 0},
        {"mailbox_max": True},
        {"mailbox_share": 1.5},
        {"durability": "committed"},
        {"instance": ""},
        {"instance": "a\nb"},
        {"boot_banner": "{nonsense}"},
        {"engine_name": 5},
        {"history_max": 2.5},
    ],
)
async def test_settings_are_checked_when_they_are_made(wrong: dict[str, Any]) -> None:
    """Each field says what it takes and what it was given."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        Settings(**wrong)


async def test_wrong_arguments_are_refused_where_they_enter() -> None:
    """Ids, settings and handlers of the wrong kind never get inside."""
    with pytest.raises(InvalidInputError, match="settings"):
        Supervisor("memory://", settings={"window_seconds": 3})  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="on_turn"):
        Supervisor("memory://", on_turn="narrate")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="clock"):
        Supervisor("memory://", clock=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="randomness"):
        Supervisor("memory://", randomness=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="behaviour"):
        Supervisor("memory://", behaviours=[5])  # type: ignore[list-item]
    async with Supervisor("memory://") as supervisor:
        for wrong in ("", "x" * 201, "a\nb", 7, None):
            with pytest.raises(InvalidIdError):
                supervisor.session(wrong)  # type: ignore[arg-type]


async def test_turn_durability_answers_from_memory_and_commits_soon() -> None:
    """Presses don't wait for the store; a close takes them along; an outage refuses them."""
    store = FaultyStore(MemoryStore())
    settings = Settings(durability=Durability.TURN, flush_seconds=0.02, commit_timeout_seconds=0.2)
    async with Supervisor(store, settings=settings) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        store.hold()
        with anyio.fail_after(1):
            await session.press("1", "Ana", "x")
            assert (await session.state()).pending_choices == {"1": "x"}
        store.let_go()
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        store.down = True
        await session.press("2", "Bo", "y")
        await eventually(lambda: not _accepts(session))
        store.down = False
        await eventually(lambda: supervisor.statistics().unsettled == 0)
        turn = await session.close_window()
        assert turn is not None
        assert dict(turn.choices) == {"1": "x", "2": "y"}


async def _until(events: EventStream, kind: type) -> AsyncGenerator[Any]:
    async for event in events:
        yield event
        if isinstance(event, kind):
            return


def _accepts(session: Any) -> bool:
    """Whether the channel takes a message although its oldest press is overdue."""
    try:
        session._host.tell("session", session.channel_id, None)
    except StoreUnavailableError:
        return False
    return True


async def test_callers_of_idle_actors_yield_to_the_loop() -> None:
    """At least every 64 asks another task gets its turn, though no ask has to wait."""
    async with Supervisor("memory://", randomness=random.Random(1)) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        turns = 0
        done = False

        async def other() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            for _ in range(640):
                await session.crown()
            done = True
        assert turns >= 9


def test_a_native_cancellation_hits_the_waiting_only() -> None:
    """Asyncio's own Task.cancel() loses and doubles nothing."""

    async def main() -> None:
        store = FaultyStore(MemoryStore())
        async with Supervisor(store) as supervisor:
            session = supervisor.session("c")
            await session.boot("G")
            for number in range(50):
                store.hold()
                task = asyncio.create_task(session.press(str(number), "Ana", "x"))
                await eventually(lambda: supervisor.statistics().unsettled == 1)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                store.let_go()
                await eventually(lambda: supervisor.statistics().unsettled == 0)
            assert len((await session.state()).pending_choices) == 50

    asyncio.run(main())


def test_a_loop_that_ends_under_a_supervisor_closes_it() -> None:
    """A host that forgets aclose gets a clean end with its loop, and errors afterwards."""
    supervisor = Supervisor("memory://")
    asyncio.run(supervisor.start())
    assert "closed" in repr(supervisor)

    async def late() -> None:
        with pytest.raises(SupervisorClosedError):
            await supervisor.session("c").state()

    asyncio.run(late())


class Bomb(Behaviour[list[float]]):
    """Crashes when its timer fires."""

    kind = "bomb"

    def keys(self, actor_id: str) -> Sequence[str]:
        return ()

    def restore(self, actor_id: str, stored: Sequence[Stored], now: float) -> Restored[list[float]]:
        return Restored([])

    def stored(self, state: list[float]) -> Sequence[Write]:
        return ()

    def handle(self, state: list[float], message: object, now: float) -> Decision:
        if isinstance(message, Woken):
            raise RuntimeError("boom")
        state.append(now)
        return Decision()

    def wake_at(self, state: list[float]) -> float | None:
        return state[-1] if state else None


class TimeBomb(Bomb):
    """Is armed only when it is told to be."""

    kind = "time_bomb"

    def handle(self, state: list[float], message: object, now: float) -> Decision:
        return Decision() if message == "be there" else super().handle(state, message, now)


async def test_a_closed_supervisor_with_a_crash_of_an_actor_that_was_released_is_let_go_of() -> (
    None
):
    """Neither does its caller's frame keep the actor that it was sent to with all that it had."""

    async def crash() -> weakref.ref[Supervisor]:
        store = FaultyStore(MemoryStore())
        async with Supervisor(store, behaviours=[TimeBomb()]) as supervisor:
            bomb = supervisor.actor("time_bomb", "b")
            await bomb.ask("be there")

            async def explode() -> None:
                with pytest.raises(ActorCrashedError):
                    await bomb.ask(Woken())

            store.hold()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(supervisor.release, "b", kind="time_bomb"))
                await eventually(lambda: supervisor.peek("time_bomb", "b") is None)
                tasks.start_soon(explode)
                await eventually(lambda: supervisor.statistics().unsettled == 1)
                store.let_go()
        return weakref.ref(supervisor)

    gone = await crash()
    await anyio.lowlevel.checkpoint()
    gc.collect()
    assert gone() is None


class _Fragile(logging.Handler):
    """Raises on each record that names Zoe, as a host's filter or as its handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "Zoe" in record.getMessage():
            raise RuntimeError("no pattern matches")
        return False

    def handle(self, record: logging.LogRecord) -> bool:
        return self.filter(record)


@pytest.mark.parametrize("where", ["filter", "handler"])
async def test_logging_that_raises_costs_its_records_alone(
    where: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever joins gets an answer, others play on; that records are lost is said once."""
    logger, fragile = logging.getLogger("gamegirl"), _Fragile()
    caplog.set_level(logging.INFO, "gamegirl")
    if where == "filter":
        logger.addFilter(fragile.filter)
    else:
        logger.addHandler(fragile)
    try:
        async with Supervisor("memory://") as supervisor:
            sessions = [supervisor.session(channel) for channel in ("a", "b")]
            events = supervisor.events()
            for session in sessions:
                await session.boot("G" + session.channel_id)
                await session.join("1", "Zoe")
    finally:
        logger.removeFilter(fragile.filter)
        logger.removeHandler(fragile)
    joined = [event async for event in events if isinstance(event, PlayerJoined)]
    assert [event.channel_id for event in joined] == ["a", "b"]
    said = capsys.readouterr().err
    assert said.count("PlayerJoined was not logged") == 1
    assert said.count("RuntimeError: no pattern matches") == 1


async def test_a_closed_supervisor_in_which_a_timer_crashed_is_let_go_of() -> None:
    """A crash keeps the frames that led to it, and nothing in those keeps the supervisor."""

    async def crash() -> weakref.ref[Supervisor]:
        async with Supervisor("memory://", behaviours=[Bomb()]) as supervisor:
            supervisor.actor("bomb", "b").tell("arm")
            await eventually(lambda: len(supervisor.crashes()) > 0)
        return weakref.ref(supervisor)

    gone = await crash()
    await anyio.lowlevel.checkpoint()
    gc.collect()
    assert gone() is None
