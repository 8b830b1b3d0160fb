"""What workers say to the bench: whatever a session answers, as plain JSON."""

from __future__ import annotations

from gamegirl.actors.session import Player, Pressed, Session
from gamegirl.chaos._wire import plain


def test_answers_are_plain_objects() -> None:
    """Structs and attrs classes by their fields, read-only mappings as what they hold."""
    session = Session(
        *("g", "The Loop", "c", True, 1, "", None),
        players={"ana": Player("ana", "Ana", last_active=1.5)},
        pending_choices={"ana": "run"},
        window=None,
        closed_turns=(),
    )
    shown = plain(session)
    assert shown["pending_choices"] == {"ana": "run"}
    assert shown["players"]["ana"]["last_active"] == 1.5
    assert plain(Pressed("g", 2, True, 9.5, 10.0))["turn"] == 2
