"""What a scenario's judge holds against the runtime, and what it doesn't."""

from __future__ import annotations

import pytest

from gamegirl.chaos._workers import CallFailed
from gamegirl.chaos.scenarios._conditions import Span
from gamegirl.chaos.scenarios._oom_readonly import Attempt


@pytest.mark.parametrize(
    ("op", "sent", "waited"),
    [("press", 9.5, 1.5), ("next_turn", 9.5, 1.0), ("next_turn", 10.5, 0.5)],
)
def test_who_asks_for_a_turn_waits_for_the_store_once_there_is_one(
    op: str, sent: float, waited: float
) -> None:
    """The last turn may have come just before the condition held, behind another commit."""
    span = Span(began=9.9, held=10.0, over=11.0, ended=11.1)
    error = CallFailed("StoreUnavailableError", "in doubt", "it is out of memory", "")
    assert Attempt(op, sent, 11.0 - sent, 0.0, error).waited(span) == waited
