"""Bringing games from a file into a store.

Every channel is claimed and written with one commit, as its owner would write it; a channel that
somebody else owns is left alone. A channel is either imported whole or not at all, with the listing
of its games and the game it holds.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from typing import Any

import anyio
import attrs
from msgspec.structs import replace

from gamegirl.actors import (
    Drop,
    GameActiveError,
    GameExistsError,
    PatchHash,
    Require,
    Write,
)
from gamegirl.actors.session import SessionBehaviour
from gamegirl.actors.session._keys import channel_of
from gamegirl.cli._export import (
    Told,
    fields_of,
    game_id_of,
    json_object,
)
from gamegirl.cli._lines import (
    INDEX,
    QUARANTINE,
    Line,
    Part,
    named,
    write_of,
)
from gamegirl.cli._meter import Meter
from gamegirl.supervisor import Store
from gamegirl.supervisor._games import holder_of
from gamegirl.supervisor.stores import (
    ActorKey,
    Claim,
    Claimed,
    Commit,
    Done,
    Owned,
    Process,
    Unmet,
)

BATCH = 100
"""So many channels are claimed and committed at a time."""

LEASE_SECONDS = 10.0
"""After a crash of the import its last batch is free again after this."""

CLOSE_SECONDS = 5.0

NAMED = 10
"""So many channels an error names."""

_HOLDER = "holder"
_AT_CHANNEL = "channel:"


@attrs.define
class Imported:
    """What became of the file.

    Attributes:
        channels: Written.
        games: Entries of the listing that were written.
        lines: Keys written.
        endless: Keys whose time to live could not be kept: only hashes have one here.
        skipped: What was left alone, and why.
    """

    channels: int = 0
    games: int = 0
    lines: int = 0
    endless: int = 0
    skipped: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])


@attrs.define
class _Unit:
    """What is claimed and committed as one: an actor with its keys.

    Attributes:
        lines: Its own keys.
        games: Keys of games that it holds.
        entries: Its games in the listing.
        keys: All keys it has, also those that the file doesn't.
    """

    actor: ActorKey
    name: str
    lines: list[Line] = attrs.field(factory=list[Line])
    games: list[Line] = attrs.field(factory=list[Line])
    entries: dict[bytes, bytes] = attrs.field(factory=dict[bytes, bytes])
    keys: Sequence[str] = ()
    due: float | None = None

    def told(self) -> Told:
        """What the file says of a channel's games."""
        values = {line.key: line.value for line in self.lines}
        return Told.by([values.get(key) for key in self.keys])


