"""What a supervisor does by itself, every second: lease, orphans, idle actors, clock, fences."""

from __future__ import annotations

import traceback
from contextlib import suppress
from math import inf

import anyio
from anyio.lowlevel import checkpoint

from gamegirl.actors import StoreUnavailableError
from gamegirl.supervisor._cell import Cell, Status
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._engine import Engine
from gamegirl.supervisor._events import ClockMoved, SweepFailed
from gamegirl.supervisor._flusher import Flusher
from gamegirl.supervisor._settings import Settings
from gamegirl.supervisor._timers import Timers
from gamegirl.supervisor.stores import Store
from gamegirl.supervisor.stores._typed import fence_of

_RENEWALS = 3
"""The lease is renewed so often before it would run out."""

_AHEAD = 1.75
"""How far ahead it is looked, in periods: a look that comes late must not miss what is due until
the next one. Less than two: a lease that is renewed in time has two periods left."""

_TAKEOVER_SECONDS = 0.005
"""So long after a lease has run out a claim is tried: servers round."""

_LOOK_SECONDS = 0.03
"""So long after somebody else's window should have closed it is looked whether its owner lives."""

_FRESH_SECONDS = 0.2
"""So long after it whoever owns the window may still be leaving."""

_DRIFT_SECONDS = 1.0
"""The wall clock may be so far off before the runtime follows it."""

_ROUND = 1 / 8
"""The part of `idle_seconds` within which all actors are looked at once."""

_FENCES = 512
"""So many fences are read at a time."""

_SLICE = 256


class Keeper:
    """Keeps ownership alive and takes over what nobody owns.

    Attributes:
        process: Which one the store knows us as.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        clock: Clock,
        timers: Timers,
        flusher: Flusher,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._clock = clock
        self._timers = timers
        self._flusher = flusher
        # A window must have been seen before the lease of its dead process can run out.
        self._period = min(settings.sweep_seconds, settings.lease_seconds / _RENEWALS)
        self._horizon = _AHEAD * self._period
        self.process = ""

    async def renew(self) -> None:
        """Renew the lease until cancelled. Losing it stops nobody: commits are fenced."""
        while True:
            await anyio.sleep(self._settings.lease_seconds / _RENEWALS)
            with suppress(StoreUnavailableError):  # Commits meet the same store, and report it.
                if not await self._store.renew():
                    self._flusher.returned.set()

    async def sweep(self) -> None:
        """Look for channels that are due and have no live owner, until there is a drain."""
        blind = False
        while self._engine.closing is None:
            end = inf
            try:
                now = self._clock.now()
                awaited = await self._look(now, now + self._horizon)
                end = anyio.current_time() + self._period
                await self._look_again(now, awaited, end)
                blind = False
            except StoreUnavailableError as error:
                if not blind:
                    self._engine.hub.publish(SweepFailed(str(error)))
                blind = True
                end = min(end, anyio.current_time() + self._period)
            await anyio.sleep(max(0.0, end - anyio.current_time()))

    async def _look_again(self, now: float, awaited: list[tuple[float, float]], end: float) -> None:
        """Look in between at what others should be done with, until all is looked at again."""
        while awaited and self._engine.closing is None:
            wait = max(min(awaited)[0] - self._clock.now(), 0.0) + _LOOK_SECONDS
            if anyio.current_time() + wait >= end:
                break
            await anyio.sleep(wait)
            before, now = now, self._clock.now()
            # Few, unless a process has died: what was closed in time is due no more, or as a turn
            # that waits to be told.
            since = min(at for moment, at in (*awaited, (now, before)) if moment <= now)
            found = await self._look(now, now, since - _FRESH_SECONDS)
            awaited = [one for one in awaited if one[0] > now] + found

    async def _look(
        self, now: float, until: float, since: float = -inf
    ) -> list[tuple[float, float]]:
        """See to what is due and may be nobody's.

        Returns:
            When it is to be looked again, and at what is due since when: windows of others close
            then, or have just been to close, and in case nobody's are by then; or a lease is over.
        """
        found = await self._store.due(until, since)
        heard = self._clock.now()  # What is left of a lease was looked up before this.
        awaited: list[tuple[float, float]] = []
        for position, due in enumerate(found):
            if position % _SLICE == _SLICE - 1:
                await checkpoint()
            role = self._engine.roles.get(due.actor.kind)
            if role is None:
                continue  # Others have to see to those.
            cell = role.cells.get(due.actor.actor_id)
            if cell is not None and cell.status is Status.LIVE:
                continue  # Its own timer closes its window; thousands do that all the time.
            # Ours, and not here: the answer to our claim was lost. Nobody else may take it over.
            ours = due.owner.endswith(f":{self.process}")
            left = 0.0 if ours else due.lease_seconds
            if due.at > now - _FRESH_SECONDS and left > 0:
                awaited.append((due.at, due.at))
            if left <= self._horizon:
                if left <= 0:
                    self._engine.life.adopt(due.actor, now)
                else:
                    # Just when the lease runs out, if nobody renews it.
                    when = heard + left + _TAKEOVER_SECONDS
                    self._timers.add(when, self._engine.life.adopt, due.actor)
                    awaited.append((when, due.at))
        return awaited

    async def tidy(self) -> None:
        """Let go of idle actors and follow the wall clock, until cancelled.

        At each look only so many actors are gone through that all are within an eighth of
        `idle_seconds`: what it takes each second hardly grows with how many there are.
        """
        seconds = min(self._settings.sweep_seconds, self._settings.idle_seconds / 2)
        looks = max(1, int(self._settings.idle_seconds / seconds * _ROUND))
        cells: list[Cell] = []  # Still to be gone through in this round.
        portion = 0
        while True:
            await anyio.sleep(seconds)
            drift = self._clock.drift()
            if abs(drift) > _DRIFT_SECONDS:
                self._engine.move_clock(drift)
                self._engine.hub.publish(ClockMoved(drift))
            self._timers.prune(self._engine.obsolete)
            if not cells:
                cells = list(self._engine.cells())
                portion = -(-len(cells) // looks)
            oldest = self._clock.now() - self._settings.idle_seconds
            for position, cell in enumerate(cells[-portion:] if portion else ()):
                if cell.last_used < oldest:
                    self._release_if_idle(cell)
                if position % _SLICE == _SLICE - 1:
                    await checkpoint()
            del cells[-portion:]

    def _release_if_idle(self, cell: Cell) -> None:
        try:
            idle = self._engine.life.idle(cell)
        except Exception as error:  # noqa: BLE001 - reported as a crash
            self._engine.life.crashed(cell, "may_release", error, traceback.format_exc())
        else:
            if idle:
                self._engine.life.release(cell)

    async def verify(self) -> None:
        """After each loss of the store compare all live actors with their fences."""
        while True:
            await self._flusher.returned.wait()
            self._flusher.returned = anyio.Event()
            live = [cell for cell in self._engine.cells() if cell.status is Status.LIVE]
            for start in range(0, len(live), _FENCES):
                await self._verify(live[start : start + _FENCES])

    async def _verify(self, cells: list[Cell]) -> None:
        before = [(cell.owner, cell.revision) for cell in cells]
        try:
            fences = await self._store.read([cell.key.fence for cell in cells])
        except StoreUnavailableError:
            self._flusher.returned.set()
            await anyio.sleep(self._settings.sweep_seconds)
            return
        for cell, known, fence in zip(cells, before, fences, strict=True):
            if known != (cell.owner, cell.revision):
                continue  # A commit or a claim went through meanwhile: the store is as we think.
            found = fence_of(fence)
            self._engine.settlement.check_fence(cell, found.owner, found.revision, found.since)
