"""Writing a store's games to a file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import attrs

from gamegirl.actors import InvalidInputError, Stored, WrongType
from gamegirl.actors.session import SessionBehaviour
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
from gamegirl.codec import check_id, escape_id
from gamegirl.supervisor import Store
from gamegirl.supervisor.stores import Entry

CHANNELS = 10
"""So many channels are read at a time: few enough for a store to read them in one piece, so that
no channel is seen half before and half after a turn."""

KEYS = 500


@attrs.define
class Exported:
    """What was written: channels, saves and entries of games, and lines in all."""

    channels: int = 0
    games: int = 0
    lines: int = 0


async def export(store: Store, channels: Sequence[str], write: Callable[[str], object]) -> Exported:
    """Write what is stored of these channels, or of all, a line at a time.

    No channel is claimed. What is played meanwhile is exported as it is at some moment of it.

    Args:
        store: Where they are; it need not be open.
        channels: Which; empty: all, and everything that belongs to no channel.
        write: Gets each line, with its end.

    Raises:
        InvalidInputError: Nothing is stored of a channel.
    """
    for channel_id in channels:
        check_id(channel_id, "channel id")
    wanted = tuple(dict.fromkeys(channels))
    names = wanted or await _all_channels(store)
    counts = Exported()

    def put(entries: Iterable[Entry]) -> None:
        for entry in entries:
            line = line_of(entry)
            if line is not None:
                write(line + "\n")
                counts.lines += 1
            elif isinstance(entry.value, WrongType):
                say(f"{entry.key!r} is a {entry.value.name}, which no file can hold: left out")

    played = await _export_channels(store, names, put, counts, must_exist=bool(wanted))
    (index, quarantine) = await store.entries([INDEX, QUARANTINE])
    if wanted:
        index = _kept(index, lambda plain: plain.get("channel_id") in wanted)
        quarantine = _kept(quarantine, lambda plain: plain.get("actor_id") in wanted)
    listed = fields_of(index.value)
    put([index, quarantine])
    if wanted:
        ids = played | {field.decode("utf-8", "replace") for field in listed}
        put(await store.entries([GAME_PREFIX + escape_id(id_) for id_ in sorted(ids)]))
    else:
        for prefix in (GAME_PREFIX, ACTOR_PREFIX):
            async for batch in _batches(store, prefix):
                put(await store.entries(batch))
    counts.games = len(listed)
    return counts


async def _export_channels(
    store: Store,
    names: Sequence[str],
    put: Callable[[Iterable[Entry]], None],
    counts: Exported,
    *,
    must_exist: bool,
) -> set[str]:
    """Write the channels; returns the ids of the games that they hold."""
    played: set[str] = set()
    keys_of = SessionBehaviour().keys
    with Meter("Exporting channels", len(names)) as meter:
        for start in range(0, len(names), CHANNELS):
            batch = names[start : start + CHANNELS]
            keys = [key for channel_id in batch for key in keys_of(channel_id)]
            entries = await store.entries(keys)
            each = len(keys) // len(batch)
            for at, channel_id in enumerate(batch):
                own = [e for e in entries[at * each : (at + 1) * each] if e.value is not None]
                if not own and must_exist:
                    raise InvalidInputError(
                        f"nothing is stored of channel {channel_id!r}; `gamegirl games` lists "
                        "the channels"
                    )
                put(own)
                played |= {game_id for entry in own for game_id in game_ids(entry.value)}
                counts.channels += 1
            meter.advance(len(batch))
    return played


async def _all_channels(store: Store) -> list[str]:
    found: set[str] = set()
    for prefix in CHANNEL_PREFIXES:
        async for keys in store.scan(prefix):
            for key in keys:
                place = place_of(key)
                if place is None or place.part is not Part.CHANNEL:
                    say(f"{key!r} is no key of a channel: left out")
                else:
                    found.add(place.actor.actor_id)
    return sorted(found)


async def _batches(store: Store, prefix: str) -> AsyncIterator[Sequence[str]]:
    keys = sorted({key async for batch in store.scan(prefix) for key in batch})
    for start in range(0, len(keys), KEYS):
        yield [key for key in keys[start : start + KEYS] if place_of(key) is not None]


def fields_of(value: Stored) -> Mapping[bytes, bytes]:
    """The fields, if it is a hash."""
    return value if isinstance(value, Mapping) else {}


def game_ids(value: Stored) -> set[str]:
    """The game that a channel's form says it holds, if it can be read."""
    if isinstance(value, Mapping):
        game_id: Any = value.get(b"game_id", b"").decode("utf-8", "replace")
    else:
        game_id = json_object(value).get("game_id")
    if not isinstance(game_id, str) or not game_id:
        return set()
    return {game_id.encode("utf-8", "replace").decode()}


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
