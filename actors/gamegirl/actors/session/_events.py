"""What happens in a game, as data for observers; told once it is committed."""

from __future__ import annotations

import attrs


@attrs.frozen
class GameEvent:
    """Something happened in a channel's game."""

    channel_id: str
    game_id: str


@attrs.frozen
class GameBooted(GameEvent):
    """An empty game was started."""

    game_name: str


@attrs.frozen
class GameLoaded(GameEvent):
    """A save came into the channel."""

    game_name: str
    turn_number: int


@attrs.frozen
class GameExited(GameEvent):
    """The game was saved and left the channel."""

    game_name: str
    turn_number: int


@attrs.frozen
class GameSwapped(GameEvent):
    """Another game took the channel: `game_id` came, `ejected_id` left (None: nothing ran)."""

    ejected_id: str | None


@attrs.frozen
class GameWiped(GameEvent):
    """Everything that the channel stored was deleted."""


@attrs.frozen
class PlayerJoined(GameEvent):
    """Somebody new is on the roster."""

    user_id: str
    user_name: str


@attrs.frozen
class ChoicePressed(GameEvent):
    """A press was accepted."""

    user_id: str
    turn: int


@attrs.frozen
class WindowOpened(GameEvent):
    """The first press of a turn came."""

    turn: int
    deadline: float


@attrs.frozen
class TurnClosed(GameEvent):
    """A window closed."""

    turn: int
    choices: int


@attrs.frozen
class TurnRecorded(GameEvent):
    """A turn (or, if `narration`, an interlude) is in the history."""

    turn: int
    narration: bool


@attrs.frozen
class TurnAttemptFailed(GameEvent):
    """`on_turn` failed and is tried again."""

    turn: int
    attempt: int
    reason: str


@attrs.frozen
class TurnGivenUp(GameEvent):
    """`on_turn` failed too often: the turn's record has no narrative."""

    turn: int
    attempt: int
    reason: str


@attrs.frozen
class CrownMoved(GameEvent):
    """Another player, or nobody, holds the crown."""

    user_id: str | None


@attrs.frozen
class TitleScreenSet(GameEvent):
    """The game has another title screen."""

    url: str


@attrs.frozen
class RecordUnreadable(GameEvent):
    """A history entry could not be read when it was asked for, and was left out."""

    position: int
    reason: str
