"""Sends commits: all channels that changed, together.

While one batch is in flight the next one gathers (group commit); nobody waits for a timer. As soon
as half a portion of the store's has gathered it goes behind the first, and whole ones behind
others, up to a bound, so that the store works while the answers of the portion before are given. A
channel has at most one unsettled commit at the store, which is sent again, unchanged, until it is
settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain

import anyio
from anyio.lowlevel import checkpoint

from gamegirl.actors import Fate, PatchHash, StoreUnavailableError, Write
from gamegirl.supervisor._cell import Backlog, Cell, Joined, PendingCommit, Status
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._courtesy import Courtesy
from gamegirl.supervisor._engine import Engine
from gamegirl.supervisor._events import StoreBack, StoreLost
from gamegirl.supervisor.stores import Commit, Store

_REWRITING = Status.REWRITING  # Of an enum's class it takes 40 ns to get one.

_IN_FLIGHT = 16
"""So many portions at most are at the store at a time.

What has been decided goes at once, while it is at hand: a thousand commits that waited for their
turn would be in no cache when it comes.
"""

_IN_FLIGHT_THREADED = 4
"""The same for a store that has a thread for them: those that wait for it can't be held back when
the store fails, and take a timeout each."""


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
        courtesy: Courtesy,
        flush_seconds: float,
    ) -> None:
        self._engine = engine
        self._store = store
        self._clock = clock
        self._courtesy = courtesy
        self._flush_seconds = flush_seconds
        self._portion = store.portion
        self._urgent: deque[Cell] = deque()
        self._patient: dict[Cell, float] = {}
        self._idle: list[anyio.Event] = []
        self._busy = 0  # So many have a batch under way, or will take one.
        self._coming = 0  # So many of them will take one.
        self._enough = 1  # So many must have gathered for one more to take a batch.
        self._armed = False
        self._calls = 0  # So many have begun: each has its number.
        self._failures = 0
        self._failed_call = 0  # The latest one that failed.
        self._trying = False  # Somebody tries whether the store is back.
        self._working = True  # Something was settled since the last failure.
        self._failed: set[Cell] = set()  # In these the commits that have failed are looked for.
        self.sent = 0
        self.batches = 0
        self.returned = anyio.Event()
        self.trouble = ""

    def add(self, cell: Cell, *, urgent: bool) -> None:
        """The actor has something to commit: now, or within `flush_seconds`."""
        backlog = cell.backlog
        if backlog is None or backlog.commit is None:
            return  # It is settled by now.
        if backlog.commit.flying:
            return  # When that one is settled it is added again.
        if urgent:
            if not backlog.listed:
                self.open(cell, backlog)
        elif cell not in self._patient:
            if not self._armed:
                self._armed = True
                self._engine.timers.after(self._flush_seconds, self._hurry_patient, None)
            self._patient[cell] = self._clock.monotonic() + self._flush_seconds

    def open(self, cell: Cell, backlog: Backlog) -> None:
        """The actor, which isn't listed, has something urgent to commit."""
        backlog.listed = True
        urgent = self._urgent
        urgent.append(cell)
        if len(urgent) >= self._enough and self._idle:
            self._wake()

    def hurry(self) -> None:
        """Commit at once what may wait for company."""
        patient, self._patient = self._patient, {}
        for cell in patient:
            self.add(cell, urgent=True)

    def _hurry_patient(self, _: None, __: float) -> None:
        now, patient = self._clock.monotonic(), self._patient
        self._armed = False
        while patient:
            cell, when = next(iter(patient.items()))
            if when > now:
                self._armed = True
                self._engine.timers.after(when - now, self._hurry_patient, None)
                break
            del patient[cell]
            self.add(cell, urgent=True)

    def _wake(self) -> None:
        """Have sent what has gathered, as far as it is enough to go beside what is under way."""
        most = _IN_FLIGHT_THREADED if self._store.threaded else _IN_FLIGHT
        while self._idle and len(self._urgent) >= self._enough and self._busy < most:
            if self._failures and (self._trying or self._coming):
                break  # One at a time.
            self._count(busy=1, coming=1)
            self._idle.pop().set()

    def _count(self, *, busy: int = 0, coming: int = 0) -> None:
        self._busy += busy
        self._coming += coming
        self._enough = self._portion * self._coming + self._least(self._busy)

    def _least(self, others: int) -> int:
        """So much must have gathered to go while so many others have a batch under way."""
        if not others:
            return 1
        # Half a portion behind the first keeps the store busy while that one's answers are given.
        # Who is served in threads makes its commits one after the other: company is worth more.
        early = others == 1 and not self._store.threaded
        return (self._portion + 1) // 2 if early else self._portion

    async def run(self) -> None:
        """Commit until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(_IN_FLIGHT):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            wanted = anyio.Event()
            self._idle.append(wanted)
            self._wake()
            await wanted.wait()
            if len(self._urgent) < self._portion:
                await checkpoint()  # Whoever is about to run may still join the batch.
            self._count(coming=-1)
            while len(self._urgent) >= self._least(self._busy - 1):
                if self._failures and self._trying:
                    break
                batch = self._take()
                if not batch:
                    break
                # The store has failed, and nobody had anything to try it with until now.
                alone = self._failures > 0
                if alone:
                    self._trying = True
                await self._send(batch)
                if alone:
                    self._trying = False
                if self._failures and not self._trying:
                    await self._try_again()
            self._count(busy=-1)

    async def _try_again(self) -> None:
        """Try, one portion at a time, until the store is back; nobody else does meanwhile."""
        self._trying = True
        try:
            while self._failures:
                await anyio.sleep(self._engine.retry_delay(self._failures))
                batch = self._take()
                if not batch:
                    break
                await self._send(batch)
        finally:
            self._trying = False

    def _take(self) -> list[Cell]:
        urgent, patient = self._urgent, self._patient
        # None but these are looked at, of which all are needed now.
        batch = [urgent.popleft() for _ in range(min(len(urgent), self._portion))]
        if patient:
            for cell in batch:
                patient.pop(cell, None)
        return batch

    async def _send(self, batch: Sequence[Cell]) -> None:
        portions = self._apart(batch) if self._failed else [batch]
        while portions:
            portion = portions.pop()
            if await self._try(portion):
                continue
            if self._failures:
                # No other is tried now, or an outage would take a timeout for each.
                self._put_back([*chain.from_iterable(reversed(portions)), *portion])
                return
            for cell in portion:  # Which is one: the store chokes on it, and works.
                backlog = cell.backlog
                if backlog is not None and backlog.commit is not None:
                    backlog.listed = True
                    delay = self._engine.retry_delay(_failures_of(cell))
                    self._engine.timers.after(delay, self._again, cell)

    def _apart(self, batch: Sequence[Cell]) -> list[Sequence[Cell]]:
        """Portions of it, the next one last.

        One channel's commit may be what the store chokes on: what has failed twice goes alone, so
        that it takes no others along for longer than that.
        """
        self._failed = {cell for cell in self._failed if _failures_of(cell)}
        portions: list[Sequence[Cell]] = [
            [cell] for cell in reversed(batch) if _failures_of(cell) > 1
        ]
        together = [cell for cell in batch if _failures_of(cell) <= 1]
        if together:
            portions.append(together)
        return portions

    def _put_back(self, batch: Sequence[Cell]) -> None:
        """Have them tried again before all others."""
        for cell in reversed(batch):
            backlog = cell.backlog
            if backlog is None:
                continue
            backlog.listed = backlog.commit is not None  # It may have been aborted meanwhile.
            if backlog.listed:
                self._urgent.appendleft(cell)

    def _again(self, cell: Cell, _: float) -> None:
        if cell.backlog is not None:
            cell.backlog.listed = False
            self.add(cell, urgent=True)

    async def _try(self, batch: Sequence[Cell]) -> bool:
        cells: list[Cell] = []
        pending: list[PendingCommit] = []
        commits: list[Commit] = []
        for cell in batch:
            backlog = cell.backlog
            if backlog is None:
                continue
            backlog.listed = False
            commit = backlog.commit
            if commit is None or commit.flying or cell.status is _REWRITING:
                continue  # Settled meanwhile, on its way, or another claim comes first.
            sent = commit.sent
            if sent is None:
                writes, revision = commit.writes, cell.revision + 1
                # As it goes to the store, now and whenever it is sent again.
                sent = commit.sent = Commit(
                    cell.key,
                    cell.owner,
                    revision,
                    f"{cell.stem}{revision}",
                    _merged(writes) if isinstance(writes, Joined) else writes,
                    commit.requires,
                    commit.due,
                    commit.release,
                )
            commit.flying = True
            cells.append(cell)
            pending.append(commit)
            commits.append(sent)
        if not commits:
            return True
        failures = self._failures
        self._calls = number = self._calls + 1
        try:
            with self._courtesy.call():
                outcomes = await self._store.commit(commits)
        except StoreUnavailableError as error:
            trouble = str(error)
            self._failed.update(cells)
            for commit in pending:
                commit.flying = False
                commit.failures += 1
                commit.trouble = trouble
                commit.doubtful = commit.doubtful or error.fate is Fate.IN_DOUBT
            self.trouble = trouble
            # What fails alone again, when others have been settled since the last failure of any,
            # is no matter of the store's. Two failures in a row are, whatever it was that failed.
            working, self._working = self._working, False
            if working and not failures and pending[0].failures > 2:
                return False
            if self._failures == 0:
                self._engine.hub.publish(StoreLost(trouble))
            self._failed_call = max(self._failed_call, number)
            self._failures = max(self._failures, failures + 1)  # Those side by side are one.
            return False
        except BaseException:
            for commit in pending:
                commit.flying = False
            raise
        if len(outcomes) != len(commits):
            raise ValueError(f"{len(commits)} commits had {len(outcomes)} outcomes")
        self.batches += 1
        self.sent += len(commits)
        self.trouble = ""
        self._working = True
        # What began before the call that failed may just have been answered before that.
        if self._failures and number > self._failed_call:
            self._failures = 0
            self._engine.hub.publish(StoreBack())
            self.returned.set()
            self._wake()
        settle = self._engine.settlement.settle
        # One by one they are let go of when they have just been looked at: memory that is in no
        # cache any more takes as long to free as a commit does to settle.
        del commits
        cells.reverse()
        pending.reverse()
        for outcome in outcomes:
            cell = cells.pop()
            settle(cell, pending.pop(), outcome)
            backlog = cell.backlog
            if backlog is not None and backlog.commit is not None:
                self.add(cell, urgent=True)
        return True


def _failures_of(cell: Cell) -> int:
    """So often the commit has failed that it would send next."""
    commit = cell.backlog.commit if cell.backlog is not None else None
    return 0 if commit is None else commit.failures


def _merged(writes: Sequence[Write]) -> Sequence[Write]:
    try:
        return _merge(writes)
    except (TypeError, AttributeError):
        return tuple(writes)  # One of them is no such write: the store says so of this commit.


def _merge(writes: Sequence[Write]) -> Sequence[Write]:
    """The writes of several messages, with neighbouring patches of one hash made into one."""
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
