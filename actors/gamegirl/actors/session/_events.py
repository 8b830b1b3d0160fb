"""What happens in a game, as data for observers; told once it is committed."""

from __future__ import annotations

import msgspec


class Audience:
    """Whether somebody looks at the events of each press and turn, which no log keeps."""

    __slots__ = ("present",)

    def __init__(self, *, present: bool = True) -> None:
        self.present = present


class GameEvent(msgspec.Struct, frozen=True, gc=False):
    """Something happened in a channel's game.

    Attributes:
        channel_id: The channel.
        game_id: The game that it happened in.
    """

    channel_id: str
    game_id: str


class GameBooted(GameEvent, frozen=True, gc=False):
    """An empty game was started.

    Attributes:
        game_name: Its title.
    """

    game_name: str


class GameLoaded(GameEvent, frozen=True, gc=False):
    """A save came into the channel.

    Attributes:
        game_name: Its title.
        turn_number: So many turns were closed when it was saved.
    """

    game_name: str
    turn_number: int


class GameExited(GameEvent, frozen=True, gc=False):
    """The game was saved and left the channel.

    Attributes:
        game_name: Its title.
        turn_number: So many turns were closed.
    """

    game_name: str
    turn_number: int


class GameSwapped(GameEvent, frozen=True, gc=False):
    """Another game took the channel: `game_id` came, `ejected_id` left (None: nothing ran).

    Attributes:
        ejected_id: The game that was saved and left.
    """

    ejected_id: str | None


class GameWiped(GameEvent, frozen=True, gc=False):
    """Everything that the channel stored was deleted."""


class PlayerJoined(GameEvent, frozen=True, gc=False):
    """Somebody new is on the roster.

    Attributes:
        user_id: Whose.
        user_name: As they first came.
    """

    user_id: str
    user_name: str


class ChoicePressed(GameEvent, frozen=True, gc=False):
    """A press was accepted.

    Attributes:
        user_id: Whose.
        turn: The turn it counts for, from 1.
    """

    user_id: str
    turn: int


class WindowOpened(GameEvent, frozen=True, gc=False):
    """The first press of a turn came.

    Attributes:
        turn: The turn, from 1.
        deadline: The last moment at which a press counts, epoch seconds.
    """

    turn: int
    deadline: float


class TurnClosed(GameEvent, frozen=True, gc=False):
    """A window closed.

    Attributes:
        turn: The turn, from 1.
        choices: How many players chose.
    """

    turn: int
    choices: int


class TurnRecorded(GameEvent, frozen=True, gc=False):
    """A turn (or, if `narration`, an interlude) is in the history.

    Attributes:
        turn: The turn, or the one that the interlude comes after.
        narration: Whether it is an interlude.
    """

    turn: int
    narration: bool


class TurnAttemptFailed(GameEvent, frozen=True, gc=False):
    """`on_turn` failed and is tried again.

    Attributes:
        turn: The turn, from 1.
        attempt: Which attempt failed, from 1.
        reason: The error's class and text, or what was wrong with what it returned.
    """

    turn: int
    attempt: int
    reason: str


class TurnGivenUp(GameEvent, frozen=True, gc=False):
    """`on_turn` failed too often: the turn's record has no narrative.

    Attributes:
        turn: The turn, from 1.
        attempt: Which attempt was the last, from 1.
        reason: Why that one failed.
    """

    turn: int
    attempt: int
    reason: str


class CrownMoved(GameEvent, frozen=True, gc=False):
    """Another player, or nobody, holds the crown.

    Attributes:
        user_id: Who; None: nobody.
    """

    user_id: str | None


class TitleScreenSet(GameEvent, frozen=True, gc=False):
    """The game has another title screen.

    Attributes:
        url: The picture's address.
    """

    url: str


class RecordUnreadable(GameEvent, frozen=True, gc=False):
    """A history entry could not be read when it was asked for, and was left out.

    Attributes:
        position: Its place in the stored list, from 0, oldest first.
        reason: What is wrong with it.
    """

    position: int
    reason: str
