"""Lets the store's threads have their turn when the loop never rests.

The calls of some stores run in threads. A loop that always has something to do lets go of the
interpreter's lock only for the microseconds of a `select` that doesn't wait. The interpreter wakes
the waiting thread each time, which comes too late each time and starts its patience
(`sys.getswitchinterval`) anew: a commit of one millisecond takes half a second, and everybody waits
for it.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from gamegirl.supervisor.stores import Store

_LOOK_SECONDS = 0.001
_BUSY_SECONDS = 0.02
"""A loop that was found busy is taken to be so for as long."""

_REST_SECONDS = 0.00002
"""Long enough for a thread to wake up and take the lock."""

_BUSY = 0.5
"""A loop that computes for so large a part of the time is busy."""


class Courtesy:
    """While a store call is in a thread, rests a busy loop at each of its turns, very shortly."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls = 0
        self._wanted = anyio.Event()

    @contextmanager
    def call(self) -> Generator[None]:
        """A store call is under way."""
        if not self._store.threaded:
            yield
            return
        self._calls += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._calls -= 1

    async def run(self) -> None:
        """Look after the calls until cancelled."""
        busy_until = 0.0
        while True:
            if not self._calls:
                self._wanted = anyio.Event()
                await self._wanted.wait()
            while self._calls:
                if time.perf_counter() < busy_until:
                    _rest(_REST_SECONDS)
                    await anyio.sleep(0.0)
                elif await _is_busy():
                    busy_until = time.perf_counter() + _BUSY_SECONDS


async def _is_busy() -> bool:
    # Without resting: a loop that rests at each of its turns computes for a small part of the time.
    began, computed = time.perf_counter(), time.thread_time()
    await anyio.sleep(_LOOK_SECONDS)
    return time.thread_time() - computed > (time.perf_counter() - began) * _BUSY


def _rest(seconds: float) -> None:
    time.sleep(seconds)  # Not for the loop, which could wait itself: for the threads.
