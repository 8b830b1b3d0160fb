"""The actor's own state of a session, changed in place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs
import msgspec

from gamegirl.actors.session._data import (
    ClosedTurn,
    Player,
    Pressed,
    Session,
    Window,
)

_TALLY_BYTES: Final = 12
_AHEAD_SECONDS: Final = 86_400.0
"""A stamp that is further ahead of the clock than a day is no stamp."""

Answers = dict[str, dict[str, Pressed]]
"""User id to press id to the answer that was given."""


def tally_of(records: Iterable[bytes]) -> int:
    """A sum of digests, which says which records there are (and not their order).

    A list of records changes at its ends; whatever ran over all of it would have to begin anew.
    """
    total = 0
    for record in records:
        digest = hashlib.blake2b(record, digest_size=_TALLY_BYTES).digest()
        total += int.from_bytes(digest, "big")
    return total % (1 << 8 * _TALLY_BYTES)


class Seat(msgspec.Struct, gc=False):
    """A player on the roster, changed in place.

    It holds nothing that holds anything, so the garbage collector, which walks through every object
    that might, need not know of it: of ten thousand sessions it would walk through all the players,
    and a press would leave it a new one each time.
    """

    user_id: str
    user_name: str
    joined_turn: int
    last_active: float
    last_active_turn: int
    consecutive_skips: int = 0

    @classmethod
    def of(cls, player: Player) -> Seat:
        """The seat of a player as callers know it."""
        return cls(
            player.user_id,
            player.user_name,
            player.joined_turn,
            player.last_active,
            player.last_active_turn,
            player.consecutive_skips,
        )

    def refresh(self, turn_number: int, now: float) -> None:
        """Note that the player was just active."""
        # Of stamps the later one counts, but for one that no clock can have meant: an old stamp in
        # milliseconds would have its player active for ever.
        if now > self.last_active or self.last_active > now + _AHEAD_SECONDS:
            self.last_active = now
        if self.last_active_turn != turn_number:
            self.last_active_turn = turn_number

    def player(self) -> Player:
        """The player as callers know it."""
        return Player(
            self.user_id,
            self.user_name,
            self.joined_turn,
            self.last_active,
            self.last_active_turn,
            self.consecutive_skips,
        )


class Choice(msgspec.Struct, gc=False):
    """A pending choice: its text, and its player's place in the order of first presses."""

    sequence: int
    text: str


class OpenWindow(msgspec.Struct, frozen=True, gc=False):
    """The window that is open: a `Window`, of which the garbage collector need not know."""

    opened_at: float
    deadline: float


class KeptTurn(msgspec.Struct, eq=False, gc=False):
    """A closed turn that waits for its narrative.

    Attributes:
        turn: The turn.
        answers: What its presses were answered, for repetitions.
        failures: How often `on_turn` has failed with it in this process.
    """

    turn: ClosedTurn
    answers: Answers
    failures: int = 0


@attrs.define(eq=False)
class Extras:
    """Fields that we don't know and keep: of the JSON form, the hash form and players in both."""

    json: dict[str, Any] = attrs.field(factory=dict[str, Any])
    hash: dict[str, str] = attrs.field(factory=dict[str, str])
    players: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]])


class SessionState(msgspec.Struct, eq=False, gc=False):
    """A channel's game, live or what was played last. A press changes a few fields of it.

    Nothing in it leads back to it, so the garbage collector need not know of it.

    Attributes:
        players: The roster, user id to seat, in joining order.
        journal: The sequence number of the next journal entry; 0: the journal is empty.
        journal_key: Where the journal is, once something was written to it.
        joins: User id to the sequence number of their join in the journal.
        choices_bytes: What the choices will take in a record, in bytes, or a little more.
        choices_exact: It is not more.
        turns: Turn number to closed turn, oldest first: those that aren't recorded.
        recorded: Turn number to place, in the order of recording: the last ones.
        answered: Turn number to what the presses of such a turn were answered, if anything was.
        records: The history's entries as stored, oldest first.
        tally: Theirs, once it was asked for.
        listed: The turn number that the listing was told last; -1: whatever it says.
        saved: The holder under which the game was saved; empty: no save of it is stored.
        performing: The turn that `on_turn` has in hand.
        awaited: The turn that `on_turn` left to the host to record.
        quarantine: Why nothing can be done with what is stored; empty: it is fine.
    """

    channel_id: str
    game_id: str = ""
    game_name: str = ""
    active: bool = False
    turn_number: int = 0
    title_screen_url: str = ""
    crown_holder: str | None = None
    players: dict[str, Seat] = {}
    window: OpenWindow | None = None
    choices: dict[str, Choice] = {}
    choices_bytes: int = 0
    choices_exact: bool = True
    answers: Answers = {}
    journal: int = 0
    journal_key: str = ""
    joins: dict[str, int] = {}
    turns: dict[int, KeptTurn] = {}
    recorded: dict[int, int] = {}
    answered: dict[int, Answers] = {}
    records: tuple[bytes, ...] = ()
    tally: int | None = None
    listed: int = -1
    extras: Extras | None = None
    saved: str = ""
    performing: int | None = None
    awaited: int | None = None
    quarantine: str = ""

    def become(self, other: SessionState) -> None:
        """Take over all of another state, which must not be used any more."""
        for field in _FIELDS:
            setattr(self, field, getattr(other, field))

    def pending(self) -> dict[str, str]:
        """User id to choice, in the order of first presses."""
        return {user_id: choice.text for user_id, choice in self.choices.items()}

    def end_turn(self, choices: Mapping[str, str]) -> None:
        """Count the turn, and for whoever is on the roster and did not choose, a skip."""
        self.turn_number += 1
        for user_id, seat in self.players.items():
            if user_id not in choices:
                seat.consecutive_skips += 1

    def append_record(self, record: bytes, keep: int) -> None:
        """Put a record at the end of the history, of which the last `keep` stay."""
        records = (*self.records, record)
        gone, self.records = records[:-keep], records[-keep:]
        if self.tally is not None:
            changed = self.tally + tally_of((record,)) - (tally_of(gone) if gone else 0)
            self.tally = changed % (1 << 8 * _TALLY_BYTES)

    def cut_records(self, keep: int) -> None:
        """Let only the last `keep` records stay."""
        self.records = self.records[-keep:]
        self.tally = None

    def answer(self, user_id: str, press_id: str) -> Pressed | None:
        """What this press was answered before, if it is remembered."""
        found = self.answers.get(user_id, {}).get(press_id)
        if found is None:
            before = [kept.answers for kept in self.turns.values()]
            for answers in (*before, *self.answered.values()):
                found = answers.get(user_id, {}).get(press_id)
                if found is not None:
                    break
        return found

    def snapshot(self) -> Session:
        """What callers see."""
        window = self.window
        return Session(
            game_id=self.game_id,
            game_name=self.game_name,
            channel_id=self.channel_id,
            active=self.active,
            turn_number=self.turn_number,
            title_screen_url=self.title_screen_url,
            crown_holder=self.crown_holder,
            players={user: seat.player() for user, seat in self.players.items()},
            pending_choices=self.pending(),
            window=None if window is None else Window(window.opened_at, window.deadline),
            closed_turns=tuple(kept.turn for kept in self.turns.values()),
        )


_FIELDS = SessionState.__struct_fields__
