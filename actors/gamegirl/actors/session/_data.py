"""What callers see of a session: frozen snapshots and results."""

from __future__ import annotations

import re
from abc import ABCMeta
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from enum import Enum
from typing import Any, Generic, TypeVar, cast

import attrs
import msgspec

from gamegirl.actors._errors import InvalidInputError
from gamegirl.actors.session._rules import SessionRules

T = TypeVar("T")

_TOKEN = re.compile(r"(?s)(.{1,200}):([0-9]{1,15})")

NOBODY = "Stargazer"
"""The crown's name while no player holds it: the narrator's own."""

UNKNOWN = "Unknown"
"""The crown's name while it is held by somebody who isn't on the roster."""


class FrozenMapping(msgspec.Struct, Generic[T], eq=False, gc=False):
    """A read-only copy of a mapping, in the same order; it equals a dict, and can be pickled.

    It is a `Mapping` by registration: a class derived from that would be walked through by the
    garbage collector, and each closed turn has two.
    """

    _items: Mapping[str, T]

    def __post_init__(self) -> None:
        self._items = dict(self._items)

    def __getitem__(self, key: str) -> T:
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        given: Any = other
        return bool(self._items == (given._items if isinstance(other, FrozenMapping) else given))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._items)

    def items_as_dict(self) -> Mapping[str, T]:
        """The dict that it keeps, for whoever only reads it: encoders know no other mapping."""
        return self._items

    def get(self, key: str, default: Any = None) -> Any:
        """The item, or else the default."""
        return self._items.get(key, default)

    def keys(self) -> KeysView[str]:
        """The keys, in order."""
        return self._items.keys()

    def values(self) -> ValuesView[T]:
        """The values, in order."""
        return self._items.values()

    def items(self) -> ItemsView[str, T]:
        """The pairs, in order."""
        return self._items.items()


