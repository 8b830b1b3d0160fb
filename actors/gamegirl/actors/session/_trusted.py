"""What a channel's keys say if they are to the byte what we have written: read with no other check.

Nearly every restore is of such a channel. Whatever is different in the least is left to `_reading`,
which knows what to make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec

from gamegirl.actors._behaviour import Stored
from gamegirl.actors.session._digests import digest_of, fits_history
from gamegirl.actors.session._forms import (
    AHEAD,
    HASH_FIELDS,
    PLAIN,
    SCHEMA,
)
from gamegirl.actors.session._journal import apply_journal, apply_turns
from gamegirl.actors.session._parts import NUMBER_MAX, as_fields
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._state import Seat, SessionState


class _Form(msgspec.Struct, frozen=True):
    """The JSON form of a game without fields that we don't know."""

    game_id: str
    game_name: str
    active: bool
    turn_number: int
    title_screen_url: str
    crown_holder: str | None
    players: dict[str, Seat]


class _Recorded(msgspec.Struct):
    """A closed turn that is recorded, or not quite (then this says too little of it)."""

    recorded: int = 0
    answers: list[Any] = []


decode_form = msgspec.json.Decoder(_Form).decode
_decode_recorded = msgspec.json.Decoder(_Recorded).decode

_NOTES = 9
_noted = itemgetter(
    *(b"schema", b"same", b"json_raw", b"hash_raw", b"history"),
    *(b"saved", b"game", b"json", b"hash"),
)
_KIND = (str(SCHEMA).encode(), PLAIN.encode())
_KIND_AHEAD = (str(AHEAD).encode(), PLAIN.encode())

_names = sorted(name.encode() for name in HASH_FIELDS)
_values = itemgetter(*_names)
_PAIRS = b"\0".join(name + b"\0%b" for name in _names)
"""What `digest_of_hash` takes the digest of."""


def trusted_state(
    channel_id: str, stored: Sequence[Stored], rules: SessionRules
) -> SessionState | None:
    """The state of an active game that is stored just as we wrote it; None: read it carefully."""
    values: Sequence[Any] = stored  # What has the wrong type fails below, and is left alone.
    text, history, fields, journal, turns, meta = values
    if text is None or meta is None:
        return None
    try:
        ahead = meta.get(b"ahead")
        if len(meta) != (_NOTES if ahead is None else _NOTES + 1):
            return None
        schema, same, json_raw, hash_raw, noted_history, saved, game, json, hashed = _noted(meta)
        if (schema, same) != (_KIND if ahead is None else _KIND_AHEAD) or digest_of(
            text
        ).encode() != json_raw:
            return None
        # What is of no use here must be sound all the same: damaged notes are put aside.
        if saved or not len(json) == len(hashed) == len(json_raw) or not (json + hashed).isalnum():
            return None
        if fields is not None:
            said = _PAIRS % _values(fields)
            if len(fields) != len(_names) or digest_of(said).encode() != hash_raw:
                return None
        records: list[bytes] = list(history or ())
        if not fits_history(noted_history.decode(), records):
            return None
        form = decode_form(text)
        if not form.active or form.game_id.encode() != game:
            return None
        state = SessionState(
            channel_id,
            form.game_id,
            form.game_name,
            True,
            form.turn_number,
            form.title_screen_url,
            form.crown_holder or None,
            form.players,
            records=tuple(records[-rules.history_max :]),
        )
        _take_turns(state, turns or {})
        if state.turn_number != (form.turn_number if ahead is None else int(ahead)):
            return None
        if journal is not None:
            apply_journal(state, as_fields(journal, ""))
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    except (msgspec.MsgspecError, RecursionError):
        return None
    return state


def _take_turns(state: SessionState, turns: Any) -> None:
    """Put stored closed turns into the state."""
    recorded: dict[int, int] = {}
    for name, value in turns.items():
        one = _decode_recorded(value) if name.isdigit() and name[:1] != b"0" else None
        if one is None or one.answers or not 0 < one.recorded < NUMBER_MAX:
            apply_turns(state, as_fields(turns, ""))
            return
        recorded[one.recorded] = int(name)
    state.recorded = {recorded[place]: place for place in sorted(recorded)}
