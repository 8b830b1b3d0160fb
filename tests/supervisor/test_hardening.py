"""What a hostile review broke once, and what must not break again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from gamegirl.actors import (
    ActorCrashedError,
    Behaviour,
    Decision,
    Drop,
    Fate,
    InvalidInputError,
    Later,
    MailboxFullError,
    OwnershipLostError,
    PatchHash,
    PutText,
    Require,
    SessionFailedError,
    SessionQuarantinedError,
    StoreUnavailableError,
    UnknownGameError,
)
from gamegirl.actors.session import ClosedTurn, Session, TurnClosed, TurnGivenUp
from gamegirl.codec import JsonCodec
from gamegirl.supervisor import (
    Clock,
    Durability,
    MemoryStore,
    Settings,
    StoreRegressed,
    Supervisor,
)
from gamegirl.supervisor.stores import Process
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Alter = Callable[..., Awaitable[None]]


@attrs.define
class Total:
    actor_id: str
    total: int = 0


class Adder(Behaviour[Total]):
    """Adds numbers; a text is what it does wrong."""

    kind = "adder"
    codec = JsonCodec(Total)
    wrong = ""

    def initial(self, actor_id: str) -> Total:
        return Total(actor_id)

    def keys(self, actor_id: str) -> Any:
        if self.wrong == "keys":
            raise KeyError("keys")
        return super().keys(actor_id)

    def restore(self, actor_id: str, stored: Any, now: float) -> Any:
        return None if self.wrong == "restore" else super().restore(actor_id, stored, now)

    def wake_at(self, state: Total) -> Any:
        if self.wrong == "wake raises":
            raise KeyError("wake")
        return {"wake text": "soon", "wake nan": float("nan"), "wake past": -1.0}.get(self.wrong)

    def may_release(self, state: Total) -> bool:
        if self.wrong == "may_release":
            raise KeyError("release")
        return super().may_release(state)

    def handle(self, state: Total, message: Any, now: float) -> Any:
        if message == "nothing":
            return None
        if message == "wait":
            return Decision(Later("wait"))
        if message == "guarded":
            refused = UnknownGameError("guarded")
            guard = Require("gg:never", "x", "y", refused)
            return Decision(None, self.stored(state), requires=(guard,))
        state.total += message
        return Decision(state.total, self.stored(state))


@asynccontextmanager
async def hosted(
    store: Any = None, behaviours: Any = (), on_turn: Any = None, **settings: Any
) -> AsyncGenerator[Supervisor]:
    async with Supervisor(
        MemoryStore() if store is None else store,
        settings=Settings(**settings),
        behaviours=behaviours,
        on_turn=on_turn,
    ) as supervisor:
        yield supervisor


@pytest.mark.parametrize(
    "wrong", ["keys", "restore", "wake raises", "wake text", "wake nan", "wake past"]
)
async def test_a_behaviour_that_breaks_its_contract_stops_alone(wrong: str) -> None:
    """Whatever a behaviour raises or returns, its callers are told and siblings never notice."""
    bad = Adder()
    async with hosted(
        behaviours=[bad], restarts_max=1, restart_backoff_seconds=0.001
    ) as supervisor:
        await supervisor.session("c").boot("G")
        bad.wrong = wrong
        with anyio.fail_after(5), pytest.raises((ActorCrashedError, SessionFailedError)):
            await supervisor.actor("adder", "a").ask(1)
        assert (await supervisor.session("c").state()).active


async def test_a_handler_that_returns_no_decision_is_a_crash() -> None:
    """The caller gets the type that was expected, and the actor goes on."""
    async with hosted(behaviours=[Adder()]) as supervisor:
        actor = supervisor.actor("adder", "a")
        for _ in range(2):  # Cold, and live and idle.
            with pytest.raises(ActorCrashedError, match="expected a Decision"):
                await actor.ask("nothing")
        assert await actor.ask(1) == 1


async def test_an_idle_check_that_raises_is_a_crash_of_its_actor() -> None:
    """Tidying up can't be broken by one actor."""
    bad = Adder()
    async with hosted(behaviours=[bad], idle_seconds=0.02, sweep_seconds=0.01) as supervisor:
        await supervisor.actor("adder", "a").ask(1)
        bad.wrong = "may_release"
        await eventually(lambda: supervisor.crashes())
        bad.wrong = ""
        assert await supervisor.actor("adder", "a").ask(1) == 2


async def test_a_kind_is_a_plain_name() -> None:
    """What names keys can't hold what separates them."""

    class Colon(Adder):
        kind = "my:poll"

    with pytest.raises(InvalidInputError, match="my:poll"):
        Supervisor("memory://", behaviours=[Colon()])


