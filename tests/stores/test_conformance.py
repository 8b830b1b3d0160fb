"""What every store promises: one suite for memory, SQLite, a simulated and a real Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from itertools import count
from math import inf
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.lowlevel
import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gamegirl.actors import (
    AppendList,
    Drop,
    GameGirlError,
    PatchHash,
    Prefetch,
    PutHash,
    PutList,
    PutText,
    Require,
    StoreUnavailableError,
    Write,
    WrongType,
)
from gamegirl.supervisor._settlement import epoch_of
from gamegirl.supervisor.stores import (
    KEEP_DUE,
    ActorKey,
    BadType,
    Broken,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Entry,
    Fenced,
    MemoryStore,
    Outcome,
    Owned,
    Process,
    RedisStore,
    SqliteStore,
    Store,
    Unmet,
)

pytestmark = pytest.mark.anyio

ACTOR = ActorKey("session", "1234")
REFUSED = GameGirlError("refused")
LEASE_SECONDS = 0.2
ODD_IDS = ["a:history", "*", "{x}", "😀 é", "a\\b[c]?", "..", "%41", " "]


class World:
    """One set of data, and the stores of the processes that share it."""

    def __init__(self, kind: str, folder: Path, redis_url: str) -> None:
        self.kind = kind
        self.now = 1000.0
        self.stores: list[Store] = []
        self._memory = MemoryStore(clock=lambda: self.now)
        self._path = folder / "deep" / "er" / "games.db"
        self._server = fakeredis.FakeServer()
        self._redis_url = redis_url

    def handle(self) -> Store:
        store = self._handle()
        self.stores.append(store)
        return store

    def _handle(self) -> Store:
        if self.kind == "memory":
            return self._memory.sibling()
        if self.kind == "sqlite":
            return SqliteStore(self._path, wall=lambda: self.now)
        if self.kind == "fakeredis":
            return RedisStore(fakeredis.FakeRedis(server=self._server))
        return RedisStore(self._redis_url)

    async def opened(self, name: str, instance: str = "", lease_seconds: float = 60.0) -> Store:
        store = self.handle()
        await store.open(Process(name, instance), lease_seconds)
        return store

    async def pass_time(self, seconds: float) -> None:
        """Let so much time go by: simulated where that is possible."""
        self.now += seconds
        if "redis" in self.kind:
            await anyio.sleep(seconds)

    async def kill(self, store: Store) -> None:
        """Let the store's process die without a word."""
        await self.pass_time(LEASE_SECONDS)
        if isinstance(store, SqliteStore):
            locks = store._locks  # pyright: ignore[reportPrivateUsage]
            handle, locks._mine = locks._mine, None  # pyright: ignore[reportPrivateUsage]
            assert handle is not None
            os.close(handle)  # what the kernel does


@pytest.fixture(params=["memory", "sqlite", "fakeredis", "redis"])
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str
) -> AsyncIterator[World]:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    world = World(request.param, tmp_path, url)
    yield world
    for store in world.stores:
        await store.aclose()


async def claimed(
    store: Store, actor: ActorKey = ACTOR, keys: Sequence[str] = (), nonce: str = "n"
) -> Claimed:
    (result,) = await store.claim([Claim(actor, keys, nonce)])
    assert isinstance(result, Claimed), result
    return result


class Owner:
    """An actor's owner: makes its commits, one revision after the other."""

    def __init__(self, store: Store, claim: Claimed, actor: ActorKey) -> None:
        self.store, self.claim, self.actor = store, claim, actor
        self.revision = claim.revision

    def next(
        self,
        *writes: Write,
        requires: Sequence[Require] = (),
        due: float | None = KEEP_DUE,
        release: bool = False,
    ) -> Commit:
        revision = self.revision + 1
        identity = f"{self.claim.owner}/{revision}"
        owner = self.claim.owner
        return Commit(self.actor, owner, revision, identity, writes, requires, due, release)

    async def commit(
        self,
        *writes: Write,
        requires: Sequence[Require] = (),
        due: float | None = KEEP_DUE,
        release: bool = False,
    ) -> Outcome:
        commit = self.next(*writes, requires=requires, due=due, release=release)
        (outcome,) = await self.store.commit([commit])
        self.revision += isinstance(outcome, Done)
        return outcome


async def owner_of(store: Store, actor: ActorKey = ACTOR) -> Owner:
    return Owner(store, await claimed(store, actor), actor)


async def once_free(store: Store, claim: Claim) -> Claimed | Broken:
    """Claim until it isn't owned any more."""
    with anyio.fail_after(5):
        while True:
            (result,) = await store.claim([claim])
            if not isinstance(result, Owned):
                return result
            await anyio.sleep(0.01)


# Claims.


async def test_claim_of_an_actor_that_never_was(world: World) -> None:
    """A free actor is owned by whoever asks, with nothing stored."""
    store = await world.opened("p1")
    result = await claimed(store, keys=["a", "b"], nonce="abc")
    assert result == Claimed(result.owner, None, 0, "", [None, None])
    assert result.owner.partition(":")[2] == "abc:p1"


