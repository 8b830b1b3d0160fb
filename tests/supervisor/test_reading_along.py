"""What a claim reads beyond an actor's own keys, and restores that ask for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from tests.supervisor.hosts import Adder, Total, hosted

from gamegirl.actors import (
    ActorCrashedError,
    InvalidInputError,
    NeedsMore,
    Prefetch,
    Restored,
    SessionQuarantinedError,
    Stored,
)
from gamegirl.supervisor import MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import Broken, Claim, Claimed, Owned
from gamegirl.testing import FaultyStore

pytestmark = pytest.mark.anyio


class Reads(FaultyStore):
    """Counts what is read beside the claims, and may know nothing of reading along."""

    def __init__(self, store: Any, *, alone: bool = False) -> None:
        super().__init__(store)
        self.alone = alone
        self.read_keys: list[str] = []

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        if self.alone:
            claims = [replace(claim, prefetch=None) for claim in claims]
        return await super().claim(claims)

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        self.read_keys += keys
        return await super().read(keys)


async def played(*, exited: bool) -> MemoryStore:
    """A store in which the game "abc" was played in channel "c"."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        await session.boot("G", game_id="abc")
        await session.press("1", "Ana", "run")
        if exited:
            await session.exit()
    return store.sibling()


@pytest.mark.parametrize(
    ("exited", "alone", "read"),
    [(False, False, []), (False, True, ["gg:game:abc"]), (True, False, ["gg:game:abc"])],
    ids=["live", "a store that reads nothing along", "a save"],
)
async def test_a_game_is_restored_with_as_few_reads_as_can_be(
    read: Sequence[str], *, exited: bool, alone: bool
) -> None:
    """One round trip restores a live game; where it can't, its own key is read once."""
    store = Reads(await played(exited=exited), alone=alone)
    async with hosted(store, sweep_seconds=3600.0) as supervisor:
        state = await supervisor.session("c").state()
        assert state.game_id == "abc"
        assert state.active is not exited
        assert store.read_keys == read


class Wishful(Adder):
    """Says of its state how often it was restored, with what."""

    kind = "wishful"
    prefetch = Prefetch(0, "game", "other:", ("x",))
    wishes = 1

    def restore(self, actor_id: str, stored: Any, now: float) -> Any:
        if len(stored) - 2 < self.wishes:
            return NeedsMore((f"wish:{len(stored) - 2}",))
        return Restored(Total(actor_id, len(stored)))


async def test_who_asks_for_more_is_asked_again_with_all_of_it() -> None:
    """In the order of the keys, what was read along, and the wishes."""
    async with hosted(behaviours=[Wishful()]) as supervisor:
        assert await supervisor.actor("wishful", "a").ask(0) == 3


async def test_who_asks_for_more_twice_has_crashed() -> None:
    """A restore that never ends ends, with its actor alone."""
    behaviour = Wishful()
    behaviour.wishes = 2
    async with hosted(
        behaviours=[behaviour], restarts_max=0, restart_backoff_seconds=0.001
    ) as supervisor:
        with anyio.fail_after(5), pytest.raises(Exception, match="wants more twice"):
            await supervisor.actor("wishful", "a").ask(0)
        assert not (await supervisor.session("c").state()).active


class Simple(Adder):
    """Reads along what it doesn't use."""

    prefetch = Prefetch(0, "game", "other:", ("x",))


async def test_a_simple_behaviour_may_read_along() -> None:
    """The restore that a behaviour has by itself passes over it."""
    async with hosted(behaviours=[Simple()]) as supervisor:
        assert await supervisor.actor("adder", "a").ask(3) == 3


def test_a_prefetch_that_is_none_is_told_when_the_supervisor_is_made() -> None:
    """Not when the first actor is claimed, where it would look like trouble with the store."""

    class Confused(Adder):
        def prefetch(self) -> None:  # type: ignore[override]
            """Meant for something else."""

    with pytest.raises(InvalidInputError, match="prefetch of a behaviour \\('adder'\\)"):
        Supervisor(MemoryStore(), behaviours=[Confused()])


class Astray(Adder):
    """Has no such key."""

    kind = "astray"
    prefetch = Prefetch(7, "game", "other:", ("x",))


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_a_prefetch_of_no_key_refuses_its_actor_alone(kind: str, redis_url: str) -> None:
    """Whoever is claimed beside it is restored."""
    store = MemoryStore() if kind == "memory" else redis_url
    settings = Settings(restart_backoff_seconds=0.001)
    async with Supervisor(store, settings=settings, behaviours=[Astray()]) as supervisor:

        async def refused() -> None:
            with pytest.raises((SessionQuarantinedError, ActorCrashedError)):
                await supervisor.actor("astray", "a").ask(1)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused)
                tasks.start_soon(supervisor.session("c").boot, "G")
            assert (await supervisor.session("c").state()).active
