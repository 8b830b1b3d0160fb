"""The life of actors, decided without waiting: deliver, handle, settle, abort, restart, release.

Nothing in here is async. Whoever waits (the flusher for commits, the activator for claims, the
timers) calls back into here with what came of it.

The flow of a message: `deliver` puts it before its actor, which is activated if it isn't live. A
live actor with nothing in its way handles it at once, in the caller's own task. The decision's
writes join the actor's newest unsent commit; the answer waits with that commit (the output gate),
or, if the decision wrote nothing, with the newest unsettled one, whose changes it may have seen.
`settle` takes the store's word on a commit and lets answers and effects out.
"""

from __future__ import annotations

import random
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import anyio
import attrs

from gamegirl.actors import (
    ActorCrashedError,
    Behaviour,
    Cancel,
    Decision,
    Effect,
    Emit,
    Fate,
    GameGirlError,
    InvalidInputError,
    Later,
    OwnedElsewhereError,
    OwnershipLostError,
    PatchHash,
    Perform,
    Restored,
    SessionFailedError,
    SessionQuarantinedError,
    StoreUnavailableError,
    Woken,
)
from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Cell, PendingCommit, Status
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._events import (
    ActorCrashed,
    ActorFailed,
    ActorLost,
    ActorReleased,
    ActorRestored,
    CommitFailed,
    ContentQuarantined,
    EventHub,
    StoreRegressed,
)
from gamegirl.supervisor._performer import Performer
from gamegirl.supervisor._quarantine import quarantine_writes
from gamegirl.supervisor._settings import Durability, Settings
from gamegirl.supervisor._timers import Timers
from gamegirl.supervisor.stores import (
    KEEP_DUE,
    ActorKey,
    BadType,
    Broken,
    Claimed,
    Conflict,
    Done,
    Outcome,
    Unmet,
)

_SLICE = 64
"""So many queued messages of one actor are handled before others get a turn on the loop."""

_BACKOFF_MAX_SECONDS = 5.0
"""A crashing actor is restarted at least this often, until it has used up its restarts."""


class Claims(Protocol):
    """Whoever claims and restores actors."""

    def request(self, cell: Cell, delay: float = 0.0) -> None:
        """Claim the actor, after a while."""
        ...


class Commits(Protocol):
    """Whoever sends commits to the store."""

    def add(self, cell: Cell, *, urgent: bool) -> None:
        """The actor has something to commit."""
        ...


class Watch(Protocol):
    """Whoever notices that something takes too long."""

    def add(self, cell: Cell, item: PendingCommit | Envelope) -> None:
        """Call `Engine.expire` unless the item is settled in time."""
        ...


@attrs.frozen
class Crash:
    """A message that made a handler raise, kept for inspection.

    Attributes:
        kind: The kind of actor.
        actor_id: Its id.
        at: When, epoch seconds.
        message: What was handled.
        error: What was raised.
        traceback: For a person.
    """

    kind: str
    actor_id: str
    at: float
    message: object
    error: BaseException
    traceback: str


class Role:
    """A registered behaviour with its live actors.

    Attributes:
        timed: It has timers or due times at all.
    """

    __slots__ = ("behaviour", "cells", "timed")

    def __init__(self, behaviour: Behaviour[Any]) -> None:
        self.behaviour = behaviour
        self.cells: dict[str, Cell] = {}
        own = type(behaviour)
        self.timed = own.wake_at is not Behaviour.wake_at or own.due_at is not Behaviour.due_at


