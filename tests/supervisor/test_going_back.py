"""A store that goes back in time while something is under way."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import (
    Decision,
    Drop,
    Fate,
    GameActiveError,
    OwnershipLostError,
    PatchHash,
    Perform,
    PutHash,
    Require,
    SessionRef,
    UnknownGameError,
)
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import ActorCrashed, MemoryStore, StoreRegressed
from gamegirl.supervisor.stores import Process
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Alter = Callable[..., Awaitable[None]]


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


async def test_an_exit_in_flight_when_the_store_loses_all_saves_the_game(alter: Alter) -> None:
    """What it requires is lost as well, and is nobody else's: that is no reason to refuse it."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("First")
        await session.press("1", "Ana", "x")
        store.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.exit)
            await eventually(lambda: len(store.commits) == 3)
            async for keys in inner.scan(""):
                await alter(inner, *(Drop(key) for key in keys if not key.startswith("gg:due")))
            store.let_go()
        assert not (await session.state()).active
        await session.load(booted.game_id)
        assert (await session.state()).pending_choices == {"1": "x"}


async def test_a_load_in_flight_when_the_store_goes_back_makes_no_game_live_twice(
    alter: Alter,
) -> None:
    """Another channel has loaded the game meanwhile: the condition holds for what is sent again."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store) as supervisor, hosted(inner.sibling()) as other:
        saver, late, quick = (supervisor.session("s"), supervisor.session("a"), other.session("b"))
        game_id = (await saver.boot("G")).game_id
        await saver.exit()
        await late.boot("Mine")
        store.hold()
        failures: list[GameGirlError] = []

        async def load() -> None:
            try:
                await late.load(game_id)
            except GameGirlError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(load)
            await eventually(lambda: len(store.commits) == 4)
            await quick.load(game_id)
            await alter(inner, Drop("gg:fence:session:a"))
            store.let_go()
        assert [type(error) for error in failures] == [GameActiveError]
        assert (await late.state()).game_id != game_id
        assert (await quick.state()).game_id == game_id


async def test_an_exit_that_was_made_before_the_store_lost_the_fence_is_made_once(
    alter: Alter,
) -> None:
    """Its answer was lost, and what it requires is as it left it: it is no refusal."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        game_id = (await session.boot("G")).game_id
        await session.press("1", "Ana", "x")
        store.drop_replies = 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.exit)
            await eventually(lambda: store.drop_replies == 0)
            await alter(inner, Drop("gg:fence:session:c"))
        assert not (await session.state()).active
        await session.load(game_id)
        assert (await session.state()).pending_choices == {"1": "x"}


@pytest.mark.parametrize(
    ("fields", "refused"),
    [({"x": bytearray(b"y")}, False), ({"x": 5}, True), ([("x", "y")], True)],
    ids=["bytearray", "number", "list"],
)
async def test_odd_writes_in_flight_when_the_store_goes_back_break_only_themselves(
    alter: Alter, fields: Any, refused: bool
) -> None:
    """What a behaviour writes under a condition is looked at again then, whatever it is."""

    class Odd(Adder):
        def handle(self, state: Any, message: Any, now: float) -> Decision:
            if message == 0:
                require = Require("gg:never", "x", None, UnknownGameError("there is one"))
                return Decision(None, (PutHash("gg:never", fields),), requires=(require,))
            decision: Decision = super().handle(state, message, now)
            return decision

    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store, behaviours=[Odd()]) as supervisor:
        actor = supervisor.actor(Odd.kind, "a")
        assert await actor.ask(1) == 1
        store.hold()
        failures: list[GameGirlError] = []

        async def ask() -> None:
            try:
                await actor.ask(0)
            except GameGirlError as error:
                failures.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await eventually(lambda: len(store.commits) == 2)
            await alter(inner, Drop(f"gg:fence:{Odd.kind}:a"))
            store.let_go()
        assert bool(failures) == refused
        assert await actor.ask(1) == 2


async def test_presses_in_flight_with_an_exit_are_in_doubt_if_it_is_refused(alter: Alter) -> None:
    """They are written with it or not at all, once the store has gone back."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        game_id = (await session.boot("G")).game_id
        store.hold()
        failures: dict[str, GameGirlError] = {}

        async def attempt(name: str, call: Callable[[], Awaitable[object]]) -> None:
            try:
                await call()
            except GameGirlError as error:
                failures[name] = error

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt, "press", lambda: session.press("1", "Ana", "x"))
            await eventually(lambda: len(store.commits) == 2)
            tasks.start_soon(attempt, "exit", session.exit)
            await eventually(lambda: supervisor.statistics().unsettled == 2)
            elsewhere = PatchHash(f"gg:game:{game_id}", {"holder": "channel:z"})
            await alter(inner, Drop("gg:fence:session:c"), elsewhere)
            store.let_go()
        assert failures["press"].fate is Fate.IN_DOUBT
        assert isinstance(failures["exit"], GameActiveError)


async def test_a_window_that_ends_while_its_channel_is_written_anew_closes(alter: Alter) -> None:
    """Nobody has to speak for that."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store, window_seconds=0.1, sweep_seconds=60.0) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        pressed = await session.press("1", "Ana", "x")
        await alter(inner, Drop("gg:fence:session:c"))
        store.claims_down = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.press, "2", "Bo", "y")
            await eventually(lambda: time.time() > pressed.deadline + 0.05)
            store.claims_down = False
        await eventually(lambda: _turns(session) == 1)


def _turns(session: SessionRef) -> int:
    found = session.peek()
    return -1 if found is None else found.turn_number


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


