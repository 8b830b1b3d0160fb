"""The one task that sends commits: all channels that changed, together.

While one batch is in flight the next one gathers (group commit); nobody waits for a timer. A
channel has at most one unsettled commit at the store, which is sent again, unchanged, until it is
settled.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.lowlevel import checkpoint

from gamegirl.actors import Fate, PatchHash, StoreUnavailableError, Write
from gamegirl.supervisor._cell import Cell, PendingCommit, Status
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._courtesy import Courtesy
from gamegirl.supervisor._engine import Engine
from gamegirl.supervisor._events import StoreBack, StoreLost
from gamegirl.supervisor._watchdog import Watchdog
from gamegirl.supervisor.stores import Commit, Store

_BATCH = 1024
"""So many channels at most are committed together."""


class Flusher:
    """Gathers actors that changed and commits them.

    Attributes:
        sent: How many commits were settled.
        batches: How many calls of the store that took.
        returned: Is set when the store answers again after it didn't.
        trouble: Why it didn't the last time; empty: it did.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        clock: Clock,
        watchdog: Watchdog,
        courtesy: Courtesy,
        flush_seconds: float,
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._watchdog = watchdog
        self._courtesy = courtesy
        self._flush_seconds = flush_seconds
        self._urgent: dict[Cell, None] = {}
        self._patient: dict[Cell, float] = {}
        self._wanted = anyio.Event()
        self._idle = False
        self._failures = 0
        self.sent = 0
        self.batches = 0
        self.returned = anyio.Event()
        self.trouble = ""

    def add(self, cell: Cell, *, urgent: bool) -> None:
        """The actor has something to commit: now, or within `flush_seconds`."""
        if urgent:
            self._urgent[cell] = None
        elif cell in self._patient:
            return
        else:
            self._patient[cell] = self._clock.monotonic() + self._flush_seconds
        if self._idle:
            self._idle = False
            self._wanted.set()

    def hurry(self) -> None:
        """Commit at once what may wait for company."""
        self._urgent.update(dict.fromkeys(self._patient))
        self._patient.clear()
        self._wanted.set()

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            batch = self._take()
            if batch:
                await self._send(batch)
                self._watchdog.prune()
                continue
            self._wanted = anyio.Event()
            self._idle = True
            if self._patient:
                wait = next(iter(self._patient.values())) - self._clock.monotonic()
                with anyio.move_on_after(max(0.0, wait)):
                    await self._wanted.wait()
            else:
                await self._wanted.wait()
            await checkpoint()  # Whoever is about to run may still join the batch.

    def _take(self) -> list[Cell]:
        now = self._clock.monotonic()
        patient = self._patient
        while patient:
            cell, when = next(iter(patient.items()))
            if when > now:
                break
            del patient[cell]
            self._urgent[cell] = None
        batch: list[Cell] = []
        while self._urgent and len(batch) < _BATCH:
            cell = next(iter(self._urgent))
            del self._urgent[cell]
            patient.pop(cell, None)
            backlog = cell.backlog
            if cell.status is Status.REWRITING or backlog is None or not backlog.commits:
                continue  # Settled meanwhile, or another claim comes first.
            batch.append(cell)
        return batch

    async def _send(self, batch: Sequence[Cell]) -> None:
        if self._failures > 1:
            # One channel's commit may be what the store chokes on: settle them one by one, and
            # stop at the first failure, or an outage would take a timeout for each.
            for position, cell in enumerate(batch):
                if not await self._try([cell]):
                    rest = [*batch[position + 1 :], cell]
                    self._urgent = {**dict.fromkeys(rest), **self._urgent}
                    await self._back_off()
                    return
        elif not await self._try(batch):
            self._urgent = {**dict.fromkeys(batch), **self._urgent}
            await self._back_off()

    async def _try(self, batch: Sequence[Cell]) -> bool:
        pending: list[tuple[Cell, PendingCommit]] = []
        commits: list[Commit] = []
        for cell in batch:
            backlog = cell.backlog
            if cell.status is Status.REWRITING or backlog is None or not backlog.commits:
                continue
            commit = backlog.commits[0]
            if commit.sent is None:
                commit.sent = _freeze(cell, commit)
            pending.append((cell, commit))
            commits.append(commit.sent)
        if not commits:
            return True
        try:
            with self._courtesy.call():
                outcomes = await self._store.commit(commits)
        except StoreUnavailableError as error:
            for _, commit in pending:
                commit.doubtful = commit.doubtful or error.fate is Fate.IN_DOUBT
            self.trouble = str(error)
            if self._failures == 0:
                self._engine.hub.publish(StoreLost(self.trouble))
            self._failures += 1
            return False
        self.batches += 1
        self.sent += len(commits)
        if self._failures:
            self._failures = 0
            self.trouble = ""
            self._engine.hub.publish(StoreBack())
            self.returned.set()
        for (cell, commit), outcome in zip(pending, outcomes, strict=True):
            self._engine.settlement.settle(cell, commit, outcome)
            if cell.backlog is not None and cell.backlog.commits:
                self.add(cell, urgent=True)
        return True

    async def _back_off(self) -> None:
        await anyio.sleep(self._engine.retry_delay(self._failures))


def _freeze(cell: Cell, commit: PendingCommit) -> Commit:
    """The commit as it goes to the store, now and whenever it is sent again."""
    revision = cell.revision + 1
    return Commit(
        actor=cell.key,
        owner=cell.owner,
        revision=revision,
        commit_id=f"{cell.owner.split(':')[1]}.{revision}",
        writes=_merge(commit.writes),
        requires=commit.requires,
        due=commit.due,
        release=commit.release,
    )


def _merge(writes: Sequence[Write]) -> Sequence[Write]:
    """The same writes with neighbouring patches of one hash made into one."""
    if len(writes) < 2:
        return tuple(writes)
    merged: list[Write] = []
    for write in writes:
        last = merged[-1] if merged else None
        if (
            isinstance(write, PatchHash)
            and isinstance(last, PatchHash)
            and write.key == last.key
            and not write.remove
            and not last.remove
        ):
            merged[-1] = PatchHash(last.key, {**last.fields, **write.fields})
        else:
            merged.append(write)
    return tuple(merged)