async def test_a_cancellation_out_of_the_narrators_own_client_is_a_failed_attempt() -> None:
    """A CancelledError that nobody asked for ends neither the turn nor the supervisor."""
    attempts: list[int] = []

    async def narrate(turn: ClosedTurn, session: Session) -> str:
        attempts.append(turn.attempt)
        if len(attempts) == 1:
            raise anyio.get_cancelled_exc_class() if _on_asyncio() else ConnectionError("no model")
        return "told"

    async with hosted(on_turn=narrate) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        with anyio.fail_after(10):
            while not await session.history():
                await anyio.lowlevel.checkpoint()
        assert attempts == [1, 2]


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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


def _has(items: list[int], count: int) -> bool:
    return len(items) == count


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


async def test_a_claim_that_fails_during_a_regression_loses_no_memory(alter: Alter) -> None:
    """What is to be written anew is kept until it is, however often the claim fails."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store, behaviours=[Adder()], lease_seconds=0.1) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("adder", "a")
        await actor.ask(7)
        await alter(inner, Drop("gg:fence:adder:a"), Drop("gg:actor:adder:a"))
        store.fail_claims = 3
        assert await actor.ask(1) == 8
        events.close()
        assert [event async for event in events if isinstance(event, StoreRegressed)]


async def test_a_swap_in_flight_when_the_store_goes_back_saves_the_ejected_game(
    alter: Alter,
) -> None:
    """What an acknowledged commit wrote beside the channel's own keys is written again too."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("First")
        await session.press("1", "Ana", "x")
        async for keys in store.scan(""):
            await alter(store, *(Drop(key) for key in keys if not key.startswith("gg:due")))
        await session.swap("Second")
        loaded = await session.load(booted.game_id)
        assert loaded.game_name == "First"
        assert (await session.state()).pending_choices == {"1": "x"}


async def test_comparing_fences_while_commits_settle_finds_no_regression() -> None:
    """A slow read of the fences is compared with what was known when it was asked."""

    class Slow(FaultyStore):
        async def read(self, keys: Any) -> Any:
            found = await super().read(keys)
            if any(key.startswith("gg:fence") for key in keys):
                reading.set()
                await go_on.wait()
            return found

    reading, go_on = anyio.Event(), anyio.Event()
    store = Slow(MemoryStore())
    async with hosted(store) as supervisor:
        events = supervisor.events()
        session = supervisor.session("c")
        await session.boot("G")
        store.drop_replies = 1
        await session.press("1", "Ana", "x")
        await reading.wait()
        await session.press("2", "Bo", "y")
        go_on.set()
        await session.press("3", "Cy", "z")
        events.close()
        assert not [event async for event in events if isinstance(event, StoreRegressed)]


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


async def test_cancelled_waiters_of_a_cold_channel_leave_nothing() -> None:
    """Whoever was cancelled before the channel was even restored takes no room in it."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        await supervisor.session("c").boot("G")
    async with hosted(store.sibling(), mailbox_max=8) as supervisor:
        session = supervisor.session("c")
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(session.next_turn)
            await eventually(lambda: supervisor.statistics().unsettled == 8)
            tasks.cancel_scope.cancel()
        await eventually(lambda: supervisor.statistics().unsettled == 0)  # Once it is restored.
        await session.press("1", "Ana", "x")
        assert supervisor.statistics().unsettled == 0


async def test_a_clock_set_back_delays_neither_flush_nor_errors() -> None:
    """Durations run on the monotonic clock; only stamps follow the wall clock."""
    ahead = [0.0]
    clock = Clock(wall=lambda: time.time() + ahead[0])
    store = FaultyStore(MemoryStore())
    settings = Settings(
        durability=Durability.TURN,
        flush_seconds=0.1,
        commit_timeout_seconds=0.1,
        sweep_seconds=0.01,
        window_seconds=300,
    )
    async with Supervisor(store, settings=settings, clock=clock) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        ahead[0] = -3600.0
        with anyio.fail_after(5):
            await eventually(lambda: supervisor.statistics().unsettled == 0)
            store.down = True
            ahead[0] = -7200.0
            with pytest.raises(StoreUnavailableError):
                await session.close_window()
        store.down = False


async def test_a_caller_that_is_only_refused_still_yields() -> None:
    """A loop of refusals can't starve what would relieve the mailbox."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, behaviours=[Adder()], mailbox_max=1) as supervisor:
        actor = supervisor.actor("adder", "a")
        await actor.ask(1)
        store.hold()
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(actor.ask, 1)
            tasks.start_soon(other)
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            before = others
            for _ in range(640):
                with pytest.raises(MailboxFullError):
                    await actor.ask(1)
            assert others - before >= 9
            store.let_go()
            tasks.cancel_scope.cancel()


