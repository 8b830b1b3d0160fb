"""The peers of W1: other ways to ask an actor."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from asyncio import Future, Queue, get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import anyio
import trio

from benchmarks._contest import TRIO, Measure, Sample, Site
from benchmarks._echo import echo
from benchmarks._pace import asking

_ERLANG = Path(__file__).with_name("ask.erl")
_PYKKA_TIMEOUT_SECONDS = 60.0

_Actor: TypeAlias = tuple[Callable[[], Coroutine[Any, Any, None]], Callable[[int], Awaitable[None]]]
"""An actor's task, and what asks it so often."""


@asynccontextmanager
async def task_and_queue(site: Site, actors: int) -> AsyncGenerator[Measure, None]:
    """A task, an unbounded queue and a function an actor; on trio the queue is a memory channel."""
    make = _trio_actor if site.host == TRIO else _asyncio_actor
    async with anyio.create_task_group() as tasks:
        callers: list[Callable[[int], Awaitable[None]]] = []
        for _ in range(actors):
            work, ask = make()
            tasks.start_soon(work)
            callers.append(ask)
        yield asking(callers, site.round_seconds)
        tasks.cancel_scope.cancel()


def _asyncio_actor() -> _Actor:
    queue: Queue[tuple[Future[int], int]] = Queue()
    create_future = get_running_loop().create_future

    async def work() -> None:
        while True:
            future, message = await queue.get()
            future.set_result(echo(message))

    async def ask(count: int) -> None:
        for _ in range(count):
            future: Future[int] = create_future()
            queue.put_nowait((future, 1))
            await future

    return work, ask


class _Reply:
    """What trio has no future for."""

    __slots__ = ("given", "value")

    def __init__(self) -> None:
        self.given = trio.Event()
        self.value = 0


def _trio_actor() -> _Actor:
    send, receive = trio.open_memory_channel[tuple[_Reply, int]](inf)

    async def work() -> None:
        while True:
            reply, message = await receive.receive()
            reply.value = echo(message)
            reply.given.set()

    async def ask(count: int) -> None:
        for _ in range(count):
            reply = _Reply()
            send.send_nowait((reply, 1))
            await reply.given.wait()

    return work, ask


@asynccontextmanager
async def pykka(site: Site, actors: int) -> AsyncGenerator[Measure, None]:
    """A thread an actor.

    Many are asked by one caller, who then waits for all answers: that is kinder to Pykka than a
    thousand threads of callers would be.
    """
    library: Any = importlib.import_module("pykka")

    def receive(_: object, message: int) -> int:
        return message

    echo: Any = type("Echo", (library.ThreadingActor,), {"on_receive": receive})
    references = [echo.start() for _ in range(actors)]

    def ask(count: int) -> None:
        for _ in range(count):
            answers = [reference.ask(1, block=False) for reference in references]
            for answer in answers:
                answer.get(timeout=_PYKKA_TIMEOUT_SECONDS)

    def measure() -> Sample:
        count, started = 0, perf_counter()
        while (took := perf_counter() - started) < site.round_seconds:
            ask(10 if actors == 1 else 1)
            count += 10 if actors == 1 else 1
        return {"per_second": count * actors / took}

    try:
        yield lambda: anyio.to_thread.run_sync(measure)
    finally:
        library.ActorRegistry.stop_all(block=False)


@asynccontextmanager
async def xoscar(site: Site, actors: int) -> AsyncGenerator[Measure, None]:
    """Actors of a pool in this very process, so that nothing crosses a socket."""
    library: Any = importlib.import_module("xoscar")

    async def receive(_: object, message: int) -> int:
        return message

    echo: Any = type("Echo", (library.Actor,), {"receive": receive})
    async with AsyncExitStack() as stack:
        pool = await library.create_actor_pool("127.0.0.1", n_process=0)
        stack.push_async_callback(pool.stop)
        references = [
            await library.create_actor(echo, address=pool.external_address, uid=f"echo-{index}")
            for index in range(actors)
        ]

        async def ask(reference: Any, count: int) -> None:
            for _ in range(count):
                await reference.receive(1)

        callers = [partial(ask, reference) for reference in references]
        yield asking(callers, site.round_seconds)


def no_erlang() -> str | None:
    """Why Erlang can't compete."""
    if shutil.which("erl") and shutil.which("erlc"):
        return None
    return "there is no erl on PATH"


@asynccontextmanager
async def erlang(site: Site, actors: int) -> AsyncGenerator[Measure, None]:
    """`gen_server:call` with one scheduler, in a fresh virtual machine each round."""
    with tempfile.TemporaryDirectory() as folder:
        await anyio.run_process(["erlc", "-o", folder, str(_ERLANG)])
        command = ["erl", "+S", "1:1", "-noshell", "-pa", folder, "-run", "ask", "main"]
        command += [str(actors), str(round(site.round_seconds * 1000))]

        async def measure() -> Sample:
            done = await anyio.run_process(command, check=True)
            return {"per_second": float(done.stdout)}

        yield measure
