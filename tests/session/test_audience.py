"""Events of presses and turns are made for those who look at them, and for nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from gamegirl.actors import Decided, Emit
from gamegirl.actors.session import (
    Audience,
    ChoicePressed,
    PlayerJoined,
    SessionBehaviour,
    SessionState,
    TurnClosed,
    TurnRecorded,
    WindowOpened,
)
from gamegirl.actors.session import _messages as m

MESSAGES: tuple[Any, ...] = (
    m.Boot("Neon", "", "aaaaaaaaaaaa", "save"),
    m.Press("1", "Ana", "run"),
    m.CloseWindow(),
    m.Record(1, None, "And so."),
)


def decisions(audience: Audience) -> list[Decided]:
    """What a session decides about a game of one turn."""
    behaviour = SessionBehaviour(audience=audience)
    state = SessionState("c")
    return [behaviour.handle(state, message, 1_000.0) for message in MESSAGES]


def events(audience: Audience) -> list[type]:
    """The kinds of events in that game, in their order."""
    return [
        type(effect.event)
        for decision in decisions(audience)
        for effect in decision.effects
        if isinstance(effect, Emit)
    ]


def test_somebody_who_looks_is_told_of_every_press_and_turn() -> None:
    """Without a word of the host's: a behaviour of its own has an audience."""
    told = events(Audience())
    for kind in (PlayerJoined, WindowOpened, ChoicePressed, TurnClosed, TurnRecorded):
        assert told.count(kind) == 1, kind


def test_with_nobody_there_only_what_the_log_keeps_is_made() -> None:
    """A press and a turn make no event; who boots and who joins is for the log."""
    told = events(Audience(present=False))
    assert PlayerJoined in told
    assert not {WindowOpened, ChoicePressed, TurnClosed, TurnRecorded}.intersection(told)


@pytest.mark.parametrize("position", range(len(MESSAGES)))
def test_whoever_looks_changes_nothing(position: int) -> None:
    """The same answers and the same writes, with an audience and without."""
    seen, unseen = (decisions(Audience(present=present))[position] for present in (True, False))
    assert seen.reply == unseen.reply
    assert seen.writes == unseen.writes
    assert seen.error is None
