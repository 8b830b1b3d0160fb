"""The connection that the loop serves: pipelined, cut off in the middle, closed by others."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
import redis
import redis.connection
from redis.credentials import UsernamePasswordCredentialProvider
from tests.stores.servers import ACTOR, Server, owned, write

from gamegirl.actors import PutText, StoreUnavailableError
from gamegirl.supervisor.stores import (
    ActorKey,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Outcome,
    Process,
    RedisStore,
)
from gamegirl.supervisor.stores._redis_wire import Wire

pytestmark = pytest.mark.anyio

PARSERS: Any = redis.connection


async def test_commits_need_no_thread(server: Server) -> None:
    """On a real connection the loop itself commits, however many batches are under way."""
    store = RedisStore(server.url)
    claim = await owned(store)
    commits = [write(claim)]
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.commit, commits)
    assert list(await store.commit(commits)) == [Done(again=True)]
    assert not store.threaded
    await store.aclose()


async def test_a_large_batch_is_sent_while_its_answers_come(server: Server) -> None:
    """A request that is larger than what a socket takes goes out bit by bit, in order."""
    store = RedisStore(server.url)
    await store.open(Process("p1"), 60.0)
    actors = [ActorKey("session", str(index)) for index in range(200)]
    claims = await store.claim([Claim(actor, [], "n") for actor in actors])
    text = "x" * 100_000
    commits = [
        Commit(actor, claim.owner, 1, "c", writes=[PutText(f"gg:{actor.actor_id}", text)])
        for actor, claim in zip(actors, claims, strict=True)
        if isinstance(claim, Claimed)
    ]
    outcomes: list[Outcome] = []

    async def commit(portion: Sequence[Commit]) -> None:
        outcomes.extend(await store.commit(portion))

    async with anyio.create_task_group() as tasks:
        for start in range(0, len(commits), 50):
            tasks.start_soon(commit, commits[start : start + 50])
    assert outcomes == [Done()] * 200
    assert {len(cast("bytes", held)) for held in await store.read(["gg:0", "gg:199"])} == {100_000}
    await store.aclose()


async def test_a_cancelled_commit_leaves_the_connection_as_it_is(server: Server) -> None:
    """Whoever is cancelled gets no answer, and nobody else gets theirs."""
    store = RedisStore(server.url)
    claim = await owned(store)
    await store.commit([write(claim)])
    with server.client() as client:
        connections = len(client.client_list())
        client.client_pause(50)
        with anyio.move_on_after(0.001):
            await store.commit([write(claim)])
            pytest.fail("it was answered by a server that pauses")
        (outcome,) = await store.commit([Commit(ACTOR, claim.owner, 7, "later")])
        assert outcome == Conflict(1)
        assert len(client.client_list()) == connections
    await store.aclose()


async def test_a_claim_that_is_refused_takes_no_commit_along(server: Server) -> None:
    """A transaction that a full server refuses is over; who is behind it gets an own answer."""
    store = RedisStore(server.url)
    claim = await owned(store)
    await store.commit([write(claim)])
    with server.client() as client:
        connections = client.info("stats")["total_connections_received"]
        client.config_set("maxmemory", 1)

        async def refused(call: Callable[[Any], Awaitable[object]], what: object) -> None:
            with pytest.raises(StoreUnavailableError, match="maxmemory"):
                await call([what])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refused, store.claim, Claim(ACTOR, [], "n"))
            tasks.start_soon(refused, store.commit, write(claim, 2))
        client.config_set("maxmemory", 0)
        assert client.info("stats")["total_connections_received"] == connections
    await store.aclose()


async def test_a_host_may_close_its_own_client(server: Server) -> None:
    """What becomes of its pool is no matter of the connection for commits, nor are its limits."""
    with server.client(max_connections=1) as client:
        store = RedisStore(client)
        claim = await owned(store)
        for _ in range(3):
            client.connection_pool.disconnect()
            (outcome,) = await store.commit([write(claim)])
            assert isinstance(outcome, Done)
            assert await store.renew()
        assert not store.threaded
        await store.aclose()


async def connections_of(store: RedisStore, admin: Any) -> int:
    """How many connections claims and commits make once the first of each are made."""
    claim = await owned(store)
    assert list(await store.commit([write(claim)])) == [Done()]
    made: int = admin.info("stats")["total_connections_received"]
    for revision in range(2, 12):
        assert list(await store.commit([write(claim, revision)])) == [Done()]
        await store.claim([Claim(ActorKey("session", f"c{revision}"), [], "n")])
    made_since: int = admin.info("stats")["total_connections_received"] - made
    return made_since


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"protocol": 3},
        {"protocol": 3, "parser_class": PARSERS._RESP3Parser},
        {"protocol": 3, "parser_class": PARSERS._RESP2Parser},
        {"credential_provider": UsernamePasswordCredentialProvider("default", "any")},
    ],
    ids=["as they are made", "protocol 3", "its parser", "another parser", "a login of their own"],
)
async def test_clients_of_protocol_3_are_served_by_the_loop_too(
    redis_url: str, options: dict[str, Any]
) -> None:
    """Their connections for commits speak protocol 2, whatever the client's speak."""
    connect = cast("Any", redis.Redis).from_url
    with connect(redis_url, **options) as client, connect(redis_url) as admin:
        store = RedisStore(client)
        assert await connections_of(store, admin) == 0
        assert not store.threaded
        assert await store.renew()
        await store.aclose()