cast(ABCMeta, Mapping).register(FrozenMapping)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _frozen(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    made: object = mapping if isinstance(mapping, FrozenMapping) else FrozenMapping(mapping)
    return cast("Mapping[str, Any]", made)


class ActivityTier(Enum):
    """How recently a player was active."""

    ACTIVE = "active"
    """In the last two turns or the last 15 minutes."""

    IDLE = "idle"
    """In the last five turns or the last hour."""

    DORMANT = "dormant"
    """Longer ago: left out of prompts, pictures and required choices."""


@attrs.frozen
class Player:
    """Somebody who joined the game.

    Attributes:
        user_id: The chat platform's id.
        user_name: The name they joined with.
        joined_turn: The game's turn number then.
        last_active: When they last joined or pressed, in epoch seconds.
        last_active_turn: The game's turn number then.
        consecutive_skips: So many turns in a row were closed without a choice of theirs.
    """

    user_id: str
    user_name: str
    joined_turn: int = 0
    last_active: float = 0.0
    last_active_turn: int = 0
    consecutive_skips: int = 0

    def tier(self, turn_number: int, now: float) -> ActivityTier:
        """How recently they were active, seen from this turn and moment (epoch seconds)."""
        turns = turn_number - self.last_active_turn
        seconds = now - self.last_active
        if turns <= 2 or seconds <= 900:
            return ActivityTier.ACTIVE
        if turns <= 5 or seconds <= 3600:
            return ActivityTier.IDLE
        return ActivityTier.DORMANT


@attrs.frozen
class TurnRecord:
    """An entry of the history.

    Attributes:
        turn: The turn's number.
        choices: User id to choice.
        narrative_summary: The beginning of what the narrator told.
        timestamp: When it was recorded, in epoch seconds.
    """

    turn: int
    choices: Mapping[str, str] = attrs.field(converter=_frozen)
    narrative_summary: str = ""
    timestamp: float = 0.0


@attrs.frozen
class Window:
    """The countdown of a turn, in epoch seconds."""

    opened_at: float
    deadline: float


@attrs.frozen
class TurnToken:
    """Names a turn of one game, for instance in a button's custom id.

    Example:
        >>> str(TurnToken("0123456789ab", 7))
        '0123456789ab:7'
        >>> TurnToken.parse("0123456789ab:7").turn
        7
    """

    game_id: str
    turn: int

    def __str__(self) -> str:
        return f"{self.game_id}:{self.turn}"

    @classmethod
    def parse(cls, text: str) -> TurnToken:
        """Read what `str()` gave.

        Raises:
            InvalidInputError: It isn't a token's text.
        """
        given: Any = text
        match = _TOKEN.fullmatch(given) if isinstance(given, str) else None
        if match is None:
            raise InvalidInputError(f"{text!r:.100} is no turn token: expected `game id:turn`")
        return cls(match[1], int(match[2]))


@attrs.frozen
class ClosedTurn:
    """A closed window: its number and the choices harvested from it.

    Attributes:
        channel_id: Where it was played.
        game_id: Whose turn it is.
        turn: Its number.
        choices: User id to choice, in the order in which the players first pressed.
        names: User id to name, of those who chose.
        crown_holder: The co-narrator's user id when the window closed, or None.
        opened_at: When the first press came, in epoch seconds.
        closed_at: When it closed, in epoch seconds.
        attempt: How often it was handed out to `on_turn`.
    """

    channel_id: str
    game_id: str
    turn: int
    choices: Mapping[str, str] = attrs.field(converter=_frozen)
    names: Mapping[str, str] = attrs.field(converter=_frozen)
    crown_holder: str | None
    opened_at: float
    closed_at: float
    attempt: int = 0

    @property
    def token(self) -> TurnToken:
        """The turn's name, to record it by."""
        return TurnToken(self.game_id, self.turn)

    def format_choices(self) -> str:
        """One line `name: choice` a player, the crown holder's marked; empty without choices."""
        return "\n".join(
            f"{'👑 ' if user_id == self.crown_holder else ''}"
            f"{_one_line(self.names.get(user_id, UNKNOWN))}: {_one_line(choice)}"
            for user_id, choice in self.choices.items()
        )


@attrs.frozen
class Session:
    """A snapshot of a channel's game.

    Attributes:
        game_id: Empty if the channel never had a game.
        game_name: Its title.
        channel_id: Where it runs.
        active: Whether it is being played; else it is what the channel played last.
        turn_number: So many windows have closed.
        title_screen_url: Empty for the default.
        crown_holder: The co-narrator's user id, or None.
        players: User id to player, in joining order.
        pending_choices: User id to choice, in the order in which the players first pressed.
        window: The open window, if any.
        closed_turns: Closed and not yet recorded, oldest first.
    """

    game_id: str
    game_name: str
    channel_id: str
    active: bool
    turn_number: int
    title_screen_url: str
    crown_holder: str | None
    players: Mapping[str, Player] = attrs.field(converter=_frozen)
    pending_choices: Mapping[str, str] = attrs.field(converter=_frozen)
    window: Window | None
    closed_turns: tuple[ClosedTurn, ...]


class Pressed(msgspec.Struct, frozen=True, gc=False):
    """A press that was accepted.

    Attributes:
        game_id: The game it counts in.
        turn: The number of the turn it counts in.
        opened: Whether it opened the turn's window: true exactly once a turn.
        remaining: Seconds until the window closes.
        deadline: When it closes, in epoch seconds.
    """

    game_id: str
    turn: int
    opened: bool
    remaining: float
    deadline: float

    @property
    def token(self) -> TurnToken:
        """The turn's name."""
        return TurnToken(self.game_id, self.turn)


@attrs.frozen
class Crown:
    """Who co-narrates: one player, or nobody (then the narrator is alone).

    Attributes:
        user_id: Who holds the crown; None: nobody.
        name: What they are called in texts.
    """

    user_id: str | None
    name: str

    def held_by(self, user_id: str) -> bool:
        """Whether this user holds it; false for everyone while nobody does."""
        return self.user_id is not None and self.user_id == user_id


@attrs.frozen
class Booted:
    """A game that was started or loaded.

    Attributes:
        channel_id: Where it runs.
        game_id: Its id, which `load` and `forget` take.
        game_name: Its title.
        title_screen_url: Its picture's address; empty: the default.
    """

    channel_id: str
    game_id: str
    game_name: str
    title_screen_url: str
    _rules: SessionRules = attrs.field(factory=SessionRules, repr=False, eq=False)

    def banner(self) -> str:
        """The title screen, as plain text for a chat message."""
        return self._rules.boot_banner.format(
            title_screen_url=self.title_screen_url or self._rules.default_title_screen_url,
            engine_name=self._rules.engine_name,
            game_name=self.game_name,
            game_id=self.game_id,
            channel_id=self.channel_id,
        )


@attrs.frozen
class Ejected:
    """A game that was saved and has left its channel.

    Attributes:
        channel_id: Where it ran.
        game_id: Its id, which `load` and `forget` take.
        game_name: Its title.
        turn_number: So many turns were closed.
        players: How many are on its roster.
    """

    channel_id: str
    game_id: str
    game_name: str
    turn_number: int
    players: int
    _rules: SessionRules = attrs.field(factory=SessionRules, repr=False, eq=False)

    def banner(self) -> str:
        """The farewell, as plain text for a chat message."""
        return self._rules.exit_banner.format(
            game_name=self.game_name,
            game_id=self.game_id,
            turn_number=self.turn_number,
            players=self.players,
            channel_id=self.channel_id,
        )


@attrs.frozen
class Swapped:
    """A hot-swap: what was ejected (None: nothing ran) and what was booted.

    Attributes:
        ejected: The game that was saved and left.
        booted: The game that took its place.
    """

    ejected: Ejected | None
    booted: Booted
