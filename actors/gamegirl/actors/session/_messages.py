"""What a session is asked: one class an operation, as plain data.

What a handler can't make itself (ids, nonces, what other keys hold) comes in the message, so that
the same message gives the same decision in every run.
"""

from __future__ import annotations

import msgspec

from gamegirl.actors._behaviour import Stored
from gamegirl.actors.session._data import ClosedTurn, Session, TurnToken


class Boot(msgspec.Struct, frozen=True, gc=False):
    """Start an empty game."""

    game_name: str
    title_screen_url: str
    game_id: str
    nonce: str


class Join(msgspec.Struct, frozen=True, gc=False):
    """Put a player on the roster, or refresh them."""

    user_id: str
    user_name: str


class Press(msgspec.Struct, frozen=True, gc=False):
    """Choose; `turn` and `game_id` say in which turn it must count, if not None."""

    user_id: str
    user_name: str
    choice: str
    turn: int | None = None
    game_id: str | None = None
    press_id: str | None = None


class NextTurn(msgspec.Struct, frozen=True, gc=False):
    """Wait for a closed turn above `after`; `game_id` is the waiter's game once it waits."""

    after: int | None = None
    game_id: str | None = None


class CloseWindow(msgspec.Struct, frozen=True, gc=False):
    """Close the open window now; without one, a turn without choices if `empty`."""

    empty: bool = False


class Record(msgspec.Struct, frozen=True, gc=False):
    """Put a closed turn into the history; without a game id, of the running game."""

    turn: int
    game_id: str | None
    narrative: str


class Narrate(msgspec.Struct, frozen=True, gc=False):
    """Put a narrative without a turn into the history."""

    narrative: str


class ReadHistory(msgspec.Struct, frozen=True, gc=False):
    """The latest records."""

    count: int


class ReadRoster(msgspec.Struct, frozen=True, gc=False):
    """Everyone with their tier; or those who aren't dormant."""

    active_only: bool = False


class SetCrown(msgspec.Struct, frozen=True, gc=False):
    """Give the crown to a user, or to nobody."""

    user_id: str | None


class ReadCrown(msgspec.Struct, frozen=True, gc=False):
    """Who holds the crown."""


class SetTitleScreen(msgspec.Struct, frozen=True, gc=False):
    """Replace the title screen; empty: the default."""

    url: str


class ReadActive(msgspec.Struct, frozen=True, gc=False):
    """Whether a game is active; cheaper than a snapshot of it."""


class ReadState(msgspec.Struct, frozen=True, gc=False):
    """A snapshot."""


class Save(msgspec.Struct, frozen=True, gc=False):
    """Write the full forms now."""


class Exit(msgspec.Struct, frozen=True, gc=False):
    """Save the game and take it out of its channel."""

    nonce: str


class Swap(msgspec.Struct, frozen=True, gc=False):
    """Exit what runs, boot another, in one commit."""

    game_name: str
    title_screen_url: str
    game_id: str
    nonce: str


class Load(msgspec.Struct, frozen=True, gc=False):
    """Load a save; `found` is what the store holds of it (see `found_keys`).

    Attributes:
        game_id: Which game.
        nonce: For the save of what is displaced.
        game: The game's own key.
        entry: Its entry in the index, or None.
        channel_id: The channel that the entry names, if its keys were read.
        channel: What that channel's keys hold.
        last: It isn't looked once more if the game isn't there any more.
    """

    game_id: str
    nonce: str
    game: Stored = None
    entry: bytes | str | None = None
    channel_id: str | None = None
    channel: tuple[Stored, ...] = ()
    last: bool = True


class Wipe(msgspec.Struct, frozen=True, gc=False):
    """Delete what the channel stores.

    Attributes:
        keep_game: A game that was found to be elsewhere: if it still is the channel's last one,
            it is not deleted with the channel.
    """

    keep_game: str | None = None


class HandOut(msgspec.Struct, frozen=True, gc=False):
    """Work, not a message: give a turn to `on_turn`."""

    turn: ClosedTurn
    session: Session


class TurnNarrated(msgspec.Struct, frozen=True, gc=False):
    """`on_turn` returned; None: the host records the turn itself."""

    token: TurnToken
    attempt: int
    narrative: str | None


class TurnFailed(msgspec.Struct, frozen=True, gc=False):
    """`on_turn` raised, or returned something that is neither a text nor None."""

    token: TurnToken
    attempt: int
    reason: str
