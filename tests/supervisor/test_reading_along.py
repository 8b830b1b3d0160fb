"""What a claim reads beyond an actor's own keys, and restores that ask for more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from tests.supervisor.hosts import Adder, Total, hosted

from gamegirl.actors import (
    Decision,
    InvalidInputError,
    NeedsMore,
    Prefetch,
    PutHash,
    PutText,
    Restored,
    SessionQuarantinedError,
    Stored,
)
from gamegirl.supervisor import MemoryStore, Supervisor
from gamegirl.supervisor.stores import ActorKey, Broken, Claim, Claimed, Commit, Done, Owned
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
    """Notes what it was restored from."""

    kind = "wishful"
    prefetch = Prefetch(0, "game", "game:", fields_max=1)
    wishes = 1

    def __init__(self) -> None:
        self.got: list[Stored] = []

    def restore(self, actor_id: str, stored: Any, now: float) -> Any:
        if len(stored) - 2 < self.wishes:
            return NeedsMore((f"wish:{len(stored) - 2}",))
        self.got = list(stored)
        return Restored(Total(actor_id))

    def handle(self, state: Total, message: Any, now: float) -> Any:
        return Decision(message)


@pytest.mark.parametrize("alone", [False, True])
async def test_who_asks_for_more_is_asked_again_with_all_of_it(*, alone: bool) -> None:
    """With what the keys hold, what was read along (None where a store can't), and the wish."""
    store = MemoryStore()
    async with hosted(store, behaviours=[Adder()]) as supervisor:
        await supervisor.actor("adder", "writer").ask(1)
        (claim,) = await store.claim([Claim(ActorKey("adder", "test"), (), "n")])
        assert isinstance(claim, Claimed)
        naming = PutHash("gg:actor:wishful:a", {"game": "1"})
        writes = (naming, PutHash("game:1", {"holder": "me"}), PutText("wish:0", "fulfilled"))
        commit = Commit(ActorKey("adder", "test"), claim.owner, 1, "1", writes)
        assert await store.commit([commit]) == [Done()]
    behaviour = Wishful()
    async with hosted(Reads(store.sibling(), alone=alone), behaviours=[behaviour]) as supervisor:
        assert await supervisor.actor("wishful", "a").ask(5) == 5
    along = None if alone else {b"holder": b"me"}
    assert behaviour.got == [{b"game": b"1"}, along, b"fulfilled"]


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


@pytest.mark.parametrize(
    "fields",
    [
        (-1, "game", "of:", 2),
        (True, "game", "of:", 2),
        (0, b"game", "of:", 2),
        (0, "game", None, 2),
        (0, "game", "of:", 0),
        (0, "game", "of:", "2"),
    ],
)
def test_a_prefetch_that_can_never_be_asked_for_is_told_at_once(fields: Any) -> None:
    """And not when the first actor is claimed, in one store and not in another."""
    with pytest.raises(InvalidInputError, match="a Prefetch has a place from 0"):
        Prefetch(*fields)


def test_what_is_no_prefetch_is_told_when_the_supervisor_is_made() -> None:
    """Not when the first actor is claimed, where it would look like trouble with the store."""

    class Confused(Adder):
        def prefetch(self) -> None:  # type: ignore[override]
            """Meant for something else."""

    with pytest.raises(InvalidInputError, match="prefetch of a behaviour \\('adder'\\)"):
        Supervisor(MemoryStore(), behaviours=[Confused()])


class Astray(Adder):
    """Has no such key."""

    kind = "astray"
    prefetch = Prefetch(7, "game", "other:", fields_max=1)


async def test_a_prefetch_of_no_key_refuses_its_actor_alone() -> None:
    """And says why."""
    async with hosted(behaviours=[Astray()]) as supervisor:
        with (
            anyio.fail_after(5),
            pytest.raises(
                SessionQuarantinedError, match="its Prefetch is about the key at 7, of 1 keys"
            ),
        ):
            await supervisor.actor("astray", "a").ask(1)
        assert not (await supervisor.session("c").state()).active
