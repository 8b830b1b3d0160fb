"""Restoring what we wrote ourselves: windows, clocks, damage, and what is never touched."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.session import old_system as old
from tests.session.world import GAME, OTHER, Channel, World, whole

from gamegirl.actors import (
    NeedsMore,
    NoActiveGameError,
    SessionQuarantinedError,
    Window,
    WrongType,
)
from gamegirl.actors.session import _messages as m
from gamegirl.actors.session._keys import (
    INDEX_KEY,
    channel_keys,
    game_key,
    hash_key,
    history_key,
    journal_key,
    json_key,
    meta_key,
    turns_key,
)

JSON, HISTORY, HASH, JOURNAL, TURNS, META = channel_keys("c")
META_NOTES = (
    *(b"schema", b"game", b"saved", b"history", b"same"),
    *(b"json", b"json_raw", b"hash", b"hash_raw"),
)


@pytest.fixture
def channel(world: World) -> Channel:
    channel = world["c"]
    channel.boot()
    channel.press("ana", "run", 100.0, press_id="x")
    return channel


def test_keys_have_no_common_one() -> None:
    """No channel's keys are another's, whatever is in the ids."""
    ids = ["a", "a:history", "a%3Ahistory", "*", "{x}", "a:window", "A", "ä", "🎮", "a b", "a\0"]
    keys = [key for channel_id in ids for key in channel_keys(channel_id)]
    assert len(set(keys)) == len(keys)
    assert channel_keys("Az09_-.~!@+")[0] == "game:session:Az09_-.~!@+"


@pytest.mark.parametrize(
    ("game_id", "held", "asked"),
    [
        (GAME, {b"holder": b"channel:c", b"schema": b"1"}, False),
        (GAME, {b"holder": b"channel:d", b"schema": b"1"}, True),
        (GAME, {b"holder": b"channel:c", b"schema": b"2"}, True),
        (GAME, {b"holder": b"channel:c", b"schema": b"1", b"\xff": b""}, True),
        (GAME, None, True),
        ("a%3Ab", {b"holder": b"channel:c", b"schema": b"1"}, True),  # That is the key of "a:b".
    ],
)
def test_a_game_is_asked_for_unless_it_was_read_along(
    world: World, game_id: str, held: dict[bytes, bytes] | None, *, asked: bool
) -> None:
    """What was read along counts if it is the game's own key, and says that it is held here."""
    world["c"].boot(game_id)
    stored = [world.store.get(key) for key in channel_keys("c")]
    restored = world.behaviour.restore("c", [*stored, held], 100.0)
    wanted = restored.keys if isinstance(restored, NeedsMore) else ()
    assert list(wanted) == ([game_key(game_id)] if asked else [])


@pytest.mark.parametrize(
    ("now", "deadline"),
    [
        (104.0, 110.0),  # what is left
        (110.0, 110.0),
        (10_000.0, 110.0),  # long over: a later press doesn't count in it
        (100.0, 110.0),
        (50.0, 60.0),  # the clock was set back: never longer than a whole window
    ],
)
def test_window_goes_on(channel: Channel, now: float, deadline: float) -> None:
    """On restore what is left of the window is between nothing and a whole window."""
    state = channel.restart(now)
    assert state.snapshot().window == Window(min(now, 100.0), deadline)
    channel.restart(now + 1.0)
    assert channel.state.window == state.window


@pytest.mark.parametrize(("now", "turn"), [(109.0, 1), (110.0, 1), (110.1, 2)])
def test_press_that_waited_for_the_restore(channel: Channel, now: float, turn: int) -> None:
    """A press that was enqueued in time counts, however long restoring took."""
    channel.restart(now)
    assert channel.press("bo", "hide", now).turn == turn


