"""Slow work of actors, done outside of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
from anyio.abc import TaskGroup

from gamegirl.supervisor._cell import Cell
from gamegirl.supervisor.stores import ActorKey

performing: ContextVar[_Work | None] = ContextVar("gamegirl.performing", default=None)
"""The work in one of whose tasks this runs, or ran: what it has started may outlive it."""


class _Work:
    """A piece of work that was started.

    Attributes:
        host: Who runs it.
        cell: Whose it is.
        scope: Cancels it.
        over: Set when nothing of it runs any more.
        before: What it waits for, or would have.
    """

    __slots__ = ("before", "cell", "host", "over", "scope")

    def __init__(self, host: Performer, cell: Cell, before: _Work | None) -> None:
        self.host = host
        self.cell = cell
        self.before = before
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()


class Performer:
    """Runs the `Perform` effects, at most so many side by side, and one a key and actor.

    Args:
        tasks: Where the work runs.
        most: How many pieces of work run at a time; others wait.
        deliver: Takes a finished work's message.
        crashed: Takes work that raised: the actor, the work, the error, its traceback.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        most: int,
        deliver: Callable[[Cell, object], None],
        crashed: Callable[[Cell, object, Exception, str], None],
    ) -> None:
        self._tasks = tasks
        self._limiter = anyio.CapacityLimiter(most)
        self._deliver = deliver
        self._crashed = crashed
        self._current: dict[Cell, dict[str, _Work]] = {}
        self._latest: dict[tuple[ActorKey, str], _Work] = {}
        self._closed = False

    def start(self, cell: Cell, key: str, work: object, delay: float = 0.0) -> None:
        """Start work under a key, after a while; what runs under it already is cancelled.

        It waits until the work before it is over, which may need time to clean up.
        """
        self.cancel(cell, key)
        if self._closed:
            return
        name = cell.key, key
        started = _Work(self, cell, self._unfinished(name))
        self._current.setdefault(cell, {})[key] = self._latest[name] = started
        self._tasks.start_soon(self._run, key, work, delay, started)

    def cancel(self, cell: Cell, key: str) -> None:
        """Cancel what runs under the key, if anything does."""
        works = self._current.get(cell)
        if works and key in works:
            works.pop(key).scope.cancel()
            if not works:
                del self._current[cell]

    def cancel_all(self, cell: Cell) -> None:
        """Cancel all work of an actor."""
        for work in self._current.pop(cell, {}).values():
            work.scope.cancel()

    def close(self) -> None:
        """Cancel all work and start no more."""
        self._closed = True
        for cell in tuple(self._current):
            self.cancel_all(cell)

    def hosts(self, work: _Work | None) -> bool:
        """Whether it is work of ours that still runs."""
        return work is not None and work.host is self and not work.over.is_set()

    def works_for(self, cell: Cell) -> bool:
        """Whether any work of the actor runs or waits for its turn."""
        return cell in self._current

    def __len__(self) -> int:
        return sum(map(len, self._current.values()))

    def _unfinished(self, name: tuple[ActorKey, str]) -> _Work | None:
        """The latest work under an actor's key of which something still runs; None: none does."""
        work = self._latest.get(name)
        while work is not None and work.over.is_set():
            work = work.before  # What was cancelled while it waited is over before this is.
        return work

    async def _run(self, key: str, work: object, delay: float, started: _Work) -> None:
        cell = started.cell
        performing.set(started)
        message: Any = None
        failure: tuple[Exception, str] | None = None
        try:
            with started.scope:
                while started.before is not None:
                    await started.before.over.wait()
                    started.before = started.before.before
                if delay:
                    await anyio.sleep(delay)  # Not within the limit: others are ready.
                async with self._limiter:
                    message, failure = await self._perform(cell, work, started.scope)
        finally:
            started.over.set()
            if self._unfinished((cell.key, key)) is None:
                self._latest.pop((cell.key, key), None)
        if self._current.get(cell, {}).get(key) is not started:
            return  # It was cancelled or replaced: its result is nobody's.
        self.cancel(cell, key)
        if failure is not None:
            message, failure = _told(cell, work, *failure)
        if failure is not None:
            self._crashed(cell, work, *failure)
        elif message is not None:
            self._deliver(cell, message)

    async def _perform(
        self, cell: Cell, work: object, scope: anyio.CancelScope
    ) -> tuple[Any, tuple[Exception, str] | None]:
        try:
            return await cell.behaviour.perform(work), None
        except Exception as error:  # noqa: BLE001 - reported as a crash
            return None, (error, traceback.format_exc())
        except BaseExceptionGroup as group:
            # As trio has it of a nursery that was cancelled and a child of which failed meanwhile:
            # the scope would take the cancellation out, and let the rest of it loose on us.
            _, rest = group.split(anyio.get_cancelled_exc_class())
            if isinstance(rest, Exception):
                return None, (rest, traceback.format_exc())
            if rest is not None or self._cancelled(scope):
                raise
            return None, (_unasked(group), traceback.format_exc())
        except anyio.get_cancelled_exc_class() as cancelled:
            if self._cancelled(scope):
                raise
            return None, (_unasked(cancelled), traceback.format_exc())

    def _cancelled(self, scope: anyio.CancelScope) -> bool:
        return scope.cancel_called or self._tasks.cancel_scope.cancel_called


def _told(
    cell: Cell, work: object, error: Exception, trace: str
) -> tuple[Any, tuple[Exception, str] | None]:
    """What the behaviour makes of a failure: a message, or none, which is a crash."""
    try:
        message = cell.behaviour.failed(work, error)
    except Exception as another:  # noqa: BLE001 - reported as a crash
        return None, (another, traceback.format_exc())
    return (None, (error, trace)) if message is None else (message, None)


def _unasked(cancelled: BaseException) -> Exception:
    """Nobody cancelled the work: something that it awaited was, which is a failure like others."""
    failure = RuntimeError("the work ended in a cancellation that nobody asked for")
    failure.__cause__ = cancelled
    return failure
