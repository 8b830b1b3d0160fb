"""The reference to a session: one method an operation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from gamegirl.actors._behaviour import Stored
from gamegirl.actors._errors import GameActiveError, InvalidInputError
from gamegirl.actors._ref import Host, refused, returns_coroutine
from gamegirl.actors.session import _messages as messages
from gamegirl.actors.session._arguments import (
    count_of,
    flag_of,
    id_of,
    line_of,
    name_of,
    new_game_id,
    text_of,
)
from gamegirl.actors.session._data import (
    ActivityTier,
    Booted,
    ClosedTurn,
    Crown,
    Ejected,
    Player,
    Pressed,
    Session,
    Swapped,
    TurnRecord,
    TurnToken,
)
from gamegirl.actors.session._games import GameGoneError, entry_channel
from gamegirl.actors.session._keys import INDEX_KEY, channel_keys, game_key
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._state import SessionState
from gamegirl.codec import GameGirlError

KIND = "session"

_LOOKS = 3
"""So often it is looked where a game is, if it isn't there any more when it is loaded."""


class SessionRef(msgspec.Struct, eq=False, gc=False):
    """A reference to a channel's session, live or not: using it activates it.

    It is made without I/O and costs nothing to keep. `supervisor.session(channel_id)` makes one.

    Attributes:
        channel_id: The channel.
        _host: The supervisor.
        _new_id: Makes 12 random lower-case hex digits.
        _rules: The limits to check arguments against.
    """

    channel_id: str
    _host: Host
    _new_id: Callable[[], str]
    _rules: SessionRules

    def __repr__(self) -> str:
        return f"SessionRef({self.channel_id!r})"

    async def boot(
        self, game_name: str, *, title_screen_url: str = "", game_id: str | None = None
    ) -> Booted:
        """Start an empty game.

        Args:
            game_name: Its title.
            title_screen_url: A picture's address; empty: the default.
            game_id: 1 to 24 of `A-Z a-z 0-9 _ -`; None: 12 random hex digits.

        Raises:
            GameActiveError: A game is active here: `swap`, or `exit` first.
            GameExistsError: There is a game with this id.
        """
        name = self._name(game_name, "game name")
        url = self._url(title_screen_url)
        chosen = self._new_id() if game_id is None else new_game_id(game_id, self.channel_id)
        reply: Booted = await self._ask(messages.Boot(name, url, chosen, self._new_id()))
        return reply

    async def join(self, user_id: str, user_name: str) -> Player:
        """Put a player on the roster; one who is there is only refreshed and keeps their name."""
        reply: Player = await self._ask(
            messages.Join(self._user(user_id), self._name(user_name, "user name"))
        )
        return reply

    # The three steps of a turn, and `active`, wait in the supervisor's coroutine, not in one of
    # their own: thousands wait side by side, and each frame is memory. What is refused is raised
    # when they are awaited all the same.

    @returns_coroutine
    def press(
        self,
        user_id: str,
        user_name: str,
        choice: str,
        *,
        turn: int | TurnToken | None = None,
        press_id: str | None = None,
    ) -> Coroutine[Any, Any, Pressed]:
        """Choose. The first press of a turn opens its window; a player's latest choice counts.

        Args:
            user_id: Who pressed; joins the game with it.
            user_name: Their name.
            choice: What they chose.
            turn: The turn it is meant for; None: whichever is being played.
            press_id: Names this press, so that it can be sent again and counts once.

        Raises:
            StaleTurnError: `turn` is over, or of another game.
            TurnBacklogError: Too many turns wait for their narrative for another window to open.
        """
        channel_id, rules = self.channel_id, self._rules
        number: Any = turn
        game_id = None
        try:
            if isinstance(turn, TurnToken):
                number, game_id = turn.turn, self._game(turn.game_id)
            message = messages.Press(
                id_of(user_id, "user id", channel_id),
                name_of(user_name, "user name", rules.name_max, channel_id),
                text_of(choice, "choice", rules.choice_max, channel_id),
                None if number is None else count_of(number, "turn", channel_id),
                game_id,
                None if press_id is None else id_of(press_id, "press id", channel_id),
            )
        except GameGirlError as error:
            return refused(error)
        return self._host.ask(KIND, channel_id, message)

    async def next_turn(self, after: int | None = None) -> ClosedTurn:
        """Wait for the oldest closed turn that isn't recorded (and is numbered above `after`).

        Raises:
            NoActiveGameError: No game is active, or it left while this waited.
        """
        number = None if after is None else count_of(after, "after", self.channel_id)
        reply: ClosedTurn = await self._ask(messages.NextTurn(number))
        return reply

    @returns_coroutine
    def close_window(self, *, empty: bool = False) -> Coroutine[Any, Any, ClosedTurn | None]:
        """Close the open window now; none open: None, or with `empty` a turn without choices.

        Raises:
            TurnBacklogError: Too many turns wait for their narrative for an empty one.
        """
        try:
            message = messages.CloseWindow(flag_of(empty, "empty", self.channel_id))
        except GameGirlError as error:
            return refused(error)
        return self._ask(message)

    @returns_coroutine
    def record(
        self, turn: ClosedTurn | TurnToken | int, narrative: str
    ) -> Coroutine[Any, Any, TurnRecord]:
        """Put a closed turn and the beginning of its narrative into the history, once.

        Raises:
            StaleTurnError: It is of a game that isn't running, or long over.
            UnknownTurnError: It was never closed.
        """
        number: Any = turn
        game_id = None
        try:
            if isinstance(turn, (ClosedTurn, TurnToken)):
                number, game_id = turn.turn, self._game(turn.game_id)
            elif isinstance(number, bool) or not isinstance(number, int):
                raise InvalidInputError(
                    "turn is a ClosedTurn, a TurnToken or a whole number, not "
                    f"{type(turn).__name__} (channel {self.channel_id!r})"
                )
            message = messages.Record(
                count_of(number, "turn", self.channel_id), game_id, self._narrative(narrative)
            )
        except GameGirlError as error:
            return refused(error)
        return self._ask(message)

    async def narrate(self, narrative: str) -> TurnRecord:
        """Put a narrative without a turn into the history: an opening, an interlude."""
        reply: TurnRecord = await self._ask(messages.Narrate(self._narrative(narrative)))
        return reply

    async def history(self, count: int = 10) -> tuple[TurnRecord, ...]:
        """The latest records, oldest first; also when the game isn't active."""
        reply: tuple[TurnRecord, ...] = await self._ask(
            messages.ReadHistory(count_of(count, "count", self.channel_id))
        )
        return reply

    async def roster(self) -> tuple[tuple[Player, ActivityTier], ...]:
        """Everyone who ever joined, in joining order, with how recently they were active."""
        reply: tuple[tuple[Player, ActivityTier], ...] = await self._ask(messages.ReadRoster())
        return reply

    async def active_players(self) -> dict[str, Player]:
        """User id to player, of all who aren't dormant."""
        reply: dict[str, Player] = await self._ask(messages.ReadRoster(active_only=True))
        return reply

    async def set_crown(self, user_id: str | None) -> Crown:
        """Give the crown to a user; None or an empty text: to nobody."""
        holder = None if user_id is None or user_id == "" else self._user(user_id)
        reply: Crown = await self._ask(messages.SetCrown(holder))
        return reply

    async def crown(self) -> Crown:
        """Who holds the crown."""
        reply: Crown = await self._ask(messages.ReadCrown())
        return reply

    async def set_title_screen(self, url: str) -> None:
        """Replace the title screen; an empty text: the default."""
        await self._ask(messages.SetTitleScreen(self._url(url)))

    async def state(self) -> Session:
        """A snapshot."""
        reply: Session = await self._ask(messages.ReadState())
        return reply

    @returns_coroutine
    def active(self) -> Coroutine[Any, Any, bool]:
        """Whether a game is active here; cheaper than to look for it in `state`."""
        return self._ask(messages.ReadActive())

    def peek(self) -> Session | None:
        """A snapshot at once, if the session is live; it may show what isn't committed yet."""
        state: SessionState | None = self._host.peek(KIND, self.channel_id)
        return None if state is None or state.quarantine else state.snapshot()

    def watch(self) -> SessionWatch:
        """Snapshots: one at once and one after each change; a slow reader skips to the newest."""
        return SessionWatch(self, self._host.changes(KIND, self.channel_id))

    async def save(self) -> None:
        """Write everything in full now."""
        await self._ask(messages.Save())

    async def exit(self) -> Ejected:
        """Save the game and take it out of the channel; `load` brings it back."""
        reply: Ejected = await self._ask(messages.Exit(self._new_id()))
        return reply

    async def swap(self, game_name: str, *, title_screen_url: str = "") -> Swapped:
        """Save and eject what runs and boot another game, in one commit."""
        name = self._name(game_name, "game name")
        url = self._url(title_screen_url)
        reply: Swapped = await self._ask(messages.Swap(name, url, self._new_id(), self._new_id()))
        return reply

    async def load(self, game_id: str) -> Booted:
        """Load a save into this channel; what runs is saved and ejected in the same commit.

        Raises:
            UnknownGameError: There is no such game, or a later one overwrote it.
            GameActiveError: It is active, here or in another channel.
        """
        game_id = id_of(game_id, "game id", self.channel_id)
        for _ in range(_LOOKS - 1):
            # Where the game is was read before the channel takes the message: it may have been
            # ejected here in between, and is a save by now.
            with suppress(GameGoneError):
                return await self._load(game_id, last=False)
        return await self._load(game_id, last=True)

    async def _load(self, game_id: str, *, last: bool) -> Booted:
        game, index = await self._host.read((game_key(game_id), INDEX_KEY))
        entry = _field(index, game_id)
        where = entry_channel(entry) if game is None and entry is not None else None
        channel: tuple[Stored, ...] = ()
        if where is not None:
            channel = tuple(await self._host.read(channel_keys(where)))
        reply: Booted = await self._ask(
            messages.Load(game_id, self._new_id(), game, entry, where, channel, last)
        )
        return reply

    async def wipe(self) -> None:
        """Delete the channel's state, history and window, and its current game."""
        try:
            await self._ask(messages.Wipe())
        except GameActiveError as error:
            # The channel's last game has been loaded elsewhere since: it isn't ours to delete. What
            # was booted here in this moment is.
            await self._ask(messages.Wipe(getattr(error, "game_id", None)))

    def _ask(self, message: object) -> Coroutine[Any, Any, Any]:
        return self._host.ask(KIND, self.channel_id, message)

    def _user(self, user_id: Any) -> str:
        return id_of(user_id, "user id", self.channel_id)

    def _game(self, game_id: Any) -> str:
        return id_of(game_id, "the turn's game id", self.channel_id)

    def _name(self, name: Any, what: str) -> str:
        return name_of(name, what, self._rules.name_max, self.channel_id)

    def _url(self, url: Any) -> str:
        return line_of(url, "title screen url", self._rules.url_max, self.channel_id)

    def _narrative(self, narrative: Any) -> str:
        # Cut here, so that a long one doesn't lie in the mailbox.
        return text_of(narrative, "narrative", None, self.channel_id)[: self._rules.summary_max]


def _field(stored: Any, name: str) -> Any:
    if not hasattr(stored, "get"):
        return None
    value = stored.get(name.encode())
    return stored.get(name) if value is None else value


class SessionWatch(AsyncIterator[Session]):
    """The snapshots of one channel, for as long as somebody iterates; there is nothing to close.

    Raises:
        SupervisorClosedError: Its supervisor has gone.
    """

    def __init__(self, ref: SessionRef, changes: AsyncIterator[None]) -> None:
        self._ref = ref
        self._changes = changes
        self._last: Session | None = None
        self._behind = False

    async def __anext__(self) -> Session:
        while True:
            if not self._behind:
                await anext(self._changes)
            # Whoever is cancelled before the change is read gets it the next time.
            self._behind = True
            session = await self._ref.state()
            self._behind = False
            if session != self._last:
                self._last = session
                return session