async def test_who_slept_over_a_loss_of_the_store_leaves_an_actor_to_who_went_on(
    alter: Alter,
) -> None:
    """The counter of epochs was lost as well: the living owner isn't taken for an earlier one."""
    now = 100.0
    store = MemoryStore(clock=lambda: now)
    async with (
        hosted(store, behaviours=[Adder()]) as sleeper,
        hosted(store.sibling(), behaviours=[Adder()]) as other,
    ):
        for name in ("x", "y", "a"):
            assert await sleeper.actor("adder", name).ask(7) == 7
        await alter(store, Drop("gg:fence:adder:a"), Drop("gg:actor:adder:a"), Drop("gg:epoch"))
        now += 1.0
        assert await other.actor("adder", "a").ask(1) == 1
        with pytest.raises(OwnershipLostError):
            await sleeper.actor("adder", "a").ask(1)
        assert await other.actor("adder", "a").ask(1) == 2


async def test_a_game_that_is_held_by_nobody_any_more_is_written_anew(alter: Alter) -> None:
    """The store had lost that it was loaded, and nobody else has it: what was played stays."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("x")
        game_id = (await session.boot("G")).game_id
        await session.exit()
        before: Any = await store.read([f"gg:game:{game_id}"])
        await session.load(game_id)
        await session.press("1", "Ana", "x")
        fields = {name.decode(): value for name, value in before[0].items()}
        await alter(store, PutHash(f"gg:game:{game_id}", fields), Drop("gg:fence:session:x"))
        await session.press("2", "Bo", "y")
        assert (await session.state()).pending_choices == {"1": "x", "2": "y"}
        (game,) = await store.read([f"gg:game:{game_id}"])
        assert game == {b"holder": b"channel:x", b"schema": b"1"}


class Working(Adder):
    """Whose work raises when it is let to."""

    kind = "working"

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.began = False

    def handle(self, state: Any, message: Any, now: float) -> Any:
        if message == "work":
            return Decision("began", effects=(Perform("k", "w"),))
        return super().handle(state, message, now)

    async def perform(self, work: Any) -> object | None:
        self.began = True
        await self.go_on.wait()
        raise ConnectionError("gone")


@pytest.mark.parametrize("restarts_max", [5, 0])
async def test_work_that_raises_while_its_actor_is_written_anew_leaves_it_usable(
    alter: Alter, restarts_max: int
) -> None:
    """Who waits is told that it is in doubt, and the actor is loaded from what is stored."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    behaviour = Working()
    async with hosted(
        store, behaviours=[behaviour], lease_seconds=0.1, restarts_max=restarts_max
    ) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("working", "a")
        assert await actor.ask(7) == 7
        await actor.ask("work")
        await eventually(lambda: behaviour.began)
        await alter(inner, Drop("gg:fence:working:a"), Drop("gg:actor:working:a"))
        store.claims_down = True
        told: list[GameGirlError] = []

        async def ask() -> None:
            try:
                await actor.ask(1)
            except GameGirlError as error:
                told.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            async for event in events:
                if isinstance(event, StoreRegressed):
                    break
            behaviour.go_on.set()
            async for event in events:
                if isinstance(event, ActorCrashed):
                    break
            store.claims_down = False
        assert [(type(error), error.fate) for error in told] == [
            (OwnershipLostError, Fate.IN_DOUBT)
        ]
        await supervisor.revive("a", kind="working")
        assert await actor.ask(1) == 1


async def test_a_commit_that_comes_behind_our_own_new_claim_is_written_anew(alter: Alter) -> None:
    """Its own claim is over, but nobody else has the actor: it is not given up to ourselves."""

    class Late(FaultyStore):
        lost = False

        async def renew(self) -> bool:
            return await super().renew() and not self.lost

        async def claim(self, claims: Any) -> Any:
            results = await super().claim(claims)
            if self.lost:
                self.let_go()
                for _ in range(100):  # Until the commit that waited has its answer.
                    await anyio.lowlevel.checkpoint()
            return results

    inner = MemoryStore()
    store = Late(inner)
    async with hosted(store, behaviours=[Adder()], lease_seconds=0.1) as supervisor:
        actor = supervisor.actor("adder", "a")
        assert await actor.ask(7) == 7
        sent = len(store.commits)
        store.hold()
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await actor.ask(1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await eventually(lambda: len(store.commits) > sent)
            await alter(inner, Drop("gg:fence:adder:a"), Drop("gg:actor:adder:a"))
            store.lost = True
        assert answers == [8]
        assert await actor.ask(1) == 9


async def regressions_told_by_who_loses(
    alter: Alter, *, commits: int, since: int
) -> list[StoreRegressed]:
    """Of an actor with so many commits that another process has gone on from commit `since`."""
    store = MemoryStore()
    async with hosted(store, behaviours=[Adder()]) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("adder", "a")
        for _ in range(commits):
            await actor.ask(1)
        taken = {"owner": f"{10**14}:n:other", "rev": "8", "cid": "x", "since": str(since)}
        await alter(store, PatchHash("gg:fence:adder:a", taken))
        with pytest.raises(OwnershipLostError):
            await actor.ask(1)
        events.close()
        return [event async for event in events if isinstance(event, StoreRegressed)]


async def test_who_loses_an_actor_to_one_that_went_on_from_an_older_state_says_so(
    alter: Alter,
) -> None:
    """The store went back, another process claimed it and played on: the loss is named."""
    (named,) = await regressions_told_by_who_loses(alter, commits=3, since=2)
    assert (named.expected, named.found) == (3, 2)


async def test_losing_an_actor_to_one_that_went_on_from_the_newest_state_is_no_regression(
    alter: Alter,
) -> None:
    """An ordinary takeover isn't reported as a store that went back."""
    assert not await regressions_told_by_who_loses(alter, commits=1, since=1)
