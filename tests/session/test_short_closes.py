"""A close that leaves the full forms as they are: the turn itself says what they don't know of.

`Channel.send` compares what is stored with what is in memory after each message.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.session.world import GAME, Channel, World

from gamegirl.actors import Drop, PatchHash, SessionQuarantinedError
from gamegirl.actors.session import _messages as m
from gamegirl.actors.session._keys import (
    INDEX_KEY,
    hash_key,
    journal_key,
    json_key,
    meta_key,
    turns_key,
)

FORMS = (json_key("c"), hash_key("c"))


@pytest.fixture
def channel(world: World) -> Channel:
    channel = world["c"]
    channel.boot()
    return channel


def forms(world: World) -> list[Any]:
    return [world.store.get(key) for key in FORMS]


def form(world: World) -> Any:
    return json.loads(world.store.text(json_key("c")))


def play(channel: Channel, *users: str) -> int:
    """A turn in which these press; its number."""
    for user_id in users:
        channel.press(user_id)
    turn: int = channel.close().turn
    return turn


def test_a_close_writes_its_turn_and_nothing_of_the_roster(world: World, channel: Channel) -> None:
    """All it writes is the turn, the empty journal, a note and the listing."""
    before = forms(world)
    play(channel, "ana", "bo")
    assert forms(world) == before
    assert [type(write) for write in channel.decision.writes] == [
        Drop,
        PatchHash,
        PatchHash,
        PatchHash,
    ]
    assert {write.key for write in channel.decision.writes} == {
        journal_key("c"),
        turns_key("c"),
        meta_key("c"),
        INDEX_KEY,
    }
    assert json.loads(world.store.hash(INDEX_KEY)[GAME.encode()])["turn_number"] == 1


def test_closed_turns_are_played_again_by_a_restore(world: World, channel: Channel) -> None:
    """Who joined, pressed or skipped in turns without a record is as before, in their order."""
    play(channel, "ana")
    channel.record(1)
    play(channel, "bo", "ana")
    play(channel, "cy")
    channel.press("ana")
    assert form(world)["turn_number"] == 1
    state = channel.restart()
    assert channel.source == "hash"
    assert (state.turn_number, list(state.turns)) == (3, [2, 3])
    assert list(state.players) == ["ana", "bo", "cy"]
    assert {user: seat.consecutive_skips for user, seat in state.players.items()} == {
        "ana": 0,
        "bo": 1,
        "cy": 0,
    }
    assert [seat.joined_turn for seat in state.players.values()] == [0, 1, 2]


@pytest.mark.parametrize("expired", [False, True])
def test_either_form_will_do(world: World, channel: Channel, expired: bool) -> None:
    """The turns follow the JSON form alone, once the hash has expired, as they do both."""
    play(channel, "ana")
    play(channel, "ana", "bo")
    before = channel.state.snapshot()
    if expired:
        del world.store[hash_key("c")]
    assert channel.restart().snapshot() == before
    assert channel.source == ("json" if expired else "hash")


def test_a_record_writes_what_its_close_did_not(world: World, channel: Channel) -> None:
    """Both full forms then say the turn that was closed last, also of a turn recorded late."""
    play(channel, "ana")
    play(channel, "bo")
    channel.record(1)
    assert form(world)["turn_number"] == 2
    assert world.store.field(hash_key("c"), "turn_number") == "2"
    assert world.store.field(meta_key("c"), "ahead") is None
    assert list(form(world)["players"]) == ["ana", "bo"]


def test_forms_that_were_written_in_the_window_are_followed_too(
    world: World, channel: Channel
) -> None:
    """As they are when a turn is recorded while the next one is being played."""
    play(channel, "ana")
    channel.press("bo", "hide")
    channel.press("ana")
    channel.record(1)
    channel.press("bo", "run")
    before = forms(world)
    channel.close()
    assert forms(world) == before
    state = channel.restart()
    assert state.turn_number == 2
    assert dict(state.turns[2].turn.choices) == {"bo": "run", "ana": "run"}


@pytest.mark.parametrize("join_first", [True, False])
def test_a_close_writes_the_forms_if_somebody_has_joined(
    world: World, channel: Channel, join_first: bool
) -> None:
    """Who has joined without pressing is in no turn, so they must be in the forms."""
    if join_first:
        channel.join("bo")
    channel.press("ana")
    if not join_first:
        channel.join("bo")
    channel.close()
    assert list(form(world)["players"]) == (["bo", "ana"] if join_first else ["ana", "bo"])


def test_a_turn_without_choices_writes_the_forms(world: World, channel: Channel) -> None:
    """Also where there is nothing in the journal, a close is no small change that may wait."""
    turn = channel.ask(m.CloseWindow(empty=True)).turn
    assert form(world)["turn_number"] == turn


def test_a_save_takes_the_turns_along(world: World, channel: Channel) -> None:
    """A game that leaves with turns the forms didn't know of comes back with all of it."""
    play(channel, "ana")
    play(channel, "bo")
    before = channel.state.snapshot()
    channel.exit()
    world["d"].load()
    after = world["d"].state.snapshot()
    assert (after.turn_number, after.players) == (before.turn_number, before.players)
    assert [dict(turn.choices) for turn in after.closed_turns] == [{"ana": "run"}, {"bo": "run"}]


