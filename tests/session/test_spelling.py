"""What is put together by hand has the bytes that the encoder gives for the same plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.session.world import Channel, World, encoded

from gamegirl.actors import (
    ClosedTurn,
    PatchHash,
    Player,
    Pressed,
    PutHash,
    PutText,
    SessionRules,
    SessionState,
    TurnRecord,
)
from gamegirl.actors.session import _messages as m
from gamegirl.actors.session._digests import digest_of, digest_of_hash, fits_history
from gamegirl.actors.session._forms import (
    hash_form,
    json_form,
)
from gamegirl.actors.session._keys import history_key, meta_key
from gamegirl.actors.session._parts import (
    answers_to_plain,
    kept_to_bytes,
    players_to_bytes,
    record_to_bytes,
    recorded_to_bytes,
)
from gamegirl.actors.session._state import Choice, Extras, KeptTurn, Seat
from gamegirl.actors.session._writing import full_forms, note_of_history
from gamegirl.codec import CodecError, encode_json

HISTORY, META = history_key("c"), meta_key("c")
TRICKY = ['"', "\\", "\n\r\t", "\x00\x1f\x7f\x85", "\u2028", "🎮é", "</", "/"]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12), st.sampled_from(TRICKY)
)
COUNTS = st.integers(0, 10**15)
MOMENTS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**15), 10**15).map(
    float
)  # As all are that were read, also those that are stored without a fraction.
CHOICES = st.dictionaries(TEXTS, TEXTS, max_size=4)
UNKNOWN: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    TEXTS.map(lambda name: f"x{name}"),
    st.none() | st.booleans() | COUNTS | MOMENTS | TEXTS | st.lists(TEXTS | st.just({"a": 1})),
    max_size=3,
)
PLAYERS = st.dictionaries(
    TEXTS, st.builds(Player, TEXTS, TEXTS, COUNTS, MOMENTS, COUNTS, COUNTS), max_size=4
)
ANSWERS = st.dictionaries(
    TEXTS,
    st.dictionaries(
        TEXTS, st.builds(Pressed, TEXTS, COUNTS, st.booleans(), MOMENTS, MOMENTS), max_size=2
    ),
    max_size=2,
)
STATES = st.builds(
    SessionState,
    channel_id=TEXTS,
    game_id=TEXTS,
    game_name=TEXTS,
    active=st.booleans(),
    turn_number=COUNTS,
    title_screen_url=TEXTS,
    crown_holder=st.none() | TEXTS.filter(bool),
    players=PLAYERS.map(lambda all_: {key: Seat.of(one) for key, one in all_.items()}),
    choices=st.dictionaries(TEXTS, st.builds(Choice, COUNTS, TEXTS), max_size=3),
    records=st.lists(st.binary(max_size=9), max_size=3).map(tuple),
    extras=st.none()
    | st.builds(
        Extras,
        json=UNKNOWN,
        hash=st.dictionaries(TEXTS.map(lambda name: f"x{name}"), TEXTS, max_size=2),
        players=st.dictionaries(TEXTS, UNKNOWN, max_size=2),
    ),
    saved=TEXTS,
)


def player_plain(player: Player, extras: Mapping[str, Any]) -> dict[str, Any]:
    return attrs.asdict(player) | dict(extras)


@given(PLAYERS, st.none() | st.dictionaries(TEXTS, UNKNOWN, max_size=3), st.data())
def test_players(players: dict[str, Player], extras: dict[str, Any] | None, data: Any) -> None:
    """All six fields, then what we don't know."""
    if extras and players:
        extras[data.draw(st.sampled_from(sorted(players)))] = {"xp": 1}
    plain = {key: player_plain(one, (extras or {}).get(key, {})) for key, one in players.items()}
    assert players_to_bytes(players, extras) == encode_json(plain)


@given(st.builds(TurnRecord, COUNTS, CHOICES, TEXTS, MOMENTS), st.none() | TEXTS, st.booleans())
def test_records(record: TurnRecord, game_id: str | None, narration: bool) -> None:
    """The replaced system's four fields, and whose the record is."""
    plain = attrs.asdict(record) | {"choices": dict(record.choices)}
    if game_id is not None:
        plain |= {"game_id": game_id, "kind": "narration" if narration else "turn"}
    assert record_to_bytes(record, game_id, narration=narration) == encode_json(plain)


@given(
    st.builds(
        ClosedTurn, TEXTS, TEXTS, COUNTS, CHOICES, CHOICES, st.none() | TEXTS, MOMENTS, MOMENTS
    ),
    ANSWERS,
    st.integers(0, 3),
)
def test_closed_turns(turn: ClosedTurn, answers: dict[str, Any], recorded: int) -> None:
    """The turn while it waits, and what is left of it once it is recorded."""
    plain: dict[str, Any] = {"answers": answers_to_plain(answers)}
    if recorded:
        plain = {"recorded": recorded, **plain}
    else:
        plain = {
            "choices": dict(turn.choices),
            "names": dict(turn.names),
            "crown_holder": turn.crown_holder,
            "opened_at": turn.opened_at,
            "closed_at": turn.closed_at,
            **plain,
        }
    kept = KeptTurn(turn, answers)
    data = recorded_to_bytes(recorded, answers) if recorded else kept_to_bytes(kept)
    assert data == encode_json(plain)