def test_restored_press_answers(channel: Channel) -> None:
    """A press is repeated after a restart with the identical answer."""
    first = channel.press("ana", "other", press_id="x")
    channel.restart()
    assert channel.press("ana", "third", press_id="x") == first
    channel.close()
    channel.restart()
    assert channel.press("ana", "third", press_id="x") == first


def test_order_survives_a_store_without_order(channel: Channel) -> None:
    """Redis hashes lose their order: the journal's numbers keep it."""
    for user in ("dee", "cy", "bo"):
        channel.join(user, 101.0)
    for user in ("bo", "cy", "ana"):
        channel.press(user, "x", 102.0)
    store = channel.world.store
    store[JOURNAL] = dict(sorted(store.hash(JOURNAL).items(), reverse=True))
    roster, pending = list(channel.state.players), list(channel.state.choices)
    channel.restart()
    assert list(channel.state.players) == roster == ["ana", "dee", "cy", "bo"]
    assert list(channel.state.choices) == pending == ["ana", "bo", "cy"]


BROKEN: list[tuple[str, Any]] = [
    (JOURNAL, {b"w": b"{"}),
    (JOURNAL, {b"w": b"[1,2,3]"}),
    (JOURNAL, {b"w": b'[1,2,7,"aaaaaaaaaaaa"]'}),
    (JOURNAL, {b"w": b'[1,2,1,"bbbbbbbbbbbb"]'}),
    (JOURNAL, {b"w": b'["1",2,1,"aaaaaaaaaaaa"]'}),
    (JOURNAL, {b"w": b'[1,1e999,1,"aaaaaaaaaaaa"]'}),
    (JOURNAL, {b"w": b'[1,-1,1,"aaaaaaaaaaaa"]'}),
    (JOURNAL, {b"p:ana": b'[0,"run","Ana",1]'}),
    (JOURNAL, {b"i:ana:x": b"[true,1,2]"}),
    (JOURNAL, {b"i:ana:x": b"[1,1,2]", b"w": b'[1,2,1,"aaaaaaaaaaaa"]'}),
    (JOURNAL, {b"w": b'[1,1e300,1,"aaaaaaaaaaaa"]'}),
    (JOURNAL, {b"j:ana": b'["0","Ana",1]'}),
    (JOURNAL, {b"j:%41": b'[0,"Ana",1]'}),
    (JOURNAL, {b"z:ana": b"[]"}),
    (JOURNAL, {b"\xff": b"[]"}),
    (JOURNAL, b"a text"),
    (JOURNAL, [b"a", b"list"]),
    (JOURNAL, WrongType("zset")),
    (TURNS, {b"1": b"{}"}),
    (TURNS, {b"1": b"[]"}),
    (TURNS, {b"1": b'{"recorded": -1, "answers": []}'}),
    (TURNS, {b"1": b'{"recorded": 1, "answers": [["a"]]}'}),
    (TURNS, {b"1": b'{"recorded":1,"answers":%b%b}' % (b"[" * 9_999, b"]" * 9_999)}),
    (TURNS, {b"01": b'{"recorded":1,"answers":[]}'}),
    (TURNS, {b"a:1": b"1"}),
    (TURNS, {b"x": b"1"}),
    (TURNS, {b"1": b'{"recorded": 1, "answers": []}', b"a:1": b"x"}),
    (TURNS, WrongType("stream")),
    (META, {b"schema": b"2"}),
    (META, {b"game": b"x"}),
    (META, {b"\xff": b"x"}),
    (META, b"a text"),
    (JSON, {b"a": b"hash"}),
    (JSON, WrongType("set")),
    (HASH, b"a text"),
    (HISTORY, b"a text"),
    (HISTORY, {b"a": b"hash"}),
]


@pytest.mark.parametrize("note", [*META_NOTES])
def test_each_note_must_be_sound(channel: Channel, note: bytes) -> None:
    """Also a note that would be of no use at this restore: damage is never passed over."""
    notes = channel.world.store.hash(META)
    assert set(notes) == set(META_NOTES)
    channel.world.store[META] = {**notes, note: notes[note] + b"\xff"}
    channel.restart()
    assert channel.source == "quarantined"


