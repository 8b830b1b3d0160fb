"""Dropping copies from quarantine, each as it was read.

Every commit compares what it drops with what was read, so that a copy which a running bot has put
there anew meanwhile is kept and named.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence

import anyio
import attrs

from gamegirl.actors import OwnedElsewhereError, PatchHash, Require
from gamegirl.cli._copies import (
    LEASE_SECONDS,
    Copy,
    as_name,
    as_text,
    opened,
    read_copies,
    refused,
    release,
)
from gamegirl.cli._lines import QUARANTINE
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import Store
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Done, Owned, Unmet

KEEPER = ActorKey("quarantine", "entries")
"""Under whose fence copies are dropped; who drops some at the same time waits."""

WAIT_SECONDS = 2 * LEASE_SECONDS
RETRY_SECONDS = 0.05

BATCH = 100
"""So many copies are dropped in one commit, …"""

BATCH_BYTES = 4 << 20
"""… unless they are large: about so many bytes at most are compared in one."""


@attrs.define
class Dropped:
    """What became of copies that were to be dropped.

    Attributes:
        count: Dropped now.
        gone: Not there any more.
        changed: Put there anew since they were read: kept.
    """

    count: int = 0
    gone: list[str] = attrs.field(factory=list[str])
    changed: list[str] = attrs.field(factory=list[str])


async def drop_copies(store: Store, copies: Sequence[Copy]) -> Dropped:
    """Drop copies as they were read.

    Args:
        store: Where they are; it is opened and closed.
        copies: Which.

    Raises:
        OwnedElsewhereError: Somebody else drops copies all the time.
        StoreUnavailableError: The store went away; the rest can be dropped by doing it again.
    """
    done = Dropped()
    async with opened(store):
        claimed = await _claim_keeper(store)
        revision = claimed.revision
        for batch in _batches(copies):
            await store.renew()
            left = batch
            while left:
                commit = Commit(
                    KEEPER,
                    claimed.owner,
                    revision + 1,
                    secrets.token_hex(8),
                    [PatchHash(QUARANTINE, remove=[as_name(copy.name) for copy in left])],
                    [_as_read(copy) for copy in left],
                )
                (outcome,) = await store.commit([commit])
                if isinstance(outcome, Done):
                    revision += 1
                    done.count += len(left)
                    break
                if not isinstance(outcome, Unmet):
                    raise refused(outcome, QUARANTINE)
                left = await _still_there(store, left, done, at_least=left[outcome.index])
        await release(store, claimed, KEEPER, revision)
    return done


async def _still_there(
    store: Store, copies: Sequence[Copy], done: Dropped, *, at_least: Copy
) -> list[Copy]:
    """The copies that are as they were read; what became of the others is noted."""
    held = {copy.name: copy.stored for copy in await read_copies(store)}
    left: list[Copy] = []
    for copy in copies:
        if copy.name not in held:
            done.gone.append(copy.name)
        elif held[copy.name] != copy.stored or copy is at_least:
            # It was refused a moment ago, so it has changed, even if it is as before again.
            done.changed.append(copy.name)
        else:
            left.append(copy)
    return left


async def _claim_keeper(store: Store) -> Claimed:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        (claimed,) = await store.claim([Claim(KEEPER, (), secrets.token_hex(8))])
        if isinstance(claimed, Claimed):
            return claimed
        if not isinstance(claimed, Owned):
            raise GameGirlError(f"nothing can be dropped: {claimed.reason}")
        if time.monotonic() > deadline:
            raise OwnedElsewhereError(
                f"{claimed.owner} drops entries too, and hasn't finished for {WAIT_SECONDS:.0f} s: "
                "nothing was dropped; try again",
                owner=claimed.owner,
            )
        await store.renew()
        await anyio.sleep(RETRY_SECONDS)


def _batches(copies: Sequence[Copy]) -> Iterator[list[Copy]]:
    batch: list[Copy] = []
    size = 0
    for copy in copies:
        if len(batch) == BATCH or (batch and size + len(copy.stored) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(copy)
        size += len(copy.stored)
    if batch:
        yield batch


def _as_read(copy: Copy) -> Require:
    changed = GameGirlError(f"{copy.name} has changed")
    return Require(QUARANTINE, as_name(copy.name), as_text(copy.stored), changed)