async def test_claim_returns_what_is_stored(world: World) -> None:
    """A claim answers with the last commit and all keys, in the order asked for."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    hashed = PutHash("h", {"a": "1", "b": b"\xff\x00"})
    await owner.commit(PutText("t", "é"), hashed, PutList("l", ["2", b"1"]))
    result = await claimed(store, keys=["l", "h", "none", "t", "gg:due"])
    assert result.previous == owner.claim.owner
    assert (result.revision, result.commit_id) == (1, f"{owner.claim.owner}/1")
    stored = [[b"2", b"1"], {b"a": b"1", b"b": b"\xff\x00"}, None, "é".encode(), None]
    assert list(result.stored) == stored


FURTHER = Prefetch(1, "game", "of:é:", fields_max=2)
"""The key that is named by the second of these."""
NAMING = ("l", "h", "t")


async def claimed_with_further(store: Store) -> Claimed:
    (result,) = await store.claim([Claim(ACTOR, NAMING, "n", prefetch=FURTHER)])
    assert isinstance(result, Claimed), result
    return result


async def test_a_claim_reads_a_further_key_along(world: World) -> None:
    """Whose name one of the keys says, also when a key has another type than the last time."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    name = b"of:\xc3\xa9:\xff".decode("utf-8", "surrogateescape")
    further = PutHash(name, {"a": b"\xff", "ä": ""})
    await owner.commit(PutList("l", ["1"]), PutHash("h", {"game": b"\xff"}), further)
    for text in ("1", "2"):
        for write in (Drop("t"), PutText("t", text)):
            await (await owner_of(store)).commit(write)
            claim = await claimed_with_further(store)
            first, naming, _, fields = claim.stored
            assert (first, naming) == ([b"1"], {b"game": b"\xff"})
            assert fields == {b"a": b"\xff", "ä".encode(): b""}
    again = await claimed_with_further(store)
    assert list(again.stored)[2:] == [b"2", {b"a": b"\xff", "ä".encode(): b""}]


async def test_each_claim_of_a_batch_reads_its_own_along(world: World) -> None:
    """Whichever of the others read something else along, nothing, or are refused."""
    store, other = await world.opened("p1"), await world.opened("p2")
    numbers = range(200)
    actors = [ActorKey("session", str(number)) for number in numbers]
    owner = await owner_of(store)
    for number in numbers:
        naming = PutHash(f"h{number}", {"x": str(number), "y": str(number)})
        one, two = PutHash(f"1:{number}", {"a": f"a{number}"}), PutHash(f"2:{number}", {"b": "b"})
        await owner.commit(naming, one, two)
    await owner.commit(*(PutText(actors[number].fence, "none") for number in numbers[4::10]))
    refused = [ActorKey("session", str(number)) for number in numbers[5::10]]
    await other.claim([Claim(actor, [], "n") for actor in refused])
    prefetches = (Prefetch(0, "x", "1:", 1), Prefetch(0, "y", "2:", 9), None)
    claims = [
        Claim(actor, [f"h{number}"], "n", prefetch=prefetches[number % 3])
        for number, actor in enumerate(actors)
    ]
    for number, result in enumerate(await store.claim(claims)):
        if number % 10 == 4:
            assert isinstance(result, Broken)
        elif number % 10 == 5:
            assert isinstance(result, Owned)
        else:
            assert isinstance(result, Claimed)
            further = [[{b"a": b"a%d" % number}], [{b"b": b"b"}], []][number % 3]
            assert list(result.stored)[1:] == further


@pytest.mark.parametrize(
    "writes",
    [
        (),
        (PutHash("h", {"other": "a"}), PutHash("of:é:a", {"a": "b"})),
        (PutHash("h", {"game": "a"}),),
        (PutHash("h", {"game": "a"}), PutHash("of:é:a", {"a": "b", "c": "d", "e": "f"})),
        (PutHash("h", {"game": "a"}), PutText("of:é:a", "b")),
        (PutText("h", "game"), PutHash("of:é:a", {"a": "b"})),
    ],
    ids=["nothing", "no field", "no key", "too many fields", "no hash", "not named by a hash"],
)
async def test_no_further_key_is_none(world: World, writes: Sequence[Write]) -> None:
    """Whatever is in the way of reading it, the claim succeeds, and nothing else is missing."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(PutText("t", "there"), *writes)
    for _ in range(2):
        claim = await claimed_with_further(store)
        assert len(claim.stored) == 4
        assert claim.stored[2:] == [b"there", None]


@pytest.mark.parametrize(
    "prefetch",
    [Prefetch(3, "game", "of:", 2), Prefetch(0, "\ud800", "of:", 2)],
    ids=["no such key", "no text"],
)
async def test_a_further_key_that_cannot_be_asked_for(world: World, prefetch: Prefetch) -> None:
    """Such a claim is answered, not raised, and the ones beside it are made."""
    store = await world.opened("p1")
    claims = [Claim(ACTOR, NAMING, "n", prefetch=prefetch), Claim(ACTOR, [], "n")]
    assert [type(result) for result in await store.claim(claims)] == [Broken, Claimed]


async def test_epoch_grows(world: World) -> None:
    """Every claim takes a fresh epoch, so that no owner token ever comes back."""
    store = await world.opened("p1")
    epochs = [epoch_of((await claimed(store)).owner) for _ in range(3)]
    assert epochs == sorted(set(epochs))


async def test_an_epoch_is_higher_than_those_before_though_the_counter_is_lost(
    world: World,
) -> None:
    """Who claims after a store went back is told from who had claimed before that."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    before = epoch_of(owner.claim.owner)
    assert await owner.commit(PutText("gg:epoch", "1")) == Done()
    await world.pass_time(0.002)  # The clock that they follow has milliseconds.
    assert epoch_of((await claimed(store)).owner) > before


