"""The store that is gone with its process: for tests, simulations and trying things out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from math import inf
from typing import TypeAlias

import anyio.lowlevel
import attrs

from gamegirl.actors import Fate, Stored, StoreUnavailableError, WrongType
from gamegirl.supervisor.stores import _typed
from gamegirl.supervisor.stores._protocol import (
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

_Held: TypeAlias = bytes | dict[bytes, bytes] | list[bytes]

_SCAN_BATCH = 1000


@attrs.define
class _Keys:
    """Typed keys in dicts: what every handle on one memory store shares."""

    clock: Callable[[], float]
    held: dict[bytes, _Held] = attrs.field(factory=dict[bytes, _Held])
    expires: dict[bytes, float] = attrs.field(factory=dict[bytes, float])
    due: dict[str, float] = attrs.field(factory=dict[str, float])
    leases: dict[str, tuple[str, float]] = attrs.field(factory=dict[str, tuple[str, float]])
    """Process to instance and to when the lease runs out."""

    def type_of(self, key: bytes) -> str | None:
        held = self._live(key)
        if held is None:
            return _typed.INDEX if key == _typed.DUE_KEY and self.due else None
        if isinstance(held, bytes):
            return _typed.TEXT
        return _typed.HASH if isinstance(held, dict) else _typed.LIST

    def fields(self, key: bytes, names: Sequence[bytes]) -> Sequence[bytes | None]:
        held = self._live(key)
        if not isinstance(held, dict):
            return [None] * len(names)
        return [held.get(name) for name in names]

    def load(self, key: bytes) -> Stored:
        held = self._live(key)
        if held is None:
            return WrongType(_typed.INDEX) if self.type_of(key) else None
        return held if isinstance(held, bytes) else held.copy()

    def ttl(self, key: bytes) -> int:
        return round(self.expires[key] - self.clock()) if key in self.expires else -1

    def put_text(self, key: bytes, text: bytes) -> None:
        self.drop(key)
        self.held[key] = text

    def put_hash(self, key: bytes, fields: Mapping[bytes, bytes], ttl_seconds: int | None) -> None:
        self.drop(key)
        if fields:
            self.held[key] = dict(fields)
            if ttl_seconds is not None:
                self.expires[key] = self.clock() + ttl_seconds

    def patch_hash(
        self, key: bytes, fields: Mapping[bytes, bytes], remove: Sequence[bytes]
    ) -> None:
        held = self._live(key)
        target = held if isinstance(held, dict) else {}
        target.update(fields)
        for name in remove:
            target.pop(name, None)
        self._keep(key, target)

    def put_list(self, key: bytes, items: Sequence[bytes]) -> None:
        self.drop(key)
        self._keep(key, list(items))

    def append_list(self, key: bytes, items: Sequence[bytes], keep: int) -> None:
        held = self._live(key)
        target = held if isinstance(held, list) else []
        target.extend(items)
        del target[: max(len(target) - keep, 0)]
        self._keep(key, target)

    def drop(self, key: bytes) -> None:
        self.held.pop(key, None)
        self.expires.pop(key, None)
        if key == _typed.DUE_KEY:
            self.due.clear()

    def schedule(self, member: str, at: float | None) -> None:
        if at is None:
            self.due.pop(member, None)
        else:
            self.due[member] = at

    def names(self, prefix: bytes) -> list[bytes]:
        names = [key for key in self.held if key.startswith(prefix)]
        if self.due and _typed.DUE_KEY.startswith(prefix):
            names.append(_typed.DUE_KEY)
        return [key for key in names if self.type_of(key)] if self.expires else names

    def remaining(self, process: Process, name: str) -> float:
        """How long no claim of `process` can take over from the process of that name."""
        instance, until = self.leases.get(name, ("", 0.0))
        if instance and instance == process.instance and name != process.name:
            return 0.0
        return max(until - self.clock(), 0.0) if name in self.leases else 0.0

    def _live(self, key: bytes) -> _Held | None:
        if key in self.expires and self.expires[key] <= self.clock():
            self.drop(key)
        return self.held.get(key)

    def _keep(self, key: bytes, value: dict[bytes, bytes] | list[bytes]) -> None:
        """Like Redis: a hash or list that has become empty is gone, with its time to live."""
        if value:
            self.held[key] = value
        else:
            self.drop(key)


class MemoryStore:
    """Keeps actors in this process's memory; the reference model for all other stores.

    One store object serves one supervisor. `sibling()` gives another supervisor in the same
    process (or the next one in a test) a handle on the same keys.

    Args:
        clock: What leases and times to live run on, in seconds.
    """

    portion = 1024
    threaded = False

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = _Keys(clock)
        self._process: Process | None = None
        self._lease_seconds = 0.0

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._keys.held)} keys)"

    def sibling(self) -> MemoryStore:
        """Another supervisor's handle on the same keys."""
        sibling = MemoryStore(clock=self._keys.clock)
        sibling._keys = self._keys
        return sibling

    async def open(self, process: Process, lease_seconds: float) -> None:
        """Get ready and make the process known as alive."""
        self._process = process
        self._lease_seconds = lease_seconds
        await self.renew()

    async def renew(self) -> bool:
        """Say that this process lives, for another `lease_seconds`."""
        await anyio.lowlevel.checkpoint()
        process = self._opened()
        now = self._keys.clock()
        known = self._keys.leases.get(process.name, ("", now))[1] > now
        self._keys.leases[process.name] = (process.instance, now + self._lease_seconds)
        return known

    async def aclose(self) -> None:
        """Give up the lease; the keys stay as long as there is a handle on them."""
        if self._process is not None:
            self._keys.leases.pop(self._process.name, None)
            self._process = None

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """Own each actor that is free."""
        await anyio.lowlevel.checkpoint()
        keys, process = self._keys, self._opened()

        def remaining(name: str) -> float:
            return keys.remaining(process, name)

        moment = keys.clock()
        return [_typed.make_claim(keys, claim, process, remaining, moment) for claim in claims]

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Make each commit, once, however often it is sent."""
        await anyio.lowlevel.checkpoint()
        return [_typed.make_commit(self._keys, commit) for commit in commits]

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the keys hold, without any claim."""
        await anyio.lowlevel.checkpoint()
        return [self._keys.load(_typed.key_bytes(key)) for key in keys]

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """The actors due from `since` to `until` (epoch seconds), both included, oldest first."""
        await anyio.lowlevel.checkpoint()
        keys, process = self._keys, self._opened()
        found: list[Due] = []
        for at, member in sorted(
            (at, member) for member, at in keys.due.items() if since <= at <= until
        ):
            actor = ActorKey.of_member(member)
            (value,) = keys.fields(_typed.key_bytes(actor.fence), (b"owner",))
            owner = (value or b"").decode("utf-8", "replace")
            seconds = keys.remaining(process, _typed.process_of(owner)) if owner else 0.0
            found.append(Due(actor, at, owner, seconds))
        return found

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """The names of the keys that begin so, in batches."""
        names = self._keys.names(_typed.key_bytes(prefix))
        for start in range(0, len(names), _SCAN_BATCH):
            await anyio.lowlevel.checkpoint()
            yield [_typed.key_name(key) for key in names[start : start + _SCAN_BATCH]]

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """The keys as they are stored; absent ones have the value None."""
        await anyio.lowlevel.checkpoint()
        return [
            Entry(key, self._keys.load(encoded), self._keys.ttl(encoded))
            for key, encoded in ((key, _typed.key_bytes(key)) for key in keys)
        ]

    def _opened(self) -> Process:
        if self._process is None:
            raise StoreUnavailableError(
                "the memory store is not open: await its open() first", fate=Fate.NOT_EXECUTED
            )
        return self._process
