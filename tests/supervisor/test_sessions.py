"""Games in the runtime, on a store in memory and on a real Redis: what a host relies on."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gamegirl.actors import (
    GameActiveError,
    GameExistsError,
    NoActiveGameError,
    OwnedElsewhereError,
    OwnershipLostError,
    PutHash,
    PutText,
    StaleTurnError,
    StoreUnavailableError,
    SupervisorClosedError,
    UnknownGameError,
)
from gamegirl.actors.session import (
    ChoicePressed,
    ClosedTurn,
    GameBooted,
    GameExited,
    Session,
    SessionRef,
    TurnAttemptFailed,
    TurnClosed,
    TurnGivenUp,
    TurnRecorded,
    WindowOpened,
)
from gamegirl.supervisor import MemoryStore, RedisStore, Settings, Supervisor
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Stores = Callable[[], Any]


@pytest.fixture(params=["memory", "redis"])
def stores(request: pytest.FixtureRequest) -> Stores:
    """Makes handles on one and the same store."""
    if request.param == "memory":
        return MemoryStore().sibling
    url: str = request.getfixturevalue("redis_url")
    return lambda: RedisStore(url)


@asynccontextmanager
async def hosted(store: Any, on_turn: Any = None, **settings: Any) -> AsyncGenerator[Supervisor]:
    async with Supervisor(store, settings=Settings(**settings), on_turn=on_turn) as supervisor:
        yield supervisor


async def crash(supervisor: Supervisor, store: FaultyStore) -> None:
    """End a supervisor without letting it do anything more, as SIGKILL would."""
    store.down = True
    await supervisor.aclose()


async def test_a_game_is_played_and_told(stores: Stores) -> None:
    """Boot, press, close, record: the readme's game, from first press to history."""
    async with hosted(stores(), window_seconds=0.05) as supervisor:
        session = supervisor.session("1234")
        booted = await session.boot("Neon Catacombs")
        assert booted.game_id in booted.banner()
        first = await session.press("42", "Ana", "Open the door")
        again = await session.press("42", "Ana", "Run!")
        second = await session.press("43", "Bo", "Wait")
        assert (first.opened, again.opened, second.opened) == (True, False, False)
        with anyio.fail_after(5):
            turn = await session.next_turn()
        assert dict(turn.choices) == {"42": "Run!", "43": "Wait"}
        record = await session.record(turn, "The lights go out.")
        assert await session.record(turn, "Something else") == record
        assert await session.history() == (record,)
        assert (await session.state()).turn_number == 1


async def test_five_waiters_get_one_turn(stores: Stores) -> None:
    """Any number of waiters get the same closed turn."""
    async with hosted(stores(), window_seconds=0.05) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        turns: list[ClosedTurn] = []

        async def wait() -> None:
            turns.append(await session.next_turn())

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(wait)
            await session.press("1", "Ana", "x")
        assert len(turns) == 5
        assert len({turn.token for turn in turns}) == 1


async def test_two_hundred_presses_on_a_cold_channel_are_all_counted(stores: Stores) -> None:
    """One claim, one restore, one window, two hundred choices."""
    async with hosted(stores()) as supervisor:
        await supervisor.session("c").boot("G")
    async with hosted(stores()) as supervisor:
        session = supervisor.session("c")
        opened: list[bool] = []

        async def press(user: int) -> None:
            opened.append((await session.press(str(user), f"P{user}", "x")).opened)

        async with anyio.create_task_group() as tasks:
            for user in range(200):
                tasks.start_soon(press, user)
        assert sum(opened) == 1
        assert len((await session.state()).pending_choices) == 200
        assert supervisor.statistics().claims == 1


async def test_an_open_window_survives_a_crash_with_what_is_left_of_it(stores: Stores) -> None:
    """After a crash the presses are there, the window keeps its deadline and closes by itself."""
    store = FaultyStore(stores())
    settings: dict[str, Any] = {"lease_seconds": 0.3, "sweep_seconds": 0.05, "window_seconds": 0.6}
    supervisor = Supervisor(store, settings=Settings(drain_seconds=0.01, **settings))
    await supervisor.start()
    session = supervisor.session("c")
    await session.boot("G")
    pressed = await session.press("1", "Ana", "Run!")
    await crash(supervisor, store)
    async with hosted(stores(), **settings) as second:
        events = second.events()
        with anyio.fail_after(10):
            async for event in events:
                if isinstance(event, TurnClosed):
                    break
        turn = await second.session("c").next_turn()
        assert dict(turn.choices) == {"1": "Run!"}
        assert turn.closed_at == pytest.approx(pressed.deadline, abs=0.001)