async def test_living_owner_keeps_its_actor(world: World) -> None:
    """Nobody takes an actor from a live process, and the loser learns whose it is."""
    first, second = await world.opened("p1"), await world.opened("p2")
    mine = await claimed(first)
    (result,) = await second.claim([Claim(ACTOR, [], "n2")])
    assert isinstance(result, Owned)
    assert result.owner == mine.owner
    assert 0 < result.lease_seconds <= 60
    assert (await claimed(first, nonce="again")).previous == mine.owner


async def test_dead_owner_loses_its_actor(world: World) -> None:
    """Once the owner's lease is gone, the next one may claim."""
    first = await world.opened("p1", lease_seconds=LEASE_SECONDS)
    second = await world.opened("p2", lease_seconds=LEASE_SECONDS)
    mine = await claimed(first)
    await world.kill(first)
    result = await once_free(second, Claim(ACTOR, [], "n2"))
    assert isinstance(result, Claimed)
    assert result.previous == mine.owner
    assert result.owner.partition(":")[2] == "n2:p2"


async def test_renewed_lease_lasts(world: World) -> None:
    """A process that renews its lease keeps its actors longer than the lease lasts."""
    first = await world.opened("p1", lease_seconds=0.5)
    second = await world.opened("p2")
    await claimed(first)
    for _ in range(3):
        await world.pass_time(0.25)
        await first.renew()
    (result,) = await second.claim([Claim(ACTOR, [], "n2")])
    assert isinstance(result, Owned)


async def test_closed_owner_loses_its_actor_at_once(world: World) -> None:
    """Closing a store gives up its lease; closing it twice does no harm."""
    first, second = await world.opened("p1"), await world.opened("p2")
    mine = await claimed(first)
    await first.aclose()
    await first.aclose()
    assert (await claimed(second)).previous == mine.owner


async def test_same_instance_takes_over_at_once(world: World) -> None:
    """A restarted bot does not wait for the lease of the process that it replaces."""
    first = await world.opened("p1", "bot")
    stranger = await world.opened("p2", "other")
    second = await world.opened("p3", "bot")
    mine = await claimed(first)
    assert isinstance((await stranger.claim([Claim(ACTOR, [], "n")]))[0], Owned)
    assert (await claimed(second)).previous == mine.owner


async def test_nameless_instances_are_not_the_same(world: World) -> None:
    """Two processes without an instance name don't take over from each other."""
    first, second = await world.opened("p1", ""), await world.opened("p2", "")
    await claimed(first)
    assert isinstance((await second.claim([Claim(ACTOR, [], "n")]))[0], Owned)


async def test_many_claims_at_once(world: World) -> None:
    """A batch of claims is answered in its order, each for itself."""
    first, second = await world.opened("p1"), await world.opened("p2")
    actors = [ActorKey("session", str(index)) for index in range(150)]
    for actor in actors[::2]:
        await claimed(second, actor)
    results = await first.claim([Claim(actor, ["none"], "n") for actor in actors])
    kinds = [type(result) for result in results]
    assert kinds == [Owned, Claimed] * 75
    assert list(await first.claim([])) == []


@pytest.mark.parametrize("actor_id", ODD_IDS)
async def test_odd_ids(world: World, actor_id: str) -> None:
    """No id reaches another's fence, and every id comes back from the due index as it was."""
    store = await world.opened("p1")
    actor = ActorKey("session", actor_id)
    plain = await owner_of(store, ActorKey("session", "a"))
    owner = await owner_of(store, actor)
    assert owner.claim.previous is None
    assert await owner.commit(PutText(f"k:{actor_id}", actor_id), due=1.0) == Done()
    assert [due.actor for due in await store.due(2.0)] == [actor]
    assert await store.read([f"k:{actor_id}"]) == [actor_id.encode()]
    assert await plain.commit() == Done()


async def test_process_names_may_be_odd(world: World) -> None:
    """A lease is found again by the process part of the owner token, whatever it is made of."""
    first, second = await world.opened("host-1.é/*%"), await world.opened("host-2")
    await claimed(first)
    assert isinstance((await second.claim([Claim(ACTOR, [], "n")]))[0], Owned)


async def test_foreign_owner_tokens_own_nothing(world: World) -> None:
    """A fence with something else than a token in it belongs to nobody alive."""
    store = await world.opened("p1")
    other = await owner_of(store, ActorKey("session", "other"))
    await other.commit(PutHash(ACTOR.fence, {"owner": "rubbish"}))
    result = await claimed(store)
    assert (result.previous, result.revision, result.commit_id) == ("rubbish", 0, "")