async def test_a_restore_whose_own_commit_is_refused_stops_after_some_tries(alter: Alter) -> None:
    """No endless claiming: it counts as restarts, and then the channel alone is stopped."""
    store = MemoryStore()
    wrong = b'{"game_id":"aaaaaaaaaaaa","game_name":"G","channel_id":"c","players":{"u":"broken"}}'
    faulty = FaultyStore(store)
    async with hosted(faulty, restarts_max=2, restart_backoff_seconds=0.001) as supervisor:
        await alter(store, PutText("gg:quarantine", "in the way"), PutText("game:session:c", wrong))
        session = supervisor.session("c")
        with anyio.fail_after(5):
            with pytest.raises((SessionFailedError, SessionQuarantinedError)):
                await session.state()
            await eventually(lambda: "stopped" in _error_of(supervisor))
        assert sum(map(len, faulty.claims)) <= 4


def _error_of(supervisor: Supervisor) -> str:
    try:
        supervisor.actor("session", "c").tell(object())
    except SessionFailedError as error:
        return str(error)
    return ""


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


async def test_waiters_outlive_an_outage_however_they_came_in() -> None:
    """A store that is away ends no `next_turn`."""
    inner = MemoryStore()
    async with hosted(inner) as supervisor:
        await supervisor.session("c").boot("G")
    store = FaultyStore(inner.sibling())
    async with hosted(store, commit_timeout_seconds=0.05) as supervisor:
        session = supervisor.session("c")
        turns: list[ClosedTurn] = []

        async def wait() -> None:
            turns.append(await session.next_turn())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.get("c"))
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            store.down = True
            with pytest.raises(StoreUnavailableError):
                await session.press("1", "Ana", "x")
            store.down = False
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            await session.close_window()
        assert len(turns) == 2


async def test_with_turn_durability_a_close_is_seen_only_once_it_is_committed() -> None:
    """Presses are answered from memory; who waits for a turn waits for its commit."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, durability=Durability.TURN) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        store.hold()
        turns: list[ClosedTurn] = []

        async def wait() -> None:
            turns.append(await session.next_turn())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.close_window)
            await eventually(lambda: not (session.peek() or _never()).pending_choices)
            tasks.start_soon(wait)
            await eventually(lambda: supervisor.statistics().unsettled >= 2)
            assert turns == []
            store.let_go()
        assert len(turns) == 1


def _never() -> Any:
    raise AssertionError("it is live")


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


async def test_obsolete_timers_and_dropped_observers_keep_no_memory() -> None:
    """Re-arming one timer thousands of times leaves about one; so do streams nobody holds."""
    async with hosted(window_seconds=600, sweep_seconds=0.01) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        for _ in range(1100):
            await session.press("1", "Ana", "x")
            await session.swap("G")
        for _ in range(20):
            supervisor.events()
        await eventually(lambda: supervisor.statistics().timers < 100)
        assert supervisor.statistics().observers == 0


async def test_a_store_that_went_back_to_an_earlier_owner_is_written_anew(alter: Alter) -> None:
    """Whether that owner released it, or lives: it had been followed, and what is newer stays."""
    for owner in ("", "0:n:somebody"):
        store = MemoryStore()
        other = store.sibling()
        await other.open(Process("somebody"), 60.0)
        async with hosted(store, behaviours=[Adder()]) as supervisor:
            events = supervisor.events()
            actor = supervisor.actor("adder", "a")
            assert await actor.ask(7) == 7
            back = {"owner": owner, "rev": "0", "cid": "", "since": "0"}
            await alter(store, PatchHash("gg:fence:adder:a", back), Drop("gg:actor:adder:a"))
            assert await actor.ask(1) == 8
            events.close()
            (named,) = [event async for event in events if isinstance(event, StoreRegressed)]
            assert (named.expected, named.found) == (1, 0)


async def test_who_loses_an_actor_to_one_that_went_on_from_an_older_state_says_so(
    alter: Alter,
) -> None:
    """The store went back, another process claimed it and played on: the loss is named."""
    store = MemoryStore()
    async with hosted(store, behaviours=[Adder()]) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("adder", "a")
        for _ in range(3):
            await actor.ask(1)
        taken = {"owner": "999:n:other", "rev": "8", "cid": "x", "since": "2"}
        await alter(store, PatchHash("gg:fence:adder:a", taken))
        with pytest.raises(OwnershipLostError):
            await actor.ask(1)
        events.close()
        (named,) = [event async for event in events if isinstance(event, StoreRegressed)]
        assert (named.expected, named.found) == (3, 2)


async def test_losing_an_actor_to_one_that_went_on_from_the_newest_state_is_no_regression(
    alter: Alter,
) -> None:
    """An ordinary takeover isn't reported as a store that went back."""
    store = MemoryStore()
    async with hosted(store, behaviours=[Adder()]) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("adder", "a")
        await actor.ask(1)
        taken = {"owner": "999:n:other", "rev": "8", "cid": "x", "since": "1"}
        await alter(store, PatchHash("gg:fence:adder:a", taken))
        with pytest.raises(OwnershipLostError):
            await actor.ask(1)
        events.close()
        assert not [event async for event in events if isinstance(event, StoreRegressed)]