async def test_a_taken_over_owner_can_change_nothing(stores: Stores) -> None:
    """While the first lives the second is refused; after its lease it takes over; fenced."""
    first_store = FaultyStore(stores())
    async with (
        hosted(first_store, lease_seconds=0.2, drain_seconds=0.1) as first,
        hosted(stores(), lease_seconds=0.2, sweep_seconds=0.05) as second,
    ):
        await first.session("c").boot("G")
        with pytest.raises(OwnedElsewhereError):
            await second.session("c").press("1", "Ana", "x")
        first_store.down = True

        async def taken() -> bool:
            try:
                await second.session("c").press("1", "Ana", "second")
            except OwnedElsewhereError:
                return False
            return True

        with anyio.fail_after(5):
            while not await taken():  # noqa: ASYNC110 - the lease runs out by itself
                await anyio.sleep(0.01)
        first_store.down = False
        with pytest.raises(OwnershipLostError):
            await first.session("c").press("1", "Ana", "first")
        assert (await second.session("c").state()).pending_choices == {"1": "second"}


async def test_games_move_between_channels_whole_and_are_never_live_twice(stores: Stores) -> None:
    """Boot, swap, swap, load the first: it is whole, and active in one channel only."""
    async with hosted(stores()) as supervisor:
        a, b = supervisor.session("a"), supervisor.session("b")
        first = await a.boot("First")
        await a.press("1", "Ana", "x")
        turn = await a.close_window()
        assert turn is not None
        record = await a.record(turn, "told")
        await a.press("2", "Bo", "pending")
        with pytest.raises(GameActiveError, match="swap"):
            await a.boot("Other")
        with pytest.raises(GameExistsError):
            await b.boot("Same id", game_id=first.game_id)
        swapped = await a.swap("Second")
        assert swapped.ejected is not None
        assert swapped.ejected.game_id == first.game_id
        await a.swap("Third")
        assert [game.game_name for game in await supervisor.games()] == ["First", "Second", "Third"]
        await b.load(first.game_id)
        state = await b.state()
        assert (state.game_name, state.turn_number, list(state.players)) == ("First", 1, ["1", "2"])
        assert state.pending_choices == {"2": "pending"}
        assert state.window is not None
        assert await b.history() == (record,)
        with pytest.raises(GameActiveError):
            await a.load(first.game_id)
        with pytest.raises(UnknownGameError):
            await a.load("000000000000")


async def test_an_exited_game_stays_exited_and_can_be_loaded_or_forgotten(stores: Stores) -> None:
    """Exit is in the store too; a save that nobody plays can be deleted."""
    async with hosted(stores()) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("G")
        with pytest.raises(GameActiveError):
            await supervisor.forget(booted.game_id)
        ejected = await session.exit()
        assert ejected.game_id == booted.game_id
    async with hosted(stores()) as supervisor:
        assert await supervisor.restore("c") is None
        session = supervisor.session("c")
        with pytest.raises(NoActiveGameError):
            await session.press("1", "Ana", "x")
        await session.load(booted.game_id)
        assert await supervisor.restore("c") is not None
        await session.exit()
        await supervisor.forget(booted.game_id)
        assert await supervisor.games() == ()
        assert await supervisor.game(booted.game_id) is None
        with pytest.raises(UnknownGameError):
            await supervisor.forget(booted.game_id)


async def test_exit_swap_and_wipe_end_waiters(stores: Stores) -> None:
    """Who waits for a turn of a game that left its channel is told so."""
    async with hosted(stores()) as supervisor:
        session = supervisor.session("c")
        for leave in (session.exit, lambda: session.swap("Next"), session.wipe):
            if not (await session.state()).active:
                await session.boot("G")
            errors: list[Exception] = []

            async def wait(errors: list[Exception] = errors) -> None:
                try:
                    await session.next_turn()
                except NoActiveGameError as error:
                    errors.append(error)

            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait)
                    await eventually(lambda: supervisor.statistics().unsettled == 1)
                    await leave()
            assert len(errors) == 1