@pytest.mark.parametrize(
    ("write", "needle"),
    [
        (PutText(ACTOR.fence, "rubbish"), ACTOR.fence),
        (PutHash(ACTOR.fence, {"owner": "", "rev": "x"}), "'x'"),
        (PutHash(ACTOR.fence, {"rev": "9" * 30}), "9999"),
    ],
)
async def test_broken_fence_harms_nobody_else(world: World, write: Write, needle: str) -> None:
    """A fence that nobody can read is reported, and the batch's other claims go through."""
    store = await world.opened("p1")
    other = await owner_of(store, ActorKey("session", "other"))
    assert await other.commit(write) == Done()
    claims = [Claim(other.actor, [], "n"), Claim(ACTOR, [], "n"), Claim(other.actor, [], "n")]
    first, broken, last = await store.claim(claims)
    assert isinstance(broken, Broken)
    assert needle in broken.reason
    assert isinstance(first, Claimed)
    assert isinstance(last, Claimed)


@pytest.mark.parametrize("write", [PutText("gg:epoch", "x"), PutHash("gg:epoch", {"a": "b"})])
async def test_broken_epoch(world: World, write: Write) -> None:
    """Without a readable epoch no claim succeeds, and the answer says why."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    assert await owner.commit(Drop("gg:epoch"), write) == Done()
    (broken,) = await store.claim([Claim(ACTOR, [], "n")])
    assert isinstance(broken, Broken)
    assert "gg:epoch" in broken.reason
    assert await owner.commit() == Done()


async def test_unstorable_claim(world: World) -> None:
    """A claim whose content can't be written down is answered, not raised."""
    store = await world.opened("p1")
    results = await store.claim([Claim(ACTOR, ["\ud800"], "n"), Claim(ACTOR, [], "n")])
    assert [type(result) for result in results] == [Broken, Claimed]


# Commits.


async def test_every_kind_of_write(world: World) -> None:
    """Each write does what its class says."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(
        PutText("t", "old"), PutHash("h", {"a": "1", "b": "2"}), PutList("l", ["1"]),
        PutText("gone", "x"),
    )  # fmt: skip
    await owner.commit(
        PutText("t", b"new"),
        PatchHash("h", {"b": "3", "c": "4"}, remove=["a", "never"]),
        PatchHash("fresh", {"x": "y"}),
        AppendList("l", ["2", "3"], keep=2),
        AppendList("m", ["1", "2"], keep=5),
        Drop("gone"),
        Drop("never"),
    )
    stored = await store.read(["t", "h", "fresh", "l", "m", "gone"])
    hashes = [{b"b": b"3", b"c": b"4"}, {b"x": b"y"}]
    assert list(stored) == [b"new", *hashes, [b"2", b"3"], [b"1", b"2"], None]
    await owner.commit(PutHash("h", {"z": ""}), PutList("l", ["", "9"]), PutText("t", ""))
    assert list(await store.read(["h", "l", "t"])) == [{b"z": b""}, [b"", b"9"], b""]


async def test_what_is_empty_is_gone(world: World) -> None:
    """A hash without fields and a list without items are no keys."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    keys = ["h", "i", "l", "m", "n"]
    await owner.commit(
        PutHash("h", {"a": "1"}),
        PutHash("i", {"a": "1"}),
        *(PutList(key, ["1", "2"]) for key in keys[2:]),
    )
    assert None not in await store.read(keys)
    await owner.commit(
        PutHash("h", {}, ttl_seconds=5),
        PatchHash("i", remove=["a"]),
        PutList("l", []),
        AppendList("m", [], keep=0),
        AppendList("n", ["3"], keep=-1),
        PatchHash("o"),
        AppendList("p", [], keep=3),
    )
    assert list(await store.read([*keys, "o", "p"])) == [None] * 7
    assert [name async for batch in store.scan("") for name in batch if len(name) == 1] == []


async def test_large_writes(world: World) -> None:
    """Thousands of fields or items fit into one commit."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    fields = {f"field {index}": str(index) for index in range(9000)}
    items = [str(index) for index in range(9000)]
    outcome = await owner.commit(
        PutHash("h", fields), PatchHash("p", fields, list(fields)[1:]), PutList("l", items),
        AppendList("a", items, keep=8500),
    )  # fmt: skip
    assert outcome == Done()
    hashed, patched, listed, appended = await store.read(["h", "p", "l", "a"])
    assert hashed == {name.encode(): value.encode() for name, value in fields.items()}
    assert patched == {b"field 0": b"0"}
    assert listed == [item.encode() for item in items]
    assert appended == [item.encode() for item in items[500:]]


async def test_times_to_live(world: World) -> None:
    """A hash with a time to live goes by itself, a patch keeps that time, a full form ends it."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(PutHash("h", {"a": "1"}, 1), PutHash("kept", {"a": "1"}, 1))
    await owner.commit(PutHash("zero", {"a": "1"}, 0), PutHash("long", {"a": "1"}, 100))
    await owner.commit(PatchHash("h", {"b": "2"}, ["a"]), PutHash("kept", {"a": "2"}))
    h, kept, zero, long = await store.entries(["h", "kept", "zero", "long"])
    assert (h.value, h.ttl_seconds in (0, 1)) == ({b"b": b"2"}, True)
    assert kept == Entry("kept", {b"a": b"2"}, -1)
    assert zero == Entry("zero", None, -1)
    assert 98 <= long.ttl_seconds <= 100
    await world.pass_time(1.05)
    assert list(await store.read(["h", "kept"])) == [None, {b"a": b"2"}]
    assert await owner.commit(PatchHash("h", {"c": "3"})) == Done()
    assert list(await store.entries(["h"])) == [Entry("h", {b"c": b"3"}, -1)]
    await claimed(store)
    assert [name async for batch in store.scan("h") for name in batch] == ["h"]


