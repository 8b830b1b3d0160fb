"""What the Redis store makes of what can go wrong with a real server."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.to_thread
import fakeredis
import pytest
import redis
import redis.asyncio
from tests.stores.servers import (
    ACTOR,
    Server,
    StoreCall,
    claim_again,
    commit,
    owned,
    renew,
    write,
)

from gamegirl.actors import (
    Fate,
    InvalidInputError,
    PatchHash,
    PutList,
    PutText,
    StoreUnavailableError,
    WrongType,
)
from gamegirl.supervisor.stores import (
    ActorKey,
    BadType,
    Broken,
    Claim,
    Claimed,
    Commit,
    Done,
    Owned,
    Process,
    RedisStore,
    _redis_exchange,
)
from gamegirl.supervisor.stores._redis_wire import Wire

pytestmark = pytest.mark.anyio


async def test_an_epoch_that_can_grow_no_further(server: Server) -> None:
    """It is named like any other that is no use, and doesn't pass for a store that is away."""
    with server.client() as client:
        client.set("gg:epoch", str(2**63 - 1))
        store = RedisStore(server.url)
        await store.open(Process("p1"), 60.0)
        (broken,) = await store.claim([Claim(ACTOR, [], "n")])
        assert isinstance(broken, Broken)
        assert "gg:epoch" in broken.reason
        assert client.get("gg:epoch") == str(2**63 - 1).encode()
    await store.aclose()


async def test_a_password_that_was_changed_is_named_for_long_commands_too(server: Server) -> None:
    """A server answers those of strangers with a protocol error."""
    store = RedisStore(server.url)
    claim = await owned(store)
    with server.client() as client:
        client.config_set("requirepass", "another")
        for found in client.client_list():
            if int(found["id"]) != client.client_id():
                client.client_kill_filter(_id=found["id"])
        with pytest.raises(StoreUnavailableError, match="refuses our user or password"):
            await store.commit([write(claim)])
        client.config_set("requirepass", "")
        assert list(await store.commit([write(claim)])) == [Done()]
    await store.aclose()


async def test_types_that_we_never_write(server: Server) -> None:
    """A foreign set or stream is named, not misread, and no write touches it."""
    with server.client() as client:
        client.sadd("set", "x")
        client.xadd("stream", {"a": "b"})
    store = RedisStore(server.url)
    claim = await owned(store)
    assert list(await store.read(["set", "stream"])) == [WrongType("set"), WrongType("stream")]
    (again,) = await store.claim([Claim(ACTOR, ["set"], "n")])
    assert isinstance(again, Claimed)
    assert list(again.stored) == [WrongType("set")]
    commit = Commit(ACTOR, again.owner, 1, "c", [PutText("t", "x"), PatchHash("set", {"a": "b"})])
    assert list(await store.commit([commit])) == [BadType("set", "set")]
    assert list(await store.read(["t"])) == [None]
    assert claim.owner != again.owner
    await store.aclose()


async def test_out_of_memory(server: Server) -> None:
    """A full server is unavailable, says what to do, and has written no half of a commit."""
    store = RedisStore(server.url)
    claim = await owned(store)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailableError, match="maxmemory"):
            await store.commit([write(claim)])
        with pytest.raises(StoreUnavailableError, match="maxmemory"):
            await store.claim([Claim(ACTOR, [], "n")])
        client.config_set("maxmemory", 0)
    assert list(await store.commit([write(claim)])) == [Done()]
    await store.aclose()


async def test_refusing_servers(server: Server) -> None:
    """Replicas, servers without replicas and servers that can't save are unavailable."""
    store = RedisStore(server.url)
    claim = await owned(store)
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(StoreUnavailableError, match="min-replicas-to-write"):
            await store.commit([write(claim)])
        client.config_set("min-replicas-to-write", 0)
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailableError, match="read-only replica"):
            await store.commit([write(claim)])
        client.replicaof("NO", "ONE")
    assert list(await store.commit([write(claim)])) == [Done()]
    await store.aclose()


async def test_wrong_password(server: Server) -> None:
    """A refused login is unavailable, was not executed, and shows no password anywhere."""
    with server.client() as client:
        client.acl_setuser(
            "ana", enabled=True, passwords=["+right"], keys=["*"], categories=["+@all"]
        )
    wrong = RedisStore(f"unix://ana:s3cret@{server.socket}")
    with pytest.raises(StoreUnavailableError, match="user or password") as caught:
        await wrong.open(Process("p1"), 60.0)
    assert caught.value.fate is Fate.NOT_EXECUTED
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {wrong!r}"
    await wrong.aclose()
    right = RedisStore(f"unix://ana:right@{server.socket}")
    assert list(await right.commit([write(await owned(right))])) == [Done()]
    await right.aclose()


