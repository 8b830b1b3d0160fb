"""Workers as the bench sees them: processes to speak to, to kill, to pause and to wait for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import psutil

from gamegirl.chaos._nursery import Nursery
from gamegirl.chaos._wire import Wire
from gamegirl.chaos._worker import STARTED, WorkerPlan

START_SECONDS = 20.0
_LOOK_SECONDS = 0.005
_MIB = 1 << 20


class CallFailed(Exception):
    """A call of a worker raised.

    Attributes:
        kind: The error's class name.
        fate: Its fate, as text; empty if it was no GameGirlError.
        text: What it said.
        owner: The owner token, if it was an OwnedElsewhereError.
        repeated: The same call was sent before, and whether it happened then is in doubt.
    """

    def __init__(self, kind: str, fate: str, text: str, owner: str) -> None:
        super().__init__(f"{kind} ({fate}): {text}")
        self.kind = kind
        self.fate = fate
        self.text = text
        self.owner = owner
        self.repeated = False


class WorkerGone(Exception):
    """The worker ended before it answered: whether the call happened is in doubt."""


@attrs.define(eq=False)
class _Call:
    done: anyio.Event = attrs.Factory(anyio.Event)
    answer: dict[str, Any] | None = None


class Worker:
    """A worker process.

    Attributes:
        pid: Its process id.
        plan: What it runs.
        alive: It has not ended, as far as its connection says.
        paused: It was stopped by `pause`.
        gone: Is set when it has ended.
    """

    def __init__(
        self,
        nursery: Nursery,
        plan: WorkerPlan,
        wire: Wire,
        pid: int,
        watch: Callable[[Worker, dict[str, Any]], None],
    ) -> None:
        self._nursery = nursery
        self._wire = wire
        self._watch = watch
        self._calls: dict[int, _Call] = {}
        self._next = 0
        self._started = anyio.Event()
        self.pid = pid
        self.plan = plan
        self.alive = True
        self.paused = False
        self.gone = anyio.Event()

    def __repr__(self) -> str:
        return f"<Worker {self.pid} on {self.plan.backend}>"

    def owns(self, owner: str) -> bool:
        """Whether the owner token is this worker's."""
        return owner.rpartition(":")[2].startswith(f"{self.pid:x}-")

    async def run(self) -> None:
        """Serve the connection until the worker has ended."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._wire.write)
                while messages := await self._wire.read():
                    for message in messages:
                        self._take(message)
                tasks.cancel_scope.cancel()
        finally:
            self.alive = False
            self._wire.close()
        for call in self._calls.values():
            call.done.set()
        self._calls.clear()
        self._started.set()
        self.gone.set()

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            if message["event"] == STARTED:
                self._started.set()
            self._watch(self, message)
            return
        call = self._calls.pop(message["id"], None)
        if call is not None:
            call.answer = message
            call.done.set()

    async def started(self) -> None:
        """Wait until its supervisor runs.

        Raises:
            WorkerGone: It ended instead.
        """
        with anyio.fail_after(START_SECONDS):
            await self._started.wait()
        if not self.alive:
            raise WorkerGone(f"{self!r} ended before it had started")

    async def call(self, op: str, *arguments: Any, channel: str = "", **options: Any) -> Any:
        """Have it call a method of the channel's session, or of its supervisor, or a job.

        Returns:
            The result, as JSON has it.

        Raises:
            CallFailed: The call raised.
            WorkerGone: There is no answer and will be none.
        """
        if not self.alive:
            raise WorkerGone(f"{self!r} has ended")
        self._next += 1
        number, call = self._next, _Call()
        self._calls[number] = call
        self._wire.say(
            {
                "id": number,
                "op": op,
                "channel": channel,
                "arguments": arguments,
                "options": options,
            }
        )
        try:
            await call.done.wait()
        finally:
            self._calls.pop(number, None)
        if call.answer is None:
            raise WorkerGone(f"{self!r} ended before it answered {op}")
        if "error" in call.answer:
            raise CallFailed(**call.answer["error"])
        return call.answer["ok"]

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: it drains."""
        self._signal(signal.SIGTERM)

    async def stood_still(self, since: float) -> float:
        """For how long at a stretch its loop did, in seconds, since then on the monotonic clock."""
        seconds: float = await self.call("stood_still", since)
        return seconds

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def _signal(self, number: int) -> None:
        # The nursery reaps it only when its status is asked for, so the id is still its own.
        if self.alive:
            os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait until it has ended; its exit status (a signal's number negative)."""
        await self.gone.wait()
        while (status := await self._nursery.status(self.pid)) is None:  # noqa: ASYNC110
            await anyio.sleep(_LOOK_SECONDS)
        return status

    def memory_mib(self) -> float:
        """What of it is resident in memory, in MiB."""
        return float(psutil.Process(self.pid).memory_info().rss) / _MIB

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return int(psutil.Process(self.pid).num_fds())

    def threads(self) -> int:
        """How many threads it has."""
        return int(psutil.Process(self.pid).num_threads())


async def start_worker(
    nursery: Nursery,
    plan: WorkerPlan,
    log: Path,
    watch: Callable[[Worker, dict[str, Any]], None],
) -> Worker:
    """Fork a worker; whoever calls this runs it."""
    ours, theirs = socket.socketpair()
    with theirs:
        pid = await nursery.fork(attrs.asdict(plan), theirs, log)
    return Worker(nursery, plan, Wire(ours), pid, watch)