def only_protocol_3(**options: Any) -> Any:
    """A connection of a host's own, which speaks what it speaks."""
    return cast("Any", redis.UnixDomainSocketConnection)(**options | {"protocol": 3})


def knows_no_protocol(*, path: str, himport_registry: object = None) -> Any:
    """One that can't be told which protocol to speak."""
    return cast("Any", redis.UnixDomainSocketConnection)(path)


@pytest.mark.parametrize("connection_class", [only_protocol_3, knows_no_protocol])
async def test_that_connections_do_not_fit_is_remembered(
    server: Server, connection_class: Callable[..., Any]
) -> None:
    """Clients that can't be had with protocol 2 commit in threads, on their pool's connections."""
    make_pool = cast("Any", redis.ConnectionPool)
    pool = make_pool(connection_class=connection_class, path=str(server.socket))
    with redis.Redis(connection_pool=pool) as client, server.client() as admin:
        store = RedisStore(client)
        assert await connections_of(store, admin) == 0
        assert store.threaded
        await store.aclose()


async def test_it_is_found_out_anew_at_each_opening_whether_connections_fit(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was in the way is remembered no longer than a store is open."""

    def unfit(_: object) -> bool:
        return False

    store = RedisStore(server.url)
    monkeypatch.setattr(Wire, "fits", unfit)
    await owned(store)
    assert store.threaded
    monkeypatch.undo()
    await owned(store)
    assert not store.threaded
    await store.aclose()


async def test_an_answer_may_take_long_as_long_as_it_comes() -> None:
    """It is silence that ends a connection, not an answer of many parts, nor who waits before."""
    ours, theirs = socket.socketpair()
    wire = Wire(SimpleNamespace(_sock=ours), 0.2)
    answers: list[Any] = []

    async def ask() -> None:
        answers.extend(await wire.exchange([((b"PING",), 1)]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        for part in (b"*2\r\n", b"$1\r\n", b"a\r\n", b"$1\r\n", b"b\r\n", b":", b"7\r\n"):
            await anyio.sleep(0.1)  # Not to wait for something: to be slow.
            theirs.send(part)
    assert answers == [[[b"a", b"b"]], [7]]
    with pytest.raises(TimeoutError):
        await wire.exchange([((b"PING",), 1)])
    assert not wire.alive
    await wire.aclose()
    theirs.close()


async def test_what_an_answer_leads_to_goes_before_the_next_answer() -> None:
    """If asked for, and both have come together: whoever the first caller wakes runs first."""
    ours, theirs = socket.socketpair()
    wire = Wire(SimpleNamespace(_sock=ours), 5.0)
    woken, order = anyio.Event(), list[str]()

    async def wait() -> None:
        await woken.wait()
        order.append("woken by the first")

    async def first() -> None:
        await wire.exchange([((b"PING",), 1)], first=True)
        order.append("first")
        woken.set()

    async def second() -> None:
        await wire.exchange([((b"PING",), 1)])
        order.append("second")

    async with anyio.create_task_group() as tasks:
        for one in (wait, first, second):
            tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
        theirs.send(b":7\r\n" * 2)
    assert order == ["first", "woken by the first", "second"]
    await wire.aclose()
    theirs.close()


async def together(
    answers: bytes, *, calls: int, seconds: float, then: Callable[[Wire, int], Any]
) -> tuple[dict[int, object], Wire]:
    """Calls whose answers come in one go, and what each was told.

    Args:
        answers: As the server sends them.
        calls: So many are under way.
        seconds: The connection's patience.
        then: What each caller does as soon as it goes on.
    """
    ours, theirs = socket.socketpair()
    wire = Wire(SimpleNamespace(_sock=ours), seconds)
    told: dict[int, object] = {}

    async def call(number: int) -> None:
        try:
            told[number] = await wire.exchange([((b"PING",), 1)], first=True)
        except (OSError, ConnectionError) as error:
            told[number] = error
        await then(wire, number)

    async with anyio.create_task_group() as tasks:
        for number in range(calls):
            tasks.start_soon(call, number)
        await anyio.wait_all_tasks_blocked()
        theirs.send(answers)
    theirs.close()
    return told, wire


def _answered(calls: int) -> dict[int, object]:
    return {number: [[7]] for number in range(calls)}


async def test_an_answer_that_has_come_is_given_whatever_becomes_of_the_connection() -> None:
    """The first of those whose answers came together finds it broken; the others have theirs."""

    async def breaks(wire: Wire, _: int) -> None:
        wire.fail(BrokenPipeError(32, "Broken pipe"))

    told, wire = await together(b":7\r\n" * 4, calls=4, seconds=5.0, then=breaks)
    assert told == _answered(4)
    assert not wire.alive
    await wire.aclose()


async def test_who_has_an_answer_does_not_take_the_connection_for_silent() -> None:
    """However long those take who are given theirs before."""

    async def computes(_: Wire, __: int) -> None:
        time.sleep(0.1)  # noqa: ASYNC251 - the loop stands still, as with a heavy host

    told, wire = await together(b":7\r\n" * 12, calls=12, seconds=0.4, then=computes)
    assert told == _answered(12)
    await wire.aclose()


async def test_an_answer_that_nobody_asked_for_is_not_given_to_who_asks_next() -> None:
    """Who asks while the others are given theirs would get it, and so on for ever."""
    later: list[object] = []

    async def asks_again(wire: Wire, _: int) -> None:
        if not later:
            later.append("asks")
            try:
                later.append(await wire.exchange([((b"PING",), 1)]))
            except ConnectionError as error:
                later.append(str(error))

    told, wire = await together(b":7\r\n" * 3, calls=2, seconds=5.0, then=asks_again)
    assert told == _answered(2)
    assert later == ["asks", "it answered what nobody had asked"]
    await wire.aclose()


@pytest.mark.parametrize("size", [3, 300, 5000], ids=["few", "many", "more than sendmsg takes"])
async def test_parts_arrive_whole_and_in_order(size: int) -> None:
    """Also if the system takes only some of them, and others are sent meanwhile."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wire = Wire(SimpleNamespace(_sock=ours), 5.0)
    calls = [[bytes((call,)) * (300_000 // size) for _ in range(size)] for call in range(3)]
    arrived = bytearray()

    async def ask(parts: list[bytes]) -> None:
        assert await wire.exchange([(parts[:1], 1), (parts[1:], 1)]) == [[7], [7]]

    theirs.setblocking(False)
    async with anyio.create_task_group() as tasks:
        for parts in calls:
            tasks.start_soon(ask, parts)
        while len(arrived) < 900_000:
            await anyio.wait_readable(theirs)
            arrived += theirs.recv(1 << 16)
        theirs.send(b":7\r\n" * 2 * len(calls))
    # Who comes first is the host's choice; nobody comes in between.
    found = [bytes(arrived[start : start + 300_000]) for start in (0, 300_000, 600_000)]
    assert sorted(found) == [b"".join(parts) for parts in calls]
    await wire.aclose()
    theirs.close()


async def test_a_command_that_is_sent_in_part_for_want_of_memory_ends_its_connection() -> None:
    """What is sent after it would be taken for the rest of it."""

    class Full(deque[Any]):
        def append(self, _: Any) -> None:
            raise MemoryError

    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    wire = Wire(SimpleNamespace(_sock=ours), 5.0)
    wire._unsent = Full()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(MemoryError):
        await wire.exchange([((b"x" * 300_000,), 1)])
    assert not wire.alive
    with pytest.raises(ConnectionError, match="not all could be sent"):
        await wire.exchange([((b"PING",), 1)])
    await wire.aclose()
    theirs.close()
