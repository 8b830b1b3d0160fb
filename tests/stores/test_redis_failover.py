"""Another server becomes the primary, and the one before lives on as a replica, with its clients.

As behind a service's name or a proxy: who connects anew comes to the new primary, who is connected
stays with the old one, which reads as before and refuses to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from tests.stores.servers import (
    ACTOR,
    Server,
    StoreCall,
    claim_again,
    commit,
    owned,
    renew,
)

from gamegirl.actors import StoreUnavailableError
from gamegirl.supervisor.stores import Claim, Claimed, Process, RedisStore, _redis, _redis_errors
from gamegirl.supervisor.stores._redis_wire import Wire

pytestmark = pytest.mark.anyio


class Service:
    """A name that leads to one of two servers.

    Attributes:
        url: The name.
        old: The primary at first.
        new: The primary once there was a failover.
    """

    def __init__(self, old: Server, new: Server, name: Path) -> None:
        self.old, self.new = old, new
        self.name = name
        self.url = f"unix://{name}"
        name.symlink_to(old.socket)

    def client(self) -> Any:
        """A client of the host's own, of whoever is the primary when it connects."""
        return cast("Any", redis.Redis)(unix_socket_path=str(self.name), protocol=2)

    def fail_over(self) -> None:
        with self.old.client() as client:
            client.replicaof("127.0.0.1", 1)
        self.name.unlink()
        self.name.symlink_to(self.new.socket)


@pytest.fixture
def service(server: Server, tmp_path: Path) -> Iterator[Service]:
    """Two servers, and what leads to the first of them."""
    folder = tmp_path / "new"
    folder.mkdir()
    new = server.sibling(folder)
    new.start()
    yield Service(server, new, tmp_path / "name")
    new.stop()


@pytest.mark.parametrize("threaded", [False, True], ids=["by the loop", "by a thread"])
async def test_a_refused_claim_goes_to_the_new_primary_next_time(
    service: Service, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its script says in the middle of a text that the server is a replica now."""

    def fits(_: object) -> bool:
        return not threaded

    monkeypatch.setattr(Wire, "fits", fits)
    store = RedisStore(service.url)
    await owned(store)
    service.fail_over()
    with pytest.raises(StoreUnavailableError, match="read-only replica"):
        await store.claim([Claim(ACTOR, [], "n")])
    (claimed,) = await store.claim([Claim(ACTOR, [], "n")])
    assert isinstance(claimed, Claimed)
    with service.new.client() as client:
        assert client.exists(ACTOR.fence)
    await store.aclose()


async def test_the_lease_is_renewed_at_the_new_primary(service: Service) -> None:
    """The second renewal after a failover is there; two of three may fail before a lease ends."""
    store = RedisStore(service.url)
    await store.open(Process("p1"), 60.0)
    service.fail_over()
    with suppress(StoreUnavailableError):
        await store.renew()
    assert not await store.renew(), "another server has not known the process all the time"
    with service.new.client() as client:
        assert client.pttl("gg:lease:p1") > 0
    await store.aclose()


@pytest.mark.parametrize("refused", [commit, claim_again, renew])
async def test_nothing_is_read_from_a_replica_once_one_refusal_was_seen(
    service: Service, refused: StoreCall
) -> None:
    """Connections that were idle or another kind meanwhile lead to the new primary, too."""
    with service.client() as client:
        store = RedisStore(client)
        claim = await owned(store)
        pool = client.connection_pool
        idle = [pool.get_connection() for _ in range(3)]
        for connection in idle:
            pool.release(connection)
        service.fail_over()
        with service.new.client() as admin:
            admin.set("gg:new", "x")
            admin.zadd("gg:due", {"session:new": 1})
        assert list(await store.read(["gg:new"])) == [None], "it reads from the replica until then"
        with pytest.raises(StoreUnavailableError, match="read-only replica"):
            await refused(store, claim)
        assert list(await store.read(["gg:new"])) == [b"x"]
        waiting = [pool.get_connection() for _ in range(3)]
        while waiting:  # Each of them is the only idle one once.
            pool.release(waiting.pop())
            assert [due.actor.actor_id for due in await store.due(5.0)] == ["new"]
            assert [entry.value for entry in await store.entries(["gg:new"])] == [b"x"]
            names = [name async for batch in store.scan("gg:new") for name in batch]
            assert names == ["gg:new"]
            pool.get_connection()
        await store.aclose()


async def test_a_listing_does_not_go_on_at_another_server(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would leave names out; so it ends, and says that it has to be made again."""
    monkeypatch.setattr(_redis, "_PAGE", 1)
    store = RedisStore(service.url)
    await store.open(Process("p1"), 60.0)
    for server in (service.old, service.new):
        with server.client() as client:
            client.mset({f"gg:{index}": "x" for index in range(100)})
    listing = store.scan("gg:")
    await anext(listing)
    service.fail_over()
    with pytest.raises(StoreUnavailableError, match="read-only replica"):
        await store.renew()
    with pytest.raises(StoreUnavailableError, match="list them again"):
        async for _ in listing:
            pass
    assert len({name async for batch in store.scan("gg:") for name in batch}) == 100
    await store.aclose()


@pytest.mark.parametrize(
    ("answer", "elsewhere"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError("READONLY You can't write against a read only replica."), True),
        (ResponseError("user_script:59: READONLY You can't write … script: a3, on @user_s…"), True),
        (ResponseError("ERR Error running script (call to f_a): @user_script:59: "
                       "@user_script: 9: -READONLY You can't write …"), True),
        (ResponseError("MASTERDOWN Link with MASTER is down and …"), True),
        (MasterDownError("Link with MASTER is down and …"), True),
        (ResponseError("EXECABORT Transaction discarded because of previous errors."), False),
        (ResponseError("WRONGTYPE Operation against a key …"), False),
        (b"READONLY", False),
    ],
)  # fmt: skip
def test_what_says_that_another_server_is_the_primary(answer: Any, elsewhere: bool) -> None:
    """The code word does, wherever a server puts it: Redis 6.2 wraps whatever a script meets."""
    assert _redis_errors.elsewhere(answer) is elsewhere