async def test_nothing_stored_is_shared_with_callers(world: World) -> None:
    """What a caller does to its own data, or to what it has read, changes nothing stored."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    fields = {"a": "1"}
    items = [bytearray(b"1")]
    await owner.commit(PutHash("h", fields), PutList("l", items))  # type: ignore[arg-type]
    fields["b"] = "2"
    items[0][:] = b"2"
    for value in await store.read(["h", "l"]):
        assert isinstance(value, dict | list)
        value.clear()
    assert list(await store.read(["h", "l"])) == [{b"a": b"1"}, [b"1"]]


TYPES: dict[str, Write] = {
    "string": PutText("k", "x"),
    "hash": PutHash("k", {"a": "1"}),
    "list": PutList("k", ["1"]),
}


@pytest.mark.parametrize("held", TYPES)
@pytest.mark.parametrize(
    "write",
    [
        PutText("k", "y"),
        PutHash("k", {"b": "2"}),
        PutHash("k", {}),
        PatchHash("k", {"b": "2"}),
        PatchHash("k", remove=["a"]),
        PutList("k", ["2"]),
        PutList("k", []),
        AppendList("k", ["2"], 9),
        AppendList("k", [], 0),
    ],
    ids=repr,
)
async def test_wrong_types_write_nothing(world: World, held: str, write: Write) -> None:
    """A write on a key of another type is refused before anything of its commit is written."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(TYPES[held])
    before = await store.read(["k"])
    fitting = {"PutText": "string", "PutList": "list", "AppendList": "list"}
    fits = fitting.get(type(write).__name__, "hash") == held
    outcome = await owner.commit(PutText("first", "1"), write, PutText("last", "1"), due=1.0)
    assert outcome == (Done() if fits else BadType("k", held))
    written = [None, None] if not fits else [b"1", b"1"]
    assert list(await store.read(["first", "last"])) == written
    assert (await store.read(["k"]) == before) != fits
    assert len(await store.due(2.0)) == fits
    assert await owner.commit(Drop("k"), TYPES[held]) == Done()


async def test_types_within_a_commit(world: World) -> None:
    """A key counts as of the type that the commit's last write to it leaves."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    assert await owner.commit(PutText("k", "x")) == Done()
    dropped: list[Write] = [Drop("k"), PatchHash("k", {"a": "1"}), PatchHash("k", {"b": "2"})]
    assert await owner.commit(*dropped) == Done()
    assert list(await store.read(["k"])) == [{b"a": b"1", b"b": b"2"}]
    assert await owner.commit(Drop("k"), PutText("k", "x"), PatchHash("k", {"a": "1"})) == (
        BadType("k", "string")
    )
    assert await owner.commit(PutHash("k", {}), AppendList("k", ["1"], 5)) == Done()
    assert await owner.commit(AppendList("k", ["1"], 0), PutText("k", "x")) == Done()
    assert list(await store.read(["k"])) == [b"x"]
    await owner.commit(PutHash("h", {"a": "1"}), PutList("l", ["1"]))
    removing = PatchHash("h", remove=["a"])
    assert await owner.commit(removing, PutText("h", "x")) == BadType("h", "hash")
    trimming = AppendList("l", [], keep=1)
    assert await owner.commit(trimming, PutText("l", "x")) == BadType("l", "list")
    assert list(await store.read(["h", "l"])) == [{b"a": b"1"}, [b"1"]]


async def test_requirements(world: World) -> None:
    """A commit happens only if all it requires holds; else it says which one didn't."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    absent = Require("r", "game", None, REFUSED)
    assert await owner.commit(PutHash("r", {"game": "1"}), requires=[absent]) == Done()
    assert await owner.commit(PutText("t", "x"), requires=[absent]) == Unmet(0)
    held = Require("r", "game", "1", REFUSED)
    other = Require("r", "other", "1", REFUSED)
    assert await owner.commit(PutText("t", "x"), requires=[held, other]) == Unmet(1)
    empty = Require("r", "other", "", REFUSED)
    assert await owner.commit(PutText("t", "x"), requires=[empty]) == Unmet(0)
    assert list(await store.read(["t"])) == [None]
    assert await owner.commit(PutText("t", "x"), requires=[held]) == Done()
    text = Require("t", "game", None, REFUSED)
    assert await owner.commit(Drop("t"), requires=[held, text]) == BadType("t", "string")
    assert list(await store.read(["t"])) == [b"x"]


async def test_resend_is_harmless(world: World) -> None:
    """The same commit again has no second effect and is answered as done."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    commit = owner.next(AppendList("l", ["1"], 10), due=1.0)
    assert list(await store.commit([commit])) == [Done()]
    assert list(await store.commit([commit])) == [Done(again=True)]
    assert list(await store.read(["l"])) == [[b"1"]]
    owner.revision += 1
    released = owner.next(AppendList("l", ["2"], 10), release=True)
    assert list(await store.commit([released])) == [Done()]
    assert list(await store.commit([released])) == [Done(again=True)]
    assert list(await store.read(["l"])) == [[b"1", b"2"]]


async def test_revisions_follow_each_other(world: World) -> None:
    """A commit that skips or repeats a revision is refused, with the one that is stored."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit()
    for revision in (-1, 0, 1, 3):
        commit = Commit(ACTOR, owner.claim.owner, revision, "other", [PutText("t", "x")])
        assert list(await store.commit([commit])) == [Conflict(1)]
    assert list(await store.read(["t"])) == [None]


