"""A claim that comes too early."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest
from tests.supervisor.hosts import Adder

from gamegirl.supervisor import MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Due, Owned, Process
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio


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