@pytest.mark.parametrize(("key", "value"), BROKEN, ids=[f"{k}={v}"[:60] for k, v in BROKEN])
def test_what_is_ours_and_broken_is_left_alone(channel: Channel, key: str, value: Any) -> None:
    """Nothing is overwritten; every message is refused, saying where; wiping helps."""
    store = channel.world.store
    store[key] = value
    before = dict(store)
    channel.restart()
    assert channel.source == "quarantined"
    assert {one.key for one in channel.quarantined} == set(channel_keys("c")) & before.keys()
    assert all(isinstance(one.value, bytes) for one in channel.quarantined)
    for message in (m.ReadState(), m.Press("ana", "Ana", "run"), m.Boot("x", "", OTHER, "n")):
        with pytest.raises(SessionQuarantinedError, match=f"channel 'c'.*{key}"):
            channel.ask(message)
    assert store == before
    behaviour = channel.world.behaviour
    assert behaviour.wake_at(channel.state) is None
    assert behaviour.due_at(channel.state) is None
    channel.ask(m.Wipe())
    assert not set(channel_keys("c")) & store.keys()
    assert game_key(GAME) not in store
    assert store.field(INDEX_KEY, GAME) is None
    channel.boot()


def test_both_forms_corrupt(channel: Channel) -> None:
    """If no form can serve, the channel is put aside as a whole."""
    channel.world.store[JSON] = b"\xff"
    channel.world.store[HASH] = {b"players": b"[", b"game_id": b"x"}
    channel.restart()
    assert JSON in channel.state.quarantine
    reasons = {one.key: one.value for one in channel.quarantined}
    assert reasons[JSON] == b"\xff"
    assert json.loads(reasons[HASH]) == {"players": "[", "game_id": "x"}


CORRUPT_JSON = [
    b"[]",
    b"{",
    b"1",
    b"",
    b"{}",
    b"[" * 100_000,
    b'{"game_id": 7}',
    b'{"game_id": "x", "active": "False"}',
    b'{"game_id": "x", "active": 1}',
    b'{"game_id": "x", "turn_number": "5"}',
    b'{"game_id": "x", "turn_number": -5}',
    b'{"game_id": "x", "turn_number": 1e3}',
    b'{"game_id": "x", "players": []}',
    b'{"game_id": "x", "crown_holder": 7}',
    b'{"game_id": "\\ud800"}',
]


@pytest.mark.parametrize("text", CORRUPT_JSON, ids=[text[:40].decode() for text in CORRUPT_JSON])
def test_only_a_corrupt_json(world: World, text: bytes) -> None:
    """Nothing is guessed from a form with a wrong type in it."""
    world.store[json_key("c")] = text
    with pytest.raises(SessionQuarantinedError):
        world["c"].snapshot()
    assert world.store == {json_key("c"): text}
    world["c"].ask(m.Wipe())
    assert not world.store


@pytest.mark.parametrize(
    "fields",
    [
        {b"active": b"True"},
        {b"turn_number": b"1.0"},
        {b"turn_number": "٣".encode()},
        {b"turn_number": b"-1"},
        {b"players": b"[]"},
        {b"players": b"{"},
        {b"pending_choices": b'{"ana": 1}'},
        {b"pending_choices": b"\xff"},
    ],
    ids=str,
)
def test_one_form_corrupt(channel: Channel, fields: dict[bytes, bytes]) -> None:
    """The other form serves; nothing of ours is lost; the corrupt one is written anew."""
    store = channel.world.store
    store[HASH] = store.hash(HASH) | fields
    channel.restart()
    assert channel.source == "json"
    assert channel.snapshot().window == Window(100.0, 110.0)
    assert [one.key for one in channel.quarantined] == [HASH]
    channel.quarantined.clear()
    channel.restart()
    assert channel.source == "hash"
    assert not channel.quarantined