async def test_on_turn_narrates_each_turn_once(stores: Stores) -> None:
    """The handler gets the closed turn and the session; what it returns is recorded."""

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        return f"{session.game_name} {turn.turn}: {turn.format_choices()} ({turn.attempt})"

    async with hosted(stores(), narrate) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        for number in range(3):
            await session.press("1", "Ana", f"x{number}")
            await session.close_window()
        with anyio.fail_after(5):
            while len(await session.history()) < 3:
                await anyio.lowlevel.checkpoint()
        assert [record.narrative_summary for record in await session.history()] == [
            "G 1: Ana: x0 (1)",
            "G 2: Ana: x1 (1)",
            "G 3: Ana: x2 (1)",
        ]


async def test_a_narrator_that_fails_is_tried_again_and_then_given_up(stores: Stores) -> None:
    """After turn_retries_max the turn is recorded with an empty summary and an event."""
    attempts: list[int] = []

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        attempts.append(turn.attempt)
        raise ConnectionError("no model")

    async with hosted(stores(), narrate, turn_retries_max=1) as supervisor:
        events = supervisor.events()
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        seen: list[type] = []
        with anyio.fail_after(20):
            async for event in events:
                seen.append(type(event))
                if isinstance(event, TurnGivenUp):
                    break
        assert TurnAttemptFailed in seen
        assert attempts == [1, 2]
        (record,) = await session.history()
        assert record.narrative_summary == ""


async def test_a_narrator_that_finishes_after_a_swap_changes_nothing(stores: Stores) -> None:
    """Swap cancels the narrator; a record by its token is refused in the new game."""
    started = anyio.Event()

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        started.set()
        await anyio.sleep_forever()
        return "never"

    async with hosted(stores(), narrate) as supervisor:
        session = supervisor.session("c")
        await session.boot("Old")
        await session.press("1", "Ana", "x")
        turn = await session.close_window()
        assert turn is not None
        await started.wait()
        await session.swap("New")
        await eventually(lambda: supervisor.statistics().working == 0)
        with pytest.raises(StaleTurnError):
            await session.record(turn, "late")
        assert await session.history() == ()
        assert (await session.state()).turn_number == 0


async def test_an_unrecorded_turn_is_handed_out_again_after_a_crash(stores: Stores) -> None:
    """Handed out at least once, with its attempt; recorded exactly once."""
    store = FaultyStore(stores())

    async def hang(turn: ClosedTurn, session: Session) -> str:
        await anyio.sleep_forever()
        return ""

    settings: dict[str, Any] = {"lease_seconds": 0.2, "sweep_seconds": 0.05}
    supervisor = Supervisor(store, settings=Settings(drain_seconds=0.01, **settings), on_turn=hang)
    await supervisor.start()
    session = supervisor.session("c")
    await session.boot("G")
    await session.press("1", "Ana", "x")
    await session.close_window()
    await crash(supervisor, store)

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        return f"attempt {turn.attempt}"

    async with hosted(stores(), narrate, **settings) as second:
        events = second.events()
        with anyio.fail_after(10):
            async for event in events:
                if isinstance(event, TurnRecorded):
                    break
        (record,) = await second.session("c").history()
        assert record.narrative_summary == "attempt 2"


async def test_redis_that_is_down_is_an_error_in_time_and_never_a_success(stores: Stores) -> None:
    """Presses fail while the store is away, and a repeated press counts once when it is back."""
    store = FaultyStore(stores())
    answers: list[object] = []
    async with hosted(store, commit_timeout_seconds=0.5) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        store.down = True
        with anyio.fail_after(3):
            with pytest.raises(StoreUnavailableError):
                await session.press("1", "Ana", "x", press_id="p1")
            with pytest.raises(StoreUnavailableError):
                await session.press("2", "Bo", "y", press_id="p2")
        async with anyio.create_task_group() as tasks:

            async def repeat() -> None:
                answers.append(await session.press("1", "Ana", "x", press_id="p1"))

            tasks.start_soon(repeat)
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            store.down = False
        assert getattr(answers[0], "opened", None) is True
        assert (await session.state()).pending_choices == {"1": "x"}


