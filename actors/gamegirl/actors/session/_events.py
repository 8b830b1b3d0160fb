"""What happens in a game, as data for observers; told once it is committed."""

from __future__ import annotations

import msgspec


class Audience:
    """Whether somebody looks at the events of each press and turn, which no log keeps."""

    __slots__ = ("present",)

    def __init__(self, *, present: bool = True) -> None:
        self.present = present


class GameEvent(msgspec.Struct, frozen=True, gc=False):
    """Something happened in a channel's game."""

    channel_id: str
    game_id: str


class GameBooted(GameEvent, frozen=True, gc=False):
    """An empty game was started."""

    game_name: str


class GameLoaded(GameEvent, frozen=True, gc=False):
    """A save came into the channel."""

    game_name: str
    turn_number: int


class GameExited(GameEvent, frozen=True, gc=False):
    """The game was saved and left the channel."""

    game_name: str
    turn_number: int


class GameSwapped(GameEvent, frozen=True, gc=False):
    """Another game took the channel: `game_id` came, `ejected_id` left (None: nothing ran)."""

    ejected_id: str | None


class GameWiped(GameEvent, frozen=True, gc=False):
    """Everything that the channel stored was deleted."""


class PlayerJoined(GameEvent, frozen=True, gc=False):
    """Somebody new is on the roster."""

    user_id: str
    user_name: str


class ChoicePressed(GameEvent, frozen=True, gc=False):
    """A press was accepted."""

    user_id: str
    turn: int


class WindowOpened(GameEvent, frozen=True, gc=False):
    """The first press of a turn came."""

    turn: int
    deadline: float


class TurnClosed(GameEvent, frozen=True, gc=False):
    """A window closed."""

    turn: int
    choices: int


class TurnRecorded(GameEvent, frozen=True, gc=False):
    """A turn (or, if `narration`, an interlude) is in the history."""

    turn: int
    narration: bool


class TurnAttemptFailed(GameEvent, frozen=True, gc=False):
    """`on_turn` failed and is tried again."""

    turn: int
    attempt: int
    reason: str


class TurnGivenUp(GameEvent, frozen=True, gc=False):
    """`on_turn` failed too often: the turn's record has no narrative."""

    turn: int
    attempt: int
    reason: str


class CrownMoved(GameEvent, frozen=True, gc=False):
    """Another player, or nobody, holds the crown."""

    user_id: str | None


class TitleScreenSet(GameEvent, frozen=True, gc=False):
    """The game has another title screen."""

    url: str


class RecordUnreadable(GameEvent, frozen=True, gc=False):
    """A history entry could not be read when it was asked for, and was left out."""

    position: int
    reason: str
