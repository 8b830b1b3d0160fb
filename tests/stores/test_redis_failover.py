"""Another server becomes the primary, and the one before lives on as a replica, with its clients.

As behind a service's name or a proxy: who connects anew comes to the new primary, who is connected
stays with the old one, which reads as before and refuses to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from tests.stores.servers import ACTOR, Server, owned

from gamegirl.actors import StoreUnavailableError
from gamegirl.supervisor.stores import Claim, Claimed, RedisStore, _redis_errors

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


async def test_a_refused_claim_goes_to_the_new_primary_next_time(service: Service) -> None:
    """Its script says in the middle of a text that the server is a replica now."""
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
