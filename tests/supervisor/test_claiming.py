"""Claims of which the store chokes on one, outages, in which it takes none, and refusals."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from tests.supervisor.hosts import Adder

from gamegirl.actors import StoreUnavailableError
from gamegirl.supervisor import MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Due, Owned, Process
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

_POISON = "bad"
"""The id of the actor whose claim the store can't take."""


class Hasty(random.Random):
    """What tries the store again at once, whatever is the matter."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


_ACTORS = [f"{number}" for number in range(63)]
"""As many others as there are in its batch."""


class Refusing(FaultyStore):
    """A store that takes no claim of actors whose ids begin with `bad`, nor what comes with it.

    Attributes:
        refuses: Whether it does.
    """

    refuses = True

    async def claim(self, claims: Sequence[Claim]) -> Any:
        if self.refuses and any(_name(claim).startswith("bad") for claim in claims):
            self.claims.append(claims)
            await anyio.lowlevel.checkpoint()
            raise StoreUnavailableError("it refuses")
        return await super().claim(claims)


async def ask_all(supervisor: Supervisor, names: Sequence[str]) -> list[Any]:
    """What each says or raises, asked together."""
    answers: list[Any] = [None] * len(names)

    async def ask(index: int) -> None:
        try:
            answers[index] = await supervisor.actor("adder", names[index]).ask(1)
        except StoreUnavailableError as error:
            answers[index] = error

    async with anyio.create_task_group() as tasks:
        for index in range(len(names)):
            tasks.start_soon(ask, index)
    return answers


@asynccontextmanager
async def retrying(
    store: FaultyStore, **options: Any
) -> AsyncGenerator[tuple[Supervisor, TaskGroup]]:
    """A supervisor that gives nobody up, with tasks for callers who wait until the end."""
    settings = Settings(commit_timeout_seconds=60.0, drain_seconds=0.01)
    async with (
        Supervisor(store, behaviours=[Adder()], settings=settings, **options) as supervisor,
        anyio.create_task_group() as tasks,
    ):
        yield supervisor, tasks
        tasks.cancel_scope.cancel()


async def test_one_claim_that_the_store_chokes_on_keeps_no_other_actor_from_living() -> None:
    """All who were in a batch with it are answered within the commit timeout; it alone isn't."""
    store = Refusing(MemoryStore())
    async with Supervisor(store, behaviours=[Adder()]) as supervisor:
        *answers, refused = await ask_all(supervisor, [*_ACTORS, _POISON])
        assert answers == [1] * len(_ACTORS)
        assert isinstance(refused, StoreUnavailableError)


async def test_who_comes_later_is_soon_not_claimed_together_with_one_that_the_store_chokes_on() -> (
    None
):
    """Once its claims have failed alone, a new actor's claim is answered the first time."""
    store = Refusing(MemoryStore())
    before = 0
    async with retrying(store, randomness=Hasty()) as (supervisor, tasks):
        tasks.start_soon(ask_all, supervisor, [_POISON])
        await ask_all(supervisor, _ACTORS)
        await eventually(lambda: [*map(_names, store.claims[-20:])] == [[_POISON]] * 20)
        before = len(store.claims)
        await ask_all(supervisor, ["late"])
    assert ["late"] in [_names(call) for call in store.claims[before:]]
    assert not any({"late", _POISON} <= {*_names(call)} for call in store.claims[before:])


def _name(claim: Claim) -> str:
    return claim.actor.actor_id


def _names(claims: Sequence[Claim]) -> list[str]:
    return [_name(claim) for claim in claims]


async def test_after_an_outage_actors_are_claimed_in_full_batches_again() -> None:
    """What failed for as long as the store was away isn't claimed one by one when it is back."""
    store = FaultyStore(MemoryStore())
    settings = Settings(commit_timeout_seconds=60.0)
    names, before = [f"{number}" for number in range(640)], 0
    async with Supervisor(
        store, behaviours=[Adder()], settings=settings, randomness=Hasty()
    ) as supervisor:
        store.claims_down = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_all, supervisor, names)
            await eventually(lambda: len(store.claims) >= 100)
            before = len(store.claims)
            store.claims_down = False
    assert len(store.claims) - before < 40


async def test_many_that_the_store_chokes_on_keep_a_new_actor_waiting_for_one_call_each_slot() -> (
    None
):
    """However many fail again and again, who is new is claimed as soon as a slot is free."""
    store = Refusing(MemoryStore())
    before = 0
    async with retrying(store, randomness=Hasty()) as (supervisor, tasks):
        tasks.start_soon(ask_all, supervisor, [f"bad {number}" for number in range(40)])
        await eventually(lambda: all(len(call) == 1 for call in [(), *store.claims][-40:]))
        before = len(store.claims)
        assert await ask_all(supervisor, ["late"]) == [1]
    at = next(at for at, call in enumerate(store.claims[before:]) if _names(call) == ["late"])
    assert at <= 4


