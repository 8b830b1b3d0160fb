"""The queue of an actor's mailbox, which is a tuple of one until it must be more."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from gamegirl.actors._mailbox import Envelope, Mailbox


@given(st.lists(st.one_of(st.none(), st.integers(0, 3))))
def test_messages_leave_in_the_order_in_which_they_came(steps: list[int | None]) -> None:
    """However many came at once; None: one is taken."""
    mailbox, expected = Mailbox(), deque[Envelope]()
    for step in steps:
        if step is None:
            assert mailbox.next() is (expected.popleft() if expected else None)
        else:
            envelopes = [Envelope(number, 0.0) for number in range(step)]
            mailbox.enqueue(envelopes)
            expected.extend(envelopes)
        assert list(mailbox.queue) == list(expected)
        assert bool(mailbox.queue) is bool(expected)


def test_one_message_takes_no_deque() -> None:
    """Nearly every mailbox holds one, and a deque takes 600 bytes."""
    mailbox = Mailbox()
    mailbox.enqueue([Envelope("a", 0.0)])
    assert isinstance(mailbox.queue, tuple)
