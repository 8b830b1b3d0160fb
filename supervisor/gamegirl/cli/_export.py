"""Writing a store's games to a file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

import attrs

from gamegirl.actors import GameActiveError, InvalidInputError, Stored, WrongType
from gamegirl.actors.session import SessionBehaviour
from gamegirl.actors.session._keys import channel_of
from gamegirl.cli._console import say
from gamegirl.cli._lines import (
    ACTOR_PREFIX,
    CHANNEL_PREFIXES,
    GAME_PREFIX,
    INDEX,
    QUARANTINE,
    Part,
    line_of,
    place_of,
)
from gamegirl.cli._meter import Meter
from gamegirl.codec import check_id, escape_id, unescape_id
from gamegirl.supervisor import Store
from gamegirl.supervisor._games import holder_of
from gamegirl.supervisor.stores import Entry

CHANNELS = 10
"""So many channels are read at a time: few enough for a store to read them in one piece, so that
no channel is seen half before and half after a turn."""

KEYS = 500

ROUNDS = 20
"""So often what has moved while it was read is read again."""

SPOOL_BYTES = 1 << 24
"""What is read waits for the rest in memory; beyond this size in a temporary file."""


@attrs.define
class Exported:
    """What was written: channels, saves and entries of games, and lines in all."""

    channels: int = 0
    games: int = 0
    lines: int = 0


async def export(store: Store, channels: Sequence[str], write: Callable[[str], object]) -> Exported:
    """Write what is stored of these channels, or of all, a line at a time, once all of it is read.

    No channel is claimed. What is played meanwhile is exported as it is at some moment of it; a
    game that moves meanwhile is in the file, where it was or where it has gone.

    Args:
        store: Where they are; it need not be open.
        channels: Which; empty: all, and everything that belongs to no channel.
        write: Gets each line, with its end.

    Raises:
        InvalidInputError: Nothing is stored of a channel.
        GameActiveError: Games move faster than they can be read; nothing was written.
    """
    for channel_id in channels:
        check_id(channel_id, "channel id")
    with SpooledTemporaryFile(SPOOL_BYTES) as file:
        spool = _Spool(file)
        copy = _Copy(store, tuple(dict.fromkeys(channels)), spool)
        games = await copy.take()
        for line in spool.lines():
            write(line)
        return Exported(copy.count(), games, len(spool))


class _Spool:
    """Keeps lines until all are there: of a key that is read again the later one.

    Args:
        file: Where to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = 0
        self._places: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def put(self, entry: Entry) -> None:
        line = line_of(entry)
        if line is None:
            self.drop(entry.key)
            if isinstance(entry.value, WrongType):
                say(f"{entry.key!r} is a {entry.value.name}, which no file can hold: left out")
            return
        text = line.encode("ascii") + b"\n"
        self._file.write(text)
        self._places[entry.key] = (self._end, len(text))
        self._end += len(text)

    def drop(self, key: str) -> None:
        self._places.pop(key, None)

    def lines(self) -> Iterator[str]:
        for start, size in self._places.values():
            self._file.seek(start)
            yield self._file.read(size).decode("ascii")


@attrs.frozen
class Told:
    """What a channel's keys say of games, which go by their own keys here.

    Attributes:
        games: Those that its forms or our notes name.
        active: Those that a form says are being played.
        anything: Whether anything is stored.
    """

    games: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()
    anything: bool = False

    @classmethod
    def by(cls, stored: Sequence[Stored]) -> Told:
        """What the keys of a channel say, in their order."""
        text, _, fields, _, _, notes = stored
        plain, hash_ = json_object(text), fields_of(fields)
        by_json = _game_keys(plain.get("game_id"))
        by_hash = _game_keys(hash_.get(b"game_id"))
        active: set[str] = set()
        if plain.get("active") is not False:
            active |= by_json
        if hash_.get(b"active") != b"0":
            active |= by_hash
        return cls(
            frozenset(by_json | by_hash | _game_keys(fields_of(notes).get(b"game"))),
            frozenset(active),
            any(value is not None for value in stored),
        )


