"""What becomes of commits: the store's word on them, or its silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gamegirl.actors import (
    Fate,
    GameGirlError,
    OwnershipLostError,
    PatchHash,
    PutHash,
    Require,
    SessionQuarantinedError,
    StoreUnavailableError,
    Write,
)
from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Cell, PendingCommit, Status, joined
from gamegirl.supervisor._events import CommitFailed, StoreRegressed
from gamegirl.supervisor.stores import (
    BadType,
    Broken,
    Claimed,
    Conflict,
    Done,
    Fenced,
    Outcome,
    Unmet,
)
from gamegirl.supervisor.stores._typed import revision_number

if TYPE_CHECKING:
    from gamegirl.supervisor._engine import Engine

_LIVE = Status.LIVE  # Of an enum's class it takes 40 ns to get one, with each commit.


class _UnlessLost(Require, frozen=True):
    """A condition of a commit that is made again after the store went back in time.

    What it asks for may be among what the store has lost, or the commit may have been made before:
    it must be nobody else's all the same.

    Attributes:
        others: What else the field may hold, to be tried in turn.
    """

    others: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, require: Require, commit: PendingCommit) -> Require:
        """The condition for such a commit."""
        others: list[str | None] = [None]
        if commit.sent is not None:
            others.insert(0, _written(commit, require))
        found = tuple(one for one in dict.fromkeys(others) if one != require.value)
        return cls(require.key, require.field, require.value, require.error, found)

    def next(self) -> Require:
        """The same for what else it may be."""
        value, *others = self.others
        if not others:
            return Require(self.key, self.field, value, self.error)
        return _UnlessLost(self.key, self.field, value, self.error, tuple(others))


def _written(commit: PendingCommit, require: Require) -> str | None:
    """What a commit itself makes of the field that it requires something of; None: nothing."""
    value: Any = None
    for write in commit.writes:
        if isinstance(write, (PutHash, PatchHash)) and write.key == require.key:
            # A behaviour's: the store says if it is no mapping.
            is_mapping = isinstance(write.fields, Mapping)  # pyright: ignore[reportUnnecessaryIsInstance]
            value = write.fields.get(require.field) if is_mapping else None
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _in_doubt(cell: Cell) -> OwnershipLostError:
    return OwnershipLostError(
        f"the store went back in time while {cell.name} committed this: read the state to see "
        "whether it is there",
        fate=Fate.IN_DOUBT,
    )


class Settlement:
    """Settles commits: lets answers and effects out, or aborts and has the actor start over."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def settle(self, cell: Cell, commit: PendingCommit, outcome: Outcome) -> None:
        """Take the store's word on the actor's oldest commit."""
        sent = commit.sent
        if commit.settled or sent is None:
            return
        if not isinstance(outcome, Done):
            self._refused(cell, commit, outcome)
            return
        engine, backlog = self._engine, cell.backlog
        assert backlog is not None
        # Out of the backlog also if that is dropped: the frame of a refused caller may hold it, and
        # so the callers whose commit this is, and the collector sees none of that.
        backlog.take()
        commit.over()
        cell.revision = sent.revision
        if (
            not (backlog.commit or backlog.queue or backlog.waiting or commit.release)
            and cell.status is _LIVE
        ):  # As nearly always. Nothing counts any more but what is answered now.
            cell.backlog = None
            if commit.envelope is not None:
                commit.envelope.finish()
                for envelope in commit.others:
                    envelope.finish()
            if engine.changes and commit.writes:
                engine.changed(cell)
            if commit.effects:
                engine.perform(cell, commit.effects)
            return
        for envelope in commit.envelopes():
            envelope.finish()
            backlog.settle(envelope)
        if engine.changes and commit.writes:
            engine.changed(cell)
        if commit.release:
            engine.life.released(cell, commit.envelopes()[-1].stamp)  # The release's own.
            return
        if backlog.commit is None:
            backlog.blocked = backlog.overdue = False
        if commit.effects:
            engine.perform(cell, commit.effects)
        if cell.status is Status.LIVE:
            if backlog.queue:
                engine.proceed(cell)
            elif not (backlog.unsettled or backlog.commit):
                cell.rest()
        elif cell.status is Status.RECOVERING and backlog.commit is None:
            engine.claims.request(cell, engine.life.backoff(cell))

    def _refused(
        self,
        cell: Cell,
        commit: PendingCommit,
        outcome: Fenced | Conflict | BadType | Unmet | Broken,
    ) -> None:
        commit.flying = False
        if cell.status is Status.REWRITING:
            # Perhaps by our own new claim: what becomes of it is decided when that is answered.
            commit.doubtful = True
            return
        if isinstance(outcome, Unmet):
            require = commit.requires[outcome.index]
            if isinstance(require, _UnlessLost) and require.others:
                self._try_other(cell, commit, outcome.index, require)
            else:
                self._unmet(cell, commit, require.error)
        elif isinstance(outcome, (BadType, Broken)):
            reason = (
                f"{outcome.key} holds a {outcome.found}"
                if isinstance(outcome, BadType)
                else outcome.reason
            )
            self._engine.hub.publish(CommitFailed(cell.key.kind, cell.key.actor_id, reason))
            self.abort(
                cell,
                lambda fate: SessionQuarantinedError(
                    f"{cell.name}: {reason}, so that nothing was written; repair or move that key",
                    fate=fate,
                ),
            )
            self._engine.life.restart(cell, f"can't write: {reason}")
        elif isinstance(outcome, Conflict):
            self._contradicted(cell, outcome.revision, cell.owner, None)
        else:
            self._contradicted(cell, outcome.revision, outcome.owner, outcome.since)

    def _unmet(self, cell: Cell, commit: PendingCommit, error: GameGirlError) -> None:
        """A condition doesn't hold: what was run on top of it (only a release) starts over."""
        backlog = cell.busy()
        backlog.take()
        commit.over()
        for envelope in commit.envelopes():
            envelope.answer(error=error)
            backlog.settle(envelope)
        self.abort(
            cell,
            lambda fate: StoreUnavailableError(
                f"{cell.name} is loaded anew, so that this did not happen; ask again", fate=fate
            ),
        )
        if any(not envelope.internal for envelope in commit.envelopes()):
            self._engine.life.recover(cell)
        else:
            self._engine.life.restart(cell, f"was refused: {error}")

    def _try_other(
        self, cell: Cell, commit: PendingCommit, index: int, require: _UnlessLost
    ) -> None:
        """What a rewriting commit requires isn't as it was: perhaps the store has lost it."""
        requires = list(commit.requires)
        requires[index] = require.next()
        commit.requires, commit.sent = tuple(requires), None
        self._engine.commits.add(cell, urgent=True)

    def abort(self, cell: Cell, error: Callable[[Fate], Exception]) -> None:
        backlog = cell.busy()
        while (commit := backlog.commit) is not None:
            backlog.take()
            commit.over()
            in_doubt = commit.doubtful or commit.flying
            fate = Fate.IN_DOUBT if in_doubt else Fate.NOT_EXECUTED
            for envelope in commit.envelopes():
                envelope.answer(error=error(fate))
                backlog.settle(envelope)
        backlog.blocked = backlog.overdue = False

    def _contradicted(
        self, cell: Cell, revision: int | None, owner: str | None, since: int | None
    ) -> None:
        """The fence is not as this claim left it: the store went back, or somebody else came."""
        if owner is None or epoch_of(owner) < epoch_of(cell.owner):
            # We have followed that owner before, so nobody may go on from where it was.
            self.regress(cell, None if owner is None else revision, over=owner or "")
        elif revision is not None and revision < cell.revision and owner in ("", cell.owner):
            self.regress(cell, revision)
        elif owner != cell.owner:
            if since is not None and since < cell.revision:
                # Both: the other one has claimed, and goes on from, what the store went back to.
                self.report(cell, since)
            self._engine.life.lose(cell, owner)
        else:
            self.abort(
                cell,
                lambda _fate: OwnershipLostError(
                    f"{cell.name} was changed under this process's own claim; it is loaded anew",
                    fate=Fate.IN_DOUBT,
                ),
            )
            self._engine.life.recover(cell)

    def check_fence(
        self, cell: Cell, owner: str | None, revision: int | None, since: int | None
    ) -> None:
        """Compare a live, settled actor with the fence that the store has for it."""
        if cell.status is not Status.LIVE:
            return
        if owner != cell.owner or revision is None or revision < cell.revision:
            self._contradicted(cell, revision, owner, since)

    def report(self, cell: Cell, found: int | None) -> None:
        """Say that the store has forgotten something of the actor."""
        self._engine.hub.publish(
            StoreRegressed(cell.key.kind, cell.key.actor_id, cell.revision, found)
        )

    def regress(self, cell: Cell, found: int | None, over: str = "") -> None:
        """The store went back: claim the actor anew and write it from memory, if there is any."""
        self.report(cell, found)
        cell.busy().over = over
        if cell.state is None:
            self.abort(
                cell,
                lambda _fate: OwnershipLostError(
                    f"the store went back in time while {cell.name} was being restarted; "
                    "it is loaded from what is stored",
                    fate=Fate.IN_DOUBT,
                ),
            )
            self._engine.life.recover(cell)
            return
        cell.status = Status.REWRITING
        cell.started = True
        self._engine.claims.request(cell)

    def rewrite(self, cell: Cell, claimed: Claimed, writes: Sequence[Write]) -> None:
        """Write an actor from memory after the store lost what it had committed."""
        backlog = cell.busy()
        pending = backlog.commits()
        backlog.commit, backlog.later = None, ()
        backlog.claim_since = None
        backlog.over = ""
        cell.own(claimed)
        cell.status = Status.LIVE
        commit = self._engine.new_commit(cell)
        commit.due = cell.due
        commit.sealed = commit.urgent = True
        conditional = any(old.requires for old in pending)
        for old in pending:
            # They may have changed more than the actor's own keys; its full form comes after.
            old.over()
            commit.writes = joined(commit.writes, old.writes)
            for require in old.requires:
                commit.requires = (*commit.requires, _UnlessLost.of(require, old))
            for envelope in old.envelopes():
                if conditional and not (old.requires or envelope.internal):
                    # It asked for no condition, and is stored only if that of another one holds.
                    envelope.answer(error=_in_doubt(cell))
                commit.hold(envelope)
            commit.effects = joined(commit.effects, old.effects)
            commit.release = commit.release or old.release
            commit.doubtful = commit.doubtful or old.doubtful or old.flying
        commit.writes = joined(commit.writes, writes)
        if commit.release:
            cell.status = Status.RELEASING
        backlog.blocked = True
        self._engine.commits.add(cell, urgent=True)
        if cell.wake_at is not None and cell.wake_at <= self._engine.clock.now():
            self._engine.wake(cell)  # Its timer came while it was of no use.

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
            self._engine.hub.publish(
                CommitFailed(cell.key.kind, cell.key.actor_id, "the store is late")
            )
            for envelope in item.envelopes():
                envelope.answer(error=self.unavailable(cell, Fate.IN_DOUBT))
            self._refuse_queue(cell)
            return False
        since, left = backlog.claim_since, 0.0
        if since is not None and not self._engine.claims.trouble(cell):
            waited = self._engine.clock.monotonic() - since
            left = self._engine.settings.commit_timeout_seconds - waited
        late = since is not None and left <= 0.0
        if item.internal:
            return False  # It waits for `Later`: that is no matter of the store's.
        if item.handled:
            item.answer(error=self.unavailable(cell, Fate.IN_DOUBT))
        elif late or backlog.overdue:
            item.answer(error=self.unavailable(cell, Fate.NOT_EXECUTED))
        elif since is not None:
            # The claim came later than the message: the store gets its time, and no more.
            self._engine.timers.after(left, self._expire_again, (cell, item))
        else:
            return True  # It waits for something else: a restart, other messages.
        return False

    def _expire_again(self, waiting: tuple[Cell, Envelope], _: float) -> None:
        cell, item = waiting
        if not item.done and self.expire(cell, item):
            self._engine.watch.renew(cell, item)

    def _refuse_queue(self, cell: Cell) -> None:
        backlog = cell.busy()
        for envelope in backlog.queue:
            if not envelope.internal:
                envelope.answer(error=self.unavailable(cell, Fate.NOT_EXECUTED))

    def unavailable(self, cell: Cell, fate: Fate) -> StoreUnavailableError:
        what = (
            "its last changes are sent until they are settled; repeat the call with its press_id "
            "or read the state later"
            if fate is Fate.IN_DOUBT
            else "nothing of this call happened; send it again later"
        )
        backlog = cell.backlog
        if backlog is not None and backlog.claim_since is not None:
            trouble = self._engine.claims.trouble(cell)
        else:
            # What the store said last, whoever it was said to; else what it said of this one alone.
            commit = backlog.commit if backlog is not None else None
            trouble = self._engine.commits.trouble or (commit.trouble if commit is not None else "")
        seconds = f"{self._engine.settings.commit_timeout_seconds:g} s"
        why = (
            f"the store has not done it in {seconds} ({trouble})"
            if trouble
            else f"the store has not answered for {seconds}"
        )
        return StoreUnavailableError(f"{cell.name}: {why}; {what}", fate=fate)


def epoch_of(owner: str) -> int:
    """The epoch of an owner token; of nobody's (empty) or a foreign one: very large."""
    epoch = revision_number(owner.partition(":")[0] or "?")
    return 1 << 62 if epoch is None else epoch