class Engine:
    """All actors of one supervisor."""

    claims: Claims
    commits: Commits
    watch: Watch
    performer: Performer

    def __init__(
        self,
        settings: Settings,
        behaviours: Iterable[Behaviour[Any]],
        clock: Clock,
        randomness: random.Random,
        hub: EventHub,
        timers: Timers,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.random = randomness
        self.hub = hub
        self.timers = timers
        self.roles: dict[str, Role] = {}
        for behaviour in behaviours:
            if behaviour.kind in self.roles:
                raise InvalidInputError(f"two behaviours of the kind {behaviour.kind!r}")
            self.roles[behaviour.kind] = Role(behaviour)
        self.crashes: deque[Crash] = deque(maxlen=settings.crashes_max)
        self.handled = 0
        self.restarts = 0
        self._share = max(1, int(settings.mailbox_max * settings.mailbox_share))
        self._gated = settings.durability is Durability.COMMITTED
        self._changes: dict[ActorKey, anyio.Event] = {}
        self._restarts: dict[Cell, deque[float]] = {}

    # --- Registry -------------------------------------------------------------------------------

    def role(self, kind: str) -> Role:
        """The registered behaviour of this kind.

        Raises:
            InvalidInputError: There is none.
        """
        try:
            return self.roles[kind]
        except KeyError:
            known = ", ".join(sorted(self.roles))
            raise InvalidInputError(
                f"no behaviour of the kind {kind!r} is registered (there are: {known}); "
                "pass it to Supervisor(behaviours=[...])"
            ) from None

    def find(self, kind: str, actor_id: str) -> Cell | None:
        """The actor's cell, if it has one."""
        return self.role(kind).cells.get(actor_id)

    def cells(self) -> Iterable[Cell]:
        """All cells there are now."""
        for role in self.roles.values():
            yield from tuple(role.cells.values())

    def activate(self, role: Role, actor_id: str) -> Cell:
        """Make a cell and have it claimed."""
        cell = Cell(ActorKey(role.behaviour.kind, actor_id), role.behaviour)
        cell.last_used = self.clock.now()
        cell.busy()
        role.cells[actor_id] = cell
        self.claims.request(cell)
        return cell

    def _remove(self, cell: Cell) -> None:
        cell.status = Status.GONE
        cell.state = None
        cell.wake_at = None
        self.performer.cancel_all(cell)
        self._restarts.pop(cell, None)
        cells = self.roles[cell.key.kind].cells
        if cells.get(cell.key.actor_id) is cell:
            del cells[cell.key.actor_id]
        self._changed(cell)

    # --- Messages -------------------------------------------------------------------------------

    def deliver(self, role: Role, actor_id: str, envelope: Envelope) -> Cell:
        """Put a message before its actor: handled at once if it can be, else queued.

        Raises:
            GameGirlError: It was not accepted; nothing happened.
        """
        cell = role.cells.get(actor_id)
        if cell is None:
            cell = self.activate(role, actor_id)
        backlog = cell.backlog
        if backlog is None:
            self._handle(cell, envelope)
            return cell
        if cell.reason is not None:
            raise self._refusal(cell)
        repeats = False
        if not envelope.internal:
            if backlog.overdue:
                repeats = cell.state is not None and cell.behaviour.repeats(
                    cell.state, envelope.message
                )
                if not repeats:
                    raise self._unavailable(cell, Fate.NOT_EXECUTED)
            if not cell.behaviour.passes_capacity(envelope.message):
                backlog.check(envelope, self.settings.mailbox_max, self._share, cell.name)
        if cell.status is Status.LIVE and not (
            backlog.blocked or backlog.queue or (backlog.overdue and not repeats)
        ):
            self._handle(cell, envelope)
            if repeats and not envelope.done:
                self.watch.add(cell, envelope)
        else:
            backlog.count(envelope)
            backlog.queue.append(envelope)
            if not envelope.internal:
                self.watch.add(cell, envelope)
        return cell

    def send(self, cell: Cell, message: object) -> None:
        """Send a message from the runtime itself: it passes capacity, never order."""
        if cell.status in (Status.GONE, Status.FAILED, Status.QUARANTINED):
            return
        envelope = Envelope(message, self.clock.now(), internal=True)
        self.deliver(self.roles[cell.key.kind], cell.key.actor_id, envelope)

    def abandon(self, key: ActorKey, envelope: Envelope) -> None:
        """The caller was cancelled: a message that only waits for `Later` is of no use any more."""
        cell = self.find(key.kind, key.actor_id)
        backlog = cell.backlog if cell is not None else None
        if cell is not None and backlog is not None and envelope in backlog.waiting:
            backlog.waiting.remove(envelope)
            backlog.settle(envelope)
            cell.rest()

    def _handle(self, cell: Cell, envelope: Envelope) -> None:
        self.handled += 1
        cell.last_used = envelope.stamp
        try:
            decision = cell.behaviour.handle(cell.state, envelope.message, envelope.stamp)
        except BaseException as error:
            self._crash(cell, envelope.message, error, traceback.format_exc(), envelope)
            if not isinstance(error, Exception):
                raise
            return
        self._apply(cell, envelope, decision)

    def _apply(self, cell: Cell, envelope: Envelope, decision: Decision) -> None:
        envelope.handled = True
        reply = decision.reply
        gate: PendingCommit | None = None
        urgent = True
        if decision.writes or decision.requires:
            urgent = self._gated or any(type(write) is not PatchHash for write in decision.writes)
            gate = self._join_commit(cell, decision, urgent=urgent)
        elif self._gated and cell.backlog is not None and cell.backlog.commits:
            gate = cell.backlog.commits[-1]
        if self.roles[cell.key.kind].timed:
            self._rearm(cell)
        if type(reply) is Later and decision.error is None:
            envelope.message = reply.message
            envelope.handled = False
            backlog = cell.busy()
            backlog.waiting.append(envelope)
            if not envelope.counted:
                backlog.count(envelope)
        else:
            envelope.reply = reply
            envelope.error = decision.error
            if gate is None or not urgent:
                envelope.finish()
            if gate is not None:
                gate.envelopes.append(envelope)
                if not envelope.counted:
                    cell.busy().count(envelope)
            elif cell.backlog is not None:
                cell.backlog.settle(envelope)
        if decision.effects:
            backlog = cell.backlog
            if backlog is not None and backlog.commits:
                backlog.commits[-1].effects.extend(decision.effects)
            else:
                self._perform(cell, decision.effects)
        cell.rest()

    def _join_commit(self, cell: Cell, decision: Decision, *, urgent: bool) -> PendingCommit:
        backlog = cell.busy()
        commit = backlog.commits[-1] if backlog.commits else None
        if commit is None or commit.sealed or commit.sent is not None or decision.requires:
            commit = self._new_commit(cell)
        commit.writes.extend(decision.writes)
        if decision.requires:
            commit.requires = decision.requires
            commit.sealed = True
            backlog.blocked = True
        self.commits.add(cell, urgent=urgent)
        return commit

    def _new_commit(self, cell: Cell) -> PendingCommit:
        commit = PendingCommit(self.clock.now())
        cell.busy().commits.append(commit)
        self.watch.add(cell, commit)
        return commit

    def _rearm(self, cell: Cell) -> None:
        wake = cell.behaviour.wake_at(cell.state)
        if wake != cell.wake_at:
            cell.wake_at = wake
            if wake is not None:
                self.timers.add(wake, self._fire, cell)
        due = cell.behaviour.due_at(cell.state)
        if due != cell.due:
            cell.due = due
            backlog = cell.busy()
            commit = backlog.commits[-1] if backlog.commits else None
            if commit is None or commit.sent is not None:
                commit = self._new_commit(cell)
                self.commits.add(cell, urgent=True)
            commit.due = due

    def _fire(self, cell: Cell, when: float) -> None:
        if cell.wake_at == when and cell.status is Status.LIVE:
            self.send(cell, Woken())

    def _perform(self, cell: Cell, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Emit):
                self.hub.publish(effect.event)
            elif isinstance(effect, Perform):
                self.performer.start(cell, effect.key, effect.work)
            elif isinstance(effect, Cancel):
                self.performer.cancel(cell, effect.key)
            else:
                self._wake_waiters(cell)

    def _wake_waiters(self, cell: Cell) -> None:
        backlog = cell.backlog
        if cell.status is not Status.LIVE or backlog is None or not backlog.waiting:
            return  # Restoring wakes them anyway.
        waiting, backlog.waiting = backlog.waiting, []
        now = self.clock.now()
        for envelope in waiting:
            envelope.stamp = now
        backlog.queue.extend(waiting)
        self.timers.add(now, self._resume, cell)

    def _resume(self, cell: Cell, _: float) -> None:
        if cell.status is Status.LIVE:
            self.proceed(cell)

    def proceed(self, cell: Cell) -> None:
        """Handle what is queued, as far as it may be handled now."""
        backlog = cell.backlog
        if backlog is None:
            return
        handled = 0
        while (
            backlog.queue
            and cell.status is Status.LIVE
            and not backlog.blocked
            and not backlog.overdue
        ):
            if handled == _SLICE:
                self.timers.add(self.clock.now(), self._resume, cell)
                return
            envelope = backlog.queue.popleft()
            if envelope.done:
                backlog.settle(envelope)
                continue
            handled += 1
            self._handle(cell, envelope)
        cell.rest()

    # --- Commits --------------------------------------------------------------------------------

    def settle(self, cell: Cell, commit: PendingCommit, outcome: Outcome) -> None:
        """Take the store's word on the actor's oldest commit."""
        if commit.settled or commit.sent is None:
            return
        if isinstance(outcome, Done):
            self._committed(cell, commit)
        elif isinstance(outcome, Unmet):
            error = commit.requires[outcome.index].error
            self._abort(cell, lambda _fate: error)
            self._recover(cell)
        elif isinstance(outcome, (BadType, Broken)):
            reason = (
                f"{outcome.key} holds a {outcome.found}"
                if isinstance(outcome, BadType)
                else outcome.reason
            )
            self.hub.publish(CommitFailed(cell.key.kind, cell.key.actor_id, reason))
            self._abort(
                cell,
                lambda fate: SessionQuarantinedError(
                    f"{cell.name}: {reason}, so that nothing was written; "
                    "repair or move that key",
                    fate=fate,
                ),
            )
            self._recover(cell)
        elif isinstance(outcome, Conflict):
            self._contradicted(cell, outcome.revision, cell.owner)
        else:
            self._contradicted(cell, None, outcome.owner)

    def _committed(self, cell: Cell, commit: PendingCommit) -> None:
        assert commit.sent is not None
        backlog = cell.busy()
        backlog.commits.popleft()
        commit.settled = True
        cell.revision = commit.sent.revision
        for envelope in commit.envelopes:
            envelope.finish()
            backlog.settle(envelope)
        self._changed(cell)
        if commit.release:
            self._released(cell)
            return
        if not backlog.commits:
            backlog.blocked = backlog.overdue = False
        self._perform(cell, commit.effects)
        if cell.status is Status.RECOVERING and not backlog.commits:
            self.claims.request(cell, self._backoff(cell))
        elif cell.status is Status.LIVE:
            self.proceed(cell)

    def _abort(self, cell: Cell, error: Callable[[Fate], Exception]) -> None:
        backlog = cell.busy()
        while backlog.commits:
            commit = backlog.commits.popleft()
            commit.settled = True
            fate = Fate.IN_DOUBT if commit.doubtful else Fate.NOT_EXECUTED
            for envelope in commit.envelopes:
                envelope.answer(error=error(fate))
                backlog.settle(envelope)
        backlog.blocked = backlog.overdue = False

    def _contradicted(self, cell: Cell, revision: int | None, owner: str | None) -> None:
        """The fence is not as this claim left it: the store went back, or somebody else came."""
        if owner is None or epoch_of(owner) < epoch_of(cell.owner):
            self._regress(cell, None if owner is None else revision)
        elif owner != cell.owner:
            self._lose(cell, owner)
        elif revision is not None and revision < cell.revision:
            self._regress(cell, revision)
        else:
            self._abort(
                cell,
                lambda _fate: OwnershipLostError(
                    f"{cell.name} was changed under this process's own claim; it is loaded anew",
                    fate=Fate.IN_DOUBT,
                ),
            )
            self._recover(cell)

    def check_fence(self, cell: Cell, owner: str | None, revision: int | None) -> None:
        """Compare a live, settled actor with the fence that the store has for it."""
        if cell.status is not Status.LIVE or (cell.backlog and cell.backlog.commits):
            return
        if owner != cell.owner or revision is None or revision < cell.revision:
            self._contradicted(cell, revision, owner)

    def _regress(self, cell: Cell, found: int | None) -> None:
        self.hub.publish(StoreRegressed(cell.key.kind, cell.key.actor_id, cell.revision, found))
        if cell.state is None:
            self._abort(
                cell,
                lambda _fate: OwnershipLostError(
                    f"the store went back in time while {cell.name} was being restarted; "
                    "it is loaded from what is stored",
                    fate=Fate.IN_DOUBT,
                ),
            )
            self._recover(cell)
            return
        cell.status = Status.REWRITING
        self.claims.request(cell)

    def rewrite(self, cell: Cell, claimed: Claimed) -> None:
        """Write an actor from memory after the store lost what it had committed."""
        backlog = cell.busy()
        pending = tuple(backlog.commits)
        backlog.commits.clear()
        backlog.claim_since = None
        cell.owner = claimed.owner
        cell.revision = claimed.revision
        cell.status = Status.LIVE
        commit = self._new_commit(cell)
        commit.writes.extend(cell.behaviour.stored(cell.state))
        commit.due = cell.due
        commit.sealed = True
        for old in pending:
            old.settled = True
            commit.envelopes.extend(old.envelopes)
            commit.effects.extend(old.effects)
        backlog.blocked = True
        self.commits.add(cell, urgent=True)

    def expire(self, cell: Cell, item: PendingCommit | Envelope) -> bool:
        """Something has taken longer than the commit timeout.

        Returns:
            Whether it must be looked at again later.
        """
        backlog = cell.backlog
        if backlog is None:
            return False
        if isinstance(item, PendingCommit):
            backlog.overdue = True
            self.hub.publish(CommitFailed(cell.key.kind, cell.key.actor_id, "the store is late"))
            for envelope in item.envelopes:
                envelope.answer(error=self._unavailable(cell, Fate.IN_DOUBT))
            self._refuse_queue(cell)
            return False
        since = backlog.claim_since
        late = since is not None and (
            self.clock.now() - since >= self.settings.commit_timeout_seconds
        )
        if item.handled:
            item.answer(error=self._unavailable(cell, Fate.IN_DOUBT))
        elif late or backlog.overdue:
            item.answer(error=self._unavailable(cell, Fate.NOT_EXECUTED))
        else:
            return True  # It waits for something else: a restart, other messages.
        return False

    def _refuse_queue(self, cell: Cell) -> None:
        backlog = cell.busy()
        for envelope in backlog.queue:
            if not envelope.internal:
                envelope.answer(error=self._unavailable(cell, Fate.NOT_EXECUTED))

    def _unavailable(self, cell: Cell, fate: Fate) -> StoreUnavailableError:
        what = (
            "its last changes are sent until they are settled; repeat the call with its press_id "
            "or read the state later"
            if fate is Fate.IN_DOUBT
            else "nothing of this call happened; send it again later"
        )
        return StoreUnavailableError(
            f"{cell.name}: the store has not answered for "
            f"{self.settings.commit_timeout_seconds:g} s; {what}",
            fate=fate,
        )

    # --- Claims ---------------------------------------------------------------------------------

    def restored(self, cell: Cell, claimed: Claimed, restored: Restored[Any]) -> None:
        """The actor is claimed and its state made: let it go on."""
        backlog = cell.busy()
        restart = backlog.started
        backlog.claim_since = None
        backlog.started = True
        cell.state = restored.state
        cell.owner = claimed.owner
        cell.revision = claimed.revision
        cell.status = Status.LIVE
        cell.wake_at = None
        # What the index says is not known: an actor that is due says so again (it costs little and
        # happens seldom), one that the index led us to takes its entry out if it isn't due.
        cell.due = KEEP_DUE if backlog.swept else None
        kind, actor_id = cell.key.kind, cell.key.actor_id
        decision = restored.decision
        if restored.quarantined:
            writes, events = self._quarantine(cell, restored)
            decision = attrs.evolve(
                decision,
                writes=(*decision.writes, *writes),
                effects=(*decision.effects, *events),
            )
        self.hub.publish(
            ActorRestored(kind, actor_id, restored.source, claimed.previous or "", restart)
        )
        envelope = Envelope(None, self.clock.now(), internal=True)
        self._apply(cell, envelope, decision)
        self._wake_waiters(cell)
        self.proceed(cell)

    def _quarantine(
        self, cell: Cell, restored: Restored[Any]
    ) -> tuple[Sequence[PatchHash], Sequence[Emit]]:
        writes, names = quarantine_writes(cell.key, restored.quarantined, self.clock.now())
        events = [
            Emit(
                ContentQuarantined(
                    cell.key.kind, cell.key.actor_id, item.key, item.reason, name
                )
            )
            for item, name in zip(restored.quarantined, names, strict=True)
        ]
        return writes, events

    def unusable(self, cell: Cell, claimed: Claimed, restored: Restored[Any], why: str) -> None:
        """What is stored can't be used: copy it aside, change nothing, refuse all messages."""
        cell.owner = claimed.owner
        cell.revision = claimed.revision
        cell.status = Status.QUARANTINED
        cell.reason = SessionQuarantinedError(
            f"{cell.name} can't be restored: {why}; a copy is in gg:quarantine, nothing was "
            "overwritten; repair or wipe it, then release it"
        )
        backlog = cell.busy()
        backlog.claim_since = None
        writes, events = self._quarantine(cell, restored)
        commit = self._new_commit(cell)
        commit.writes.extend(writes)
        commit.effects.extend(events)
        self.commits.add(cell, urgent=True)
        self._refuse_all(cell)

    def owned_elsewhere(self, cell: Cell, owner: str) -> None:
        """The claim was refused: another live process owns the actor."""
        if cell.busy().started:
            self._lose(cell, owner)
            return
        self._end(
            cell,
            lambda: OwnedElsewhereError(
                f"{cell.name} is owned by {owner}, which is alive; "
                "send the call there, or wait until it has released it",
                owner=owner,
            ),
        )

    def unclaimable(self, cell: Cell, reason: str) -> None:
        """The claim can't be made until somebody repairs the store."""
        self.hub.publish(CommitFailed(cell.key.kind, cell.key.actor_id, reason))
        message = f"{cell.name} can't be claimed: {reason}; repair it, nothing was changed"
        self._abort(cell, lambda fate: SessionQuarantinedError(message, fate=fate))
        self._end(cell, lambda: SessionQuarantinedError(message))

    def unclaimed(self, cell: Cell) -> bool:
        """A claim could not be made (the store is down): forget actors that nobody waits for.

        Returns:
            Whether it is still wanted.
        """
        backlog = cell.busy()
        while backlog.queue and backlog.queue[0].done:
            backlog.settle(backlog.queue.popleft())
        if backlog.empty and not backlog.started:
            self._remove(cell)
            return False
        return True

    def _lose(self, cell: Cell, owner: str) -> None:
        self.hub.publish(ActorLost(cell.key.kind, cell.key.actor_id, owner))

        def lost(fate: Fate) -> Exception:
            return OwnershipLostError(
                f"{cell.name} is owned by {owner or 'nobody'} now; send the call there", fate=fate
            )

        self._abort(cell, lost)
        self._end(cell, lambda: lost(Fate.NOT_EXECUTED))

    def _end(self, cell: Cell, error: Callable[[], Exception]) -> None:
        """Answer all who wait and forget the actor."""
        backlog = cell.busy()
        for envelope in (*backlog.queue, *backlog.waiting):
            envelope.answer(error=error())
        backlog.queue.clear()
        backlog.waiting.clear()
        self._remove(cell)

    def _recover(self, cell: Cell) -> None:
        """Throw the actor's memory away and have it claimed anew, once it has nothing unsettled."""
        backlog = cell.busy()
        backlog.started = True
        cell.status = Status.RECOVERING
        cell.state = None
        cell.wake_at = None
        if not backlog.commits:
            self.claims.request(cell, self._backoff(cell))

    # --- Crashes --------------------------------------------------------------------------------

    def crashed(self, cell: Cell, message: object, error: BaseException, trace: str) -> None:
        """An actor's work, or its restoring, raised."""
        if cell.status is not Status.GONE:
            self._crash(cell, message, error, trace, None)

    def _crash(
        self,
        cell: Cell,
        message: object,
        error: BaseException,
        trace: str,
        envelope: Envelope | None,
    ) -> None:
        kind, actor_id, now = cell.key.kind, cell.key.actor_id, self.clock.now()
        self.crashes.append(Crash(kind, actor_id, now, message, error, trace))
        self.hub.publish(ActorCrashed(kind, actor_id, message, error, trace))
        backlog = cell.busy()
        if envelope is not None:
            crash = ActorCrashedError(
                f"{cell.name} crashed on {type(message).__name__}: {error!r}; the message had no "
                "effect and is not replayed, the actor restarts"
            )
            crash.__cause__ = error
            envelope.answer(error=crash)
            backlog.settle(envelope)
        times = self._restarts.setdefault(cell, deque())
        times.append(now)
        while times[0] < now - self.settings.restart_window_seconds:
            times.popleft()
        self.restarts += 1
        if len(times) > self.settings.restarts_max:
            self._fail(cell, len(times))
        else:
            self._recover(cell)

    def _backoff(self, cell: Cell) -> float:
        times = self._restarts.get(cell)
        if not times:
            return 0.0
        first = self.settings.restart_backoff_seconds
        delay = min(_BACKOFF_MAX_SECONDS, first * 2.0 ** (len(times) - 1)) if len(times) > 1 else 0
        return delay * self.random.uniform(0.5, 1.0)

    def _fail(self, cell: Cell, restarts: int) -> None:
        self.hub.publish(ActorFailed(cell.key.kind, cell.key.actor_id, restarts))
        cell.status = Status.FAILED
        cell.state = None
        cell.wake_at = None
        cell.reason = SessionFailedError(
            f"{cell.name} crashed {restarts} times in "
            f"{self.settings.restart_window_seconds:g} s and is stopped; look at "
            "supervisor.crashes(), then supervisor.revive() it"
        )
        self.performer.cancel_all(cell)
        self._refuse_all(cell)

    def _refuse_all(self, cell: Cell) -> None:
        backlog = cell.busy()
        for envelope in (*backlog.queue, *backlog.waiting):
            envelope.answer(error=self._refusal(cell))
            backlog.settle(envelope)
        backlog.queue.clear()
        backlog.waiting.clear()

    def _refusal(self, cell: Cell) -> GameGirlError:
        assert isinstance(cell.reason, GameGirlError)
        return type(cell.reason)(str(cell.reason))

    def revive(self, cell: Cell) -> None:
        """Start a failed actor again, with a clean record."""
        if cell.status is Status.FAILED:
            self._restarts.pop(cell, None)
            cell.reason = None
            self._recover(cell)

    # --- Release --------------------------------------------------------------------------------

    def idle(self, cell: Cell) -> bool:
        """Whether the actor has nothing to do at all."""
        if cell.status is Status.QUARANTINED:
            return cell.backlog is None or not cell.backlog.commits
        return (
            cell.status is Status.LIVE
            and cell.backlog is None
            and cell.behaviour.may_release(cell.state)
            and not self.performer.works_for(cell)
        )

    def release(self, cell: Cell) -> Envelope | None:
        """Commit what there is and give up ownership.

        Returns:
            Is answered when that has happened; None if there is nothing to give up now.
        """
        if cell.status not in (Status.LIVE, Status.FAILED, Status.QUARANTINED):
            return None
        self.performer.cancel_all(cell)
        backlog = cell.busy()
        cell.status = Status.RELEASING
        cell.reason = None
        cell.wake_at = None
        commit = self._new_commit(cell)
        commit.sealed = commit.release = True
        envelope = Envelope(None, self.clock.now(), internal=True)
        envelope.handled = True
        commit.envelopes.append(envelope)
        backlog.blocked = True
        self.commits.add(cell, urgent=True)
        return envelope

    def _released(self, cell: Cell) -> None:
        self.hub.publish(ActorReleased(cell.key.kind, cell.key.actor_id))
        backlog = cell.busy()
        left = [envelope for envelope in backlog.queue if not envelope.done]
        waiting = backlog.waiting
        self._remove(cell)
        if left or waiting:
            role = self.roles[cell.key.kind]
            heir = role.cells.get(cell.key.actor_id) or self.activate(role, cell.key.actor_id)
            inherited = heir.busy()
            for envelope in (*left, *waiting):
                inherited.count(envelope)
            inherited.queue.extend(left)
            inherited.waiting.extend(waiting)

    def shut(self, error: Callable[[Fate], Exception]) -> None:
        """Answer everybody who still waits: the supervisor is going."""
        for cell in self.cells():
            for commit in cell.backlog.commits if cell.backlog is not None else ():
                commit.doubtful = commit.doubtful or commit.sent is not None
            self._abort(cell, error)
            self._end(cell, lambda: error(Fate.NOT_EXECUTED))
        for signal in self._changes.values():
            signal.set()

    def end_waiters(self, cell: Cell, error: Callable[[], Exception]) -> None:
        """Answer the messages that wait for `Later`."""
        backlog = cell.backlog
        if backlog is not None:
            for envelope in backlog.waiting:
                envelope.answer(error=error())
                backlog.settle(envelope)
            backlog.waiting.clear()
            cell.rest()

    # --- Observation ----------------------------------------------------------------------------

    def move_clock(self, seconds: float) -> None:
        """The wall clock was set: windows keep what they have left."""
        self.clock.adjust(seconds)
        for cell in self.cells():
            backlog = cell.backlog
            for envelope in backlog.queue if backlog is not None else ():
                envelope.stamp += seconds
            if cell.status is Status.LIVE and cell.wake_at is not None:
                writes = cell.behaviour.shifted(cell.state, seconds)
                envelope = Envelope(None, self.clock.now(), internal=True)
                self._apply(cell, envelope, Decision(writes=writes))
        self.timers.moved()

    def change_signal(self, key: ActorKey) -> anyio.Event:
        """Is set at the actor's next committed change."""
        signal = self._changes.get(key)
        if signal is None:
            signal = self._changes[key] = anyio.Event()
        return signal

    def _changed(self, cell: Cell) -> None:
        if self._changes:
            signal = self._changes.pop(cell.key, None)
            if signal is not None:
                signal.set()


def epoch_of(owner: str) -> int:
    """The epoch of an owner token; of nobody's (empty) or a foreign one: very large."""
    head = owner.partition(":")[0]
    return int(head) if head.isdecimal() else 1 << 62


