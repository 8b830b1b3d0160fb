"""A redis-server that a test may spoil, and a first claim and commit in it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from gamegirl.actors import PutText
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Process, RedisStore

ACTOR = ActorKey("session", "1234")


class Server:
    """A real server that tests may spoil, stop and start again on the same socket."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary, self._folder = binary, folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [self._binary, "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        command += ["--dir", str(self._folder), "--logfile", str(self._folder / "log"), *options]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.01)
        pytest.fail(f"redis-server did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def sibling(self, folder: Path) -> Server:
        """Another server, which isn't running."""
        return Server(self._binary, folder)

    def client(self, **options: Any) -> Any:
        return cast("Any", redis.Redis)(
            unix_socket_path=str(self.socket), **{"protocol": 2} | options
        )


async def owned(store: RedisStore, actor: ActorKey = ACTOR, lease_seconds: float = 60.0) -> Claimed:
    await store.open(Process("p1"), lease_seconds)
    (result,) = await store.claim([Claim(actor, [], "n")])
    assert isinstance(result, Claimed)
    return result


def write(claim: Claimed, revision: int = 1, text: str = "x") -> Commit:
    return Commit(ACTOR, claim.owner, revision, f"c{revision}", [PutText("t", text)])


StoreCall = Callable[[RedisStore, Claimed], Awaitable[object]]
"""What a store is asked for an actor that it owns."""


async def commit(store: RedisStore, claim: Claimed) -> None:
    await store.commit([write(claim)])


async def claim_again(store: RedisStore, claim: Claimed) -> None:
    await store.claim([Claim(ACTOR, [], "n")])


async def renew(store: RedisStore, claim: Claimed) -> None:
    await store.renew()