async def test_stale_owner_is_fenced(world: World) -> None:
    """Whoever has lost an actor can't commit to it, and learns who owns it."""
    first, second = await world.opened("p1", "bot"), await world.opened("p2", "bot")
    stale = await owner_of(first)
    assert list(await first.commit([stale.next()])) == [Done()]
    heir = await claimed(second)
    assert await stale.commit(PutText("t", "x")) == Fenced(heir.owner, 1, 1)
    assert list(await first.commit([stale.next(release=True)])) == [Fenced(heir.owner, 1, 1)]
    never = ActorKey("session", "never")
    assert list(await first.commit([Commit(never, "1:n:p1", 1, "c")])) == [Fenced(None)]
    assert list(await first.read(["t"])) == [None]


async def test_an_owner_from_before_the_store_went_back_is_taken_over_from(world: World) -> None:
    """Who has followed an owner needn't wait for its lease; for any other's it must."""
    first, second = await world.opened("p1"), await world.opened("p2")
    held = await claimed(first)
    (refused,) = await second.claim([Claim(ACTOR, [], "n2", over="1:other:p1")])
    assert isinstance(refused, Owned)
    (taken,) = await second.claim([Claim(ACTOR, [], "n2", over=held.owner)])
    assert isinstance(taken, Claimed)
    assert taken.previous == held.owner


async def test_fence_survives_everything(world: World) -> None:
    """Dropping all keys of an actor keeps its fence: revisions and owners go on."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(PutText("t", "x"), PutHash("h", {"a": "1"}), due=1.0)
    await owner.commit(Drop("t"), Drop("h"), due=None, release=True)
    result = await claimed(store, keys=["t", "h"])
    assert (result.previous, result.revision, result.stored) == ("", 2, [None, None])
    fence = await store.read([ACTOR.fence])
    cid = f"{owner.claim.owner}/2".encode()
    owned = {b"owner": result.owner.encode(), b"rev": b"2", b"cid": cid, b"since": b"2"}
    assert list(fence) == [owned]


async def test_release(world: World) -> None:
    """A released actor is free for all at once, and closed to the one who released it."""
    first, second = await world.opened("p1"), await world.opened("p2")
    owner = await owner_of(first)
    assert await owner.commit(PutText("t", "x"), release=True) == Done()
    assert await owner.commit(PutText("t", "y")) == Fenced("", 1, 0)
    result = await claimed(second, keys=["t"])
    assert (result.previous, result.revision, result.stored) == ("", 1, [b"x"])


async def test_one_bad_commit_among_many(world: World) -> None:
    """What is wrong with one commit of a batch doesn't touch the others."""
    store = await world.opened("p1")
    actors = [ActorKey("session", str(index)) for index in range(100)]
    results = await store.claim([Claim(actor, [], "n") for actor in actors])
    owners = [
        Owner(store, claim, actor)
        for claim, actor in zip(results, actors, strict=True)
        if isinstance(claim, Claimed)
    ]
    spoilt = actors[5].fence
    await owners[0].commit(PutText("text", "x"), Drop(spoilt), PutText(spoilt, "x"))
    commits = [owner.next(PutText(f"k{owner.actor.actor_id}", "1")) for owner in owners]
    commits[3] = owners[3].next(PutText("k3", "1"), PatchHash("text", {"a": "1"}))
    commits[4] = Commit(actors[4], "nobody", 1, "c", [PutText("k4", "1")])
    commits[6] = owners[6].next(PutText("k6", "1"), PutText("k6", "\ud800"))
    commits[7] = owners[7].next(PutText("k7", "1"), due=float("nan"))
    commits[8] = owners[8].next(PutText("k8", "1"), "no write")  # type: ignore[arg-type]
    commits[9] = owners[9].next(PutText("k9", 1))  # type: ignore[arg-type]
    commits[10] = owners[10].next(PutText("k10", "1"), requires=[Require("r", "f", "v", REFUSED)])
    outcomes = await store.commit(commits)
    expected = [Done] * 100
    kinds: list[type] = [type(outcome) for outcome in outcomes]
    assert kinds[3:11] == [BadType, Fenced, Broken, Broken, Broken, Broken, Broken, Unmet]
    assert kinds[:3] + kinds[11:] == expected[:3] + expected[11:]
    stored = await store.read([f"k{index}" for index in range(100)])
    assert [index for index, value in enumerate(stored) if value is None] == list(range(3, 11))
    assert list(await store.commit([])) == []