async def test_who_comes_with_one_that_the_store_chokes_on_waits_for_no_others_like_it() -> None:
    """It is claimed apart before those that fail alone, each of them a call, have their turn."""
    store = Refusing(MemoryStore())
    hopeless = [f"bad {number}" for number in range(100)]
    before = 0
    async with retrying(store, randomness=Hasty()) as (supervisor, tasks):
        tasks.start_soon(ask_all, supervisor, hopeless)
        await eventually(lambda: {*map(len, store.claims[-500:])} == {1})
        before = len(store.claims)
        for name in ("late", _POISON):
            supervisor.actor("adder", name).tell(1)
        await eventually(lambda: ["late"] in map(_names, store.claims[before:]))
    calls = [_names(call) for call in store.claims[before:]]
    assert ["late", _POISON] in calls
    assert calls.index(["late"]) < len(hopeless) / 2


async def test_who_waits_for_a_refused_claim_reads_why_though_others_are_claimed() -> None:
    """The reason is the actor's own."""
    store = Refusing(MemoryStore())
    settings = Settings(commit_timeout_seconds=0.3)
    refused: list[Any] = []
    async with Supervisor(
        store, behaviours=[Adder()], settings=settings, randomness=Hasty()
    ) as supervisor:

        async def others() -> None:
            number = 0
            while not refused:
                await ask_all(supervisor, [f"{number}"])
                number += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            refused += await ask_all(supervisor, ["bad"])
    assert isinstance(refused[0], StoreUnavailableError)
    assert "it refuses" in str(refused[0])


async def test_what_the_store_chokes_on_is_tried_more_seldom_though_others_are_claimed() -> None:
    """Its back-off is by its own failures: a success of others is no reason to try it at once."""
    store, delays = Refusing(MemoryStore()), list[int]()
    async with retrying(store) as (supervisor, tasks):
        engine: Any = supervisor

        def delay(failures: int) -> float:
            delays.append(failures)
            return 0.0

        engine._engine.retry_delay = delay
        tasks.start_soon(ask_all, supervisor, ["bad"])
        number = 0
        while len(delays) < 5:
            await ask_all(supervisor, [f"{number}"])
            number += 1
    assert delays[:5] == [1, 2, 3, 4, 5]


async def test_a_new_actor_that_is_claimed_in_an_outage_of_others_is_no_end_of_it() -> None:
    """Nor does it hide that it was one: afterwards the others are claimed in full batches."""
    store = Refusing(MemoryStore())
    settings = Settings(commit_timeout_seconds=60.0)
    names, before = [f"bad {number}" for number in range(640)], 0
    async with (
        Supervisor(
            store, behaviours=[Adder()], settings=settings, randomness=Hasty()
        ) as supervisor,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ask_all, supervisor, names)
        await eventually(lambda: len(store.claims) >= 100)
        assert await ask_all(supervisor, ["new"]) == [1]
        before = len(store.claims)
        store.refuses = False
    assert len(store.claims) - before < 40


class Late(FaultyStore):
    """A store for which a lease lasts a little longer than it had said.

    Attributes:
        everything: So often all that is due was listed.
        refused: What was said of the first claim.
    """

    everything = 0
    refused: Owned | None = None

    async def claim(self, claims: Sequence[Claim]) -> Any:
        if self.refused is None:
            self.claims.append(claims)
            self.refused = Owned("1:n:dead", 0.001)
            return [self.refused]
        return await super().claim(claims)

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        self.everything += since == -inf
        return await super().due(until, since)


async def test_orphans_that_come_with_one_that_the_store_chokes_on_are_taken_over() -> None:
    """Nobody waits for them, so each sweep finds them together again."""
    memory = MemoryStore()
    actors = [ActorKey("adder", name) for name in (*_ACTORS, "bad")]
    await memory.open(Process("dead"), 0.2)
    claims = [Claim(actor, (f"gg:adder:{actor.actor_id}",), "n") for actor in actors]
    claimed = [one for one in await memory.claim(claims) if isinstance(one, Claimed)]
    await memory.commit(
        [
            Commit(actor, one.owner, 1, "c", due=1.0)
            for actor, one in zip(actors, claimed, strict=False)
        ]
    )
    store = Refusing(memory.sibling())
    settings = Settings(drain_seconds=0.01)
    async with Supervisor(store, behaviours=[Adder()], settings=settings) as supervisor:
        await eventually(lambda: all(supervisor.peek("adder", name) for name in _ACTORS))


async def test_a_claim_that_comes_a_little_too_early_is_tried_again_before_the_next_sweep() -> None:
    """What a dead process owned and is long due isn't left for a period if its lease lasts on."""
    memory, actor = MemoryStore(), ActorKey("adder", "orphan")
    await memory.open(Process("dead"), 0.2)
    (claimed,) = await memory.claim([Claim(actor, ("gg:adder:orphan",), "n")])
    assert isinstance(claimed, Claimed)
    await memory.commit([Commit(actor, claimed.owner, 1, "c", due=1.0)])
    store = Late(memory.sibling())
    settings = Settings(sweep_seconds=60.0, lease_seconds=60.0)
    async with Supervisor(store, behaviours=[Adder()], settings=settings):
        await eventually(lambda: len(store.claims) == 2)
        assert store.everything == 1
