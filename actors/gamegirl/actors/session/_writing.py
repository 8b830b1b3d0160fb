"""Writing the full forms: the replaced system's JSON and hash, our notes about them, the listing.

They are put together by hand, as their parts are, because most of what a record costs is made here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from json.encoder import encode_basestring as quoted

from gamegirl.actors._writes import PatchHash, PutHash, PutText, Value, Write
from gamegirl.actors.session._digests import DIGEST_BYTES, digest_of, digest_of_hash, note_of_tally
from gamegirl.actors.session._forms import (
    AHEAD,
    HASH_FIELDS,
    PLAIN,
    SCHEMA,
)
from gamegirl.actors.session._keys import INDEX_KEY, hash_key, json_key, meta_key
from gamegirl.actors.session._parts import (
    fields_to_json,
    flag_to_json,
    players_to_bytes,
    texts_to_json,
    utf8,
)
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._state import SessionState, tally_of

_HASH_SPELLED = b"\0".join(b"%b\0%%b" % name.encode() for name in sorted(HASH_FIELDS))
"""The hash form as `digest_of_hash` joins it, where it has no other fields."""


def full_forms(state: SessionState, rules: SessionRules, *, relisted: bool = True) -> list[Write]:
    """Writes of everything but the history, the journal and the closed turns.

    Unless `relisted`, the entry in the listing is left out if its turn number is there already.
    """
    text, fields, digests = _spelled(state, rules)
    writes: list[Write] = [text, fields, notes(state, **digests)]
    if relisted or state.listed != state.turn_number:
        writes.append(index_entry(state))
    return writes


def _spelled(state: SessionState, rules: SessionRules) -> tuple[PutText, PutHash, dict[str, str]]:
    """The JSON form, the hash form, and what is noted about them."""
    channel_id = state.channel_id
    extras = state.extras
    players = players_to_bytes(state.players, extras.players if extras else None)
    bare = players_to_bytes(state.players) if extras and extras.players else players
    pending = utf8(texts_to_json(state.pending())) if state.choices else b"{}"
    text = json_text(state, players)
    # In the order of their names, for the digest.
    known: dict[str, bytes] = {
        "active": b"1" if state.active else b"0",
        "channel_id": channel_id.encode(),
        "countdown_started": b"0.0",
        "crown_holder": (state.crown_holder or "").encode(),
        "game_id": state.game_id.encode(),
        "game_name": state.game_name.encode(),
        "pending_choices": pending,
        "players": players,
        "title_screen_url": state.title_screen_url.encode(),
        "turn_number": b"%d" % state.turn_number,
    }
    fields: Mapping[str, Value] = known
    if extras and extras.hash:
        fields = {**extras.hash, **known}
        hash_raw = digest_of_hash(fields)
    else:
        hash_raw = digest_of(_HASH_SPELLED % tuple(known.values()))
    # Of what both digests are about, the most is hashed once.
    hash_said = hashlib.blake2b(b"%b\0%b\0" % (_head(state), bare), digest_size=DIGEST_BYTES)
    json_said = hash_said.copy()
    json_said.update(b"-")
    hash_said.update(pending)
    return (
        PutText(json_key(channel_id), text),
        PutHash(hash_key(channel_id), fields, math.ceil(rules.hash_ttl_seconds)),
        {
            "same": "1" if extras else PLAIN,
            "json": json_said.hexdigest(),
            "json_raw": digest_of(text),
            "hash": hash_said.hexdigest(),
            "hash_raw": hash_raw,
        },
    )


def json_text(state: SessionState, players: bytes | None = None) -> bytes:
    """The JSON form."""
    extras = state.extras
    if players is None:
        players = players_to_bytes(state.players, extras.players if extras else None)
    crown_holder = state.crown_holder
    head = (
        f'{{"game_id":{quoted(state.game_id)},"game_name":{quoted(state.game_name)}'
        f',"channel_id":{quoted(state.channel_id)},"active":{flag_to_json(state.active)}'
        f',"turn_number":{state.turn_number},"title_screen_url":{quoted(state.title_screen_url)}'
        f',"crown_holder":{"null" if crown_holder is None else quoted(crown_holder)}'
        f"{fields_to_json(extras.json) if extras else ''}"
    )
    return b'%b,"players":%b}' % (utf8(head), players)


def notes(state: SessionState, **digests: str) -> Write:
    """What is noted beside the forms: whose they are and what they held when we last saw them.

    `same`, if noted, says that both forms were written together, so that only one need be read.
    """
    return PutHash(
        meta_key(state.channel_id),
        {
            "schema": str(SCHEMA),
            "game": state.game_id,
            "saved": state.saved,
            "history": note_of_history(state),
            **digests,
        },
    )


def notes_ahead(state: SessionState) -> Write:
    """What is noted when a turn is closed that the forms don't know of."""
    fields: dict[str, Value] = {"schema": b"%d" % AHEAD, "ahead": b"%d" % state.turn_number}
    return PatchHash(meta_key(state.channel_id), fields)


def index_entry(state: SessionState) -> PatchHash:
    """The game's entry in the listing of all games."""
    state.listed = state.turn_number
    entry = utf8(
        f'{{"game_name":{quoted(state.game_name)},"channel_id":{quoted(state.channel_id)}'
        f',"turn_number":{state.turn_number},"active":{flag_to_json(state.active)}'
        f',"title_screen_url":{quoted(state.title_screen_url)}}}'
    )
    return PatchHash(INDEX_KEY, {state.game_id: entry})


def note_of_history(state: SessionState) -> str:
    """What is noted of the history."""
    if state.tally is None:
        state.tally = tally_of(state.records)
    return note_of_tally(state.tally)


def _head(state: SessionState) -> bytes:
    """What a state says but for its players, as in `Form.digest`."""
    return utf8(
        f"[{quoted(state.game_id)},{quoted(state.game_name)},{flag_to_json(state.active)}"
        f",{state.turn_number},{quoted(state.title_screen_url)}"
        f",{quoted(state.crown_holder or '')}]"
    )
