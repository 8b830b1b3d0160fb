"""A store that fails as networks do, on command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from math import inf

import anyio

from gamegirl.actors import Fate, Stored, StoreUnavailableError
from gamegirl.supervisor.stores import (
    Broken,
    Claim,
    Claimed,
    Commit,
    Due,
    Entry,
    Outcome,
    Owned,
    Process,
    Store,
)


class FaultyStore:
    """Passes everything on to another store, except what it is told to spoil.

    Attributes:
        portion: As the other store's.
        threaded: As the other store's.
        down: Nothing reaches the store.
        claims_down: No claim reaches the store.
        fail_claims: So many of the next claim calls don't reach the store.
        drop_requests: So many of the next commit calls don't reach the store.
        drop_replies: So many of the next commit calls happen, but their answer is lost.
        commits: All commits that were sent, also again, call by call.
        claims: All claims that were sent, call by call.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gate: anyio.Event | None = None
        self.portion = store.portion
        self.threaded = store.threaded
        self.down = False
        self.claims_down = False
        self.fail_claims = 0
        self.drop_requests = 0
        self.drop_replies = 0
        self.commits: list[Sequence[Commit]] = []
        self.claims: list[Sequence[Claim]] = []

    def hold(self) -> None:
        """Let commits wait before they reach the store, until `let_go`."""
        self._gate = anyio.Event()

    def let_go(self) -> None:
        """Let the commits that wait, and all others, through."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailableError("the store is down, as it was told", fate=Fate.IN_DOUBT)

    async def open(self, process: Process, lease_seconds: float) -> None:
        """See `Store`."""
        self._check()
        await self._store.open(process, lease_seconds)

    async def renew(self) -> bool:
        """See `Store`."""
        self._check()
        return await self._store.renew()

    async def aclose(self) -> None:
        """See `Store`."""
        await self._store.aclose()

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """See `Store`."""
        self.claims.append(claims)
        self._check()
        if self.claims_down or self.fail_claims:
            self.fail_claims = max(0, self.fail_claims - 1)
            raise StoreUnavailableError("the claim was lost, as told")
        return await self._store.claim(claims)

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """See `Store`."""
        self.commits.append(commits)
        if self._gate is not None:
            await self._gate.wait()
        self._check()
        if self.drop_requests:
            self.drop_requests -= 1
            raise StoreUnavailableError("the request was lost, as told", fate=Fate.IN_DOUBT)
        outcomes = await self._store.commit(commits)
        if self.drop_replies:
            self.drop_replies -= 1
            raise StoreUnavailableError("the reply was lost, as told", fate=Fate.IN_DOUBT)
        return outcomes

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """See `Store`."""
        self._check()
        return await self._store.read(keys)

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """See `Store`."""
        self._check()
        return await self._store.due(until, since)

    def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """See `Store`."""
        self._check()
        return self._store.scan(prefix)

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """See `Store`."""
        self._check()
        return await self._store.entries(keys)
