"""Claims of which the store chokes on one, outages, in which it takes none, and refusals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import inf
from typing import Any

import anyio
import pytest
from tests.supervisor.hosts import Adder

from gamegirl.actors import StoreUnavailableError
from gamegirl.supervisor import MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Due, Owned, Process
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

_POISON = "poison"
"""The id of the actor whose claim the store can't take."""


class Hasty(random.Random):
    """What tries the store again at once, whatever is the matter."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


_ACTORS = [f"{number}" for number in range(63)]
"""As many others as there are in its batch."""


class Choking(FaultyStore):
    """A store that takes no claims that come together with one actor's."""

    async def claim(self, claims: Sequence[Claim]) -> Any:
        if any(claim.actor.actor_id == _POISON for claim in claims):
            self.claims.append(claims)
            raise StoreUnavailableError("it chokes")
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


async def test_one_claim_that_the_store_chokes_on_keeps_no_other_actor_from_living() -> None:
    """All who were in a batch with it are answered within the commit timeout; it alone isn't."""
    store = Choking(MemoryStore())
    async with Supervisor(store, behaviours=[Adder()]) as supervisor:
        *answers, refused = await ask_all(supervisor, [*_ACTORS, _POISON])
        assert answers == [1] * len(_ACTORS)
        assert isinstance(refused, StoreUnavailableError)


async def test_who_comes_later_is_soon_not_claimed_together_with_one_that_the_store_chokes_on() -> (
    None
):
    """Once its claims have failed alone, a new actor's claim is answered the first time."""
    store = Choking(MemoryStore())
    settings = Settings(commit_timeout_seconds=60.0, drain_seconds=0.01)
    before = 0
    async with (
        Supervisor(
            store, behaviours=[Adder()], settings=settings, randomness=Hasty()
        ) as supervisor,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ask_all, supervisor, [_POISON])
        await ask_all(supervisor, _ACTORS)
        await eventually(lambda: [*map(_names, store.claims[-20:])] == [[_POISON]] * 20)
        before = len(store.claims)
        await ask_all(supervisor, ["late"])
        tasks.cancel_scope.cancel()
    assert ["late"] in [_names(call) for call in store.claims[before:]]
    assert not any({"late", _POISON} <= {*_names(call)} for call in store.claims[before:])


def _names(claims: Sequence[Claim]) -> list[str]:
    return [claim.actor.actor_id for claim in claims]


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