async def test_broken_revision_in_a_fence(world: World) -> None:
    """A commit meets a fence that somebody has spoilt: nothing is written, and it says so."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(PatchHash(ACTOR.fence, {"rev": "many"}))
    owner.revision = 5
    await store.commit([owner.next()])
    other = await owner_of(store, ActorKey("session", "other"))
    await other.commit(PatchHash(ACTOR.fence, {"rev": "many"}))
    outcome = await owner.commit(PutText("t", "x"))
    assert isinstance(outcome, Broken)
    assert "many" in outcome.reason
    await other.commit(PatchHash(ACTOR.fence, remove=["rev", "cid"]))
    owner.revision = 0
    assert await owner.commit(PutText("t", "x")) == Done()


# The due index.


async def test_due_actors_come_oldest_first(world: World) -> None:
    """The index lists what is due by then, oldest first, and follows each commit."""
    store = await world.opened("p1")
    owners = [await owner_of(store, ActorKey("session", name)) for name in "abcd"]
    for owner, due in zip(owners, (30.0, 10.5, 20.0, 40.0), strict=True):
        await owner.commit(due=due)

    async def names(until: float, since: float = -inf) -> str:
        return "".join(due.actor.actor_id for due in await store.due(until, since))

    assert await names(30.0) == "bca"
    assert await names(10.4) == ""
    assert await names(30.0, 20.0) == "ca"
    assert await names(99.0, 40.5) == await names(10.0, 20.0) == ""
    assert [due.at for due in await store.due(99.0)] == [10.5, 20.0, 30.0, 40.0]
    await owners[1].commit(due=35.25)
    await owners[2].commit(due=None)
    await owners[3].commit(due=KEEP_DUE)
    assert await names(99.0) == "abd"
    assert list(await store.read(["gg:due"])) == [WrongType("zset")]


async def test_due_says_who_owns(world: World) -> None:
    """What is due comes with its owner, and with whether a claim would succeed."""
    first = await world.opened("p1", "bot", lease_seconds=LEASE_SECONDS)
    stranger = await world.opened("p2", lease_seconds=LEASE_SECONDS)
    heir = await world.opened("p3", "bot")
    for name in "ab":
        owner = await owner_of(first, ActorKey("session", name))
        await owner.commit(due=1.0, release=name == "b")
    for store, free in ((first, False), (stranger, False), (heir, True)):
        a, b = await store.due(1.0)
        assert (a.owner.partition(":")[2], a.lease_seconds == 0) == ("n:p1", free)
        assert 0 <= a.lease_seconds <= 0.5
        assert (b.owner, b.lease_seconds) == ("", 0)
    await world.kill(first)
    with anyio.fail_after(5):
        due = await stranger.due(1.0)
        while due[0].lease_seconds:
            await anyio.sleep(0.01)
            due = await stranger.due(1.0)


async def test_due_with_a_spoilt_owner(world: World) -> None:
    """An owner that is no text hides neither its actor nor the others."""
    store = await world.opened("p1")
    for name in "ab":
        owner = await owner_of(store, ActorKey("session", name))
        await owner.commit(due=1.0)
    vandal = await owner_of(store)
    await vandal.commit(PatchHash("gg:fence:session:a", {"owner": b"1:\xff:x"}))
    assert [(one.actor.actor_id, one.owner.partition(":")[2]) for one in await store.due(1.0)] == [
        ("a", "\ufffd:x"),
        ("b", "n:p1"),
    ]


async def test_many_due_actors(world: World) -> None:
    """The whole index is listed, however long it is."""
    store = await world.opened("p1")
    actors = [ActorKey("session", str(index)) for index in range(2500)]
    results = await store.claim([Claim(actor, [], "n") for actor in actors])
    await store.commit(
        [
            Commit(actor, claim.owner, 1, "c", due=float(index // 10))
            for index, (actor, claim) in enumerate(zip(actors, results, strict=True))
            if isinstance(claim, Claimed)
        ]
    )
    due = await store.due(1e9)
    assert len({entry.actor for entry in due}) == len(due) == 2500
    assert [entry.at for entry in due] == sorted(entry.at for entry in due)


# Listing and reading.


async def test_scan_finds_exactly_the_prefix(world: World) -> None:
    """No sign in a prefix has a meaning of its own, and leases are not listed."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    prefixes = ["a*", "a[b]", "a?", "a\\", "a^", "ab", "b:*", "\udcff", "é"]
    await owner.commit(*(PutText(f"{prefix}{n}", "x") for prefix in prefixes for n in (1, 2)))
    for prefix in prefixes:
        found = [name async for batch in store.scan(prefix) for name in batch]
        assert sorted(found) == [f"{prefix}1", f"{prefix}2"]
    everything = [name async for batch in store.scan("") for name in batch]
    own = {"gg:epoch", ACTOR.fence}
    assert set(everything) == own | {f"{prefix}{n}" for prefix in prefixes for n in (1, 2)}
    assert len(everything) == len(set(everything))
    await owner.commit(due=1.0)
    assert {name async for batch in store.scan("gg:") for name in batch} == own | {"gg:due"}
    await owner.commit(Drop("gg:due"))
    assert list(await store.due(9.0)) == []


async def test_scan_of_many_keys(world: World) -> None:
    """Every key is listed once, in batches."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(*(PutText(f"many:{index}", "x") for index in range(2500)))
    batches = [batch async for batch in store.scan("many:")]
    names = [name for batch in batches for name in batch]
    assert len(batches) > 1
    assert sorted(names) == sorted(f"many:{index}" for index in range(2500))


async def test_entries(world: World) -> None:
    """Keys are shown as they are stored, with their time to live, the absent ones too."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(PutText("t", "x"), PutHash("h", {"a": "1"}, 500), PutList("l", ["1"]))
    assert list(await store.entries(["t", "none", "l"])) == [
        Entry("t", b"x", -1),
        Entry("none", None, -1),
        Entry("l", [b"1"], -1),
    ]
    (entry,) = await store.entries(["h"])
    assert entry.value == {b"a": b"1"}
    assert 498 <= entry.ttl_seconds <= 500
    assert list(await store.read([f"none{index}" for index in range(200)])) == [None] * 200
    assert list(await store.entries([])) == []