async def test_missing_permission(server: Server) -> None:
    """A user who may not write our keys is told which rights are missing."""
    with server.client() as client:
        client.acl_setuser("ana", enabled=True, nopass=True, keys=["*"], categories=["+@all"])
        store = RedisStore(f"unix://ana:any@{server.socket}")
        claim = await owned(store)
        client.acl_setuser("ana", True, reset_keys=True, keys=["gg:*"], categories=["+@all"])
        with pytest.raises(StoreUnavailableError, match=r"lacks ~game:index ~game:session:\* ~sg:"):
            await store.commit([write(claim)])
        client.acl_setuser("ana", True, reset_keys=True, keys=["*"], commands=["-script"])
        client.script_flush()
        with pytest.raises(StoreUnavailableError, match=r"lacks \+script\|load:"):
            await store.commit([write(claim)])
        client.acl_setuser("ana", True, reset_keys=True, keys=["gg:*", "game:*", "sg:*"])
        client.acl_setuser("ana", True, categories=["+@all"])
        with pytest.raises(StoreUnavailableError, match="may not do that: give it the ACL rule"):
            await store.commit([write(claim)])
    await store.aclose()


async def test_forgotten_scripts(server: Server) -> None:
    """A server that has lost our scripts gets them again within the same call."""
    store = RedisStore(server.url)
    await store.open(Process("p1"), 60.0)
    actors = [ActorKey("session", str(index)) for index in range(200)]
    with server.client() as client:
        client.script_flush()
        claims = await store.claim([Claim(actor, [], "n") for actor in actors])
        client.script_flush()
        outcomes = await store.commit(
            [
                Commit(actor, claim.owner, 1, "c", [PutList(actor.actor_id, ["x"])])
                for actor, claim in zip(actors, claims, strict=True)
                if isinstance(claim, Claimed)
            ]
        )
        assert list(outcomes) == [Done()] * 200
        client.script_flush()
        assert list(await store.read(["1", "199"])) == [[b"x"], [b"x"]]
    await store.aclose()


async def test_server_goes_and_comes_back(server: Server) -> None:
    """While the server is away calls fail at once; when it is back the same store goes on."""
    store = RedisStore(server.url)
    claim = await owned(store)
    server.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="no connection") as caught:
            await store.commit([write(claim)])
        assert caught.value.fate is Fate.NOT_EXECUTED
    server.start()
    claim = await owned(store)
    assert list(await store.commit([write(claim)])) == [Done()]
    server.stop()
    await store.aclose()


async def test_server_that_hangs(server: Server) -> None:
    """An answer that doesn't come in time leaves the commit in doubt, and a resend settles it."""
    store = RedisStore(server.url, timeout_seconds=0.2)
    claim = await owned(store)
    with server.client() as client:
        client.client_pause(600)
        with pytest.raises(StoreUnavailableError, match="in time") as caught:
            await store.commit([write(claim)])
        assert caught.value.fate is Fate.IN_DOUBT
        client.client_unpause()
    (outcome,) = await store.commit([write(claim)])
    assert isinstance(outcome, Done)
    await store.aclose()


async def test_busy_server(server: Server) -> None:
    """A server that is caught in somebody's script is unavailable until that ends."""
    store = RedisStore(server.url)
    claim = await owned(store)
    with server.client() as client, server.client() as other:
        client.config_set("lua-time-limit", 1)

        def loop() -> None:
            with pytest.raises(redis.ResponseError):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            with anyio.fail_after(5):
                while True:
                    try:
                        client.ping()
                    except redis.ResponseError:
                        break
                    await anyio.sleep(0.01)
            with pytest.raises(StoreUnavailableError, match="SCRIPT KILL"):
                await store.commit([write(claim)])
        finally:
            client.script_kill()
            thread.join()
    await store.aclose()