class Importer:
    """Brings the lines of a file into a store.

    Args:
        store: Where to; it is opened and closed.
        lines: All of the file.
        replace: Whether what is there already gives way.
    """

    def __init__(self, store: Store, lines: Sequence[Line], *, replace: bool) -> None:
        self._store = store
        self._replace = replace
        self._keys_of = SessionBehaviour().keys
        self._units: dict[ActorKey, _Unit] = {}
        self._entries: dict[bytes, bytes] = {}
        self._quarantine: dict[bytes, bytes] = {}
        self._homeless: set[bytes] = set()
        self._counts = Imported()
        self._sort(lines)

    async def run(self) -> Imported:
        """Write everything that may be written.

        Raises:
            GameExistsError: Something is there already; nothing was written.
            StoreUnavailableError: The store went away; what was counted is written, and the rest
                can be imported again with `replace`.
        """
        process = Process(f"{os.getpid():x}-{secrets.token_hex(8)}")
        await self._store.open(process, LEASE_SECONDS)
        try:
            await self._write()
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._store.aclose()
        return self._counts

    def _sort(self, lines: Sequence[Line]) -> None:
        """Put every line to the actor that it is committed with."""
        for line in lines:
            if line.place.part is Part.CHANNEL:
                actor = line.place.actor
                unit = self._unit(actor, f"channel {actor.actor_id!r}")
                unit.keys = self._keys_of(actor.actor_id)
                unit.lines.append(line)
                if line.key in unit.keys[3:5]:  # A window, or turns without a narrative.
                    unit.due = time.time()
            elif line.place.part is Part.ACTOR:
                actor = line.place.actor
                unit = self._unit(actor, f"{actor.kind} {actor.actor_id!r}")
                unit.keys = (line.key,)
                unit.lines.append(line)
                unit.due = time.time()
        for line in lines:
            if line.place.part is Part.GAME:
                self._sort_game(line)
        for line in lines:
            fields: Any = line.value
            if line.place.part is Part.INDEX:
                self._counts.lines += 1
                for game_id, entry in fields.items():
                    if game_id in self._homeless:
                        continue
                    channel_id = _channel_of(entry)
                    played = self._units.get(ActorKey("session", channel_id))
                    (played.entries if played else self._entries)[game_id] = entry
            elif line.place.part is Part.QUARANTINE:
                self._counts.lines += 1
                self._quarantine = fields

    def _sort_game(self, line: Line) -> None:
        actor = line.place.actor
        where = channel_of(holder_of(line.value))
        played = None if where is None else self._units.get(ActorKey("session", where))
        if played is None:
            unit = self._unit(actor, f"game {actor.actor_id!r}")
            unit.keys = (line.key,)
            unit.games.append(line)
        elif line.key in played.told().games:
            played.games.append(line)
        else:
            self._homeless.add(actor.actor_id.encode())
            self._counts.skipped.append(
                (f"game {actor.actor_id!r}", _why_homeless(where, "the file"))
            )

    def _unit(self, actor: ActorKey, name: str) -> _Unit:
        return self._units.setdefault(actor, _Unit(actor, name))

    async def _write(self) -> None:
        units = list(self._units.values())
        if not self._replace:
            await self._check_free(units)
            await self._keep_listed(units)
        with Meter("Importing", len(units)) as meter:
            for start in range(0, len(units), BATCH):
                await self._write_batch(units[start : start + BATCH])
                meter.advance(min(BATCH, len(units) - start))
        await self._write_common()

    async def _check_free(self, units: Sequence[_Unit]) -> None:
        taken: list[str] = []
        for start in range(0, len(units), BATCH):
            batch = units[start : start + BATCH]
            keys = [key for unit in batch for key in (*unit.keys, *(g.key for g in unit.games))]
            held = dict(zip(keys, await self._store.read(keys), strict=True))
            taken += [
                unit.name
                for unit in batch
                if any(held[key] is not None for key in (*unit.keys, *(g.key for g in unit.games)))
            ]
        if taken:
            more = f" and {len(taken) - NAMED} more" if len(taken) > NAMED else ""
            raise GameExistsError(
                f"{', '.join(taken[:NAMED])}{more} would be overwritten, so nothing was imported: "
                "import into an empty store, or say --replace"
            )

    async def _keep_listed(self, units: Sequence[_Unit]) -> None:
        """Leave games that are listed there as they are, but for those that a channel brings in."""
        (index,) = await self._store.read([INDEX])
        listed = fields_of(index)
        self._entries = {
            game_id: entry for game_id, entry in self._entries.items() if game_id not in listed
        }
        for unit in units:
            held = {line.place.actor.actor_id.encode() for line in unit.games}
            unit.entries = {
                game_id: entry
                for game_id, entry in unit.entries.items()
                if game_id in held or game_id not in listed
            }

    async def _write_batch(self, units: Sequence[_Unit]) -> None:
        store = self._store
        await store.renew()
        claims = [Claim(unit.actor, unit.keys, secrets.token_hex(8)) for unit in units]
        commits: list[Commit] = []
        kept: list[_Unit] = []
        for unit, claimed in zip(units, await store.claim(claims), strict=True):
            if not isinstance(claimed, Claimed):
                why = (
                    f"it is owned by {claimed.owner}, which is alive"
                    if isinstance(claimed, Owned)
                    else claimed.reason
                )
                self._counts.skipped.append((unit.name, why))
                continue
            commit, why = await self._commit(unit, claimed)
            if why:
                self._counts.skipped.append((unit.name, why))
            commits.append(commit)
            kept.append(unit)
        for unit, commit, outcome in zip(kept, commits, await store.commit(commits), strict=True):
            if not isinstance(outcome, Done):
                self._counts.skipped.append((unit.name, _said(commit, outcome)))
            elif commit.writes:
                self._count(unit)

    def _count(self, unit: _Unit) -> None:
        counts = self._counts
        lines = (*unit.lines, *unit.games)
        counts.channels += unit.actor.kind == "session"
        counts.games += len(unit.entries)
        counts.lines += len(lines)
        counts.endless += sum(line.ttl >= 0 and not isinstance(line.value, dict) for line in lines)

    async def _commit(self, unit: _Unit, claimed: Claimed) -> tuple[Commit, str]:
        """The commit of a unit, and why it writes nothing, if so."""
        commit = Commit(
            unit.actor,
            claimed.owner,
            claimed.revision + 1,
            secrets.token_hex(8),
            release=True,
        )
        if any(value is not None for value in claimed.stored) and not self._replace:
            return commit, "somebody has written it in the meantime"
        requires, games, why = await self._games(unit, claimed)
        if why:
            return commit, why
        held = {
            key for key, value in zip(unit.keys, claimed.stored, strict=True) if value is not None
        }
        writes: list[Write] = [Drop(key) for key in sorted(held)]
        writes += games
        writes += [write_of(line.key, line.value, line.ttl) for line in unit.lines]
        if unit.entries:
            writes.append(PatchHash(INDEX, named(unit.entries)))
        return replace(commit, writes=writes, requires=requires, due=unit.due), ""

    async def _games(self, unit: _Unit, claimed: Claimed) -> tuple[list[Require], list[Write], str]:
        """Bring in the games that the unit holds, and see off those that it held so far."""
        ours = {line.key for line in unit.games}
        told = Told.by(claimed.stored) if unit.actor.kind == "session" else Told()
        gone = {key: game_id_of(key) for key in told.games}
        keys = sorted(ours | gone.keys())
        here = _AT_CHANNEL + unit.actor.actor_id
        holders = {
            key: holder_of(stored)
            for key, stored in zip(keys, await self._store.read(keys), strict=True)
        }
        requires: list[Require] = []
        writes: list[Write] = []
        for line in unit.games:
            holder = holders[line.key]
            other = (holder or "").removeprefix(_AT_CHANNEL)
            if holder is not None and holder.startswith(_AT_CHANNEL) and holder != here:
                replaced = self._replace and ActorKey("session", other) in self._units
                if not replaced:
                    return [], [], f"its game is active in channel {other!r} there: exit it first"
            where = channel_of(holder_of(line.value))
            if where is not None and unit.actor.kind != "session":
                there = Told.by(await self._store.read(self._keys_of(where)))
                if line.key not in there.games:
                    self._homeless.add(unit.actor.actor_id.encode())
                    return [], [], _why_homeless(where, "the store")
            requires.append(_require(line.key, holder))
            writes += [Drop(line.key), write_of(line.key, line.value, line.ttl)]
        for key in sorted(gone.keys() - ours):
            if holders[key] in (None, here) and gone[key].encode() not in unit.entries:
                requires.append(_require(key, holders[key]))
                writes += [Drop(key), PatchHash(INDEX, remove=(gone[key],))]
        return requires, writes, ""

    async def _write_common(self) -> None:
        """What is no channel's: entries of the listing, and copies in quarantine."""
        entries = {
            game_id: entry
            for game_id, entry in self._entries.items()
            if game_id not in self._homeless
        }
        writes: list[Write] = []
        if entries:
            writes.append(PatchHash(INDEX, named(entries)))
        if self._quarantine:
            writes.append(PatchHash(QUARANTINE, named(self._quarantine)))
        if not writes:
            return
        actor = ActorKey("import", "index")
        await self._store.renew()
        (claimed,) = await self._store.claim([Claim(actor, (), secrets.token_hex(8))])
        if not isinstance(claimed, Claimed):
            self._counts.skipped.append(("the listing of games", "another import writes it"))
            return
        commit = Commit(
            actor, claimed.owner, claimed.revision + 1, secrets.token_hex(8), writes, release=True
        )
        (outcome,) = await self._store.commit([commit])
        if isinstance(outcome, Done):
            self._counts.games += len(entries)
        else:
            self._counts.skipped.append(("the listing of games", _said(commit, outcome)))


def _require(key: str, holder: str | None) -> Require:
    error = GameActiveError(f"the game at {key!r} changed hands in this moment: import it again")
    return Require(key, _HOLDER, holder, error)


def _why_homeless(channel_id: str | None, where: str) -> str:
    """Why a game is left out that a channel holds which doesn't have it.

    Nobody could ever load or exit it.
    """
    return (
        f"it is said to be active in channel {channel_id!r}, which has no such game in {where}: "
        "export the channel anew, and import both"
    )


def _channel_of(entry: bytes) -> str:
    channel_id = json_object(entry).get("channel_id")
    return channel_id if isinstance(channel_id, str) else ""


def _said(commit: Commit, outcome: object) -> str:
    if isinstance(outcome, Unmet):
        return str(commit.requires[outcome.index].error)
    return f"the store refused it: {outcome}"
