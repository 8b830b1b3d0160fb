"""What is known of games that come and go: what the store says, and what was acknowledged.

A game's id can be booted again once it was wiped or forgotten, so it is the title, given once,
that says which game it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import attrs

from gamegirl.actors.session._keys import (
    game_key,
    hash_key,
    held_by,
    history_key,
    json_key,
    meta_key,
)
from gamegirl.chaos._deeds import Place, World
from gamegirl.chaos._ledger import Book, Press, judge_game
from gamegirl.codec import unescape_id
from gamegirl.supervisor import Store

_GAME_PREFIX = game_key("")
_KEYS = (json_key, hash_key, meta_key)


@attrs.frozen
class Known:
    """A game as the store has it.

    Attributes:
        title: Which game it is.
        channel: Where it is, or was last.
    """

    title: str
    channel: str
    turn_number: int
    active: bool


@attrs.frozen
class Look:
    """The store at a moment when nobody does anything.

    Attributes:
        faults: What is wrong with it by itself.
    """

    world: World
    games: Mapping[str, Known]
    faults: Sequence[str]


async def look(store: Store, channels: Sequence[str]) -> Look:
    """Read all channels and games."""
    ids = [
        unescape_id(key.removeprefix(_GAME_PREFIX))
        async for keys in store.scan(_GAME_PREFIX)
        for key in keys
    ]
    values: Iterator[Any] = iter(
        await store.read(
            [
                *(make(name) for name in channels for make in _KEYS),
                *map(game_key, ids),
            ]
        )
    )
    forms = {name: tuple(islice(values, len(_KEYS))) for name in channels}
    own: dict[str, dict[bytes, bytes]] = {game: next(values) for game in ids}
    holders = {game: fields[b"holder"].decode() for game, fields in own.items()}
    faults = list(misplaced({name: pair[:2] for name, pair in forms.items()}, holders))
    places: dict[str, Place] = {}
    games: dict[str, Known] = {}
    for name, (text, _, meta) in forms.items():
        if text is None:
            continue
        form = json.loads(text)
        saved = "" if form["active"] else meta[b"saved"].decode()
        places[name] = Place(form["game_id"], saved)
        if form["active"]:
            games[form["game_id"]] = _known(form, meta)
    for game, fields in own.items():
        if not holders[game].startswith("channel:"):
            games[game] = _known(json.loads(fields[b"session"]))
        elif game not in games:
            faults.append(f"game {game} is lost: {holders[game]} holds it and doesn't have it")
    return Look(World(places, holders), games, faults)


def _known(form: Mapping[str, Any], meta: Mapping[bytes, bytes] | None = None) -> Known:
    """What a form says, and the notes of turns that were closed after it."""
    ahead = None if meta is None else meta.get(b"ahead")
    last = form["turn_number"] if ahead is None else int(ahead)
    return Known(form["game_name"], form["channel_id"], last, form["active"])


def misplaced(
    forms: Mapping[str, tuple[Any, Any]], holders: Mapping[str, str | None]
) -> Iterable[str]:
    """What must not be at any moment: a game live twice, or where its own key doesn't say."""
    live: dict[str, str] = {}
    for name, (text, fields) in forms.items():
        if text is None:
            continue
        form = json.loads(text)
        game = form["game_id"]
        if (fields[b"game_id"].decode(), fields[b"active"] == b"1") != (game, form["active"]):
            yield f"{name}: its two forms disagree"
        if not form["active"]:
            continue
        if game in live:
            yield f"game {game} is live twice: in {live[game]} and in {name}"
        live[game] = name
        if game in holders and holders[game] != held_by(name):
            yield f"game {game} is live in {name}, but held by {holders[game]}"


def listing(games: Mapping[str, Known]) -> dict[str, tuple[str, str, int, bool]]:
    """What `games()` must say of them."""
    return {
        game: (known.title, known.channel, known.turn_number, known.active)
        for game, known in games.items()
    }


def listed(entries: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str, int, bool]]:
    """What `games()` said, as `listing` has it."""
    return {
        entry["game_id"]: (
            entry["game_name"],
            entry["channel_id"],
            entry["turn_number"],
            entry["active"],
        )
        for entry in entries
    }


