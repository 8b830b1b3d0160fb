"""A process that plays its share, and says how it goes: JSON lines on its pipes.

It ends when whoever started it hangs up, so that none is left behind.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import attrs

from gamegirl.codec import GameGirlError
from gamegirl.load._plan import Plan
from gamegirl.load._share import Share, Tick
from gamegirl.supervisor import MemoryStore, Store, open_store

BEGIN, STOP, VERIFY = "begin", "stop", "verify"
"""What a worker is told: to begin at a moment, to offer no more, to look into the store."""

BOOTED, READY, TICK, PLAYED, LOOKED, RESULT, FAILED = (
    "booted",
    "ready",
    "tick",
    "played",
    "looked",
    "result",
    "failed",
)
"""What a worker tells: with PLAYED its figures, with RESULT what the store said of them."""

_CHUNK = 1 << 16
_INPUT, _OUTPUT = 0, 1


async def _orders() -> AsyncIterator[dict[str, Any]]:
    """What this process is told, until the other end hangs up."""
    text = b""
    while True:
        await anyio.wait_readable(_INPUT)
        data = os.read(_INPUT, _CHUNK)
        if not data:
            return
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _tell(what: str, content: Any = None) -> None:
    data = json.dumps([what, content]).encode() + b"\n"
    while data:
        data = data[os.write(_OUTPUT, data) :]


def first_of(error: BaseException) -> BaseException:
    """The error itself, or the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


class _Worker:
    def __init__(self, plan: Plan, run: str, process: int, url: str) -> None:
        self._url = url
        self._store: Store = open_store(url)
        self._share = Share(plan, run, process, self._store)
        self._begin = anyio.Event()
        self._begins_at = 0.0
        self._verify = anyio.Event()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, tasks.cancel_scope)
            await self._work()
            tasks.cancel_scope.cancel()

    async def _listen(self, scope: anyio.CancelScope) -> None:
        async for order in _orders():
            if BEGIN in order:
                # The wall clock is what processes share; from here on this one's own counts.
                self._begins_at = time.monotonic() + order[BEGIN] - time.time()
                self._begin.set()
            elif STOP in order:
                self._share.stop()
            elif VERIFY in order:
                self._verify.set()
        scope.cancel()

    async def _work(self) -> None:
        async with self._share.open():
            await self._share.boot(lambda done: _tell(BOOTED, done))
            _tell(READY)
            await self._begin.wait()
            await self._share.play(self._begins_at, _tell_tick)
            # Before closing, which fails if the store is away.
            _tell(PLAYED, self._share.figures.plain())
        await self._verify.wait()
        store = self._store
        fresh = store.sibling() if isinstance(store, MemoryStore) else open_store(self._url)
        verdict = await self._share.verify(fresh, lambda done: _tell(LOOKED, done))
        _tell(RESULT, attrs.asdict(verdict))


def _tell_tick(tick: Tick) -> None:
    _tell(TICK, attrs.asdict(tick))


def main() -> None:
    """Play the share that the first line on the standard input describes."""
    # Not an argument: it may name a password, and everybody can read arguments. Unbuffered, as
    # what follows the line is for `_orders`.
    with open(_INPUT, "rb", buffering=0, closefd=False) as first:
        given: dict[str, Any] = json.loads(first.readline())
    plan = Plan.of_plain(given.pop("plan"))
    uvloop = plan.backend == "uvloop"

    async def work() -> None:
        await _Worker(plan, **given).run()

    try:
        anyio.run(
            work,
            backend="asyncio" if uvloop else plan.backend,
            backend_options={"use_uvloop": True} if uvloop else None,
        )
    except BaseException as error:  # noqa: BLE001 - it is told, and ends the process
        leaf = first_of(error)
        if not isinstance(leaf, GameGirlError):
            traceback.print_exc()
        _tell(FAILED, f"{type(leaf).__name__}: {leaf}")
        raise SystemExit(1) from None
