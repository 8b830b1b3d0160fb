"""What becomes of messages, decided without waiting: delivered, handled, their effects performed.

The flow of a message: `deliver` puts it before its actor, which is activated if it isn't live. A
live actor with nothing in its way handles it at once, in the caller's own task. The decision's
writes join the actor's newest unsent commit; the answer waits with that commit (the output gate),
or, if the decision wrote nothing, with the newest unsettled one, whose changes it may have seen.
`Settlement` takes the store's word on a commit and lets answers and effects out; `Lifecycle` has
what happens to an actor as a whole. Nothing in the three is async: whoever waits (the flusher for
commits, the activator for claims, the timers) calls back with what came of it.
"""

from __future__ import annotations

import random
import re
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import anyio

from gamegirl.actors import (
    Answer,
    Behaviour,
    Cancel,
    Decided,
    Decision,
    Effect,
    Emit,
    Fate,
    InvalidInputError,
    Later,
    PatchHash,
    Perform,
    Woken,
)
from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Backlog, Cell, PendingCommit, Status, joined
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._contract import LONGEST, are_plain, check_contents, check_decided
from gamegirl.supervisor._events import EventHub
from gamegirl.supervisor._lifecycle import Lifecycle
from gamegirl.supervisor._performer import Performer
from gamegirl.supervisor._quarantine import put_aside
from gamegirl.supervisor._roles import Claims, Commits, Role, Watch
from gamegirl.supervisor._settings import Durability, Settings
from gamegirl.supervisor._settlement import Settlement
from gamegirl.supervisor._timers import Timers
from gamegirl.supervisor.stores import ActorKey

_SLICE = 64
"""So many queued messages of one actor are handled before others get a turn on the loop."""

_RETRY_FIRST_SECONDS = 0.02
_RETRY_MAX_SECONDS = 0.5
_RETRIES_MIN = 4
"""A store that doesn't answer is tried again at least so often within the commit timeout."""

_FRAMES = 30
"""So many of the innermost frames of a crash are kept: to tell a thousand (of a handler that calls
itself without end) would hold everybody up for longer than all that a restart takes."""

_WOKEN = Woken()

_KIND = re.compile(r"[A-Za-z0-9_-]{1,50}")

Times: TypeAlias = "tuple[float | None, float | None]"
"""When an actor wants to be woken, and from when on it is due, if either has changed."""


