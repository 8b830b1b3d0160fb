"""What an idle actor takes in memory, measured in a process of its own.

What is told is how much more of this process is resident (RSS) with some thousand more actors at
rest, after some hundred others; garbage is collected before each look.
Of sessions the same is measured without a runtime: the same messages, given to the same rules, make
the same states in a dict. The difference is what the runtime adds: registry, ownership,
supervision. The store keeps nothing, so that nothing of it counts.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path
from typing import Any

import anyio
import trio

from benchmarks._bare import BareSessions
from benchmarks._booting import GAME_NAME, game_id
from benchmarks._contest import TRIO, UVLOOP
from benchmarks._presses import channel_name, player_id, player_name
from gamegirl.actors import Stored
from gamegirl.actors.session import SessionRef
from gamegirl.supervisor import Settings, Supervisor
from gamegirl.supervisor.stores import (
    Broken,
    Claim,
    Claimed,
    Commit,
    Done,
    Due,
    Entry,
    Outcome,
    Owned,
    Process,
)

_SEATS = 8
_CALLERS = 100
_LONG = 100_000.0

SESSIONS = "sessions"
BARE = "bare"
TASKS = "tasks"
PYKKA = "pykka"

Grow = Callable[[range], Awaitable[None]]
"""Makes these actors and lets them rest."""


class NoStore:
    """Grants every claim, takes every commit, and keeps nothing of them."""

    portion = 1024
    threaded = False

    def __init__(self) -> None:
        self._process = ""

    async def open(self, process: Process, lease_seconds: float) -> None:
        """See `Store`."""
        self._process = process.name

    async def renew(self) -> bool:
        """See `Store`."""
        return True

    async def aclose(self) -> None:
        """See `Store`."""

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """See `Store`."""
        await anyio.lowlevel.checkpoint()
        return [
            # Made anew each time, as what comes out of a store is.
            Claimed(f"1:{claim.nonce}:{self._process}", None, 0, "", [None] * len(claim.keys))
            for claim in claims
        ]

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """See `Store`."""
        await anyio.lowlevel.checkpoint()
        return [Done()] * len(commits)

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """See `Store`."""
        return [None] * len(keys)

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """See `Store`."""
        return ()

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """See `Store`."""
        no_names: Sequence[Sequence[str]] = ()
        for names in no_names:
            yield names

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """See `Store`."""
        return ()


async def _sessions(_: AsyncExitStack, host: str) -> Grow:
    settings = Settings(window_seconds=_LONG, sweep_seconds=_LONG, idle_seconds=_LONG)
    supervisor = Supervisor(NoStore(), settings=settings)
    await supervisor.start()  # The process ends with it: what drains would take time.
    return _playing(supervisor.session)


async def _bare(_: AsyncExitStack, host: str) -> Grow:
    return _playing(BareSessions(Settings(), lambda: 1e9).session)


def _playing(session: Callable[[str], SessionRef]) -> Grow:
    async def play(numbers: range) -> None:
        for number in numbers:
            one = session(channel_name(number))
            await one.boot(GAME_NAME, game_id=game_id(number))
            for player in range(_SEATS):
                await one.join(player_id(player), player_name(player))

    async def grow(numbers: range) -> None:
        async with anyio.create_task_group() as tasks:
            for first in range(_CALLERS):
                tasks.start_soon(play, numbers[first::_CALLERS])

    return grow


async def _tasks(stack: AsyncExitStack, host: str) -> Grow:
    """A registry of queues, each with a task that waits at it."""
    registry: dict[str, Any] = {}
    tasks = await stack.enter_async_context(anyio.create_task_group())
    stack.callback(tasks.cancel_scope.cancel)

    async def trio_work(inbox: trio.MemoryReceiveChannel[object]) -> None:
        while True:
            await inbox.receive()

    async def asyncio_work(inbox: asyncio.Queue[object]) -> None:
        while True:
            await inbox.get()

    async def grow(numbers: range) -> None:
        for number in numbers:
            if host == TRIO:
                send, receive = trio.open_memory_channel[object](inf)
                trio.lowlevel.spawn_system_task(trio_work, receive)
                registry[channel_name(number)] = send
            else:
                queue: asyncio.Queue[object] = asyncio.Queue()
                task = asyncio.create_task(asyncio_work(queue))
                registry[channel_name(number)] = (queue, task)
        await anyio.sleep(0.1)

    return grow


def _nothing(_: object, message: object) -> None:
    pass


async def _pykka(stack: AsyncExitStack, host: str) -> Grow:
    library: Any = importlib.import_module("pykka")
    idle: Any = type("Idle", (library.ThreadingActor,), {"on_receive": _nothing})
    registry: dict[str, Any] = {}

    async def grow(numbers: range) -> None:
        for number in numbers:
            registry[channel_name(number)] = idle.start()
        for reference in registry.values():
            reference.ask(0)

    return grow


_MAKERS: dict[str, Callable[[AsyncExitStack, str], Awaitable[Grow]]] = {
    SESSIONS: _sessions,
    BARE: _bare,
    TASKS: _tasks,
    PYKKA: _pykka,
}


def _resident() -> int:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError("this system doesn't say what is resident")


async def _measure(who: str, host: str, first: int, more: int) -> float:
    async with AsyncExitStack() as stack:
        grow = await _MAKERS[who](stack, host)
        await grow(range(first))
        await anyio.sleep(0.05)
        before = _resident()
        await grow(range(first, first + more))
        await anyio.sleep(0.05)
        return (_resident() - before) / more


def main() -> None:
    who, host, first, more = sys.argv[1:]
    backend = "trio" if host == TRIO else "asyncio"
    options = {"use_uvloop": True} if host == UVLOOP else {}
    arguments = (who, host, int(first), int(more))

    async def tell() -> None:
        print(await _measure(*arguments), flush=True)
        os._exit(0)

    anyio.run(tell, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
