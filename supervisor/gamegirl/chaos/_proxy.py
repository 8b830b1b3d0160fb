"""A TCP proxy before the store, which delays, cuts and forgets as it is told."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import SocketStream, TaskGroup, TaskStatus

from gamegirl.chaos._errors import BenchError

_CHUNK = 1 << 18

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Proxy:
    """Passes bytes on between workers and the store.

    Args:
        target: The URL of the store, a `redis://` one.
        marker: Only requests that have these bytes in them are spoiled by the `cut_…` and `drop_…`
            counters; empty: any.

    Attributes:
        port: Where workers connect.
        delay_seconds: Each request waits so long.
        refusing: New connections are closed at once, and those there are were cut.
        silent: Nothing is passed on, in neither direction, and nothing is closed.
        cut_requests: So many of the next requests are thrown away, with their connection.
        halve_requests: So many of the next requests pass half, then their connection is cut.
        drop_replies: So many of the next requests pass, and their connection is cut at the reply.
        spoiled: So many requests were spoiled.
    """

    def __init__(self, target: str, *, marker: bytes = b"") -> None:
        self._url = urlsplit(target)
        if self._url.scheme != "redis":
            raise BenchError(
                "this scenario speaks to the store through a proxy of its own, for which it needs "
                "a redis:// URL"
            )
        self._target = self._url.hostname or "127.0.0.1", self._url.port or 6379
        self._marker = marker
        self._connections: set[SocketStream] = set()
        self._heard = anyio.Event()
        self.port = 0
        self.delay_seconds = 0.0
        self.refusing = False
        self.silent = False
        self.cut_requests = 0
        self.halve_requests = 0
        self.drop_replies = 0
        self.spoiled = 0

    @property
    def url(self) -> str:
        """The store's address for workers."""
        user, at, _ = self._url.netloc.rpartition("@")
        return urlunsplit(self._url._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Serve until cancelled."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            task_status.started()
            async with anyio.create_task_group() as tasks:
                while True:
                    # Not an accept that waits: asyncio's loses its connection if it is cancelled.
                    await anyio.wait_readable(listener)
                    with suppress(OSError), anyio.CancelScope(shield=True):
                        accepted, _ = listener.accept()
                        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        client = await SocketStream.from_socket(accepted)
                        tasks.start_soon(self._pass_on, client)

    async def cut(self) -> None:
        """Cut all connections there are."""
        for connection in tuple(self._connections):
            await anyio.aclose_forcefully(connection)

    async def refuse(self) -> None:
        """Be as if no store were there, until `refusing` is False again."""
        self.refusing = True
        await self.cut()

    def speak(self) -> None:
        """No longer be silent."""
        self.silent = False
        self._heard.set()
        self._heard = anyio.Event()

    async def _pass_on(self, client: SocketStream) -> None:
        async with client:
            if self.refusing:
                return
            self._connections.add(client)
            try:
                with suppress(*_BROKEN):
                    async with await anyio.connect_tcp(*self._target) as server:
                        await self._exchange(client, server)
            finally:
                self._connections.discard(client)

    async def _exchange(self, client: SocketStream, server: SocketStream) -> None:
        state = _Exchange()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._requests, client, server, state, tasks)
            tasks.start_soon(self._replies, server, client, state, tasks)

    async def _requests(
        self, client: SocketStream, server: SocketStream, state: _Exchange, tasks: TaskGroup
    ) -> None:
        with suppress(*_BROKEN):
            while True:
                data = await client.receive(_CHUNK)
                while self.silent:
                    await self._heard.wait()
                if self.delay_seconds:
                    await anyio.sleep(self.delay_seconds)
                if self._marker in data and self._spoils(state):
                    if state.half:
                        await server.send(data[: len(data) // 2])
                    if not state.drop:
                        break
                await server.send(data)
        tasks.cancel_scope.cancel()

    def _spoils(self, state: _Exchange) -> bool:
        if self.cut_requests:
            self.cut_requests -= 1
        elif self.halve_requests:
            self.halve_requests -= 1
            state.half = True
        elif self.drop_replies:
            self.drop_replies -= 1
            state.drop = True
        else:
            return False
        self.spoiled += 1
        return True

    async def _replies(
        self, server: SocketStream, client: SocketStream, state: _Exchange, tasks: TaskGroup
    ) -> None:
        with suppress(*_BROKEN):
            while True:
                data = await server.receive(_CHUNK)
                while self.silent:
                    await self._heard.wait()
                if state.drop:
                    break
                await client.send(data)
        tasks.cancel_scope.cancel()


class _Exchange:
    """What becomes of one connection.

    Attributes:
        half: Its request was passed half.
        drop: The next reply is thrown away.
    """

    __slots__ = ("drop", "half")

    def __init__(self) -> None:
        self.half = False
        self.drop = False
