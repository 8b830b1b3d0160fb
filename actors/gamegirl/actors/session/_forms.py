"""The full forms of a session: the replaced system's JSON and hash, and our notes about them.

A *form* here is what one stored key says of a game, with None for what it doesn't say. Its digest
is taken over the known fields in our own spelling, so that another spelling of the same content is
the same content, while any change by the replaced system shows.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from gamegirl.actors._behaviour import Quarantined
from gamegirl.actors.session._data import Player
from gamegirl.actors.session._digests import digest_of
from gamegirl.actors.session._parts import (
    NUMBER_MAX,
    PLAYER_FIELDS,
    fault,
    flag_of,
    mapping_of,
    player_of,
    players_to_bytes,
    printable,
    text_of,
    texts_of,
    whole_of,
)
from gamegirl.codec import CodecError, decode_json, encode_json

SCHEMA = 1
"""The version of our own keys. What says a higher one is left alone."""

AHEAD = 2
"""The version of notes that name the last turn (`ahead`), closed since the forms were written.

A version that doesn't know of such turns would play them again: it leaves these notes alone."""

_JSON_FIELDS = frozenset(
    (
        "game_id",
        "game_name",
        "channel_id",
        "active",
        "turn_number",
        "title_screen_url",
        "crown_holder",
        "players",
    )
)
HASH_FIELDS = _JSON_FIELDS | {"pending_choices", "countdown_started"}
PLAIN = "2"
"""The note `same` of forms with nothing in them that we don't know; of others it is `1`."""

_DEPTH_MAX = 64
"""So deep may an unknown field be nested to be kept: far from where encoding it would fail."""

WHOLE = re.compile(r"[0-9]{1,15}")


@attrs.define
class Form:
    """What one stored form says.

    Attributes:
        crown_holder: Empty for nobody.
        pending: Only the hash has it.
        undated: Whether a player had no `last_active`.
        malformed: Players that could not be read.
        listed: Who is on its roster, if not all of them could be read; else empty.
    """

    game_id: str | None = None
    game_name: str | None = None
    active: bool | None = None
    turn_number: int | None = None
    title_screen_url: str | None = None
    crown_holder: str | None = None
    players: dict[str, Player] | None = None
    player_extras: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]])
    pending: dict[str, str] | None = None
    extras: dict[str, Any] = attrs.field(factory=dict[str, Any])
    undated: bool = False
    malformed: list[Quarantined] = attrs.field(factory=list[Quarantined])
    listed: tuple[str, ...] = ()

    def complete(self, other: Form) -> None:
        """Take from the same game's other form the players that could not be read in this one."""
        found, others = self.players or {}, other.players or {}
        self.players = {
            user_id: found[user_id] if user_id in found else others[user_id]
            for user_id in self.listed
            if user_id in found or user_id in others
        }

    def digest(self) -> str:
        """The digest of what it says."""
        head = [
            self.game_id,
            self.game_name,
            self.active,
            self.turn_number,
            self.title_screen_url,
            self.crown_holder,
        ]
        return digest_of(
            encode_json(head),
            b"-" if self.players is None else players_to_bytes(self.players),
            b"-" if self.pending is None else encode_json(self.pending),
        )


def json_form(data: bytes | str, key: str, now: float) -> Form:
    """Read the JSON form; raises `CodecError` if it can't serve."""
    plain = mapping_of(decode_json(data, lenient=True), "")
    form = Form()
    for name in plain:
        if name not in _JSON_FIELDS and _keepable(form, key, name, plain[name]):
            form.extras[name] = plain[name]
    for name, read in _READERS:
        if name in plain:
            setattr(form, name, read(plain[name], name))
    if "crown_holder" in plain:
        crown_holder = plain["crown_holder"]
        form.crown_holder = "" if crown_holder is None else text_of(crown_holder, "crown_holder")
    if "players" in plain:
        _read_players(form, plain["players"], key, now)
    return form


