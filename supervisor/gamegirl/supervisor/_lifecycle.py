"""What happens to an actor as a whole: activated, restored, restarted, failed, released, lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from msgspec.structs import replace

from gamegirl.actors import (
    ActorCrashedError,
    Decision,
    Fate,
    GameGirlError,
    OwnedElsewhereError,
    OwnershipLostError,
    Restored,
    SessionFailedError,
    SessionQuarantinedError,
)
from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Cell, Status
from gamegirl.supervisor._contract import check_contents
from gamegirl.supervisor._events import (
    ActorCrashed,
    ActorFailed,
    ActorLost,
    ActorReleased,
    ActorRestored,
    CommitFailed,
)
from gamegirl.supervisor._log import told
from gamegirl.supervisor._quarantine import put_aside
from gamegirl.supervisor._roles import Role
from gamegirl.supervisor.stores import KEEP_DUE, ActorKey, Claimed

if TYPE_CHECKING:
    from gamegirl.supervisor._engine import Engine

_BACKOFF_MAX_SECONDS = 5.0
"""A crashing actor is restarted at least this often, until it has used up its restarts."""


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


class Lifecycle:
    """Actors from activation to their end.

    Attributes:
        crashes: The latest messages that made a handler raise.
        restarts: So many crashes there were.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._restarts: dict[Cell, deque[float]] = {}
        self.crashes: deque[Crash] = deque(maxlen=engine.settings.crashes_max)
        self.restarts = 0

    def activate(self, role: Role, actor_id: str) -> Cell:
        """Make a cell and have it claimed."""
        cell = Cell(ActorKey(role.behaviour.kind, actor_id), role.behaviour)
        cell.last_used = self._engine.clock.now()
        cell.busy()
        role.cells[actor_id] = cell
        self._engine.claims.request(cell)
        return cell

    def remove(self, cell: Cell) -> None:
        cell.status = Status.GONE
        cell.state = None
        cell.wake_at = None
        self._engine.performer.cancel_all(cell)
        self._restarts.pop(cell, None)
        cells = self._engine.roles[cell.key.kind].cells
        if cells.get(cell.key.actor_id) is cell:
            del cells[cell.key.actor_id]

    def restored(self, cell: Cell, claimed: Claimed, restored: Restored[Any]) -> None:
        """The actor is claimed and its state made: let it go on.

        Raises:
            Exception: What the behaviour raises, or that it made something else than it must.
        """
        decision = restored.decision
        if not isinstance(decision, Decision):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"restore() decided {decision!r:.100}, expected a Decision")
        if restored.quarantined:
            decision = replace(decision, quarantined=restored.quarantined)
        check_contents(decision)
        backlog = cell.busy()
        restart = cell.started
        backlog.claim_since = None
        backlog.over = ""
        if claimed.revision < cell.revision:
            # It was about to be loaded anyway, so there is no memory to write it from.
            self._engine.settlement.report(cell, claimed.revision)
        cell.started = True
        cell.state = restored.state
        cell.own(claimed)
        cell.status = Status.LIVE
        cell.wake_at = None
        # What the index says is not known: an actor that is due says so again (it costs little and
        # happens seldom), one that the index led us to takes its entry out if it isn't due.
        cell.due = KEEP_DUE if backlog.swept else None
        kind, actor_id = cell.key.kind, cell.key.actor_id
        self._engine.hub.publish(
            ActorRestored(kind, actor_id, restored.source, claimed.previous or "", restart)
        )
        times = self._engine.times(cell)
        if not decision.quiet or times is not None:
            envelope = Envelope(None, self._engine.clock.now(), internal=True)
            self._engine.apply(cell, envelope, decision, times)
        self._engine.wake_waiters(cell)
        self._engine.proceed(cell)

    def unusable(self, cell: Cell, claimed: Claimed, restored: Restored[Any], why: str) -> None:
        """What is stored can't be used: copy it aside, change nothing, refuse all messages."""
        cell.own(claimed)
        cell.status = Status.QUARANTINED
        cell.reason = SessionQuarantinedError(
            f"{cell.name} can't be restored: {why}; a copy is in gg:quarantine, nothing was "
            "overwritten; repair or wipe it, then release it"
        )
        backlog = cell.busy()
        backlog.claim_since = None
        copies = Decision(quarantined=restored.quarantined)
        decision = put_aside(cell.key, copies, self._engine.clock.now())
        commit = self._engine.new_commit(cell)
        commit.writes, commit.effects = decision.writes, decision.effects
        self._engine.commits.add(cell, urgent=True)
        self._refuse_all(cell)

    def owned_elsewhere(self, cell: Cell, owner: str) -> None:
        """The claim was refused: another live process owns the actor."""
        if cell.started:
            self.lose(cell, owner)
            return
        self.end(
            cell,
            lambda: OwnedElsewhereError(
                f"{cell.name} is owned by {owner}, which is alive; "
                "send the call there, or wait until it has released it",
                owner=owner,
            ),
        )

    def unclaimable(self, cell: Cell, reason: str) -> None:
        """The claim can't be made until somebody repairs the store."""
        self._engine.hub.publish(CommitFailed(cell.key.kind, cell.key.actor_id, reason))
        message = f"{cell.name} can't be claimed: {reason}; repair it, nothing was changed"
        self._engine.settlement.abort(
            cell, lambda fate: SessionQuarantinedError(message, fate=fate)
        )
        self.end(cell, lambda: SessionQuarantinedError(message))

    def unclaimed(self, cell: Cell) -> bool:
        """A claim could not be made (the store is down): forget actors that nobody waits for.

        One that the due index led to stays: the next sweep would only find it again.

        Returns:
            Whether it is still wanted.
        """
        backlog = cell.busy()
        left = [envelope for envelope in backlog.queue if not envelope.done]
        for envelope in backlog.queue:
            if envelope.done:
                backlog.settle(envelope)
        backlog.queue = ()
        backlog.enqueue(left)
        orphan = backlog.swept and self._engine.closing is None
        if backlog.empty and not (cell.started or orphan):
            self.remove(cell)
            return False
        return True

    def lose(self, cell: Cell, owner: str) -> None:
        self._engine.hub.publish(ActorLost(cell.key.kind, cell.key.actor_id, owner))

        def lost(fate: Fate) -> Exception:
            return OwnershipLostError(
                f"{cell.name} is owned by {owner or 'nobody'} now; send the call there", fate=fate
            )

        self._engine.settlement.abort(cell, lost)
        self.end(cell, lambda: lost(Fate.NOT_EXECUTED))

    def end(self, cell: Cell, error: Callable[[], Exception]) -> None:
        """Answer all who wait and forget the actor."""
        backlog = cell.busy()
        for envelope in (*backlog.queue, *backlog.waiting):
            envelope.answer(error=error())
        backlog.queue = backlog.waiting = ()
        self.remove(cell)
        self._engine.changed(cell)

    def recover(self, cell: Cell) -> None:
        """Throw the actor's memory away and have it claimed anew, once it has nothing unsettled."""
        backlog = cell.busy()
        self._give_up_writing(cell)
        cell.started = True
        cell.reason = None
        cell.status = Status.RECOVERING
        cell.state = None
        cell.wake_at = None
        if backlog.commit is None:
            self._engine.claims.request(cell, self.backoff(cell))

    def _give_up_writing(self, cell: Cell) -> None:
        """Nobody sends the commits any more of an actor that was about to be written anew."""
        if cell.status is Status.REWRITING:
            self._engine.settlement.abort(
                cell,
                lambda _fate: OwnershipLostError(
                    f"the store went back in time, and {cell.name} crashed before it was written "
                    "from memory; it is loaded from what is stored",
                    fate=Fate.IN_DOUBT,
                ),
            )

    def crashed(self, cell: Cell, message: object, error: BaseException, trace: str) -> None:
        """An actor's work, or its restoring, raised."""
        if cell.status is not Status.GONE:
            self.crash(cell, message, error, trace, None)

    def crash(
        self,
        cell: Cell,
        message: object,
        error: BaseException,
        trace: str,
        envelope: Envelope | None,
    ) -> None:
        """An actor raised: keep what it raised on, tell its caller, and restart it."""
        kind, actor_id = cell.key.kind, cell.key.actor_id
        now = self._engine.clock.now()
        self.crashes.append(Crash(kind, actor_id, now, message, error, trace))
        self._engine.hub.publish(ActorCrashed(kind, actor_id, message, error, trace))
        if envelope is not None:
            crash = ActorCrashedError(
                f"{cell.name} crashed on {type(message).__name__}: {told(error)}; the message had "
                "no effect and is not replayed, the actor restarts"
            )
            crash.__cause__ = error
            envelope.answer(error=crash)
            cell.busy().settle(envelope)
        self.restart(cell, f"crashed, the last time on {type(message).__name__}: {told(error)}")

    def restart(self, cell: Cell, why: str) -> None:
        """Have the actor start over, after a backoff; if it has done so too often, stop it."""
        now = self._engine.clock.monotonic()
        times = self._restarts.setdefault(cell, deque())
        times.append(now)
        while times[0] < now - self._engine.settings.restart_window_seconds:
            times.popleft()
        self.restarts += 1
        if len(times) > self._engine.settings.restarts_max:
            self._fail(cell, len(times), why)
        else:
            self.recover(cell)

    def backoff(self, cell: Cell) -> float:
        """How long the actor's next claim waits: the first restart doesn't."""
        times = self._restarts.get(cell)
        if not times or len(times) < 2:
            return 0.0
        delay = self._engine.settings.restart_backoff_seconds * 2.0 ** (len(times) - 2)
        return min(_BACKOFF_MAX_SECONDS, delay) * self._engine.random.uniform(0.5, 1.0)

    def _fail(self, cell: Cell, restarts: int, why: str) -> None:
        self._engine.hub.publish(ActorFailed(cell.key.kind, cell.key.actor_id, restarts))
        self._give_up_writing(cell)
        cell.status = Status.FAILED
        cell.state = None
        cell.wake_at = None
        cell.reason = SessionFailedError(
            f"{cell.name} had to start over {restarts} times in "
            f"{self._engine.settings.restart_window_seconds:g} s and is stopped (it {why}); look "
            "at supervisor.crashes(), then supervisor.revive() it"
        )
        self._engine.performer.cancel_all(cell)
        self._refuse_all(cell)

    def _refuse_all(self, cell: Cell) -> None:
        backlog = cell.busy()
        for envelope in (*backlog.queue, *backlog.waiting):
            envelope.answer(error=self.refusal(cell))
            backlog.settle(envelope)
        backlog.queue = backlog.waiting = ()

    def refusal(self, cell: Cell) -> GameGirlError:
        assert isinstance(cell.reason, GameGirlError)
        return type(cell.reason)(str(cell.reason))

    def revive(self, cell: Cell) -> None:
        """Start a failed actor again, with a clean record."""
        if cell.status is Status.FAILED:
            self._restarts.pop(cell, None)
            cell.reason = None
            self.recover(cell)

    def idle(self, cell: Cell) -> bool:
        """Whether the actor has nothing to do at all."""
        if cell.status is Status.QUARANTINED:
            return cell.backlog is None or cell.backlog.commit is None
        return (
            cell.status is Status.LIVE
            and cell.backlog is None
            and cell.behaviour.may_release(cell.state)
            and not self._engine.performer.works_for(cell)
        )

    def release(self, cell: Cell) -> Envelope | None:
        """Commit what there is and give up ownership, if nothing is queued.

        Returns:
            Is answered when that has happened; None if it can't be done now.
        """
        backlog = cell.busy()
        stopped = cell.status in (Status.FAILED, Status.QUARANTINED)
        if not stopped and (cell.status is not Status.LIVE or backlog.queue):
            return None
        if not cell.owner:
            self.remove(cell)  # It failed before it was ever claimed: there is nothing to give up.
            return None
        self._engine.performer.cancel_all(cell)
        cell.status = Status.RELEASING
        cell.reason = None
        cell.wake_at = None
        commit = self._engine.new_commit(cell)
        commit.sealed = commit.release = True
        envelope = Envelope(None, self._engine.clock.now(), internal=True)
        envelope.handled = True
        commit.hold(envelope)
        backlog.blocked = True
        self._engine.commits.add(cell, urgent=True)
        return envelope

    def released(self, cell: Cell, asked: float) -> None:
        """Nobody owns the actor now; messages that came meanwhile activate it again.

        Args:
            cell: The actor.
            asked: When its release was asked for, epoch seconds.
        """
        self._engine.hub.publish(ActorReleased(cell.key.kind, cell.key.actor_id))
        backlog = cell.busy()
        self.end_waiters(cell, lambda: self._let_go(cell))
        left = [envelope for envelope in backlog.queue if not envelope.done]
        backlog.queue = ()  # Callers hold this actor, and may be held by what becomes of these.
        self.remove(cell)
        if cell.due is not None and cell.due > asked:
            # Its window was open: if nobody else has claimed it by then, it closes here in time, at
            # once if that came meanwhile. What had been due before is for whoever looks next.
            self._engine.timers.add(cell.due, self.adopt, cell.key)
        if not left:
            return
        role = self._engine.roles[cell.key.kind]
        heir = role.cells.get(cell.key.actor_id) or self.activate(role, cell.key.actor_id)
        inherited = heir.busy()
        for envelope in left:
            inherited.count(envelope)
            inherited.enqueue((envelope,))
            self._engine.watch.renew(heir, envelope)

    def adopt(self, actor: ActorKey, _: float) -> None:
        """Claim an actor that is due and may be nobody's, unless it is here."""
        if self._engine.closing is not None:
            return  # What we have let go of, and what others have, is for those who stay.
        role = self._engine.role(actor.kind)
        if actor.actor_id not in role.cells:
            self.activate(role, actor.actor_id).busy().swept = True

    def _let_go(self, cell: Cell) -> Exception:
        closing = self._engine.closing
        if closing is not None:
            return closing(Fate.NOT_EXECUTED)
        return OwnershipLostError(f"{cell.name} was released; ask again to have it here")

    def shut(self, error: Callable[[Fate], Exception]) -> None:
        """Answer everybody who still waits: the supervisor is going."""
        for cell in self._engine.cells():
            for commit in cell.backlog.commits() if cell.backlog is not None else ():
                commit.doubtful = commit.doubtful or commit.sent is not None
            self._engine.settlement.abort(cell, error)
            self.end(cell, lambda: error(Fate.NOT_EXECUTED))
        self._engine.end_changes()

    def end_waiters(self, cell: Cell, error: Callable[[], Exception]) -> None:
        """Answer the messages that wait for `Later`."""
        backlog = cell.backlog
        if backlog is not None:
            for envelope in backlog.waiting:
                envelope.answer(error=error())
                backlog.settle(envelope)
            backlog.waiting = ()
            cell.rest()
