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
        lost: Those that are nowhere.
        foreign: Choices in the store that nobody made there, or that had been refused.
        examples: Some of what is wrong, in words.
    """

    acknowledged: int = 0
    records: int = 0
    closed_turns: int = 0
    open_windows: int = 0
    replaced: int = 0
    lost: int = 0
    foreign: int = 0
    examples: list[str] = attrs.Factory(list[str])

    EXAMPLES_MAX = 10

    @property
    def holds(self) -> bool:
        """Whether the store has what was acknowledged, and nothing else."""
        return not self.lost and not self.foreign

    def add(self, other: Verdict) -> None:
        """Count another process's presses too."""
        self.acknowledged += other.acknowledged
        self.records += other.records
        self.closed_turns += other.closed_turns
        self.open_windows += other.open_windows
        self.replaced += other.replaced
        self.lost += other.lost
        self.foreign += other.foreign
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


class Ledger:
    """The presses of one process's channels.

    It is written before a press is sent and when its answer comes, so it knows what was
    acknowledged whatever becomes of the runtime.

    Args:
        channels: How many.
        players: In each.
    """

    def __init__(self, channels: int, players: int) -> None:
        self._players = players
        # By turn and player: the latest press that was acknowledged, in the order of sending.
        self._latest: list[dict[int, int]] = [{} for _ in range(channels)]
        self._counted: list[dict[int, int]] = [{} for _ in range(channels)]
        self._doubtful: set[int] = set()
        self._sent = 0

    def send(self) -> int:
        """A press is about to be sent; its number."""
        self._sent += 1
        return self._sent

    def acknowledge(self, channel: int, player: int, number: int, turn: int) -> None:
        """A press was answered: it counts in this turn, unless its player presses again."""
        slot = turn * self._players + player
        latest = self._latest[channel]
        before = latest.get(slot)
        if before is None:
            latest[slot] = number
            return
        latest[slot] = max(number, before)
        counted = self._counted[channel]
        counted[slot] = counted.get(slot, 0) + 1

    def doubt(self, number: int) -> None:
        """Nobody knows whether the press counts."""
        self._doubtful.add(number)

    def judge(self, channel: int, name: str, placed: Iterable[Placed]) -> Verdict:
        """Compare a channel's acknowledgements with all choices that the store has of it."""
        verdict = Verdict()
        latest, replaced = self._latest[channel], self._counted[channel]
        found: dict[int, Placed] = {}
        for one in placed:
            slot = one.turn * self._players + one.player
            expected = latest.get(slot, 0)
            if slot in found or (one.number != expected and not self._may_be(one, expected)):
                verdict.foreign += 1
                verdict.example(
                    f"{name}: turn {one.turn} has press {one.number} of player {one.player}, "
                    f"the latest acknowledged there is {expected or 'none'}"
                )
            if slot not in found or one.number > found[slot].number:
                found[slot] = one
        for slot, number in latest.items():
            earlier = replaced.get(slot, 0)
            verdict.acknowledged += 1 + earlier
            stored = found.get(slot)
            if stored is None or stored.number < number:
                verdict.lost += 1 + (earlier if stored is None else 0)
                verdict.replaced += 0 if stored is None else earlier
                turn, player = divmod(slot, self._players)
                verdict.example(
                    f"{name}: press {number} of player {player} is not in turn {turn}, "
                    "for which it was acknowledged"
                )
                continue
            verdict.replaced += earlier
            if stored.place is Place.RECORD:
                verdict.records += 1
            elif stored.place is Place.CLOSED:
                verdict.closed_turns += 1
            else:
                verdict.open_windows += 1
        return verdict

    def _may_be(self, one: Placed, expected: int) -> bool:
        """Whether a press that nobody acknowledged may be there: a later one that is in doubt."""
        return one.number > expected and one.number in self._doubtful