# Opening and closing.


async def test_store_that_was_never_opened(world: World) -> None:
    """It can be closed; claims say that it must be opened; data can be looked at."""
    store = world.handle()
    with pytest.raises(StoreUnavailableError, match="open"):
        await store.claim([Claim(ACTOR, [], "n")])
    with pytest.raises(StoreUnavailableError, match="open"):
        await store.due(1.0)
    assert list(await store.read(["t"])) == [None]
    await store.aclose()
    if isinstance(store, RedisStore):  # It would connect anew, and nobody would hang up.
        with pytest.raises(StoreUnavailableError, match="open"):
            await store.commit([Commit(ACTOR, "1:n:p1", 1, "c")])


async def test_store_opens_again(world: World) -> None:
    """A closed store can be opened anew and finds everything."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    await owner.commit(PutText("t", "x"))
    await store.aclose()
    await store.open(Process("p2"), 60.0)
    assert (await claimed(store, keys=["t"])).stored == [b"x"]


async def test_cancellation_leaves_the_store_usable(world: World) -> None:
    """Whoever is cancelled in a commit harms neither the store nor the commit."""
    store = await world.opened("p1")
    owner = await owner_of(store)
    commit = owner.next(AppendList("l", ["1"], 10))
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.commit, [commit])
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    (outcome,) = await store.commit([commit])
    assert isinstance(outcome, Done)
    assert list(await store.read(["l"])) == [[b"1"]]


# Any sequence of writes.

Model: TypeAlias = "dict[str, bytes | dict[bytes, bytes] | list[bytes]]"

KEYS = st.sampled_from(["k1", "k2", "k3"])
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.text(max_size=3).filter(lambda text: text.isprintable()), st.binary())
FIELDS = st.dictionaries(NAMES, VALUES, max_size=3)
ITEMS = st.lists(VALUES, max_size=4)
WRITES: st.SearchStrategy[Write] = st.one_of(
    st.builds(PutText, KEYS, VALUES),
    st.builds(PutHash, KEYS, FIELDS),
    st.builds(PatchHash, KEYS, FIELDS, st.lists(NAMES, max_size=2)),
    st.builds(PutList, KEYS, ITEMS),
    st.builds(AppendList, KEYS, ITEMS, st.integers(-1, 5)),
    st.builds(Drop, KEYS),
)


def encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def modelled(state: Model, writes: Sequence[Write]) -> Model | None:
    """What the writes make of the state; None: one of them doesn't fit. As naive as it gets."""
    state = {
        key: value if isinstance(value, bytes) else value.copy() for key, value in state.items()
    }
    kinds: dict[str, type] = {key: type(value) for key, value in state.items()}
    for write in writes:
        key = write.key
        if isinstance(write, Drop):
            kinds.pop(key, None)
            state.pop(key, None)
            continue
        needed: dict[type, type] = {PutText: bytes, PutHash: dict, PatchHash: dict}
        kind = needed.get(type(write), list)
        if kinds.get(key, kind) is not kind:
            return None
        old = state.get(key)
        new: bytes | dict[bytes, bytes] | list[bytes]
        filled = True
        if isinstance(write, PutText):
            new = encoded(write.text)
        elif isinstance(write, PutHash | PatchHash):
            new = old if isinstance(old, dict) and isinstance(write, PatchHash) else {}
            new |= {encoded(name): encoded(value) for name, value in write.fields.items()}
            filled = bool(write.fields) or (isinstance(write, PatchHash) and key in kinds)
            for name in write.remove if isinstance(write, PatchHash) else ():
                new.pop(encoded(name), None)
        else:
            keep = max(write.keep, 0) if isinstance(write, AppendList) else len(write.items)
            new = old if isinstance(old, list) and isinstance(write, AppendList) else []
            new = (new + [encoded(item) for item in write.items])[-keep:] if keep else []
            held = isinstance(write, AppendList) and key in kinds
            filled = bool(keep) and (bool(write.items) or held)
        state[key] = new
        kinds[key] = kind
        if not filled:
            del kinds[key]
        if not new and not isinstance(new, bytes):
            del state[key]
    return state


EXAMPLES = count()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=st.lists(st.lists(WRITES, max_size=6), min_size=1, max_size=6))
async def test_any_writes(world: World, batches: list[list[Write]]) -> None:
    """Any sequence of commits leaves the same typed keys in every store as in a naive model."""
    store = world.stores[0] if world.stores else await world.opened("p1")
    owner = await owner_of(store, ActorKey("session", str(next(EXAMPLES))))
    keys = ["k1", "k2", "k3"]
    await owner.commit(*(Drop(key) for key in keys))
    model: Model = {}
    for writes in batches:
        expected = modelled(model, writes)
        outcome = await owner.commit(*writes)
        assert isinstance(outcome, BadType if expected is None else Done)
        model = model if expected is None else expected
        assert list(await store.read(keys)) == [model.get(key) for key in keys]