async def test_events_tell_what_was_committed(stores: Stores) -> None:
    """An observer sees a game's events in order."""
    async with hosted(stores()) as supervisor:
        events = supervisor.events()
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        await session.exit()
        wanted: list[type] = [GameBooted, WindowOpened, ChoicePressed, TurnClosed, GameExited]
        seen: list[type] = []
        with anyio.fail_after(5):
            async for event in events:
                if type(event) in wanted:
                    seen.append(type(event))
                if isinstance(event, GameExited):
                    break
        assert sorted(seen, key=wanted.index) == wanted


async def test_an_observer_sees_presses_also_if_others_have_left(stores: Stores) -> None:
    """Who closes its stream, or drops it, takes nothing from those who come later."""
    async with hosted(stores()) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        for number in range(3):
            events = supervisor.events()
            await session.press(str(number), "Ana", "x")
            events.close()
            assert [
                event.user_id async for event in events if isinstance(event, ChoicePressed)
            ] == [str(number)]
            del events
            await session.press("somebody", "Bo", "unseen")


async def test_a_watcher_sees_the_newest_state(stores: Stores) -> None:
    """watch() gives a snapshot at once and after changes; peek() is the live one."""
    async with hosted(stores()) as supervisor:
        session: SessionRef = supervisor.session("c")
        assert session.peek() is None
        assert supervisor.get("c") is None
        await session.boot("G")
        assert supervisor.get("c") is not None
        seen: list[int] = []

        async def watch() -> None:
            async for state in session.watch():
                seen.append(len(state.pending_choices))
                if seen[-1] == 2:
                    return

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                await eventually(lambda: seen == [0])
                await session.press("1", "Ana", "x")
                await eventually(lambda: 1 in seen)
                await session.press("2", "Bo", "x")
        peeked = session.peek()
        assert peeked is not None
        assert len(peeked.pending_choices) == 2


async def test_releasing_and_closing_a_running_game(stores: Stores) -> None:
    """A released channel is free for others; a closed supervisor ends its waiters."""
    async with hosted(stores()) as supervisor, hosted(stores()) as other:
        session = supervisor.session("c")
        await session.boot("G")
        await supervisor.release("c")
        assert supervisor.get("c") is None
        assert (await other.session("c").state()).active
        await other.release("c")
        errors: list[Exception] = []

        async def wait() -> None:
            try:
                await session.next_turn()
            except SupervisorClosedError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            await supervisor.aclose()
        assert len(errors) == 1


async def test_one_of_many_forgets_it(stores: Stores) -> None:
    """Several that forget a game at once: one does, to all others it is unknown, not active."""
    store = FaultyStore(stores())
    async with hosted(store) as here, hosted(stores()) as elsewhere:
        session = here.session("c")
        game_id = (await session.boot("G")).game_id
        await session.exit()
        answers: list[str] = []

        async def forget() -> None:
            try:
                await here.forget(game_id)
            except UnknownGameError:
                answers.append("unknown")
            else:
                answers.append("forgotten")

        store.hold()
        before = len(store.commits)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forget)
            tasks.start_soon(forget)
            await eventually(lambda: len(store.commits) == before + 2)
            await elsewhere.forget(game_id)
            store.let_go()
        assert answers == ["unknown", "unknown"]


async def test_a_game_whose_channel_does_not_have_it_can_be_forgotten(
    stores: Stores, alter: Callable[..., Any]
) -> None:
    """Nobody could ever exit it; the channel's own game stays as it is."""
    store = stores()
    async with hosted(store) as supervisor:
        own = await supervisor.session("c").boot("Own")
        for channel_id in ("c", "nowhere"):
            holder = {"holder": f"channel:{channel_id}", "schema": "1"}
            await alter(store, PutHash("gg:game:stray", holder))
            await supervisor.forget("stray")
        with pytest.raises(GameActiveError):
            await supervisor.forget(own.game_id)
        await supervisor.session("e").boot("New", game_id="stray")


async def test_a_game_of_a_channel_that_cannot_be_read_is_not_forgotten(
    stores: Stores, alter: Callable[..., Any]
) -> None:
    """What can't be read may be the game; it can be repaired."""
    holder = {"holder": "channel:c", "schema": "1"}
    broken = PutText("game:session:c", '{"game_id": "stray", "pl')
    store = stores()
    async with hosted(store) as supervisor:
        await alter(store, PutHash("gg:game:stray", holder), broken)
        with pytest.raises(GameActiveError, match="'c'"):
            await supervisor.forget("stray")


