"""What was acknowledged, kept outside of the runtime, and the judge who compares it with the store.

The bench writes into the ledger before it sends anything and when an answer comes, so it survives
whatever happens to workers. Every choice has a text of its own, so that it is known wherever it
turns up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from gamegirl.actors.session._keys import history_key, json_key
from gamegirl.supervisor import Store


@attrs.define
class Press:
    """A press that was sent.

    Attributes:
        number: Its place among the user's presses of this channel.
        turn: The turn it was acknowledged for; None: no acknowledgement came.
        opened: It was told that it opened the window.
        refused: The runtime said that it has no effect.
    """

    user_id: str
    choice: str
    number: int
    turn: int | None = None
    opened: bool = False
    refused: bool = False

    @property
    def in_doubt(self) -> bool:
        """Nobody knows whether it counts."""
        return self.turn is None and not self.refused


@attrs.define
class Book:
    """What is known of one channel's game.

    Attributes:
        game_id: The game.
        presses: All that were sent, by press id.
        closed: The choices of the turns that the runtime handed out.
        recorded: The narratives whose record was acknowledged, by turn.
        told: Every narrative that was sent for a turn.
    """

    game_id: str
    presses: dict[str, Press] = attrs.Factory(dict[str, Press])
    closed: dict[int, dict[str, str]] = attrs.Factory(dict[int, "dict[str, str]"])
    recorded: dict[int, str] = attrs.Factory(dict[int, str])
    told: dict[int, set[str]] = attrs.Factory(dict[int, "set[str]"])


class Ledger:
    """The books of all channels of a world.

    Attributes:
        books: By channel.
        contradictions: Answers that contradict each other.
    """

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.contradictions: list[str] = []
        self._sent = 0

    def open(self, channel: str, game_id: str) -> Book:
        """The channel has a game."""
        book = self.books[channel] = Book(game_id)
        return book

    def send(self, channel: str, user_id: str) -> tuple[str, str]:
        """A press is about to be sent; its press id and its choice."""
        self._sent += 1
        press_id = f"p{self._sent}"
        choice = f"choice {self._sent} of {user_id} in {channel}"
        self.books[channel].presses[press_id] = Press(user_id, choice, self._sent)
        return press_id, choice

    def acknowledge(self, channel: str, press_id: str, answer: Mapping[str, Any]) -> None:
        """A press was answered."""
        press = self.books[channel].presses[press_id]
        press.turn, press.opened = answer["turn"], answer["opened"]

    def note(
        self, channel: str, user_id: str, choice: str, turn: int | None = None, opened: bool = False
    ) -> None:
        """A press that was made elsewhere, and acknowledged there for this turn, if for any."""
        self._sent += 1
        press = Press(user_id, choice, self._sent, turn, opened)
        self.books[channel].presses[f"p{self._sent}"] = press

    def refuse(self, channel: str, press_id: str) -> None:
        """A press was refused: it must not count."""
        self.books[channel].presses[press_id].refused = True

    def close(self, channel: str, turn: Mapping[str, Any]) -> None:
        """A closed turn was handed out."""
        book, number, choices = self.books[channel], turn["turn"], dict(turn["choices"])
        before = book.closed.setdefault(number, choices)
        if before != choices:
            self.contradictions.append(
                f"{channel}: turn {number} was handed out as {before} and as {choices}"
            )

    def tell(self, channel: str, turn: int, narrative: str) -> None:
        """A narrative is about to be sent."""
        self.books[channel].told.setdefault(turn, set()).add(narrative)

    def record(self, channel: str, record: Mapping[str, Any]) -> None:
        """A record was acknowledged."""
        book, number, text = self.books[channel], record["turn"], record["narrative_summary"]
        before = book.recorded.setdefault(number, text)
        if before != text:
            self.contradictions.append(
                f"{channel}: the record of turn {number} was {before!r} and is {text!r}"
            )

    @property
    def acknowledged(self) -> int:
        """How many presses were acknowledged."""
        return sum(
            press.turn is not None
            for book in self.books.values()
            for press in book.presses.values()
        )

    @property
    def turns(self) -> int:
        """How many turns are known to be closed."""
        return sum(len(book.closed) for book in self.books.values())

    @property
    def records(self) -> int:
        """How many records were acknowledged."""
        return sum(len(book.recorded) for book in self.books.values())

    async def judge(self, store: Store) -> list[str]:
        """Everything in the store that is not as acknowledged, for games that were played out.

        All windows must be closed and all turns recorded before, and the histories kept in full.
        """
        found = list(self.contradictions)
        channels = list(self.books)
        for start in range(0, len(channels), 100):
            part = channels[start : start + 100]
            keys = [key for channel in part for key in (json_key(channel), history_key(channel))]
            values = iter(await store.read(keys))
            for channel in part:
                form, history = next(values), next(values)
                found += judge_game(channel, self.books[channel], form, history)
        return found


def judge_game(channel: str, book: Book, form: Any, history: Any) -> list[str]:
    """What is wrong with a game as it is stored: its JSON form and its history, as bytes."""
    if not isinstance(form, bytes):
        return [f"{channel}: its game is gone from the store"]
    session = json.loads(form)
    records = [json.loads(item) for item in history or ()]
    if session["game_id"] != book.game_id:
        return [f"{channel}: the store has game {session['game_id']}, not {book.game_id}"]
    return [
        f"{channel}: {fault}"
        for fault in (
            *_order(records, session["turn_number"]),
            *_records(book, records),
            *_presses(book, records),
        )
    ]


def _order(records: list[Any], last: int) -> list[str]:
    numbers = [record["turn"] for record in records]
    if numbers != list(range(1, last + 1)):
        return [f"its turn number is {last}, its records are {_shown(numbers)}"]
    return []


def _records(book: Book, records: list[Any]) -> list[str]:
    faults: list[str] = []
    stored = {record["turn"]: record for record in records}
    for turn, text in book.recorded.items():
        if turn not in stored:
            faults.append(f"the acknowledged record of turn {turn} is lost")
        elif stored[turn]["narrative_summary"] != text:
            faults.append(f"the record of turn {turn} is another one than acknowledged")
    for turn, choices in book.closed.items():
        if turn not in stored:
            faults.append(f"turn {turn}, which was handed out, is lost")
        elif stored[turn]["choices"] != choices:
            faults.append(f"turn {turn} has other choices than were handed out")
    for turn, record in stored.items():
        if record["narrative_summary"] not in book.told.get(turn, set()):
            faults.append(f"nobody told the record of turn {turn}: {record['narrative_summary']!r}")
    return faults


def _presses(book: Book, records: list[Any]) -> list[str]:
    faults: list[str] = []
    sent = {press.choice: press for press in book.presses.values()}
    seen: dict[str, int] = {}
    last: dict[tuple[int, str], Press] = {}
    openers: dict[int, int] = {}
    for press in book.presses.values():
        if press.turn is not None:
            last[press.turn, press.user_id] = press
            openers[press.turn] = openers.get(press.turn, 0) + press.opened
    faults += [
        f"turn {turn} was opened {times} times" for turn, times in openers.items() if times > 1
    ]
    choices = {
        (record["turn"], user_id): choice
        for record in records
        for user_id, choice in record["choices"].items()
    }
    for (turn, user_id), choice in choices.items():
        known = sent.get(choice)
        if choice in seen:
            faults.append(f"{choice!r} counts in turn {seen[choice]} and in turn {turn}")
        seen[choice] = turn
        if known is None or known.user_id != user_id:
            faults.append(f"turn {turn} has a choice that {user_id} never sent: {choice!r}")
        elif known.refused:
            faults.append(f"turn {turn} has a press that was refused: {choice!r}")
        elif known.turn not in (turn, None):
            faults.append(f"{choice!r} was acknowledged for turn {known.turn} and is in {turn}")
    for (turn, user_id), press in last.items():
        stored = sent.get(choices.get((turn, user_id), ""))
        if stored is None:
            faults.append(f"the acknowledged press {press.choice!r} of turn {turn} is lost")
        elif stored is not press and not (stored.in_doubt and stored.number > press.number):
            faults.append(f"turn {turn} has {stored.choice!r} for the later {press.choice!r}")
    return faults


def _shown(numbers: list[int]) -> str:
    return f"{numbers[:5]} … {numbers[-5:]}" if len(numbers) > 12 else str(numbers)
