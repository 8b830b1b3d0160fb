"""Where a session is stored. The first four keys are the replaced system's."""

from __future__ import annotations

from collections.abc import Sequence

from gamegirl.actors._behaviour import Prefetch
from gamegirl.codec import escape_id

INDEX_KEY = "game:index"
"""A hash, game id to entry: a listing of all games, not the truth."""


CHANNEL_KEYS = 6
"""So many keys a channel has."""


def json_key(channel_id: str) -> str:
    """The JSON form, a text."""
    return f"game:session:{escape_id(channel_id)}"


def history_key(channel_id: str) -> str:
    """The history, a list of records."""
    return f"game:session:{escape_id(channel_id)}:history"


def hash_key(channel_id: str) -> str:
    """The hash form, with a TTL."""
    return f"sg:game_session:{escape_id(channel_id)}"


def journal_key(channel_id: str) -> str:
    """What happened since the last full form or close, a hash: the window, presses, joins."""
    return f"gg:session:{escape_id(channel_id)}:window"


def turns_key(channel_id: str) -> str:
    """Closed turns, a hash: the unrecorded ones, and the press answers of the last recorded."""
    return f"gg:session:{escape_id(channel_id)}:turns"


def meta_key(channel_id: str) -> str:
    """What we know of the forms that they can't say themselves, a hash."""
    return f"gg:session:{escape_id(channel_id)}:meta"


def channel_keys(channel_id: str) -> Sequence[str]:
    """All keys of a channel, in the order in which `restore` takes their values."""
    escaped = escape_id(channel_id)
    own = f"gg:session:{escaped}:"
    return (
        f"game:session:{escaped}",
        f"game:session:{escaped}:history",
        f"sg:game_session:{escaped}",
        own + "window",
        own + "turns",
        own + "meta",
    )


_GAMES = "gg:game:"
_CHANNEL = "channel:"

CHANNEL_GAME = Prefetch(CHANNEL_KEYS - 1, "game", _GAMES, fields_max=2)
"""The own key of the game that a channel's notes name, of a game that is held: a save has more.

It is another one, or none, if the game's id is escaped in its key."""


def game_key(game_id: str) -> str:
    """A game's own key, a hash: its holder, and its save while no channel holds it."""
    return _GAMES + escape_id(game_id)


def held_by(channel_id: str) -> str:
    """The holder of a game that is in a channel."""
    return _CHANNEL + channel_id


def channel_of(holder: str | None) -> str | None:
    """The channel that is a game's holder; None: another holder, or none."""
    if holder is None or not holder.startswith(_CHANNEL):
        return None
    return holder.removeprefix(_CHANNEL) or None


def saved_as(nonce: str) -> str:
    """The holder of a game that is in no channel; another nonce is another save."""
    return f"save:{nonce}"
