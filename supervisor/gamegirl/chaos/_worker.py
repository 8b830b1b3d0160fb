"""A worker: a process that hosts a supervisor and does with it what the bench says."""

from __future__ import annotations

import importlib
import logging
import random
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import attrs

from gamegirl.actors import OwnedElsewhereError
from gamegirl.chaos._wire import Wire, plain
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import Durability, Settings, Store, Supervisor, open_store

STARTED, ENDED = "started", "ended"

_BEAT_SECONDS = 0.02
_STILL_SECONDS = 0.1
"""A loop that doesn't turn for so long stands still."""


@attrs.frozen(kw_only=True)
class WorkerPlan:
    """What a worker runs.

    Attributes:
        store: The store's URL.
        backend: asyncio or trio.
        settings: For `Settings`; `durability` by its value.
        seed: Of the supervisor's randomness.
        on_turn: `module:name` of an `on_turn`; empty: the bench records.
        behaviours: `module:name` of more behaviours, each called without arguments.
        sabotage: `module:name` of what takes a safeguard away: it gets the store and gives the one
            to use. Empty: all safeguards are on.
        events: The class names of the events to tell the bench.
    """

    store: str
    backend: str = "asyncio"
    settings: Mapping[str, Any] = attrs.Factory(dict[str, Any])
    seed: int = 0
    on_turn: str = ""
    behaviours: Sequence[str] = ()
    sabotage: str = ""
    events: Sequence[str] = ()

    def made_settings(self) -> Settings:
        """The settings."""
        given = dict(self.settings)
        if "durability" in given:
            given["durability"] = Durability(given["durability"])
        return Settings(**given)


def named(path: str) -> Any:
    """What a `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def work(connection: socket.socket, plan: WorkerPlan) -> int:
    """Run until the bench hangs up, says stop or sends SIGTERM; the exit status."""
    random.seed(plan.seed)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    return anyio.run(_Worker(connection, plan).run, backend=plan.backend)


class _Pulse:
    """When the loop has stood still, and for how long."""

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._stood: list[tuple[float, float]] = []  # Until when, and for how long.

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await anyio.sleep(_BEAT_SECONDS)
            self._look()

    def longest(self, since: float) -> float:
        """The longest time at a stretch that ended since then (monotonic seconds), in seconds."""
        self._look()
        return max((seconds for until, seconds in self._stood if until >= since), default=0.0)

    def _look(self) -> None:
        before, self._beat = self._beat, time.monotonic()
        if self._beat - before > _STILL_SECONDS:
            self._stood.append((self._beat, self._beat - before))


class _Worker:
    def __init__(self, connection: socket.socket, plan: WorkerPlan) -> None:
        self._connection = connection
        self._plan = plan
        self._pulse = _Pulse()

    async def run(self) -> int:
        self._wire = Wire(self._connection)
        plan = self._plan
        store: Store = open_store(plan.store)
        if plan.sabotage:
            sabotage: Callable[[Store], Store] = named(plan.sabotage)
            store = sabotage(store)
        self._stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            # Before anything else, so that a SIGTERM finds somebody at any time.
            await tasks.start(self._listen)
            self._supervisor = Supervisor(
                store,
                settings=plan.made_settings(),
                on_turn=named(plan.on_turn) if plan.on_turn else None,
                behaviours=[named(path)() for path in plan.behaviours],
                randomness=random.Random(plan.seed),
            )
            tasks.start_soon(self._wire.write)
            tasks.start_soon(self._pulse.run)
            try:
                await self._supervisor.start()
                tasks.start_soon(self._tell)
                tasks.start_soon(self._serve, tasks)
                self._wire.say({"event": STARTED, "at": time.time()})
                await self._stop.wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._supervisor.aclose()
                    self._wire.say({"event": ENDED, "at": time.time()})
                    await self._wire.flush()
            tasks.cancel_scope.cancel()
        return 0

    async def _listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self._stop.set()

    async def _tell(self) -> None:
        wanted = frozenset(self._plan.events)
        async with self._supervisor.events() as events:
            async for event in events:
                name = type(event).__name__
                if name in wanted:
                    self._wire.say({**plain(event), "event": name, "at": time.time()})

    async def _serve(self, tasks: anyio.abc.TaskGroup) -> None:
        while messages := await self._wire.read():
            for message in messages:
                tasks.start_soon(self._answer, message)
        self._stop.set()

    async def _answer(self, message: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": message["id"]}
        try:
            answer["ok"] = plain(await self._do(**message))
        except GameGirlError as error:
            answer["error"] = {
                "kind": type(error).__name__,
                "fate": error.fate.value,
                "text": str(error),
                "owner": error.owner if isinstance(error, OwnedElsewhereError) else "",
            }
        except Exception as error:  # noqa: BLE001 - it is the bench's to judge
            answer["error"] = {
                "kind": type(error).__name__,
                "fate": "",
                "text": repr(error),
                "owner": "",
            }
        self._wire.say(answer)

    async def _do(
        self,
        id: int,  # noqa: A002 - the field's name
        op: str,
        channel: str,
        arguments: Sequence[Any],
        options: Mapping[str, Any],
    ) -> Any:
        if op == "stop":
            return self._stop.set()
        if op == "stood_still":
            return self._pulse.longest(*arguments)
        if ":" in op:
            return await named(op)(self._supervisor, *arguments, **options)
        target: Any = self._supervisor.session(channel) if channel else self._supervisor
        result = getattr(target, op)(*arguments, **options)
        return await result if hasattr(result, "__await__") else result