def test_corrupt_json_with_a_good_hash(channel: Channel) -> None:
    """The hash serves."""
    channel.world.store[JSON] = b"{"
    channel.restart()
    assert channel.source == "hash"
    assert channel.snapshot().window == Window(100.0, 110.0)


def test_quarantined_game_key(world: World) -> None:
    """An old game whose own key has a wrong type is left alone."""
    from tests.session import old_system as old

    old.write(world.store, old.new_game("c", GAME))
    world.store[game_key(GAME)] = b"a text"
    with pytest.raises(SessionQuarantinedError, match=game_key(GAME)):
        world["c"].snapshot()


def test_quarantined_game_that_lives_elsewhere(world: World) -> None:
    """Wiping a broken channel leaves a game alone that another channel holds."""
    world["c"].boot()
    world["c"].exit()
    world["d"].load()
    world.store[JOURNAL] = b"a text"
    world["c"].restart()
    world["c"].ask(m.Wipe())
    assert world.store.field(game_key(GAME), "holder") == "channel:d"


def test_wipe_of_a_broken_channel_with_a_broken_game_key(world: World) -> None:
    """Nobody can tell whose the game is, so only the channel's own keys go."""
    world["c"].boot()
    world.store[JOURNAL] = b"a text"
    world.store[game_key(GAME)] = {b"\xff": b"x", b"holder": b"channel:c"}
    world["c"].restart()
    world["c"].ask(m.Wipe())
    assert json_key("c") not in world.store
    assert game_key(GAME) in world.store


def test_wipe_of_a_channel_whose_game_key_has_the_wrong_type(world: World) -> None:
    """The channel is free again; the key, which may be anything, stays as it is."""
    old.write(world.store, old.new_game("c", GAME))
    world.store[game_key(GAME)] = b"a text"
    assert world["c"].state.quarantine
    world["c"].ask(m.Wipe())
    assert not world["c"].state.quarantine
    assert json_key("c") not in world.store
    assert world.store[game_key(GAME)] == b"a text"


def lose_exit(world: World) -> None:
    """The store goes back over an exit, and the live channel writes what it has."""
    channel = world["c"]
    channel.boot()
    channel.press("ana", "run")
    channel.close()
    channel.record(1)
    before = copy.deepcopy(dict(world.store))
    channel.exit()
    world.store.clear()
    world.store.update(before)
    for write in world.behaviour.stored(channel.state):
        world.store.write(write)
    assert world.store.field(game_key(GAME), "holder") == "channel:c"


def test_lost_exit_is_made_up_for_on_restore(world: World) -> None:
    """A game that its channel no longer runs is a save again, for whoever loads it."""
    lose_exit(world)
    world["c"].restart()
    world["c"].compare()
    assert (world.store.field(game_key(GAME), "holder") or "").startswith("save:")
    world["d"].load()
    assert [record.turn for record in world["d"].history()] == [1]
    world["c"].restart()
    world["c"].boot(OTHER)
    assert world["d"].snapshot().active


def test_lost_exit_and_load(world: World) -> None:
    """The channel that still has the game can load it at once."""
    lose_exit(world)
    world["c"].load()
    assert list(world["c"].snapshot().players) == ["ana"]
    assert [record.turn for record in world["c"].history()] == [1]


def test_damaged_history_of_ours(channel: Channel) -> None:
    """A damaged record is put aside once, and the others stay."""
    for text in ("one", "two", "three"):
        channel.ask(m.Narrate(text))
    store = channel.world.store
    store[HISTORY] = [store.list(HISTORY)[0], b"{", store.list(HISTORY)[2]]
    channel.restart()
    assert [record.narrative_summary for record in channel.history()] == ["one", "three"]
    assert [(one.key, one.value) for one in channel.quarantined] == [(HISTORY, b"{")]
    channel.quarantined.clear()
    channel.restart()
    assert not channel.quarantined


