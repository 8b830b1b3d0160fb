"""What waits in front of an actor, and how much of it may.

An idle actor has no mailbox at all: most messages are handled in the caller's own task the moment
they are sent. A mailbox exists while messages wait to be handled or to be settled.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from gamegirl.actors._errors import MailboxFullError


class Signal(Protocol):
    """What a caller waits for, as far as whoever answers knows it: a future of asyncio's is one."""

    def done(self) -> bool:
        """Whether it is set, or the caller was cancelled."""
        ...

    def set_result(self, result: None, /) -> None:
        """Wake the caller."""
        ...


class Envelope(msgspec.Struct, eq=False):
    """A message on its way, with what became of it.

    Attributes:
        message: What was sent; of a waiting message, what is handled next.
        stamp: When it was enqueued, epoch seconds: the behaviour's `now`.
        sender: Whose share of the mailbox it takes; None: nobody's.
        internal: Sent by the runtime (a timer, a result of work): it passes capacity, never order.
        counted: It counts in the mailbox.
        handled: The behaviour has decided about it; the answer may still wait for a commit.
        done: It is answered: `error` or else `reply` is the answer.
        abandoned: Its caller was cancelled.
        signal: Set when it is answered, if somebody waits.
        deadline: For whoever watches that it is answered in time.
    """

    message: Any
    stamp: float
    sender: str | None = None
    internal: bool = False
    counted: bool = False
    handled: bool = False
    done: bool = False
    abandoned: bool = False
    reply: Any = None
    error: BaseException | None = None
    signal: Signal | None = None
    deadline: float = 0.0

    def answer(self, reply: Any = None, error: BaseException | None = None) -> None:
        """Give the answer, once; a second one is dropped (the first told the caller its fate)."""
        if not self.done:
            self.reply = reply
            self.error = error
            self.finish()

    def finish(self) -> None:
        """Let the answer that was decided out."""
        if self.done:
            return
        self.done = True
        signal = self.signal
        if signal is not None and not signal.done():
            signal.set_result(None)


class Mailbox(msgspec.Struct, eq=False, gc=False):
    """The bounded queue of one actor and the count of its unsettled messages.

    Nearly every mailbox counts one message and goes; what it seldom needs is made when it is needed
    (a deque alone takes 600 bytes). So nobody is counted by sender before there are as many
    messages as one sender may have.

    Attributes:
        queue: Not handled yet, in order; a tuple: one at the most.
        waiting: Handled with `Later`: they are handled again when the actor wakes its waiters.
        unsettled: How many messages count: queued, waiting, or handled but not committed.
        by_sender: How many of them each sender has, once that matters.
    """

    queue: deque[Envelope] | tuple[Envelope, ...] = ()
    waiting: list[Envelope] | tuple[()] = ()
    unsettled: int = 0
    by_sender: Counter[str] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is queued, waits or is unsettled."""
        return not (self.unsettled or self.queue or self.waiting)

    def enqueue(self, envelopes: Sequence[Envelope]) -> None:
        """Put messages at the end of the queue."""
        queue = self.queue
        if not queue and len(envelopes) < 2:
            self.queue = tuple(envelopes)
            return
        if isinstance(queue, tuple):
            self.queue = queue = deque(queue)
        queue.extend(envelopes)

    def next(self) -> Envelope | None:
        """Take the first message out of the queue."""
        queue = self.queue
        if not queue:
            return None
        if isinstance(queue, tuple):
            self.queue = ()
            return queue[0]
        return queue.popleft()

    def wait(self, envelope: Envelope) -> None:
        """Keep a message until the actor wakes its waiters."""
        if isinstance(self.waiting, tuple):
            self.waiting = []
        self.waiting.append(envelope)

    def check(self, envelope: Envelope, limit: int, share: int, name: str) -> None:
        """Refuse a message that would go over the limit, or its sender's share.

        Raises:
            MailboxFullError: At once; nothing was enqueued.
        """
        if self.unsettled >= limit:
            raise MailboxFullError(
                f"{name} has {self.unsettled} unsettled messages, as many as mailbox_max allows; "
                "slow down and send it again"
            )
        sender = envelope.sender
        if sender is None or self.unsettled < share:
            return
        if self.by_sender is None:
            self.by_sender = Counter(
                one.sender for one in self.envelopes() if one.counted and one.sender is not None
            )
        if self.by_sender[sender] >= share:
            raise MailboxFullError(
                f"{name} has {share} unsettled messages of {sender!r} alone, one sender's share of "
                "the mailbox; wait for their answers and send it again"
            )

    def envelopes(self) -> Iterator[Envelope]:
        """All messages that may count."""
        yield from self.queue
        yield from self.waiting

    def count(self, envelope: Envelope) -> None:
        """Take the message into account until it is settled."""
        envelope.counted = True
        self.unsettled += 1
        if self.by_sender is not None and envelope.sender is not None:
            self.by_sender[envelope.sender] += 1

    def settle(self, envelope: Envelope) -> None:
        """Take the message out of the account."""
        if not envelope.counted:
            return
        envelope.counted = False
        self.unsettled -= 1
        sender, by_sender = envelope.sender, self.by_sender
        if by_sender is not None and sender is not None:
            by_sender[sender] -= 1
            if by_sender[sender] <= 0:
                del by_sender[sender]
