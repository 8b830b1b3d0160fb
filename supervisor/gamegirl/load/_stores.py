"""The store as a load test's supervisor sees it: its own channels only, and stalled on command."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf

import anyio

from gamegirl.actors import Stored
from gamegirl.supervisor import Store
from gamegirl.supervisor.stores import (
    ActorKey,
    Broken,
    Claim,
    Claimed,
    Commit,
    Due,
    Entry,
    Outcome,
    Owned,
    Process,
)


class LoadStore:
    """Passes everything on to a store, except what is due elsewhere, and only after a stall.

    A supervisor takes over whatever is due and nobody's. In a load test that would be another
    process's channels, or somebody's games.

    Args:
        store: The store.
        mine: Whether an actor is played here.
        ours: Whether an actor is played in this run, here or in another process.

    Attributes:
        stalled: From when until when nothing reaches the store, by the monotonic clock.
    """

    def __init__(
        self,
        store: Store,
        mine: Callable[[ActorKey], bool],
        ours: Callable[[ActorKey], bool],
    ) -> None:
        self._store = store
        self._mine = mine
        self._ours = ours
        self.stalled: tuple[float, float] | None = None

    def __repr__(self) -> str:
        return repr(self._store)

    @property
    def portion(self) -> int:
        """See `Store`."""
        return self._store.portion

    @property
    def threaded(self) -> bool:
        """See `Store`."""
        return self._store.threaded

    async def _pass(self) -> None:
        if self.stalled is not None:
            begin, end = self.stalled
            now = time.monotonic()
            if begin <= now < end:
                await anyio.sleep(end - now)

    async def open(self, process: Process, lease_seconds: float) -> None:
        """See `Store`."""
        await self._store.open(process, lease_seconds)

    async def aclose(self) -> None:
        """See `Store`."""
        await self._store.aclose()

    async def renew(self) -> bool:
        """See `Store`."""
        await self._pass()
        return await self._store.renew()

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """See `Store`."""
        await self._pass()
        return await self._store.claim(claims)

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """See `Store`."""
        await self._pass()
        return await self._store.commit(commits)

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """See `Store`."""
        await self._pass()
        return await self._store.read(keys)

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """What is due here, and in the run's other processes as long as they live."""
        await self._pass()
        # To pass the others' by is part of a process's work.
        return [
            due
            for due in await self._store.due(until, since)
            if self._mine(due.actor) or (due.lease_seconds > 0 and self._ours(due.actor))
        ]

    def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """See `Store`."""
        return self._store.scan(prefix)

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """See `Store`."""
        await self._pass()
        return await self._store.entries(keys)
