"""What was acknowledged, kept while it is played, and the comparison with what the store has."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import attrs


class Place(Enum):
    """Where a choice was found in the store."""

    RECORD = "records"
    CLOSED = "closed_turns"
    OPEN = "open_windows"


@attrs.frozen
class Placed:
    """A choice that the store has.

    Attributes:
        turn: The turn it counts in.
        player: Whose it is.
        number: The press's, within its process.
    """

    turn: int
    player: int
    number: int
    place: Place


@attrs.define
class Verdict:
    """What came of comparing acknowledgements with the store.

    Attributes:
        acknowledged: Presses.
        records: Of these, those in a record of the history.
        closed_turns: Those in a closed turn without a record yet.
        open_windows: Those in the window that is open.
        replaced: Those that their player replaced by a later press of the same window, which is
            there.
        lost: Those of turns in which their player has no choice, or one that was replaced.
        foreign: Choices in the store that nobody made there, or that had been refused.
        unverified: Why not all of the store could be looked at; empty: it was.
        examples: Some of what is wrong, in words.
    """

    acknowledged: int = 0
    records: int = 0
    closed_turns: int = 0
    open_windows: int = 0
    replaced: int = 0
    lost: int = 0
    foreign: int = 0
    unverified: str = ""
    examples: list[str] = attrs.Factory(list[str])

    EXAMPLES_MAX = 10

    @property
    def holds(self) -> bool:
        """Whether the store is known to have what was acknowledged, and nothing else."""
        return not self.lost and not self.foreign and not self.unverified

    def add(self, other: Verdict) -> None:
        """Count another process's presses too."""
        self.acknowledged += other.acknowledged
        self.records += other.records
        self.closed_turns += other.closed_turns
        self.open_windows += other.open_windows
        self.replaced += other.replaced
        self.lost += other.lost
        self.foreign += other.foreign
        self.unverified = self.unverified or other.unverified
        self.examples = (self.examples + other.examples)[: self.EXAMPLES_MAX]

    def example(self, text: str) -> None:
        """Keep what is wrong, if there is room."""
        if len(self.examples) < self.EXAMPLES_MAX:
            self.examples.append(text)


def choice_text(number: int) -> str:
    """The choice of a press, which is no other press's.

    Example:
        >>> choice_number(choice_text(7))
        7
    """
    return f"choice {number}"


def choice_number(text: str) -> int:
    """The press that a choice is of; 0: no press's."""
    word, _, number = text.partition(" ")
    return int(number) if word == "choice" and number.isdecimal() else 0


@attrs.define
class _Slot:
    """What is known of one player's presses in one turn.

    Attributes:
        acknowledged: How many were.
        last: Of these, each that may be the last: its number, and when it was answered. There are
            several only if they were under way at one time, so that either may have come last.
    """

    acknowledged: int
    last: dict[int, int]

    def take(self, number: int, answered: int) -> None:
        """Another press was acknowledged."""
        self.acknowledged += 1
        if any(before < number for before in self.last.values()):
            self.last = {one: at for one, at in self.last.items() if at >= number}
        self.last[number] = answered


class Ledger:
    """The presses of one process's channels.

    It is written before a press is sent and when its answer comes, so it knows what was
    acknowledged whatever becomes of the runtime. Sendings and answers are numbered together: a
    press came after another one for certain only if it was sent after the other's answer.

    Args:
        channels: How many.
        players: In each.
    """

    def __init__(self, channels: int, players: int) -> None:
        self._players = players
        self._slots: list[dict[int, _Slot]] = [{} for _ in range(channels)]
        self._doubtful: dict[int, int] = {}
        self._moment = 0

    def send(self) -> int:
        """A press is about to be sent; its number."""
        self._moment += 1
        return self._moment

    def acknowledge(self, channel: int, player: int, number: int, turn: int) -> None:
        """A press was answered: it counts in this turn, unless its player presses again."""
        self._moment += 1
        slots, key = self._slots[channel], turn * self._players + player
        slot = slots.get(key)
        if slot is None:
            slots[key] = _Slot(1, {number: self._moment})
        else:
            slot.take(number, self._moment)

    def doubt(self, number: int) -> None:
        """Nobody knows whether the press counts, and it will not be answered any more."""
        self._moment += 1
        self._doubtful[number] = self._moment

    def judge(self, channel: int, name: str, placed: Iterable[Placed]) -> Verdict:
        """Compare a channel's acknowledgements with all choices that the store has of it."""
        verdict = Verdict()
        slots = self._slots[channel]
        good: dict[int, Placed] = {}
        for one in placed:
            key = one.turn * self._players + one.player
            slot = slots.get(key)
            if key not in good and self._may_be_there(one.number, slot):
                good[key] = one
                continue
            verdict.foreign += 1
            last = "none" if slot is None else " or ".join(map(str, slot.last))
            verdict.example(
                f"{name}: turn {one.turn} has press {one.number} of player {one.player}; the last "
                f"that was acknowledged for it: {last}"
            )
        for key, slot in slots.items():
            verdict.acknowledged += slot.acknowledged
            stored = good.get(key)
            if stored is None:
                verdict.lost += slot.acknowledged
                turn, player = divmod(key, self._players)
                verdict.example(
                    f"{name}: press {max(slot.last)} of player {player} is not in turn {turn}, "
                    "for which it was acknowledged"
                )
                continue
            # Else a press that nobody answered has replaced them all.
            itself = stored.number in slot.last
            verdict.replaced += slot.acknowledged - itself
            if stored.place is Place.RECORD:
                verdict.records += itself
            elif stored.place is Place.CLOSED:
                verdict.closed_turns += itself
            else:
                verdict.open_windows += itself
        return verdict

    def _may_be_there(self, number: int, slot: _Slot | None) -> bool:
        if slot is not None and number in slot.last:
            return True
        given_up = self._doubtful.get(number)
        if given_up is None:
            return False
        return slot is None or max(slot.last) < given_up