async def test_renewal_does_not_queue_behind_commits(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is renewed while a batch of commits is still under way, also in threads."""

    def unfit(_: object) -> bool:
        return False

    monkeypatch.setattr(Wire, "fits", unfit)
    store = RedisStore(server.url)
    claim = await owned(store)
    started, go_on = threading.Event(), threading.Event()
    exchange = _redis_exchange.exchange

    def slow(pool: Any, doing: str, requests: Any) -> Any:
        if doing == "commit":
            started.set()
            go_on.wait(10)
        return exchange(pool, doing, requests)

    monkeypatch.setattr(_redis_exchange, "exchange", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.commit, [write(claim)])
        assert await anyio.to_thread.run_sync(started.wait, 5)
        with anyio.fail_after(5):
            await store.renew()
        go_on.set()
    await store.aclose()


async def test_foreign_due_index(server: Server) -> None:
    """Commits say so if the due index is something else, before anything is written."""
    store = RedisStore(server.url)
    claim = await owned(store)
    with server.client() as client:
        client.set("gg:due", "x")
        with pytest.raises(StoreUnavailableError, match="gg:due"):
            await store.commit([write(claim)])
        client.delete("gg:due")
        client.zadd(
            "gg:due", {"no actor": 1, ":x": 1, "session:%zz": 1, b"\xff:1": 1, "session:7": 2}
        )
    assert [due.actor.actor_id for due in await store.due(5.0)] == ["7"]
    assert list(await store.read(["t"])) == [None]
    await store.aclose()


async def test_lease_without_an_end(server: Server) -> None:
    """A lease key that somebody made without a time to live still counts as alive."""
    store = RedisStore(server.url)
    await owned(store)
    other = RedisStore(server.url)
    await other.open(Process("p2"), 60.0)
    with server.client() as client:
        client.persist("gg:lease:p1")
    (found,) = await other.claim([Claim(ACTOR, [], "n")])
    assert isinstance(found, Owned)
    assert (found.owner.partition(":")[2], found.lease_seconds) == ("n:p1", 1.0)
    await store.aclose()
    await other.aclose()


async def test_server_over_tcp(redis_url: str) -> None:
    """A `redis://` URL with options of its own works."""
    store = RedisStore(f"{redis_url}?socket_timeout=5&decode_responses=True&protocol=3")
    assert list(await store.commit([write(await owned(store))])) == [Done()]
    assert list(await store.read(["t"])) == [b"x"]
    await store.aclose()


@pytest.mark.parametrize(
    "answer", [b"+OK\r\n", b"*1\r\n:7\r\n", b"*2\r\n:1\r\n:1\r\n", b"$-1\r\n", b"?"]
)
async def test_answers_that_nobody_understands(answer: bytes) -> None:
    """A server that talks nonsense is unavailable, too."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # The listener is closed once nobody comes any more.
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    while data := connection.recv(65536):
                        # redis-py introduces itself first.
                        lines = data.count(b"SETINFO")
                        connection.sendall(b"+OK\r\n" * lines if lines else answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    store = RedisStore(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.5)
    claim = Claimed("1:n:p1", None, 0, "", [])
    with pytest.raises(StoreUnavailableError) as caught:
        await store.commit([write(claim)])
    assert caught.value.fate is Fate.IN_DOUBT
    with pytest.raises(StoreUnavailableError):
        await store.read(["t"])
    with pytest.raises(StoreUnavailableError):
        store._understood(lambda: int("x"))  # pyright: ignore[reportPrivateUsage]
    await store.aclose()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


async def test_claim_answers_that_nobody_understands(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer to a claim that is none raises instead of claiming something."""
    store = RedisStore(server.url)
    await owned(store)

    async def nonsense(*_: object, **__: object) -> Any:
        return [[b"OK", b"QUEUED", [[[b"?"]]]]]

    monkeypatch.setattr(Wire, "exchange", nonsense)
    with pytest.raises(StoreUnavailableError, match="understands"):
        await store.claim([Claim(ACTOR, [], "n")])
    monkeypatch.undo()
    await store.aclose()


async def test_client_of_the_host() -> None:
    """A client that the host made is used, and stays open when the store closes."""
    client: Any = fakeredis.FakeRedis()
    store = RedisStore(client)
    assert repr(store) == "RedisStore(<a client>)"
    assert list(await store.commit([write(await owned(store))])) == [Done()]
    await store.aclose()
    assert client.get("t") == b"x"
    assert client.keys("gg:lease:*") == []
    client.close()


async def test_clients_that_cannot_be_used() -> None:
    """A client that decodes, or is asynchronous, is refused with what to do instead."""
    decoding = redis.Redis(decode_responses=True)
    asynchronous: Any = redis.asyncio.Redis()
    nothing: Any = None
    with pytest.raises(InvalidInputError, match="decode_responses"):
        RedisStore(decoding)
    with pytest.raises(InvalidInputError, match="synchronous"):
        RedisStore(asynchronous)
    with pytest.raises(InvalidInputError, match="synchronous"):
        RedisStore(nothing)


@pytest.mark.parametrize(
    "url", ["redis://u:s3cret@host:port/0", "http://u:s3cret@h/0", "redis://u:s3cret@[h/0"]
)
async def test_urls_that_cannot_be_used(url: str) -> None:
    """A URL that isn't one is refused without showing its password."""
    with pytest.raises(InvalidInputError, match="URL of a Redis") as caught:
        RedisStore(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:s3cret@host:1/2", "redis://u:***@host:1/2"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("redis://u@host/0?password=s3cret", "redis://u@host/0"),
        ("rediss://host/0", "rediss://host/0"),
    ],
)
async def test_repr_shows_no_password(url: str, shown: str) -> None:
    """A store can be logged."""
    store = RedisStore(url)
    assert repr(store) == f"RedisStore({shown!r})"
    await store.aclose()


async def test_broken_is_told_apart_by_key(server: Server) -> None:
    """A commit that meets a text where its fence should be says which key that is."""
    store = RedisStore(server.url)
    claim = await owned(store)
    with server.client() as client:
        client.set(ACTOR.fence, "x")
    (outcome,) = await store.commit([write(claim)])
    assert isinstance(outcome, Broken)
    assert ACTOR.fence in outcome.reason
    assert os.fspath(server.socket) not in outcome.reason
    await store.aclose()


async def test_a_restarted_server_or_a_lost_lease_shows_at_the_next_renewal(
    redis_url: str,
) -> None:
    """`renew` says whether the store has known the process all the time."""
    store = RedisStore(redis_url)
    await store.open(Process("p", ""), 5.0)
    assert await store.renew()
    with redis.Redis.from_url(redis_url) as client:  # pyright: ignore[reportUnknownMemberType]
        client.delete("gg:lease:p")
    assert not await store.renew()
    assert await store.renew()
    store._server = b"0" * 40  # pyright: ignore[reportPrivateUsage] - as after a restart
    assert not await store.renew()
    assert await store.renew()
    await store.aclose()


async def test_after_a_restart_the_living_have_time_to_renew_their_leases(redis_url: str) -> None:
    """A server that has lost a lease doesn't make its process dead: nobody takes over at once."""
    owner, other = RedisStore(redis_url), RedisStore(redis_url)
    await owner.open(Process("p1"), 0.5)
    await other.open(Process("p2"), 0.5)
    await owner.claim([Claim(ACTOR, [], "n")])
    client: Any = cast(Any, redis.Redis).from_url(redis_url, protocol=2)
    client.delete("gg:lease:p1")
    other._server = b"0"  # pyright: ignore[reportPrivateUsage]  # What a restart looks like.
    (first,) = await other.claim([Claim(ACTOR, [], "n2")])
    assert await other.renew() is False
    (second,) = await other.claim([Claim(ACTOR, [], "n2")])
    assert isinstance(first, Owned)
    assert isinstance(second, Owned)
    assert 0 < second.lease_seconds <= first.lease_seconds == 0.5
    with anyio.fail_after(5):
        while isinstance(second, Owned):
            await anyio.sleep(second.lease_seconds)
            (second,) = await other.claim([Claim(ACTOR, [], "n2")])
    client.close()
    await owner.aclose()
    await other.aclose()


@pytest.mark.parametrize(
    ("call", "connected"),
    [(commit, True), (commit, False), (claim_again, True), (claim_again, False), (renew, True)],
)
async def test_a_client_that_waits_for_ever_is_not_waited_for(
    server: Server, call: StoreCall, connected: bool
) -> None:
    """The store's own timeout ends a silence if the host's client has none."""
    with server.client(socket_timeout=None, socket_connect_timeout=None) as client:
        store = RedisStore(client, timeout_seconds=0.2)
        claim = await owned(store)
        with server.client() as admin:
            if not connected:
                admin.client_kill_filter(_type="normal", skipme=True)
            admin.client_pause(600)
            with pytest.raises(StoreUnavailableError, match="in time"):
                await call(store, claim)
            admin.client_unpause()  # Is itself answered only then.
        await call(store, claim)
        await store.aclose()


async def test_a_server_that_takes_a_connection_and_never_answers_is_not_waited_for() -> None:
    """Connecting has the store's timeout, too, where the host's client has none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with redis.Redis(port=port, socket_timeout=None, socket_connect_timeout=None) as client:
            store = RedisStore(client, timeout_seconds=0.1)
            with anyio.fail_after(5), pytest.raises(StoreUnavailableError):
                await store.open(Process("p"), 5.0)
            await store.aclose()


async def test_a_host_that_waits_on_its_own_client_waits_as_long_as_it_likes(
    server: Server,
) -> None:
    """Connections that the store has used go back as they were, without a timeout."""
    with server.client(socket_timeout=None) as client:
        store = RedisStore(client, timeout_seconds=0.1)
        await owned(store)
        made = client.info("stats")["total_connections_received"]
        assert client.blpop(["nothing"], timeout=0.3) is None
        # Where it had a timeout, the client would have tried again on another one.
        assert client.info("stats")["total_connections_received"] == made
        await store.aclose()