@pytest.mark.parametrize(
    ("turn", "damage", "reason"),
    [
        (b"1", None, "turns.2: can't follow turn 0"),
        (b"2", (b'"stamps":[', b'"stamps":[1,'), "turns.2: can't follow turn 1"),
        (b"2", (b'"stamps":[', b'"stamps":["",'), r"turns.2.stamps\[0\]: expected a number"),
        (b"2", (b'{"bo":"Bo"}', b"{}"), "turns.2.names: 'bo' is missing"),
    ],
    ids=["a turn is gone", "one stamp too many", "a stamp is no number", "a name is gone"],
)
def test_turns_that_do_not_follow_the_forms_are_damage(
    world: World, channel: Channel, turn: bytes, damage: tuple[bytes, bytes] | None, reason: str
) -> None:
    """Nothing is guessed: the channel is left as it is, and whoever asks is told which key."""
    play(channel, "ana")
    play(channel, "bo")
    turns = world.store.hash(turns_key("c"))
    if damage is None:
        del turns[turn]
    else:
        turns[turn] = turns[turn].replace(*damage)
    world.store[turns_key("c")] = turns
    channel.restart()
    with pytest.raises(SessionQuarantinedError, match=reason):
        channel.press("ana")
    assert turns_key("c") in [copy.key for copy in channel.quarantined]


@pytest.mark.parametrize("pressed", [False, True])
def test_turns_that_are_gone_are_missed(world: World, channel: Channel, pressed: bool) -> None:
    """No number is given again, also if all of them are lost and no window tells of it."""
    play(channel, "ana")
    if pressed:
        channel.press("bo")
    del world.store[turns_key("c")]
    channel.restart()
    reason = f"{turns_key('c')}: ends with turn 0, and by {meta_key('c')} turn 1 is the last"
    with pytest.raises(SessionQuarantinedError, match=reason):
        channel.press("ana")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("ahead", "many", "ahead: expected a whole number"),
        ("ahead", "2", f"{turns_key('c')}: ends with turn 1, and by"),
        ("schema", "1", "schema '1': a newer version wrote it"),
        ("ahead", None, "schema '2': a newer version wrote it"),
    ],
)
def test_notes_that_do_not_fit_the_turns_are_damage(
    world: World, channel: Channel, field: str, value: str | None, reason: str
) -> None:
    """The notes are named, and nothing is made of what they might have meant."""
    play(channel, "ana")
    notes = world.store.hash(meta_key("c"))
    if value is None:
        del notes[field.encode()]
    else:
        notes[field.encode()] = value.encode()
    world.store[meta_key("c")] = notes
    channel.restart()
    with pytest.raises(SessionQuarantinedError, match=reason) as caught:
        channel.press("ana")
    assert meta_key("c") in str(caught.value)


def test_a_version_that_knows_of_no_such_turns_leaves_them_alone(
    world: World, channel: Channel
) -> None:
    """It would play them again: 0.1.0 takes notes of schema 1 only, which a record writes again."""
    play(channel, "ana")
    assert world.store.field(meta_key("c"), "schema") == "2"
    channel.record(1)
    assert world.store.field(meta_key("c"), "schema") == "1"