def differences(
    truth: Mapping[str, tuple[str, str, int, bool]], told: Mapping[str, tuple[str, str, int, bool]]
) -> Iterable[str]:
    """Where a listing isn't as it must be."""
    for game in sorted({*truth, *told}):
        if truth.get(game) != told.get(game):
            yield f"game {game} is {truth.get(game)}, and listed as {told.get(game)}"


@attrs.define
class Heard:
    """What was acknowledged of a game since the last look.

    Attributes:
        press: It was pressed: the press, without a turn if that is in doubt.
        closed: A turn was closed or shown.
        record: A turn was recorded.
    """

    game: str
    press: Press | None = None
    closed: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None


def narrative(game: str, turn: int) -> str:
    """What is told of a turn, whoever tells it, so that it doesn't matter who was first."""
    return f"turn {turn} of {game}, as everybody tells it"


class Shelf:
    """The books of all games that there are, by title.

    Attributes:
        contradictions: Answers that contradict each other.
    """

    def __init__(self) -> None:
        self._books: dict[str, Book] = {}
        self.contradictions: list[str] = []

    def enter(
        self,
        heard: Iterable[Heard],
        before: Mapping[str, Known],
        after: Mapping[str, Known],
        booted: Iterable[str],
    ) -> None:
        """Write down what was heard between two looks, and throw away what isn't there any more.

        What can't be said for sure to be of a game that is there now counts as in doubt.

        Args:
            heard: What was acknowledged in between.
            before: The games at the first look.
            after: The games at the second.
            booted: The ids that somebody tried to boot, each as often.
        """
        boots = list(booted)
        titles = {known.title for known in after.values()}
        self._books = {title: book for title, book in self._books.items() if title in titles}
        for game, known in after.items():
            self._books.setdefault(known.title, Book(game))
        for item in heard:
            for game in after if not item.game else (item.game,):
                now, was = after.get(game), before.get(game)
                if now is None:
                    continue
                sure = bool(item.game) and (
                    now.title == was.title if was is not None else boots.count(game) <= 1
                )
                self._write(self._books[now.title], item, sure=sure)

    def _write(self, book: Book, item: Heard, *, sure: bool) -> None:
        press = item.press
        if press is not None:
            kept = press if sure else attrs.evolve(press, turn=None, opened=False)
            book.presses[press.choice] = kept
        if not sure:
            return
        if item.closed is not None:
            turn, choices = item.closed["turn"], dict(item.closed["choices"])
            if book.closed.setdefault(turn, choices) != choices:
                self.contradictions.append(
                    f"game {book.game_id}: turn {turn} was handed out as {book.closed[turn]} and "
                    f"as {choices}"
                )
        if item.record is not None:
            book.recorded[item.record["turn"]] = item.record["narrative_summary"]

    def counts(self) -> tuple[int, int, int]:
        """How many presses, turns and records were acknowledged of the games there are."""
        books = self._books.values()
        return (
            sum(press.turn is not None for book in books for press in book.presses.values()),
            sum(len(book.closed) for book in books),
            sum(len(book.recorded) for book in books),
        )

    def judge(self, title: str, form: Any, history: Any) -> Iterable[str]:
        """What is wrong with a game that was played out."""
        book = self._books[title]
        last = json.loads(form)["turn_number"] if form is not None else 0
        book.told = {turn: {narrative(book.game_id, turn)} for turn in range(1, last + 1)}
        return judge_game(f"{title} ({book.game_id})", book, form, history)

    async def played_out(self, store: Store, channels: Mapping[str, str]) -> list[str]:
        """What is wrong with games, by title, that were played out in these channels."""
        faults: list[str] = []
        counted: dict[str, str] = {}
        for title, channel in channels.items():
            form, history = await store.read([json_key(channel), history_key(channel)])
            faults += self.judge(title, form, history)
            for entry in cast("list[bytes]", history or []):
                for choice in json.loads(entry)["choices"].values():
                    if counted.setdefault(choice, title) != title:
                        faults.append(f"{choice!r} counts in {counted[choice]} and in {title}")
        return faults