def trusted_forms(data: bytes | str, fields: dict[str, str] | None) -> tuple[Form, Form | None]:
    """Both forms, if they are to the byte what we have written together: nothing is checked."""
    plain = decode_json(data)
    players: dict[str, Player] = {}
    player_extras: dict[str, dict[str, Any]] = {}
    for user_id, player in plain["players"].items():
        players[user_id] = Player(
            player["user_id"],
            player["user_name"],
            player["joined_turn"],
            player["last_active"],
            player["last_active_turn"],
            player["consecutive_skips"],
        )
        if len(player) > len(PLAYER_FIELDS):
            player_extras[user_id] = {
                name: value for name, value in player.items() if name not in PLAYER_FIELDS
            }
    said = (
        plain["game_id"],
        plain["game_name"],
        plain["active"],
        plain["turn_number"],
        plain["title_screen_url"],
        plain["crown_holder"] or "",
        players,
    )
    extras = {name: value for name, value in plain.items() if name not in _JSON_FIELDS}
    form = Form(*said, player_extras, extras=extras)
    if fields is None:
        return form, None
    hash_extras = {name: fields[name] for name in fields if name not in HASH_FIELDS}
    return form, Form(*said, {}, pending_of(fields), hash_extras)


def pending_of(fields: dict[str, str]) -> dict[str, str] | None:
    """The pending choices of a hash form, if it has any to say."""
    if "pending_choices" not in fields:
        return None
    return texts_of(_inner(fields, "pending_choices"), "pending_choices")


def hash_form(fields: dict[str, str], key: str, now: float) -> Form:
    """Read the hash form; raises `CodecError` if it can't serve."""
    form = Form(
        game_id=fields.get("game_id"),
        game_name=fields.get("game_name"),
        title_screen_url=fields.get("title_screen_url"),
        crown_holder=fields.get("crown_holder"),
        extras={name: fields[name] for name in fields if name not in HASH_FIELDS},
    )
    if "active" in fields:
        if fields["active"] not in ("0", "1"):
            raise fault("active", "expected 0 or 1")
        form.active = fields["active"] == "1"
    if "turn_number" in fields:
        if not WHOLE.fullmatch(fields["turn_number"]):
            raise fault("turn_number", f"expected a whole number from 0 below {NUMBER_MAX}")
        form.turn_number = int(fields["turn_number"])
    if "players" in fields:
        _read_players(form, _inner(fields, "players"), key, now)
    form.pending = pending_of(fields)
    return form


_READERS = (
    ("game_id", text_of),
    ("game_name", text_of),
    ("active", flag_of),
    ("turn_number", whole_of),
    ("title_screen_url", text_of),
)


def _inner(fields: dict[str, str], name: str) -> Any:
    try:
        return decode_json(fields[name], lenient=True)
    except CodecError as error:
        raise fault(name, "; ".join(str(one) for one in error.faults)) from error


def _read_players(form: Form, plain: Any, key: str, now: float) -> None:
    players: dict[str, Player] = {}
    for user_id, fields in mapping_of(plain, "players").items():
        path = printable(f"players.{user_id}")
        try:
            text_of(user_id, path)
            player, extras = player_of(user_id, fields, path, now)
        except CodecError as error:
            reason = "; ".join(str(one) for one in error.faults)
            form.malformed.append(
                Quarantined(key, encode_loosely({user_id: fields}), printable(reason))
            )
            continue
        players[user_id] = player
        extras = {n: v for n, v in extras.items() if _keepable(form, key, f"{path}.{n}", v)}
        if extras:
            form.player_extras[user_id] = extras
        if "last_active" not in fields:
            form.undated = True
    form.players = players
    if len(players) < len(plain):
        form.listed = tuple(name for name in plain if isinstance(name, str))


def _keepable(form: Form, key: str, path: str, value: Any) -> bool:
    """Whether an unknown field can be written again; if not, it is put aside."""
    try:
        if _deep(value):
            raise fault("", f"is nested deeper than {_DEPTH_MAX} levels")
        encode_json([path, value])
    except CodecError as error:
        reason = f"{path!a}: " + "; ".join(str(one) for one in error.faults)
        form.malformed.append(Quarantined(key, encode_loosely({path: value}), printable(reason)))
        return False
    return True


def _deep(value: Any) -> bool:
    """Whether it is nested so deeply that writing it somewhere inside could fail."""
    level = [value]
    for _ in range(_DEPTH_MAX):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return any(isinstance(one, (dict, list)) for one in level)


def encode_loosely(plain: Any) -> bytes:
    """JSON of a value for somebody to look at, also if it has half surrogate pairs in it."""
    try:
        return encode_json(plain)
    except CodecError:
        return ascii(plain).encode()