def test_lost_keys(channel: Channel) -> None:
    """Keys that are gone one by one: what is left decides, and nothing raises."""
    store = channel.world.store
    del store[JOURNAL]
    assert channel.restart().window is None
    del store[META]
    assert channel.restart().active
    del store[JSON]
    assert channel.restart().active
    assert JSON in store
    del store[JSON], store[HASH]
    assert not channel.restart().active
    with pytest.raises(NoActiveGameError):
        channel.join("ana")


def test_journal_without_a_game(world: World) -> None:
    """Journal and turns that belong to nothing are put aside."""
    world.store[journal_key("c")] = {b"w": b"[]"}
    world.store[turns_key("c")] = {b"1": b"{}"}
    assert world["c"].snapshot().game_id == ""
    assert len(world["c"].quarantined) == 2
    assert not world.store


def test_restore_of_nothing(world: World) -> None:
    """A channel that never had a game is new, and nothing is written."""
    assert world["c"].restart() is world["c"].state
    assert world["c"].source == "new"
    assert not world.store
    assert world.behaviour.initial("c").snapshot() == world["c"].snapshot()


def test_empty_hash_key_is_no_form(world: World) -> None:
    """A client may say of a missing hash that it is empty."""
    stored: list[Any] = [None, [], {}, {}, {}, {}]
    restored = world.behaviour.restore("c", stored, 0.0)
    assert restored.source == "new"  # type: ignore[union-attr]


@pytest.mark.parametrize("before", ["never booted", "window", "turns", "exited", "broken"])
def test_rewriting_from_memory(before: str) -> None:
    """If the store went back in time, all that memory has can be written whatever is there."""
    world = World()
    channel = world["c"]
    older = dict(world.store)
    if before != "never booted":
        channel.boot()
        channel.ask(m.Narrate("once"))
        older = dict(world.store)
        channel.press("ana", "run", press_id="x")
        channel.close()
        channel.join("bo")
        channel.ask(m.Narrate("twice"))
    if before == "window":
        channel.press("cy", "hide", press_id="y")
        channel.join("dee")
    if before == "exited":
        channel.exit()
    if before == "broken":
        world.store[JOURNAL] = b"a text"
        channel.restart()
        assert world.behaviour.stored(channel.state) == ()
        return
    memory = channel.state
    world.store.clear()
    world.store.update(older)
    for write in world.behaviour.stored(memory):
        world.store.write(write)
    stored = channel.restart()
    assert stored.snapshot() == memory.snapshot()
    assert (stored.records, stored.saved) == (memory.records, memory.saved)
    assert stored.answers == memory.answers
    assert {turn: kept.answers for turn, kept in stored.turns.items()} == {
        turn: kept.answers for turn, kept in memory.turns.items()
    }
    assert (stored.recorded, stored.answered) == (memory.recorded, memory.answered)
    assert not channel.quarantined


def test_forms_that_were_written_together_are_read_as_strictly(world: World) -> None:
    """The short way of reading our own forms gives what the long way does."""
    channel = world["c"]
    channel.boot()
    channel.press('q"\\\n', "\x00 🎮")
    channel.ask(m.SetCrown("x"))
    channel.close()
    short = channel.read(world.store).state
    fields = world.store.hash(META)
    del fields[b"same"]
    long = channel.read(world.store).state
    assert whole(short) == whole(long)


def test_meta_and_hash_are_whole(channel: Channel) -> None:
    """Full forms replace the whole key: no field of an older write stays."""
    store = channel.world.store
    store[meta_key("c")] = store.hash(META) | {b"old": b"1"}
    store[hash_key("c")] = {**store.hash(hash_key("c"))}
    channel.restart()
    channel.ask(m.Save())
    assert b"old" not in store.hash(META)
    assert history_key("c") not in store
