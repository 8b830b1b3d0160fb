"""Claims and restores actors: all that are wanted, together.

While the actors of one batch are restored, the store is asked for the next one. One actor's claim
may be what the store chokes on: those whose claims have failed are claimed apart from all others
and in ever smaller company, until each that the store can take has been taken. If it was the store,
their company grows as fast again.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from gamegirl.actors import (
    CodecError,
    Fate,
    NeedsMore,
    OwnershipLostError,
    Quarantined,
    Restored,
    StoreUnavailableError,
)
from gamegirl.actors import Stored as StoredValue
from gamegirl.supervisor._cell import Cell, Status
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._courtesy import Courtesy
from gamegirl.supervisor._engine import Engine
from gamegirl.supervisor._log import told
from gamegirl.supervisor._timers import Timers
from gamegirl.supervisor.stores import Broken, Claim, Claimed, Store

_BATCH = 64
"""So many actors at most are claimed together."""

_BATCHES = 4
"""So many batches at most are under way: the store works on some while another is restored."""

_RETRIES = _BATCHES - 1
"""So many of them at most are of actors whose claims have failed: such a call waits in its slot
until it is tried again, and who is new must not wait for that."""

_APART = 5
"""After four failures an actor is claimed alone (`_company`). Who has failed more often than this
is refused itself, and waits for those of whom that isn't known: there may be
hundreds, each of them a call."""

_SLICE_SECONDS = 0.001
"""Restoring yields to the loop this often."""

_CLAIMABLE = (Status.CLAIMING, Status.RECOVERING, Status.REWRITING)


class _Failed(msgspec.Struct):
    """What became of an actor's claims that failed.

    Attributes:
        calls: So many in a row.
        trouble: Why the last one has.
    """

    calls: int = 0
    trouble: str = ""


class Activator:
    """Gathers actors that want a claim, claims them, and has their behaviours restore them.

    Attributes:
        claimed: How many claims were granted.
    """

    def __init__(
        self, engine: Engine, store: Store, clock: Clock, timers: Timers, courtesy: Courtesy
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._timers = timers
        self._courtesy = courtesy
        self._wanted: dict[Cell, None] = {}
        self._retried: dict[Cell, None] = {}  # The same, of which a claim has failed.
        self._refused: dict[Cell, None] = {}  # The same, also alone.
        self._underway: set[Cell] = set()
        self._again: dict[Cell, None] = {}
        self._failed: dict[Cell, _Failed] = {}
        self._slots = anyio.Semaphore(_BATCHES, fast_acquire=True)
        self._any = anyio.Event()
        self._retrying = 0  # So many batches under way are of those whose claims have failed.
        self._failures = 0  # So many calls in a row.
        self._through = 0  # So many calls in a row of such actors have not.
        self._trouble = ""
        self.claimed = 0

    def request(self, cell: Cell, delay: float = 0.0) -> None:
        """Claim the actor, after a while."""
        if delay > 0:
            self._timers.after(delay, self._due, cell)
        else:
            self._due(cell, self._clock.now())

    def _due(self, cell: Cell, _: float) -> None:
        if not _claimable(cell):
            return
        cell.busy().claim_since = self._clock.monotonic()
        if cell in self._underway:
            self._again[cell] = None  # Two claims of one actor would get in each other's way.
            return
        self._want(cell)

    def _want(self, cell: Cell) -> None:
        failed = self._failed.get(cell)
        if failed is None:
            self._wanted[cell] = None
        elif failed.calls <= _APART:
            self._retried[cell] = None
        else:
            self._refused[cell] = None
        self._any.set()

    def trouble(self, cell: Cell) -> str:
        """Why the store did not claim the actor, or others, the last time; empty: it did."""
        failed = self._failed.get(cell)
        return self._trouble if failed is None else failed.trouble

    async def run(self) -> None:
        """Claim until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._slots.acquire()
                while not (batch := self._take()):
                    self._any = anyio.Event()
                    await self._any.wait()
                    await checkpoint()  # Whoever is about to run may still join the batch.
                retried = batch[0] in self._failed
                self._retrying += retried
                tasks.start_soon(self._see_to, batch, retried)

    def _take(self) -> list[Cell]:
        batch: list[Cell] = []
        if not self._retrying:  # However many are new.
            batch = self._take_again()
        batch = batch or self._take_from(self._wanted)
        if not batch and self._retrying < _RETRIES:
            batch = self._take_again()
        self._underway.update(batch)
        return batch

    def _take_again(self) -> list[Cell]:
        return self._take_from(self._retried) or self._take_from(self._refused)

    def _take_from(self, wanted: dict[Cell, None]) -> list[Cell]:
        batch: list[Cell] = []
        most = _BATCH
        while wanted:
            cell = next(iter(wanted))
            failed = self._failed.get(cell)
            if not _claimable(cell) or (
                failed is not None and not self._engine.life.unclaimed(cell)
            ):
                self._failed.pop(cell, None)
                del wanted[cell]
                continue
            if failed is not None:
                most = min(most, _company(failed.calls, self._through))
            if len(batch) >= most:
                break
            del wanted[cell]
            batch.append(cell)
        return batch

    async def _see_to(self, batch: Sequence[Cell], retried: bool) -> None:
        try:
            await self._claim(batch, retried)
        finally:
            self._slots.release()
            self._retrying -= retried
            if self._retried or self._refused:
                self._any.set()
            self._underway.difference_update(batch)
            if self._again:
                again = [cell for cell in batch if cell in self._again]
                for cell in again:
                    del self._again[cell]
                    self._want(cell)

    async def _claim(self, batch: Sequence[Cell], retried: bool) -> None:
        claims: dict[Cell, Claim] = {}
        rewritten: set[Cell] = set()
        for cell in batch:
            try:
                rewriting = cell.status is Status.REWRITING
                keys = () if rewriting else tuple(cell.behaviour.keys(cell.key.actor_id))
            except Exception as error:  # noqa: BLE001 - reported as a crash
                self._engine.life.crashed(cell, "keys", error, traceback.format_exc())
                self._failed.pop(cell, None)
                continue
            nonce = f"{self._engine.random.getrandbits(64):016x}"
            prefetch = None if rewriting else self._engine.roles[cell.key.kind].prefetch
            claims[cell] = Claim(cell.key, keys, nonce, cell.busy().over, prefetch)
            if rewriting:
                rewritten.add(cell)
        if not claims:
            return
        try:
            with self._courtesy.call():
                results = await self._store.claim(tuple(claims.values()))
            pause = self._clock.now()
            more: list[tuple[Cell, Claimed, NeedsMore]] = []
            for (cell, claim), result in zip(claims.items(), results, strict=True):
                if isinstance(result, Broken):
                    self._engine.life.unclaimable(cell, result.reason)
                    continue
                if not isinstance(result, Claimed):
                    self._engine.life.owned_elsewhere(cell, result.owner)
                    continue
                self.claimed += 1
                if (cell.status is Status.REWRITING) != (cell in rewritten):
                    # It crashed meanwhile: this claim was for something else.
                    self._again[cell] = None
                    continue
                claimed = _padded(claim, result)
                wish = self._restore(cell, claimed)
                if wish is not None:
                    more.append((cell, claimed, wish))
                if not 0 <= self._clock.now() - pause <= _SLICE_SECONDS:
                    await checkpoint()
                    pause = self._clock.now()
            if more:
                await self._read_more(more)
            self._engine.watch.prune()
        except StoreUnavailableError as error:
            self._trouble = str(error)
            self._failures += 1
            life = self._engine.life
            left: list[Cell] = []
            calls = inf  # Of the one for which the fewest have failed.
            for cell in claims:
                if _claimable(cell) and life.unclaimed(cell):
                    left.append(cell)
                    failed = self._failed.setdefault(cell, _Failed())
                    failed.calls += 1
                    failed.trouble = self._trouble
                    calls = min(calls, failed.calls)
                else:
                    self._failed.pop(cell, None)
            if retried:
                self._through = 0
            # Also if others' claims go through: these may fail for as long as there are any.
            failures = max(self._failures, calls) if left else self._failures
            await anyio.sleep(self._engine.retry_delay(int(failures)))
            self._again.update(dict.fromkeys(left))
        else:
            self._trouble = ""
            self._failures = 0
            if retried:
                self._through += 1
                for cell in claims:
                    self._failed.pop(cell, None)

    async def _read_more(self, wishes: Sequence[tuple[Cell, Claimed, NeedsMore]]) -> None:
        with self._courtesy.call():
            values = await self._store.read([key for *_, wish in wishes for key in wish.keys])
        pause = self._clock.now()
        at = 0
        for cell, claimed, wish in wishes:
            count = len(wish.keys)
            self._go_on(cell, claimed, wish, values[at : at + count])
            at += count
            if not 0 <= self._clock.now() - pause <= _SLICE_SECONDS:
                await checkpoint()
                pause = self._clock.now()

    def _restore(self, cell: Cell, claimed: Claimed) -> NeedsMore | None:
        if not _claimable(cell):
            return None  # It was let go of meanwhile; ours until a sweep finds it due, or a claim.
        if cell.status is Status.REWRITING:
            self._rewrite(cell, claimed)
            return None
        return self._make(cell, claimed, claimed.stored, None, ())

    def _go_on(
        self, cell: Cell, claimed: Claimed, wish: NeedsMore, values: Sequence[StoredValue]
    ) -> None:
        if not _claimable(cell):
            return
        stored = (*claimed.stored, *values)
        if self._make(cell, claimed, stored, wish.then, values) is not None:
            error = TypeError(f"{type(cell.behaviour).__name__}.restore() wants more twice")
            self._engine.life.crashed(cell, wish, error, "")

    def _make(
        self,
        cell: Cell,
        claimed: Claimed,
        stored: Sequence[StoredValue],
        then: Callable[[Sequence[StoredValue]], Restored[Any]] | None,
        values: Sequence[StoredValue],
    ) -> NeedsMore | None:
        engine = self._engine
        try:
            restored: Restored[Any] | NeedsMore
            if then is not None:
                restored = then(values)
            else:
                queue, now = cell.busy().queue, self._clock.now()
                if queue:
                    now = min(now, queue[0].stamp)
                restored = cell.behaviour.restore(cell.key.actor_id, stored, now)
            if isinstance(restored, NeedsMore):
                return restored
            if not isinstance(restored, Restored):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"restore() returned {restored!r:.100}, expected Restored")
            engine.life.restored(cell, claimed, restored)
        except CodecError as error:
            keys = cell.behaviour.keys(cell.key.actor_id)
            copies = [
                Quarantined.whole(key, value, str(error))
                for key, value in zip(keys, stored, strict=False)
                if value is not None
            ]
            engine.life.unusable(cell, claimed, Restored(None, quarantined=copies), str(error))
        except Exception as error:  # noqa: BLE001 - reported as a crash
            cell.own(claimed)
            engine.life.crashed(cell, "restore", error, traceback.format_exc())
        return None

    def _rewrite(self, cell: Cell, claimed: Claimed) -> None:
        engine = self._engine
        try:
            writes = tuple(cell.behaviour.stored(cell.state))
        except Exception as error:  # noqa: BLE001 - reported as a crash
            trace = traceback.format_exc()
            message = (
                f"the store went back in time, and {cell.name} can't be written from memory: "
                f"{told(error)}; it is loaded from what is stored"
            )
            engine.settlement.abort(
                cell, lambda _fate: OwnershipLostError(message, fate=Fate.IN_DOUBT)
            )
            engine.life.crashed(cell, "stored", error, trace)
        else:
            engine.settlement.rewrite(cell, claimed, writes)


def _padded(claim: Claim, claimed: Claimed) -> Claimed:
    """What was claimed, also by a store that knows of no prefetch."""
    if claim.prefetch is None or len(claimed.stored) > len(claim.keys):
        return claimed
    return replace(claimed, stored=[*claimed.stored, None])


def _company(failures: int, through: int) -> int:
    """So many are claimed together.

    Args:
        failures: So many calls for one of them have failed in a row.
        through: So many calls for others like it have not.
    """
    # Once more in the same company, since most failures are the network's.
    return min(_BATCH, max(1, _BATCH >> 2 * max(0, failures - 1)) << min(through, _BATCH))


def _claimable(cell: Cell) -> bool:
    return cell.status in _CLAIMABLE