async def test_a_game_that_its_channel_gets_just_now_is_not_forgotten(
    stores: Stores, alter: Callable[..., Any]
) -> None:
    """An import that brings it while it is forgotten is faster: the game is active then."""
    store, other = FaultyStore(stores()), stores()
    holder = PutHash("gg:game:stray", {"holder": "channel:c", "schema": "1"})
    async with hosted(store) as supervisor, hosted(other):
        await alter(other, holder)
        store.hold()
        before = len(store.commits)
        refused: list[str] = []

        async def forget() -> None:
            try:
                await supervisor.forget("stray")
            except GameActiveError as error:
                refused.append(str(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forget)
            await eventually(lambda: len(store.commits) > before or bool(refused))
            await alter(other, holder, PutHash("gg:session:c:meta", {"game": "stray"}))
            store.let_go()
        assert len(store.commits) > before
        assert len(refused) == 1


async def test_a_cancelled_forget_stands_in_nobodys_way(stores: Stores) -> None:
    """Another process can forget the game, though the first one lives on."""
    store = FaultyStore(stores())
    async with hosted(store) as here, hosted(stores()) as elsewhere:
        session = here.session("c")
        game_id = (await session.boot("G")).game_id
        await session.exit()
        store.hold()
        before = len(store.commits)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(here.forget, game_id)
            await eventually(lambda: len(store.commits) > before)
            tasks.cancel_scope.cancel()
        store.let_go()
        await elsewhere.forget(game_id)
        assert await elsewhere.games() == ()


@pytest.mark.parametrize("leave", ["swap", "exit"])
async def test_what_is_ejected_in_this_moment_can_be_loaded(stores: Stores, leave: str) -> None:
    """A load that was sent while its game still ran here isn't told that it is gone, or moved."""
    store = FaultyStore(stores())
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        game_id = (await session.boot("G")).game_id
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.exit if leave == "exit" else partial(session.swap, "H"))
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            tasks.start_soon(session.load, game_id)
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            store.let_go()
        state = await session.state()
        assert (state.game_id, state.active) == (game_id, True)
        assert supervisor.statistics().restarts == 0


async def test_who_has_looked_away_leaves_nothing_of_what_was_watched() -> None:
    """A watched channel in which nothing happens any more takes no memory for it."""
    async with hosted(MemoryStore()) as supervisor:
        for number in range(10):
            async for _ in supervisor.session(str(number)).watch():
                break
        gc.collect()
        assert not supervisor._engine.changes  # pyright: ignore[reportPrivateUsage]
        watched = supervisor.session("0").watch()
        await anext(watched)
        await supervisor.session("0").boot("G")
        assert (await anext(watched)).active


class _Markup(str):
    """As a template engine gives it: no encoder knows it."""


class _Door(StrEnum):
    LEFT = "Open the left door"


async def test_texts_of_other_classes_are_taken_as_texts(stores: Stores) -> None:
    """Whatever argument they are passed as: played with, stored and restored like others."""
    async with hosted(stores()) as supervisor:
        session = supervisor.session(_Markup("A"))
        await session.boot(_Markup("G"), title_screen_url=_Markup("u"), game_id=_Markup("gg"))
        await session.join(_Markup("1"), _Markup("Ana"))
        pressed = await session.press(_Markup("2"), _Markup("Bo"), _Door.LEFT)
        await session.press("1", "Ana", _Markup("x"), press_id=_Markup("p"), turn=pressed.token)
        await session.set_crown(_Markup("1"))
        turn = await session.close_window()
        assert turn is not None
        await session.record(turn, _Markup("n"))
        await session.narrate(_Markup("m"))
        await session.set_title_screen(_Markup("v"))
        await session.exit()
        await session.load(_Markup("gg"))
        await session.save()
        state = await session.state()
        assert dict(turn.choices) == {"2": "Open the left door", "1": "x"}
        assert list(state.players) == ["1", "2"]
        await supervisor.release("A")
        restored = await supervisor.session("A").state()
        assert restored == state
        assert {type(text) for text in (restored.game_id, restored.crown_holder)} == {str}