@settings(max_examples=50)
@given(STATES)
def test_forms(state: SessionState) -> None:
    """Both forms, the listing and the notes about them, whatever is in the state."""
    extras = state.extras or Extras()
    text, fields, notes, entry = full_forms(state, SessionRules())
    assert isinstance(text, PutText)
    assert isinstance(fields, PutHash)
    assert isinstance(notes, PutHash)
    assert isinstance(entry, PatchHash)
    listed = {
        "game_name": state.game_name,
        "channel_id": state.channel_id,
        "turn_number": state.turn_number,
        "active": state.active,
        "title_screen_url": state.title_screen_url,
    }
    players = {
        key: player_plain(seat.player(), extras.players.get(key, {}))
        for key, seat in state.players.items()
    }
    plain = {
        "game_id": state.game_id,
        "game_name": state.game_name,
        "channel_id": state.channel_id,
        "active": state.active,
        "turn_number": state.turn_number,
        "title_screen_url": state.title_screen_url,
        "crown_holder": state.crown_holder,
        **extras.json,
        "players": players,
    }
    assert text.text == encode_json(plain)
    assert dict(entry.fields) == {state.game_id: encode_json(listed)}
    assert encoded(fields.fields) == encoded(
        {
            **extras.hash,
            "game_id": state.game_id,
            "game_name": state.game_name,
            "channel_id": state.channel_id,
            "active": str(int(state.active)),
            "turn_number": str(state.turn_number),
            "title_screen_url": state.title_screen_url,
            "crown_holder": state.crown_holder or "",
            "players": encode_json(players),
            "pending_choices": encode_json(state.pending()),
            "countdown_started": "0.0",
        }
    )
    noted = dict(notes.fields)
    assert noted["json_raw"] == digest_of(encode_json(plain))
    assert noted["hash_raw"] == digest_of_hash(fields.fields)
    assert fits_history(cast("str", noted["history"]), state.records)


@settings(max_examples=50)
@given(STATES)
def test_notes_are_what_a_reader_finds(state: SessionState) -> None:
    """The digests of what the forms say are those that reading them gives."""
    players = {
        key: replace(one, user_id=key, last_active=float(one.last_active) % 10**9)
        for key, one in state.players.items()
        if max(one.joined_turn, one.last_active_turn, one.consecutive_skips) < 10**15
    }
    state.players.clear()
    state.players.update(players)
    state.turn_number %= 10**15
    text, fields, notes, _ = full_forms(state, SessionRules())
    assert isinstance(text, PutText)
    assert isinstance(fields, PutHash)
    assert isinstance(notes, PutHash)
    written = {key.decode(): value.decode() for key, value in encoded(fields.fields).items()}
    assert json_form(text.text, "k", 0.0).digest() == notes.fields["json"]
    assert hash_form(written, "k", 0.0).digest() == notes.fields["hash"]


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf])
def test_what_is_no_moment_is_not_written(moment: float) -> None:
    """JSON has no form for it: the encoder refuses it too."""
    players = {"ana": Player("ana", "Ana", last_active=moment), "bo": Player("bo", "Bo")}
    turn = ClosedTurn("c", "g", 1, {}, {}, None, moment, 0.0)
    with pytest.raises(CodecError, match="finite"):
        players_to_bytes(players)
    with pytest.raises(CodecError, match="finite"):
        record_to_bytes(TurnRecord(1, {}, "", moment), None, narration=False)
    with pytest.raises(CodecError, match="finite"):
        kept_to_bytes(KeptTurn(turn, {}))


def test_moments_that_add_up_to_too_much_are_written() -> None:
    """Each of them is finite, and that is all that counts."""
    players = {name: Player(name, name, last_active=1.7e308) for name in ("ana", "bo")}
    plain = {name: attrs.asdict(player) for name, player in players.items()}
    assert players_to_bytes(players) == encode_json(plain)


def test_half_a_surrogate_pair_is_not_written() -> None:
    """UTF-8 has no form for it."""
    with pytest.raises(CodecError, match="surrogate"):
        players_to_bytes({"ana": Player("ana", "\ud800")})


@given(st.lists(st.binary(max_size=5), max_size=12), st.integers(1, 4))
def test_history_is_noted_as_it_grows(records: list[bytes], keep: int) -> None:
    """What is noted record by record is what the whole history gives; another one doesn't fit."""
    state = SessionState("c")
    note_of_history(state)
    for record in records:
        state.append_record(record, keep)
        noted = note_of_history(state)
        assert fits_history(noted, state.records)
        assert not fits_history(noted, [*state.records, b"more"])
        assert not fits_history(noted, [*state.records[:-1], record + b"!"])
        assert not fits_history(noted, state.records[:-1])
    state.cut_records(1)
    assert fits_history(note_of_history(state), records[-1:])


def test_history_that_an_earlier_version_noted_fits(world: World) -> None:
    """One digest of all records was noted then; what it vouches for isn't looked at again."""
    channel: Channel = world["c"]
    channel.boot()
    channel.ask(m.Narrate("one"))
    undated = json.dumps({"turn": 1, "choices": {}, "narrative_summary": "two"}).encode()
    world.store[HISTORY] = [*world.store.list(HISTORY), undated]
    world.store.hash(META)[b"history"] = digest_of(*world.store.list(HISTORY)).encode()
    assert list(channel.restart().records) == world.store.list(HISTORY)
    channel.ask(m.Save())
    assert list(channel.restart().records) == world.store.list(HISTORY)
    world.store.list(HISTORY)[-1] = undated + b" "
    assert b"timestamp" in channel.restart().records[-1]
