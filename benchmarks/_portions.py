"""Commits of many callers, made together as the runtime makes them, and nothing more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from anyio.lowlevel import checkpoint

from gamegirl.supervisor._signal import Awaited, signal_maker
from gamegirl.supervisor.stores._redis_calls import PORTION

T = TypeVar("T")

_UNDER_WAY = 16


class Portions(Generic[T]):
    """Gathers commits that callers wait for.

    Args:
        make: Makes some of them.
        start_soon: Starts a task.
    """

    def __init__(self, make: Callable[[Sequence[T]], Awaitable[None]], start_soon: Any) -> None:
        self._make = make
        self._start_soon = start_soon
        self._new_signal = signal_maker()
        self._commits: list[T] = []  # Those that wait.
        self._signals: list[Awaited] = []
        self._under_way = 0
        self._coming = 0  # So many of those under way have taken none yet.

    def add(self, commit: T) -> Awaited:
        """Have a commit made; what is given is set when it is."""
        signal = self._new_signal()
        self._commits.append(commit)
        self._signals.append(signal)
        if not self._under_way or (
            self._under_way < _UNDER_WAY and len(self._commits) >= PORTION * (self._coming + 1)
        ):
            self._under_way += 1
            self._coming += 1
            self._start_soon(self._send)
        return signal

    async def _send(self) -> None:
        if len(self._commits) < PORTION:
            await checkpoint()  # Whoever is about to run may still join.
        self._coming -= 1
        while self._commits and (self._under_way == 1 or len(self._commits) >= PORTION):
            commits, self._commits = self._commits[:PORTION], self._commits[PORTION:]
            signals, self._signals = self._signals[:PORTION], self._signals[PORTION:]
            await self._make(commits)
            commits.reverse()
            # One by one, as the runtime lets go of them.
            for signal in signals:
                commits.pop()
                signal.set_result(None)
            await checkpoint()
        self._under_way -= 1
