"""A live actor as the runtime holds it, and the commits that it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec

from gamegirl.actors import Behaviour, Effect, Require, Write
from gamegirl.actors._mailbox import Envelope, Mailbox
from gamegirl.supervisor.stores import KEEP_DUE, ActorKey, Claimed, Commit

T = TypeVar("T")


class Status(Enum):
    """Where an actor stands."""

    CLAIMING = "claiming"
    """It is being claimed and restored; messages wait."""

    LIVE = "live"
    """It handles messages."""

    RECOVERING = "recovering"
    """Its memory was thrown away; it is claimed anew once its commits are settled."""

    REWRITING = "rewriting"
    """The store lost what it had committed; it is claimed anew and written from memory."""

    RELEASING = "releasing"
    """It gives up ownership; messages wait for the next activation."""

    FAILED = "failed"
    """It crashed too often; messages are refused."""

    QUARANTINED = "quarantined"
    """What is stored of it can't be used; messages are refused."""

    GONE = "gone"
    """It is no longer in the registry."""


class Joined(list[T]):
    """What several messages have brought, put together by us: nobody else has this list."""


def joined(held: Sequence[T], more: Sequence[T]) -> Sequence[T]:
    """Both, one after the other; what a behaviour has made is left alone.

    Most commits hold the writes and effects of one message, which are kept as they came.
    """
    if not held:
        return more
    if not more:
        return held
    if isinstance(held, Joined):
        held.extend(more)
        return held
    return Joined((*held, *more))


class Cohort:
    """Commits that were decided at about the same time, and are due together.

    Attributes:
        left: So many of them are not settled.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 0


class PendingCommit(msgspec.Struct, eq=False, gc=False):
    """Changes of one actor that are not settled, with all that waits for them.

    None of it leads back to it once it is settled, so the garbage collector, which would walk
    through a thousand of them again and again, need not know of it; the same holds for mailboxes.

    Attributes:
        cohort: In which it is watched whether it is settled in time.
        writes: Frozen writes, in the order of the messages that made them.
        requires: Conditions; a commit that has any holds the writes of one message only.
        effects: Happen once it is committed.
        envelope: The first message that is answered, or settled if it was answered before, once it
            is committed.
        others: The other ones.
        due: The actor's entry of the due index.
        flying: It is at the store right now.
        sealed: Takes no more writes.
        urgent: Somebody waits for it, so it doesn't wait for company.
        release: Gives up ownership.
        sent: As it went to the store; sent again unchanged.
        doubtful: It was sent at least once without an answer.
        failures: So many calls of the store that it was in have failed.
        trouble: Why the last of them has.
        settled: Over, one way or the other.
    """

    cohort: Cohort
    writes: Sequence[Write] = ()
    requires: Sequence[Require] = ()
    effects: Sequence[Effect] = ()
    envelope: Envelope | None = None
    others: Sequence[Envelope] = ()
    due: float | None = KEEP_DUE
    flying: bool = False
    sealed: bool = False
    urgent: bool = False
    release: bool = False
    sent: Commit | None = None
    doubtful: bool = False
    failures: int = 0
    trouble: str = ""
    settled: bool = False

    def over(self) -> None:
        """It is settled, one way or the other."""
        self.settled = True
        self.cohort.left -= 1

    def hold(self, envelope: Envelope) -> None:
        """Have a message wait until it is committed."""
        if self.envelope is None:
            self.envelope = envelope
        else:
            self.others = joined(self.others, (envelope,))

    def envelopes(self) -> Sequence[Envelope]:
        """All messages that wait for it, in their order."""
        return () if self.envelope is None else (self.envelope, *self.others)


class Backlog(Mailbox, eq=False, gc=False):
    """All that an idle actor does without: its mailbox and its unsettled commits.

    Nearly always there is one commit, in which one message waits: neither takes a list.

    Attributes:
        commit: The oldest one, which alone may be in flight; None: all are settled.
        later: Those after it, oldest first.
        listed: The actor is in the list of those that have something to commit now.
        blocked: No message is handled before the last commit is settled.
        overdue: The store has taken too long over a commit: nothing new runs.
        swept: The due index led here.
        claim_since: Since when a claim is wanted, monotonic seconds; None: none is.
        over: The owner that the store went back to: the next claim takes over from it.
    """

    commit: PendingCommit | None = None
    later: list[PendingCommit] | tuple[()] = ()
    listed: bool = False
    blocked: bool = False
    overdue: bool = False
    swept: bool = False
    claim_since: float | None = None
    over: str = ""

    @property
    def empty(self) -> bool:
        """Whether the actor is idle."""
        return not (self.commit or self.unsettled or self.queue or self.waiting)

    @property
    def newest(self) -> PendingCommit | None:
        """The last commit, which more may be added to unless it is sent or sealed."""
        return self.later[-1] if self.later else self.commit

    def commits(self) -> Sequence[PendingCommit]:
        """All commits, oldest first."""
        return () if self.commit is None else (self.commit, *self.later)

    def put(self, commit: PendingCommit) -> None:
        """Have a commit made after all others."""
        if self.commit is None:
            self.commit = commit
        elif isinstance(self.later, tuple):
            self.later = [commit]
        else:
            self.later.append(commit)

    def take(self) -> None:
        """The oldest commit is over."""
        later = self.later
        self.commit = later.pop(0) if later and not isinstance(later, tuple) else None

    def envelopes(self) -> Iterator[Envelope]:
        """All messages that may count."""
        yield from super().envelopes()
        for commit in self.commits():
            yield from commit.envelopes()


class Cell:
    """A live actor: its state, its ownership, and its backlog while it has one.

    Attributes:
        key: Its kind and id.
        behaviour: What it does.
        state: The behaviour's; None while it isn't live.
        status: Where it stands.
        owner: The owner token of this claim.
        stem: What the ids of this claim's commits begin with.
        revision: The number of its last commit.
        wake_at: When its timer fires, epoch seconds; None: no timer.
        due: What the due index says of it.
        last_used: When a message was last handled, epoch seconds.
        backlog: None when it is idle.
        reason: Why it is quarantined or failed, for its callers.
        started: It was live before, so that the next claim is a restart.
    """

    __slots__ = (
        "backlog",
        "behaviour",
        "due",
        "key",
        "last_used",
        "owner",
        "reason",
        "revision",
        "started",
        "state",
        "status",
        "stem",
        "wake_at",
    )

    def __init__(self, key: ActorKey, behaviour: Behaviour[Any]) -> None:
        self.key = key
        self.behaviour = behaviour
        self.state: Any = None
        self.status = Status.CLAIMING
        self.owner = ""
        self.stem = ""
        self.revision = 0
        self.wake_at: float | None = None
        self.due: float | None = None
        self.last_used = 0.0
        self.backlog: Backlog | None = None
        self.reason: Exception | None = None
        self.started = False

    @property
    def name(self) -> str:
        """For messages to people."""
        return f"{self.key.kind} {self.key.actor_id!r}"

    def own(self, claimed: Claimed) -> None:
        """Note the claim under which it is owned from now on."""
        self.owner = claimed.owner
        self.stem = f"{claimed.owner.partition(':')[2].partition(':')[0]}."
        self.revision = claimed.revision

    def busy(self) -> Backlog:
        """Its backlog, made if it has none."""
        backlog = self.backlog
        if backlog is None:
            backlog = self.backlog = Backlog()
        return backlog

    def rest(self) -> None:
        """Drop the backlog if there is nothing in it."""
        backlog = self.backlog
        if backlog is not None and self.status is Status.LIVE and backlog.empty:
            self.backlog = None