class Engine:
    """All actors of one supervisor, and the messages to them.

    Attributes:
        life: What happens to actors as a whole.
        settlement: What becomes of their commits.
        claims: Who claims them.
        commits: Who sends their commits.
        watch: Who notices that something takes too long.
        performer: Who does their slow work.
        roles: The registered behaviours by kind.
        handled: So many messages were handled.
        closing: While draining: what those get who still wait.
        changes: Who waits for an actor's next committed change.
    """

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
            if not isinstance(behaviour, Behaviour):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInputError(
                    f"a behaviour is an instance of Behaviour, not {behaviour!r}"
                )
            if not _KIND.fullmatch(behaviour.kind):
                raise InvalidInputError(
                    f"a behaviour's kind is 1 to 50 of A-Z a-z 0-9 _ -, not {behaviour.kind!r}"
                )
            if behaviour.kind in self.roles:
                raise InvalidInputError(f"two behaviours of the kind {behaviour.kind!r}")
            self.roles[behaviour.kind] = Role(behaviour)
        self.life = Lifecycle(self)
        self.settlement = Settlement(self)
        self.closing: Callable[[Fate], Exception] | None = None
        self.handled = 0
        self._fire = self.fire  # Once for all timers, which are many.
        self._share = max(1, int(settings.mailbox_max * settings.mailbox_share))
        self._gated = settings.durability is Durability.COMMITTED
        self.changes: dict[ActorKey, weakref.ref[anyio.Event]] = {}

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

    def retry_delay(self, failures: int) -> float:
        """How long to wait, in seconds, after so many failures of the store in a row."""
        most = min(_RETRY_MAX_SECONDS, self.settings.commit_timeout_seconds / _RETRIES_MIN)
        delay = min(most, _RETRY_FIRST_SECONDS * 2.0 ** min(failures, 16))
        return delay * self.random.uniform(0.5, 1.0)

    def find(self, kind: str, actor_id: str) -> Cell | None:
        """The actor's cell, if it has one."""
        return self.role(kind).cells.get(actor_id)

    def cells(self) -> Iterable[Cell]:
        """All cells there are now."""
        for role in self.roles.values():
            yield from tuple(role.cells.values())

    def deliver(self, role: Role, actor_id: str, envelope: Envelope) -> Cell:
        """Put a message before its actor: handled at once if it can be, else queued.

        Raises:
            GameGirlError: It was not accepted; nothing happened.
        """
        cell = role.cells.get(actor_id)
        if cell is None:
            cell = self.life.activate(role, actor_id)
        backlog = cell.backlog
        if backlog is None:
            self.handle(cell, envelope)
            return cell
        if cell.reason is not None:
            raise self.life.refusal(cell)
        repeats = False
        if not envelope.internal:
            if backlog.overdue:
                repeats = cell.state is not None and cell.behaviour.repeats(
                    cell.state, envelope.message
                )  # If this raises, its caller gets it, and nothing has happened.
                if not repeats:
                    raise self.settlement.unavailable(cell, Fate.NOT_EXECUTED)
            if not cell.behaviour.passes_capacity(envelope.message):
                backlog.check(envelope, self.settings.mailbox_max, self._share, cell.name)
        if cell.status is Status.LIVE and not (
            backlog.blocked or backlog.queue or (backlog.overdue and not repeats)
        ):
            self.handle(cell, envelope)
            if repeats and not envelope.done:
                self.watch.add(cell, envelope)
        else:
            backlog.count(envelope)
            backlog.enqueue((envelope,))
            if not envelope.internal:
                self.watch.add(cell, envelope)
        return cell

    def send(self, cell: Cell, message: object, now: float | None = None) -> None:
        """Send a message from the runtime itself: it passes capacity, never order."""
        if cell.status in (Status.GONE, Status.FAILED, Status.QUARANTINED):
            return
        stamp = self.clock.now() if now is None else now
        envelope = Envelope(message, stamp, internal=True)
        self.deliver(self.roles[cell.key.kind], cell.key.actor_id, envelope)

    def abandon(self, key: ActorKey, envelope: Envelope) -> None:
        """The caller was cancelled: a message that only waits for `Later` is of no use any more."""
        envelope.abandoned = True
        cell = self.find(key.kind, key.actor_id)
        backlog = cell.backlog if cell is not None else None
        if cell is not None and backlog is not None and envelope in backlog.waiting:
            backlog.waiting = [one for one in backlog.waiting if one is not envelope]
            backlog.settle(envelope)
            cell.rest()

    def decided(
        self, cell: Cell, message: object, now: float, decision: Decided, times: Times | None
    ) -> Envelope:
        """See to a decision of an idle actor, of which more comes than an answer."""
        sender = cell.behaviour.sender(message)
        if (
            not (self._gated and decision.writes)
            or decision.writes.__class__ is not tuple
            or decision.error is not None
            or (decision.requires or decision.quarantined)
            or decision.reply.__class__ is Later
            or (decision.effects and not are_plain(decision.effects))
        ):
            envelope = Envelope(message, now, sender)
            self._apply(cell, envelope, decision, times)
            return envelope
        # As nearly all that write: what `apply` puts together bit by bit, for whatever may be
        # there, is made in one go. The message is of no use any more.
        envelope = Envelope(None, now, sender, False, True, True, False, False, decision.reply)
        cohort = self.watch.enter(cell)
        commit = PendingCommit(cohort, decision.writes, (), decision.effects, envelope, urgent=True)
        backlog = cell.backlog = Backlog(unsettled=1, commit=commit)
        self.commits.open(cell, backlog)
        if times is not None:
            self._rearm(cell, *times)
        return envelope

    def handle(self, cell: Cell, envelope: Envelope) -> None:
        """Have the behaviour decide about a message, and see to what it decided."""
        self.handled += 1
        cell.last_used = envelope.stamp
        try:
            decision = cell.behaviour.handle(cell.state, envelope.message, envelope.stamp)
            if decision.__class__ is not Decision:
                check_decided(decision)
            times = self.times(cell) if self.roles[cell.key.kind].timed else None
        except BaseException as error:  # noqa: BLE001 - it is reported as a crash
            self.raised(cell, envelope, error)
        else:
            self._apply(cell, envelope, decision, times)

    def raised(self, cell: Cell, envelope: Envelope, error: BaseException) -> None:
        """A handler has raised: report it, and answer whoever asked."""
        trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
        self.life.crash(cell, envelope.message, error, trace, envelope)
        if not isinstance(error, Exception):
            raise error

    def _apply(
        self, cell: Cell, envelope: Envelope, decision: Decided, times: Times | None
    ) -> None:
        try:
            quiet = decision.quiet and decision.error is None
            if not quiet:
                check_contents(decision)
        except (TypeError, ValueError) as error:
            self.raised(cell, envelope, error)
            return
        backlog = cell.backlog
        if (
            quiet
            and times is None
            and decision.reply.__class__ is not Later
            and (backlog is None or backlog.commit is None)
        ):  # Nothing comes of it but an answer, for which nothing is waited: as of most that read.
            envelope.handled = True
            envelope.reply = decision.reply
            envelope.finish()
            if backlog is not None:
                backlog.settle(envelope)
                cell.rest()
            return
        try:
            self.apply(cell, envelope, decision, times)
        except BaseException as error:
            # Ours, not the behaviour's: the supervisor is about to break, but no caller hangs.
            envelope.answer(error=error)
            raise

    def times(self, cell: Cell) -> Times | None:
        """When the actor wants to be woken and is due; None if that is as it was.

        Raises:
            Exception: What the behaviour raises, or that it gave something else than a time.
        """
        wake, due = cell.behaviour.alarms(cell.state)
        if wake == cell.wake_at and due == cell.due:
            return None
        if (wake is None or 0 <= wake <= LONGEST) and (due is None or 0 <= due <= LONGEST):
            return wake, due
        raise ValueError(
            f"wake_at() and due_at() gave {wake!r} and {due!r}, expected epoch seconds or None"
        )

    def apply(self, cell: Cell, envelope: Envelope, decision: Decided, times: Times | None) -> None:
        """See to a decision: its writes, its answer, its timers and its effects."""
        if decision.quarantined and isinstance(decision, Decision):
            decision = put_aside(cell.key, decision, self.clock.now())
        envelope.handled = True
        backlog = cell.backlog
        gate: PendingCommit | None = None
        urgent = True
        if decision.writes or decision.requires:
            urgent = self._gated or any(type(write) is not PatchHash for write in decision.writes)
            gate = self._join_commit(cell, decision, urgent)
            backlog = cell.backlog
        elif backlog is not None:
            gate = backlog.newest
            if not (self._gated or any(commit.urgent for commit in backlog.commits())):
                gate = None
        if times is not None:
            self._rearm(cell, *times)
            backlog = cell.backlog
        reply = decision.reply
        if reply.__class__ is Later and decision.error is None:
            self._postpone(cell, envelope, reply)
            backlog = cell.backlog
        else:
            envelope.reply = reply
            envelope.error = decision.error
            if gate is None or not urgent:
                envelope.finish()
            if backlog is None:
                pass
            elif gate is None:
                backlog.settle(envelope)
            else:
                gate.hold(envelope)
                if not envelope.counted:
                    backlog.count(envelope)
        if decision.effects:
            last = backlog.newest if backlog is not None else None
            if last is not None:
                last.effects = joined(last.effects, decision.effects)
            else:
                self.perform(cell, decision.effects)
        if gate is None:
            cell.rest()

    def _postpone(self, cell: Cell, envelope: Envelope, later: Later) -> None:
        """Keep a message until the actor wakes its waiters; outages and capacity don't end it."""
        backlog = cell.busy()
        envelope.message = later.message
        envelope.handled = False
        envelope.internal = True
        if self.closing is not None:
            envelope.answer(error=self.closing(Fate.NOT_EXECUTED))
        if envelope.done or envelope.abandoned:
            backlog.settle(envelope)
            return
        backlog.wait(envelope)
        if not envelope.counted:
            backlog.count(envelope)

    def _join_commit(self, cell: Cell, decision: Decided, urgent: bool) -> PendingCommit:
        backlog = cell.backlog
        commit = backlog.newest if backlog is not None else None
        if commit is None or commit.sealed or commit.sent is not None or decision.requires:
            commit = self.new_commit(cell)
            commit.writes = decision.writes
        else:
            commit.writes = joined(commit.writes, decision.writes)
        if urgent:
            commit.urgent = True
        if decision.requires:
            commit.requires = decision.requires
            commit.sealed = True
            cell.busy().blocked = True
        self.commits.add(cell, urgent=urgent)
        return commit

    def new_commit(self, cell: Cell) -> PendingCommit:
        commit = PendingCommit(self.watch.enter(cell))
        backlog = cell.backlog
        if backlog is None:
            backlog = cell.backlog = Backlog()
        backlog.put(commit)
        return commit

    def _rearm(self, cell: Cell, wake: float | None, due: float | None) -> None:
        if wake != cell.wake_at:
            cell.wake_at = wake
            if wake is not None:
                self.timers.add(wake, self._fire, cell)  # As `wake` does.
        if due != cell.due:
            cell.due = due
            backlog = cell.busy()
            commit = backlog.newest
            if commit is None or commit.sent is not None:
                commit = self.new_commit(cell)
                self.commits.add(cell, urgent=True)
            commit.due = due

    def wake(self, cell: Cell) -> None:
        """Have the actor woken at the time it wants to be."""
        assert cell.wake_at is not None
        self.timers.add(cell.wake_at, self._fire, cell)

    def obsolete(self, call: object, subject: object, when: float) -> bool:
        """Whether a timer calls for nothing any more."""
        return call is self._fire and (
            not isinstance(subject, Cell)
            or subject.status is Status.GONE
            or subject.wake_at != when
        )

    def fire(self, cell: Cell, when: float) -> None:
        """An actor's timer has come."""
        if cell.wake_at != when:
            return
        now = self.timers.now
        if now < when:  # By a rounding: who is woken finds that it is time.
            now = when
        if cell.backlog is not None:
            if cell.status is Status.LIVE:
                self.send(cell, _WOKEN, now)
            return
        # It is idle, and so it is live. Many are woken together: what does no more than to let its
        # timer go, as most do that aren't about windows, takes the shortest way.
        behaviour, state = cell.behaviour, cell.state
        self.handled += 1
        cell.last_used = now
        try:
            decision = behaviour.handle(state, _WOKEN, now)
            made = decision.__class__
            if (
                (made is Answer or (made is Decision and decision.quiet))
                and (decision.reply is None or decision.reply.__class__ is not Later)
                and behaviour.wake_at(state) is None
                and behaviour.due_at(state) == cell.due
            ):
                cell.wake_at = None
                return
            if made is not Decision:
                check_decided(decision)
            times = self.times(cell)
        except BaseException as error:  # noqa: BLE001 - it is reported as a crash
            self.raised(cell, Envelope(_WOKEN, now, internal=True), error)
        else:
            self._apply(cell, Envelope(_WOKEN, now, internal=True), decision, times)

    def perform(self, cell: Cell, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if type(effect) is Emit:
                self.hub.publish(effect.event)
            elif isinstance(effect, Cancel):
                self.performer.cancel(cell, effect.key)
            elif cell.status is not Status.LIVE:
                continue  # Whoever restores it sees to its work and its waiters.
            elif isinstance(effect, Perform):
                self.performer.start(
                    cell,
                    effect.key,
                    effect.work,
                    effect.delay_seconds * self.random.uniform(0.5, 1.0),
                )
            else:
                self.wake_waiters(cell)

    def wake_waiters(self, cell: Cell) -> None:
        backlog = cell.backlog
        if cell.status is not Status.LIVE or backlog is None or not backlog.waiting:
            return  # Restoring wakes them anyway.
        waiting, backlog.waiting = backlog.waiting, ()
        now = self.clock.now()
        for envelope in waiting:
            envelope.stamp = now
        backlog.enqueue(waiting)
        self.timers.after(0.0, self._resume, cell)

    def _resume(self, cell: Cell, _: float) -> None:
        if cell.status is Status.LIVE:
            self.proceed(cell)

    def proceed(self, cell: Cell) -> None:
        """Handle what is queued, as far as it may be handled now."""
        backlog = cell.backlog
        if backlog is None:
            return
        limit = self.handled + _SLICE
        while cell.status is Status.LIVE and not backlog.blocked and not backlog.overdue:
            if self.handled >= limit and backlog.queue:
                self.timers.after(0.0, self._resume, cell)
                return
            envelope = backlog.next()
            if envelope is None:
                break
            if envelope.done:
                backlog.settle(envelope)
                continue
            self.handle(cell, envelope)
        cell.rest()

    def move_clock(self, seconds: float) -> None:
        """The wall clock was set: windows keep what they have left."""
        self.clock.adjust(seconds)
        for cell in self.cells():
            backlog = cell.backlog
            for envelope in backlog.queue if backlog is not None else ():
                envelope.stamp += seconds
            cell.last_used += seconds
            if cell.status in (Status.LIVE, Status.REWRITING) and cell.wake_at is not None:
                try:
                    decision = Decision(writes=cell.behaviour.shifted(cell.state, seconds))
                    check_contents(decision)
                    times = self.times(cell)
                except Exception as error:  # noqa: BLE001 - reported as a crash
                    self.life.crashed(cell, "shifted", error, traceback.format_exc())
                else:
                    envelope = Envelope(None, self.clock.now(), internal=True)
                    self.apply(cell, envelope, decision, times)

    def change_signal(self, key: ActorKey) -> anyio.Event:
        """Is set at the actor's next committed change; nobody but who waits for it keeps it."""
        known = self.changes.get(key)
        signal = known() if known is not None else None
        if signal is None:
            signal = anyio.Event()
            self.changes[key] = weakref.ref(signal, partial(self._unwatched, key))
        return signal

    def _unwatched(self, key: ActorKey, signal: weakref.ref[anyio.Event]) -> None:
        if self.changes.get(key) is signal:
            del self.changes[key]

    def end_changes(self) -> None:
        """Let all who wait for changes look up: there will be none any more."""
        changes = tuple(self.changes.values())
        self.changes.clear()
        for known in changes:
            _set(known)

    def changed(self, cell: Cell) -> None:
        known = self.changes.pop(cell.key, None)
        if known is not None:
            _set(known)


def _set(known: weakref.ref[anyio.Event]) -> None:
    signal = known()
    if signal is not None:
        signal.set()