@attrs.define(eq=False)
class _Copy:
    """What is read, until it fits together.

    A game that moves between two reads would be read twice, or not at all. So what channels and
    games say of each other is compared; where that differs, they are read again, in one piece. If
    it differs also then, this is how the store has it.

    Args:
        store: Where from.
        wanted: Which channels; empty: all, and everything else.
        spool: Gets the lines.
    """

    _store: Store
    _wanted: Sequence[str]
    _spool: _Spool
    _channels: dict[str, tuple[Told, int]] = attrs.field(
        init=False, factory=dict[str, tuple[Told, int]]
    )
    """What each says, and in which read it said so."""
    _holders: dict[str, tuple[str | None, int]] = attrs.field(
        init=False, factory=dict[str, "tuple[str | None, int]"]
    )
    """Who holds each game, by its own key, and in which read that was seen."""
    _reads: int = attrs.field(init=False, default=0)

    def count(self) -> int:
        """Of how many channels something is stored."""
        return sum(told.anything for told, _ in self._channels.values())

    async def take(self) -> int:
        """Read everything; returns how many games are listed."""
        await self._take_channels()
        listed = await self._take_listing()
        await self._take_games(listed)
        torn = self._torn()
        for _ in range(ROUNDS):
            if not torn:
                break
            for channel_id, keys in torn.items():
                # A game that has left the channel since is a save by now, which it was not before.
                await self._read([channel_id], sorted(keys | self._told(channel_id).games))
            listed = await self._take_listing()
            torn = self._torn()
        if torn:
            channel_id, keys = next(iter(torn.items()))
            raise GameActiveError(
                f"game {game_id_of(min(keys))!r} moves from and to channel {channel_id!r} faster "
                f"than it can be read, {ROUNDS} times by now: nothing was exported, try again "
                "while fewer games are loaded and swapped"
            )
        if self._wanted:
            return self._leave_out(listed)
        for batch in _batches(await self._scanned(ACTOR_PREFIX)):
            for entry in await self._store.entries(batch):
                self._spool.put(entry)
        return len(listed)

    async def _take_channels(self) -> None:
        names = self._wanted or await self._all_channels()
        with Meter("Exporting channels", len(names)) as meter:
            for start in range(0, len(names), CHANNELS):
                batch = names[start : start + CHANNELS]
                await self._read(batch)
                for channel_id in batch if self._wanted else ():
                    if not self._told(channel_id).anything:
                        raise InvalidInputError(
                            f"nothing is stored of channel {channel_id!r}; `gamegirl games` lists "
                            "the channels"
                        )
                meter.advance(len(batch))

    async def _take_listing(self) -> Mapping[bytes, bytes]:
        """Read the listing, and the copies in quarantine; returns what is listed."""
        index, quarantine = await self._store.entries([INDEX, QUARANTINE])
        if self._wanted:
            index = _kept(index, lambda plain: plain.get("channel_id") in self._wanted)
            quarantine = _kept(quarantine, lambda plain: plain.get("actor_id") in self._wanted)
        self._spool.put(index)
        self._spool.put(quarantine)
        return fields_of(index.value)

    async def _take_games(self, listed: Mapping[bytes, bytes]) -> None:
        keys = {key for told, _ in self._channels.values() for key in told.games}
        if self._wanted:
            keys |= {key for game_id in listed for key in _game_keys(game_id)}
        else:
            keys |= set(await self._scanned(GAME_PREFIX))
        for batch in _batches(sorted(keys)):
            await self._read((), batch)

    async def _read(self, channels: Sequence[str], games: Sequence[str] = ()) -> None:
        """Read channels and games in one piece."""
        self._reads += 1
        owned = [SessionBehaviour().keys(channel_id) for channel_id in channels]
        entries = await self._store.entries([*(key for keys in owned for key in keys), *games])
        for entry in entries:
            self._spool.put(entry)
        left = iter(entries)
        for channel_id, keys in zip(channels, owned, strict=True):
            told = Told.by([next(left).value for _ in keys])
            self._channels[channel_id] = (told, self._reads)
        for entry in left:
            self._holders[entry.key] = (holder_of(entry.value), self._reads)

    def _told(self, channel_id: str) -> Told:
        return self._channels.get(channel_id, (Told(), 0))[0]

    def _torn(self) -> Mapping[str, set[str]]:
        """Channels and games that differ and were not read in one piece."""
        torn: defaultdict[str, set[str]] = defaultdict(set)
        for key, (holder, at) in self._holders.items():
            channel_id = channel_of(holder)
            if channel_id is None or (self._wanted and channel_id not in self._wanted):
                continue
            told, read = self._channels.get(channel_id, (Told(), 0))
            if read != at and key not in told.games:
                torn[channel_id].add(key)
        for channel_id, (told, read) in self._channels.items():
            for key in told.games:
                holder, at = self._holders.get(key, (None, 0))
                moved = holder is not None and channel_of(holder) != channel_id
                if read != at and (at == 0 or (key in told.active and moved)):
                    torn[channel_id].add(key)
        return torn

    def _leave_out(self, listed: Mapping[bytes, bytes]) -> int:
        """Leave out what is held by channels that stay behind; returns how many are listed then.

        Where these aren't, such a game would be active for ever, and nowhere.
        """
        away: set[str] = set()
        for key, (holder, _) in self._holders.items():
            channel_id = channel_of(holder)
            if channel_id is not None and channel_id not in self._wanted:
                say(
                    f"Game {game_id_of(key)!r} is in channel {channel_id!r} by now, which is not "
                    "exported: left out"
                )
                self._spool.drop(key)
                away.add(key)
        kept = {field: text for field, text in listed.items() if away.isdisjoint(_game_keys(field))}
        self._spool.put(Entry(INDEX, kept or None, -1))
        return len(kept)

    async def _all_channels(self) -> Sequence[str]:
        found: set[str] = set()
        for prefix in CHANNEL_PREFIXES:
            async for keys in self._store.scan(prefix):
                for key in keys:
                    place = place_of(key)
                    if place is None or place.part is not Part.CHANNEL:
                        say(f"{key!r} is no key of a channel: left out")
                    else:
                        found.add(place.actor.actor_id)
        return sorted(found)

    async def _scanned(self, prefix: str) -> Sequence[str]:
        keys = {key async for batch in self._store.scan(prefix) for key in batch}
        return sorted(key for key in keys if place_of(key) is not None)


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), KEYS):
        yield keys[start : start + KEYS]


def _game_keys(game_id: object) -> set[str]:
    """The key of the game that somebody names, if it is named."""
    if isinstance(game_id, bytes):
        game_id = game_id.decode("utf-8", "replace")
    if not isinstance(game_id, str) or not game_id:
        return set()
    return {GAME_PREFIX + escape_id(game_id.encode("utf-8", "replace").decode())}


def game_id_of(key: str) -> str:
    """The id of the game with this key."""
    return unescape_id(key.removeprefix(GAME_PREFIX))


def fields_of(value: Stored) -> Mapping[bytes, bytes]:
    """The fields, if it is a hash."""
    return value if isinstance(value, Mapping) else {}


def _kept(entry: Entry, keep: Callable[[dict[str, Any]], bool]) -> Entry:
    if not isinstance(entry.value, Mapping):
        return attrs.evolve(entry, value=None)
    fields = {name: text for name, text in entry.value.items() if keep(json_object(text))}
    return attrs.evolve(entry, value=fields or None)


def json_object(text: Stored) -> dict[str, Any]:
    """The JSON object, or an empty one for what is none."""
    try:
        plain: Any = json.loads(text) if isinstance(text, bytes) else None
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", plain) if isinstance(plain, dict) else {}
