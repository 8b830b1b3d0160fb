"""What a store must do: hold typed keys, and change an actor's keys only for its owner.

A store knows keys (texts, hashes, lists), fences, leases and the due index. It knows neither games
nor behaviours. Beside the keys that writes name, it keeps:

    gg:fence:{kind}:{id}    hash: owner, rev, cid, since (rev at the claim). Without TTL; survives
                            everything
    gg:epoch                counter, up at each claim, and at least to the claimer's clock (ms)
    gg:lease:{process}      text: the process's instance name; gone when the process is
    gg:due                  sorted set: `{kind}:{id}` by the time it is due, epoch seconds

An owner token is `epoch:nonce:process`; the empty token means nobody. Who owns what is decided by
equality alone. Which of two owners came first is seen by their epochs, where a store went back in
time: they follow the clock, so that one who claimed after that has the higher one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from math import inf
from typing import Protocol, TypeAlias

import attrs
import msgspec
from msgspec.structs import force_setattr

from gamegirl.actors import Prefetch, Require, Stored, Write
from gamegirl.codec import escape_id, unescape_id


class ActorKey(msgspec.Struct, frozen=True, gc=False):
    """Names an actor: its kind and its id.

    Attributes:
        escaped: The id as it is written in keys; found out by itself, once.
    """

    kind: str
    actor_id: str
    escaped: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "escaped", escape_id(self.actor_id))

    @classmethod
    def of_member(cls, member: str) -> ActorKey:
        """The actor that has this name in the due index."""
        kind, _, escaped = member.partition(":")
        return cls(kind, unescape_id(escaped))

    @property
    def member(self) -> str:
        """Its name in the due index and in the fence's key."""
        return f"{self.kind}:{self.escaped}"

    @property
    def fence(self) -> str:
        """The key of its fence."""
        return f"gg:fence:{self.kind}:{self.escaped}"


@attrs.frozen
class Process:
    """One supervisor, as the store knows it.

    Attributes:
        name: Unique, no colon in it; it ends every owner token of this supervisor.
        instance: A name that outlives restarts: a process may take over at once from a live one
            of the same instance. Empty: none.
    """

    name: str
    instance: str = ""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Ask to own an actor and to get what is stored of it.

    Attributes:
        keys: What to load, in this order.
        nonce: A fresh random part of the owner token (no colon in it).
        over: The token of an owner that this process had followed before the store went back in
            time: it is taken over from, whether it lives or not. Empty: none.
        prefetch: A further key to load, last.
    """

    actor: ActorKey
    keys: Sequence[str]
    nonce: str
    over: str = ""
    prefetch: Prefetch | None = None


class Claimed(msgspec.Struct, frozen=True):
    """The actor is owned.

    Attributes:
        owner: The new token.
        previous: The token before (empty: nobody's), None if there was no fence at all.
        revision: The number of the last commit.
        commit_id: Its id.
        stored: What the keys hold, in the order asked for; last, if there was a `prefetch`, what
            that key holds (None: no hash, or one with too many fields).
    """

    owner: str
    previous: str | None
    revision: int
    commit_id: str
    stored: Sequence[Stored]


@attrs.frozen
class Owned:
    """Somebody else owns the actor and lives.

    Attributes:
        owner: Their token.
        lease_seconds: When to ask again: their lease runs out then unless it is renewed.
    """

    owner: str
    lease_seconds: float


@attrs.frozen
class Broken:
    """Nothing was written or claimed: this can't be done until somebody repairs it.

    A fence or the epoch holds what we never write there, or a value can't be stored as it is.

    Attributes:
        reason: What is wrong with which key, for a person.
    """

    reason: str


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One atomic change of an actor's keys.

    Attributes:
        owner: The token under which it is made.
        revision: The fence's revision plus one.
        commit_id: Unique; sent again unchanged when the answer was lost.
        writes: In this order.
        requires: All must hold.
        due: When the actor is due from now on; None: never; `KEEP_DUE`: as before.
        release: Give up ownership with it.
    """

    actor: ActorKey
    owner: str
    revision: int
    commit_id: str
    writes: Sequence[Write] = ()
    requires: Sequence[Require] = ()
    due: float | None = -1.0
    release: bool = False


KEEP_DUE = -1.0
"""The `Commit.due` that leaves the index as it is."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """The commit has happened, now or when it was sent before (`again`)."""

    again: bool = False


@attrs.frozen
class Fenced:
    """Nothing was written: the owner is another one.

    Attributes:
        owner: Whose it is (empty: nobody's); None: there is no fence.
        revision: The number of its last commit; None: it holds none.
        since: The revision at which the last claim was made; None: it holds none.
    """

    owner: str | None
    revision: int | None = None
    since: int | None = None


@attrs.frozen
class Conflict:
    """Nothing was written: the fence's revision is not the one before the commit's."""

    revision: int


@attrs.frozen
class BadType:
    """Nothing was written: a key holds another type than the write or requirement needs.

    A full form replaces a key only of its own type; `Drop` any. Within a commit a key counts as of
    the type that the last write to it leaves.

    Attributes:
        found: Redis' name of the type: string, hash, list, zset …
    """

    key: str
    found: str


@attrs.frozen
class Unmet:
    """Nothing was written: this one of the requirements does not hold (its index)."""

    index: int


Outcome: TypeAlias = "Done | Fenced | Conflict | BadType | Unmet | Broken"


class Due(msgspec.Struct, frozen=True, gc=False):
    """An actor that somebody must host.

    Attributes:
        at: Since or from when, epoch seconds.
        owner: Whose it is (empty: nobody's).
        lease_seconds: How long its owner's lease still runs (the caller's own too); 0: a claim
            would succeed now, since nobody alive owns it but this process's instance.
    """

    actor: ActorKey
    at: float
    owner: str
    lease_seconds: float


@attrs.frozen
class Entry:
    """A key as it is stored, for export and for people.

    Attributes:
        value: bytes, field to value, or items.
        ttl_seconds: -1: none.
    """

    key: str
    value: Stored
    ttl_seconds: int


class Store(Protocol):
    """A place where actors are kept: the one protocol that every store follows.

    Every method raises `StoreUnavailableError` when the store can't be reached, is busy loading,
    out of memory, read-only and the like; then nobody knows whether it happened. Batches are not
    atomic as a whole: each of their items is, by itself.
    """

    @property
    def portion(self) -> int:
        """So many commits are best handed over at once."""
        ...

    @property
    def threaded(self) -> bool:
        """Whether its calls are made in threads of this process."""
        ...

    async def open(self, process: Process, lease_seconds: float) -> None:
        """Get ready and make the process known as alive."""
        ...

    async def renew(self) -> bool:
        """Say that this process lives, for another `lease_seconds`.

        Returns:
            Whether the store has known it all the time. If not, it was restarted or replaced, or
            has lost the lease: then what it holds may be older than what it had confirmed.
        """
        ...

    async def aclose(self) -> None:
        """Give up the lease and let go of everything; may be called twice, or when never opened."""
        ...

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        """Own each actor that is free: nobody's, a dead process's, this process's or instance's."""
        ...

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        """Make each commit, once, however often it is sent."""
        ...

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the keys hold, without any claim."""
        ...

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """The actors due from `since` to `until` (epoch seconds), both included, oldest first."""
        ...

    def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        """The names of the keys that begin so, in batches; without the lease keys."""
        ...

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        """The keys as they are stored; absent ones have the value None."""
        ...
