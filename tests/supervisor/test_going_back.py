"""A store that goes back in time while something is under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import Drop, OwnershipLostError, PatchHash
from gamegirl.supervisor import MemoryStore, StoreRegressed
from gamegirl.supervisor.stores import Process
from gamegirl.testing import FaultyStore

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
        taken = {"owner": "999:n:other", "rev": "8", "cid": "x", "since": str(since)}
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
