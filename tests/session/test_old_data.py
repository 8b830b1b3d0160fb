"""What the replaced system left behind: 200 channels of it, restored, played on, and given back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.session import old_system as old
from tests.session.world import GAME, OTHER, Held, Store, World, encoded, reasons, whole

from gamegirl.actors import (
    ActivityTier,
    GameActiveError,
    NeedsMore,
    Restored,
    UnknownGameError,
    Woken,
)
from gamegirl.actors.session import _messages as m
from gamegirl.actors.session._keys import INDEX_KEY, game_key, hash_key, journal_key, json_key

LEGACY = Path(__file__).parents[1] / "legacy"


def read(name: str) -> str:
    return gzip.decompress((LEGACY / name).read_bytes()).decode()


EXPECTED: dict[str, Any] = json.loads(read("expected.json.gz"))


def held(row: dict[str, Any]) -> Held:
    value = row["value"]
    match row["type"]:
        case "string":
            return str(value).encode()
        case "list":
            return [item.encode() for item in value]
        case _:
            return encoded(value)


STORED: dict[str, Held] = {
    row["key"]: held(row) for row in map(json.loads, read("redis.jsonl.gz").splitlines())
}


@pytest.fixture
def world() -> World:
    world = World()
    world.store = Store(STORED)
    world.now = 1_800_000_000.0
    return world


def as_text(value: Held | None) -> Any:
    match value:
        case bytes():
            return value.decode()
        case dict():
            return {name.decode(): item.decode() for name, item in value.items()}
        case list():
            return [item.decode() for item in value]
        case None:
            return None


def test_all_is_there() -> None:
    """The tests below are about all 200 channels."""
    assert len(EXPECTED) == 200
    assert len({one["case"] for one in EXPECTED.values()}) == 13


@pytest.mark.parametrize("channel_id", EXPECTED)
def test_restores_as_expected(world: World, channel_id: str) -> None:
    """Every channel restores with its players in order, pending choices and history."""
    expected = EXPECTED[channel_id]
    channel = world[channel_id]
    session = channel.snapshot()
    restored = expected["restored"]
    assert session.active is (restored is not None)
    if restored is not None:
        for name in ("game_id", "game_name", "channel_id", "turn_number", "title_screen_url"):
            assert getattr(session, name) == restored[name]
        assert session.crown_holder == restored["crown_holder"]
        players = [attrs.asdict(player) for player in session.players.values()]
        assert players == [
            {name: fields[name] for name in old.PLAYER} for fields in restored["players"].values()
        ]
        pending = list(session.pending_choices.items())
        assert pending == list(restored["pending_choices"].items())
        assert (session.window is not None) == bool(pending)
    history = [attrs.asdict(record) for record in channel.history()]
    assert [{**record, "choices": dict(record["choices"])} for record in history] == [
        {name: record[name] for name in record if name in history[0]}
        for record in expected["history"]
    ]
    malformed = "malformed" in expected["case"] or "corrupt" in expected["case"]
    assert bool(channel.quarantined) == malformed


@pytest.mark.parametrize(
    "channel_id", [name for name, one in EXPECTED.items() if one["case"] != "plain"]
)
def test_restores_from_texts(world: World, channel_id: str) -> None:
    """A client that decodes its answers gives the same as one that doesn't."""
    channel = world[channel_id]
    behaviour, now = world.behaviour, world.now
    stored = [as_text(STORED.get(key)) for key in behaviour.keys(channel_id)]
    restored = behaviour.restore(channel_id, stored, now)
    if isinstance(restored, NeedsMore):
        assert restored.then is not None
        restored = restored.then([None] * len(restored.keys))
    assert isinstance(restored, Restored)
    assert all(isinstance(one.value, bytes) for one in restored.quarantined)
    assert restored.state.snapshot() == channel.state.snapshot()
    assert restored.state.records == channel.state.records


@pytest.mark.parametrize("channel_id", EXPECTED)
def test_overwritten_games_are_not_loaded(world: World, channel_id: str) -> None:
    """A listed game that a later one overwrote is never loaded as that one."""
    for game_id in EXPECTED[channel_id]["overwritten"]:
        for target in ("elsewhere", channel_id):
            with pytest.raises(UnknownGameError, match="overwritten by a later game"):
                world[target].load(game_id)


@pytest.mark.parametrize("channel_id", list(EXPECTED)[::5])
def test_goes_back_after_a_turn(world: World, channel_id: str) -> None:
    """After a turn is played and recorded the replaced system's reader finds everything."""
    channel = world[channel_id]
    if not channel.state.active:
        channel.boot()
    players = dict(channel.snapshot().players)
    channel.press("new", "run", world.now)
    turn = channel.close()
    channel.record(turn.turn, "and so")
    from_json = old.read_json(world.store, channel_id)
    from_hash, pending = old.read_hash(world.store, channel_id)
    assert from_json == from_hash
    assert pending == {}
    assert list(from_json["players"]) == [*players, "new"]
    assert from_json["turn_number"] == turn.turn
    assert old.read_history(world.store, channel_id)[-1]["choices"] == dict(turn.choices)
    assert len(old.read_history(world.store, channel_id)) <= 50
    before: dict[str, Any] = json.loads(held_json(channel_id))
    after = json.loads(world.store.text(json_key(channel_id)))
    for name in before.keys() - after.keys():
        pytest.fail(f"{name} is gone")
    assert after.get("later_field") == before.get("later_field")


def held_json(channel_id: str) -> bytes:
    value = STORED.get(json_key(channel_id), b"{}")
    assert isinstance(value, bytes)
    try:
        json.loads(value)
    except ValueError:
        return b"{}"
    return value


def test_unknown_fields_survive(world: World) -> None:
    """What we don't know of the JSON, the hash and the players outlives our rewrites."""
    for channel_id, expected in EXPECTED.items():
        case = expected["case"]
        if case.startswith(("unknown hash fields", "only JSON, with unknown")):
            channel = world[channel_id]
            channel.ask(m.Save())
            channel.restart()
            channel.exit()
            channel.load(expected["restored"]["game_id"])
            if case.startswith("unknown"):
                fields = world.store.hash(hash_key(channel_id))
                assert (fields[b"mood"], fields[b"x_extra"]) == (b"ominous", b"1")
            else:
                form = json.loads(world.store.text(json_key(channel_id)))
                assert form["later_field"] == {"a": [1, 2, {"b": None}]} or form["later_field"]
                assert all(fields["badge"] == "⭐" for fields in form["players"].values())
                inner = json.loads(world.store.hash(hash_key(channel_id))[b"players"])
                assert inner == form["players"]


def test_damage_is_reported_once(world: World) -> None:
    """What was malformed is copied aside at the first restore, and gone at the next."""
    for channel_id, expected in EXPECTED.items():
        if "malformed" in expected["case"] or "corrupt" in expected["case"]:
            channel = world[channel_id]
            session = channel.snapshot()
            assert channel.quarantined
            channel.quarantined.clear()
            channel.restart()
            assert not channel.quarantined
            assert channel.snapshot() == session


def test_restoring_is_stable(world: World) -> None:
    """A restore of old data writes notes only, and the second restore finds its own."""
    for channel_id, expected in EXPECTED.items():
        if expected["case"] != "plain":
            continue
        channel = world[channel_id]
        before = channel.snapshot()
        assert not {json_key(channel_id), hash_key(channel_id)} & {
            write.key for write in world[channel_id].decision.writes
        }
        channel.restart()
        assert channel.snapshot() == before
        assert not channel.decision.writes or before.window is not None


# The rest is about data that is made here.


@pytest.fixture
def empty() -> World:
    return World()


def game(**fields: Any) -> dict[str, Any]:
    return old.new_game("c", GAME) | {"players": {"ana": old.player("ana")}} | fields


def test_pending_choices_reopen_in_full(empty: World) -> None:
    """Pending choices without a deadline of ours get a whole window, once."""
    old.write(empty.store, game(), {"ana": "run", "stranger": "hide"})
    channel = empty["c"]
    empty.now = 500.0
    assert channel.state.window is not None
    assert channel.state.window.deadline == 510.0
    channel.restart(now=505.0)
    assert channel.state.window is not None
    assert channel.state.window.deadline == 510.0
    empty.store.pop(hash_key("c"))  # its time to live is over
    channel.restart(now=10_000.0)
    channel.ask(Woken(), 10_001.0)
    (turn,) = channel.snapshot().closed_turns
    assert dict(turn.choices) == {"ana": "run", "stranger": "hide"}
    assert turn.names["stranger"] == "Unknown"


def test_pending_choices_of_an_older_turn_are_over(empty: World) -> None:
    """A hash that is a turn behind has the choices of a turn that was played."""
    old.write(empty.store, game(turn_number=6), {"ana": "run"})
    old.write(empty.store, game(turn_number=7), steps=1)
    assert empty["c"].snapshot().pending_choices == {}
    assert empty["c"].snapshot().turn_number == 7


def test_higher_hash_wins_then_the_hash(empty: World) -> None:
    """The higher turn number wins; at the same one, the hash."""
    old.write(empty.store, game(turn_number=6, game_name="hash"))
    old.write(empty.store, game(turn_number=5, game_name="json"), steps=1)
    assert empty["c"].snapshot().game_name == "hash"
    old.write(empty.store, game(turn_number=6, game_name="json"), steps=1)
    assert empty["c"].restart().game_name == "hash"
    assert empty["c"].source == "hash"


def test_inactive_hash_with_active_json(empty: World) -> None:
    """The JSON, whatever the turn numbers say; the hash's choices stay if they are of its turn."""
    old.write(empty.store, game(active=False, turn_number=7), {"ana": "run"})
    old.write(empty.store, game(turn_number=6), steps=1)
    assert empty["c"].snapshot().active
    assert empty["c"].snapshot().turn_number == 6
    assert empty["c"].snapshot().pending_choices == {}


def test_forms_of_two_games(empty: World) -> None:
    """The JSON is written first, so it is the newer one; the hash is put aside."""
    old.write(empty.store, game())
    old.write(empty.store, old.new_game("c", OTHER), steps=1)
    assert empty["c"].snapshot().game_id == OTHER
    assert reasons(empty["c"].quarantined) == ["an older game's form"]
    assert b"ana" in empty["c"].quarantined[0].value
    empty["c"].quarantined.clear()
    empty["c"].restart()
    assert not empty["c"].quarantined


def test_missing_stamps_are_the_moment_of_restoring(empty: World) -> None:
    """A player or record without a stamp gets the moment of restoring, and keeps it."""
    player = old.player("ana")
    del player["last_active"]
    old.write(empty.store, game(players={"ana": player}))
    empty.store["game:session:c:history"] = [b'{"turn": 1, "choices": {}}']
    empty.now = 777.0
    assert empty["c"].snapshot().players["ana"].last_active == 777.0
    assert empty["c"].history()[0].timestamp == 777.0
    empty["c"].press("ana", now=800.0)
    empty["c"].restart(now=900.0)
    assert empty["c"].history()[0].timestamp == 777.0
    assert not empty["c"].quarantined


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_it_has_played_in_between(empty: World, steps: int) -> None:
    """Its content wins; our window, journal and unrecorded turns are put aside, not revived."""
    channel = empty["c"]
    channel.boot()
    channel.join("ana")
    channel.press("ana", "run", 100.0)
    channel.close(now=105.0)
    channel.press("bo", "ours", 106.0)
    played = old.read_json(empty.store, "c")
    played["turn_number"] = 5
    played["players"]["zoe"] = old.player("zoe", last_active_turn=4)
    old.record(empty.store, "c", 2, {"zoe": "look"})
    old.write(empty.store, played, {"zoe": "hide"}, steps=steps)

    channel.restart(now=200.0)
    session = channel.snapshot()
    assert session.turn_number == 5
    assert list(session.players) == ["ana", "zoe"]
    assert session.closed_turns == ()
    assert dict(session.pending_choices) == ({"zoe": "hide"} if steps == 3 else {})
    aside = {one.key for one in channel.quarantined}
    assert {journal_key("c"), "gg:session:c:turns", "gg:session:c:meta"} <= aside
    # A new record is never taken for one of those that are in the list already.
    channel.ask(m.CloseWindow(empty=True))
    channel.record(6, "ours again")
    assert [record.turn for record in channel.history()] == [2, 6]


def test_what_is_played_after_it_is_ours_again(empty: World) -> None:
    """A press after such a restore is not lost by the next one."""
    old.write(empty.store, game())
    channel = empty["c"]
    channel.press("bo", "run", 100.0)
    channel.restart(now=101.0)
    assert dict(channel.snapshot().pending_choices) == {"bo": "run"}
    assert not channel.quarantined


def test_saving_again_without_playing_is_no_change(empty: World) -> None:
    """The same content in the replaced system's spelling is no reason to put anything aside."""
    channel = empty["c"]
    channel.boot()
    channel.press("ana", "run", 100.0)
    channel.close()
    session, pending = old.read_hash(empty.store, "c")
    old.write(empty.store, session, pending)
    channel.restart()
    assert len(channel.snapshot().closed_turns) == 1
    assert not channel.quarantined


def test_expired_hash_is_no_change(empty: World) -> None:
    """The hash goes by itself after its time to live."""
    channel = empty["c"]
    channel.boot()
    channel.press("ana", "run", 100.0)
    channel.close()
    del empty.store[hash_key("c")]
    channel.restart()
    assert channel.source == "json"
    assert len(channel.snapshot().closed_turns) == 1


def test_it_has_booted_another_game(empty: World) -> None:
    """Its game runs; ours was overwritten, is held by nobody, and is never taken for its."""
    channel = empty["c"]
    channel.boot()
    channel.press("ana", "run")
    old.write(empty.store, old.new_game("c", OTHER))
    channel.restart()
    assert channel.snapshot().game_id == OTHER
    assert empty.store.field(game_key(OTHER), "holder") == "channel:c"
    assert game_key(GAME) not in empty.store
    with pytest.raises(UnknownGameError, match="overwritten"):
        empty["d"].load(GAME)
    with pytest.raises(UnknownGameError, match="overwritten"):
        channel.load(GAME)


def test_overwritten_but_not_restored_yet(empty: World) -> None:
    """A load in the channel itself that was looked up before it was restored."""
    empty["c"].boot()
    old.write(empty.store, old.new_game("c", OTHER))
    message = empty.found(GAME)
    empty["c"].restart()
    with pytest.raises(UnknownGameError, match="overwritten"):
        empty["c"].ask(message)


def test_it_has_wiped_the_channel(empty: World) -> None:
    """Nothing is active, and what we still have of it is put aside."""
    channel = empty["c"]
    channel.boot()
    channel.press("ana", "run")
    del empty.store[json_key("c")]
    del empty.store[hash_key("c")]
    channel.restart()
    assert not channel.snapshot().active
    assert channel.quarantined
    assert empty.store.keys() == {INDEX_KEY}
    channel.boot(OTHER)


def test_it_plays_on_from_an_exited_game(empty: World) -> None:
    """Its content wins over the save, which is put aside."""
    channel = empty["c"]
    channel.boot()
    channel.press("ana", "run")
    channel.close()
    channel.exit()
    session = old.read_json(empty.store, "c")
    session |= {"active": True, "turn_number": 9}
    old.write(empty.store, session)
    channel.restart()
    assert (channel.snapshot().active, channel.snapshot().turn_number) == (True, 9)
    assert empty.store.hash(game_key(GAME)) == {b"holder": b"channel:c", b"schema": b"1"}
    assert any("save" in reason for reason in reasons(channel.quarantined))


def test_game_that_was_loaded_elsewhere(empty: World) -> None:
    """A channel whose old form still names a game that lives elsewhere has no active game."""
    old.write(empty.store, game())
    empty["d"].load(GAME)
    assert empty["d"].snapshot().active
    channel = empty["c"]
    assert not channel.snapshot().active
    assert channel.source == "held-elsewhere"
    assert channel.quarantined
    channel.quarantined.clear()
    channel.restart()
    assert not channel.quarantined
    channel.boot(OTHER)
    assert empty["d"].restart().active
    channel.ask(m.Wipe())
    assert empty.store.field(game_key(GAME), "holder") == "channel:d"


def test_game_that_was_loaded_and_left_elsewhere(empty: World) -> None:
    """The save that another channel made is further than the old form it was loaded from."""
    old.write(empty.store, game())
    empty["d"].load(GAME)
    empty["d"].ask(m.CloseWindow(empty=True))
    empty["d"].exit()
    assert not empty["c"].snapshot().active
    assert empty["c"].source == "held-elsewhere"
    empty["c"].load(GAME)
    assert empty["c"].snapshot().turn_number == 1


def test_it_plays_on_while_the_game_lives_elsewhere(empty: World) -> None:
    """It knows of no holder; the game is not live twice for all that."""
    old.write(empty.store, game())
    empty["d"].load(GAME)
    assert not empty["c"].snapshot().active
    old.write(empty.store, game(turn_number=9))
    assert not empty["c"].restart().active
    assert any(b"9" in one.value for one in empty["c"].quarantined)


def test_wipe_leaves_a_game_that_lives_elsewhere(empty: World) -> None:
    """Wiping where a game's old form is left doesn't touch the game."""
    old.write(empty.store, game())
    empty["d"].load(GAME)
    empty["c"].ask(m.Wipe())
    assert empty.store.field(game_key(GAME), "holder") == "channel:d"
    assert empty.store.field(INDEX_KEY, GAME) is not None


def test_active_old_game_of_a_live_channel_is_not_loaded(empty: World) -> None:
    """As soon as a channel is restored, it holds its old game."""
    old.write(empty.store, game())
    message = empty.found(GAME)
    assert empty["c"].snapshot().active
    with pytest.raises(GameActiveError, match="changed hands"):
        empty["d"].ask(message)
    with pytest.raises(GameActiveError, match="channel 'c'"):
        empty["d"].load(GAME)


def test_old_exited_game_is_loaded(empty: World) -> None:
    """One that was stored as inactive can be loaded, here and elsewhere, with its choices."""
    for where in ("c", "d"):
        world = World()
        old.write(world.store, game(active=False), {"ana": "run"})
        old.record(world.store, "c", 1, {"ana": "look"})
        assert not world["c"].snapshot().active
        world[where].load(GAME)
        assert world[where].snapshot().active
        assert dict(world[where].snapshot().pending_choices) == {"ana": "run"}
        assert [record.turn for record in world[where].history()] == [1]


@pytest.mark.parametrize("how", ["boot", "swap", "load"])
def test_old_exited_game_is_kept_when_another_comes(empty: World, how: str) -> None:
    """Its only form is the channel's: it becomes a save before that is overwritten."""
    old.write(empty.store, game(active=False))
    old.record(empty.store, "c", 1, {"ana": "look"})
    channel = empty["c"]
    if how == "load":
        empty["d"].boot(OTHER)
        empty["d"].exit()
    getattr(channel, how)(OTHER)
    assert channel.snapshot().game_id == OTHER
    assert channel.history() == ()
    empty["e"].load(GAME)
    assert list(empty["e"].snapshot().players) == ["ana"]
    assert [record.turn for record in empty["e"].history()] == [1]


def test_old_game_whose_channel_cannot_be_read(empty: World) -> None:
    """The error says which channel; an entry that names none gives an unknown game."""
    from gamegirl.actors import SessionQuarantinedError

    old.write(empty.store, game())
    empty.store[json_key("c")] = b"{"
    del empty.store[hash_key("c")]
    with pytest.raises(SessionQuarantinedError, match="channel 'c'"):
        empty["d"].load(GAME)
    empty.store[INDEX_KEY] = {GAME.encode(): b"{}"}
    with pytest.raises(UnknownGameError):
        empty["d"].load(GAME)
    empty.store[INDEX_KEY] = {GAME.encode(): b"not json"}
    with pytest.raises(Exception, match=GAME):
        empty["d"].load(GAME)


def test_our_game_without_its_key(empty: World) -> None:
    """If a game's own key is lost, its channel still holds it."""
    empty["c"].boot()
    del empty.store[game_key(GAME)]
    with pytest.raises(GameActiveError, match="active in channel 'c'"):
        empty["d"].load(GAME)


def test_old_history_may_hold_more(empty: World) -> None:
    """The latest 50 good records are kept, whatever lies between them."""
    old.write(empty.store, game())
    for turn in range(60):
        old.record(empty.store, "c", turn, {})
    entries = empty.store.list("game:session:c:history")
    empty.store["game:session:c:history"] = [b"{", *entries, b"[]", b'{"turn": 1}', b"\xff"]
    assert [record.turn for record in empty["c"].history(100)] == list(range(10, 60))
    assert len(empty["c"].quarantined) == 4


def test_deep_fields(empty: World) -> None:
    """An unknown field that is nested absurdly is put aside before any rule has to write it."""
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    fine = json.loads('{"a": [{"b": [[]]}], "c": []}')
    session = game(deep=deep, fine=fine)
    session["players"]["ana"]["deep"] = {"deep": deep}
    session["players"]["ana"]["fine"] = fine
    old.write(empty.store, session, steps=1)
    channel = empty["c"]
    channel.press("ana", "run")
    channel.exit()
    channel.load(session["game_id"])
    assert len(channel.quarantined) == 2
    stored = json.loads(empty.store.text(json_key("c")))
    assert "deep" not in stored
    assert stored["fine"] == stored["players"]["ana"]["fine"] == fine


def test_undated_entries_keep_what_is_unknown(empty: World) -> None:
    """A history entry that gets its timestamp here loses nothing else."""
    old.write(empty.store, game())
    entry: dict[str, object] = {"turn": 1, "choices": {}, "mood": ["grim"]}
    empty.store["game:session:c:history"] = [json.dumps(entry).encode()]
    empty.now = 777.0
    empty["c"].restart()
    (stored,) = empty.store.list("game:session:c:history")
    assert json.loads(stored) == entry | {"timestamp": 777.0}


def test_fields_that_cannot_be_written_again(empty: World) -> None:
    """An unknown field with half a surrogate pair or a NaN is put aside, the game restores."""
    session = game(later="\ud800", nan=float("nan"), fine=1)
    session["players"]["ana"]["badge"] = "\udfff"
    old.write(empty.store, session, steps=1)
    channel = empty["c"]
    assert channel.snapshot().active
    assert len(channel.quarantined) == 3
    channel.ask(m.Save())
    assert json.loads(empty.store.text(json_key("c")))["fine"] == 1


@pytest.mark.parametrize("what", ["turn", "players", "crown", "only"])
def test_what_only_the_hash_says_outlives_it(empty: World, what: str) -> None:
    """Where the forms disagree both say the same from then on: the hash goes with its TTL."""
    session = game(turn_number=4, players={"ana": old.player("ana")})
    old.write(empty.store, session)
    before = empty.store["game:session:c"]
    match what:
        case "turn":
            session["turn_number"] = 5
        case "crown":
            session["crown_holder"] = "ana"
        case _:
            session["players"]["bo"] = old.player("bo")
    old.write(empty.store, session)
    empty.store["game:session:c"] = before
    if what == "only":
        del empty.store["game:session:c"]
    channel = empty["c"]
    channel.press("ana", "run")
    expected = whole(channel.state)
    del empty.store["sg:game_session:c"]
    channel.restart()
    assert not channel.quarantined
    assert whole(channel.state) == expected
    assert channel.snapshot().turn_number == session["turn_number"]


@pytest.mark.parametrize("json_has_it", [True, False])
@pytest.mark.parametrize("turn", [1, 9])
def test_form_without_a_game_id(empty: World, json_has_it: bool, turn: int) -> None:
    """A form that doesn't say whose it is is corrupt: the other serves, whatever its turn."""
    good, bad = game(turn_number=5), game(turn_number=turn, game_id="")
    old.write(empty.store, good if json_has_it else bad, steps=1)
    other = World()
    old.write(other.store, bad if json_has_it else good)
    empty.store["sg:game_session:c"] = other.store["sg:game_session:c"]
    session = empty["c"].snapshot()
    assert (session.game_id, session.turn_number) == (good["game_id"], 5)
    assert reasons(empty["c"].quarantined) == ["game_id: missing"]
    empty["c"].restart()
    assert len(empty["c"].quarantined) == 1


@pytest.mark.parametrize("after", ["load", "load elsewhere", "boot", "swap", "wipe"])
def test_it_has_exited_our_game(empty: World, after: str) -> None:
    """A game of ours that it stored as inactive is a save, not lost to whoever comes next."""
    channel = empty["c"]
    channel.boot()
    channel.press("ana", "run")
    channel.close()
    channel.record(1)
    session = old.read_json(empty.store, "c")
    session["active"] = False
    old.write(empty.store, session)
    channel.restart()
    channel.compare()
    assert not channel.snapshot().active
    match after:
        case "load":
            channel.load()
        case "boot":
            channel.boot(OTHER)
        case "swap":
            channel.swap()
        case "wipe":
            channel.ask(m.Wipe())
            assert game_key(GAME) not in empty.store
            return
        case _:
            pass
    where = empty["c" if after == "load" else "d"]
    if after != "load":
        where.load()
    assert list(where.snapshot().players) == ["ana"]
    assert [record.turn for record in where.history()] == [1]
    if after == "load elsewhere":
        channel.restart()
        channel.boot(OTHER)
        assert json.loads(empty.store.field("game:index", GAME) or "")["channel_id"] == "d"


def test_damaged_old_game_that_another_channel_loaded(empty: World) -> None:
    """Its channel is free for another game, however often it is restored."""
    players = {"ana": old.player("ana"), "bad": {"user_id": 1}}
    old.write(empty.store, game(active=False, players=players))
    assert empty["c"].state.saved == ""
    empty["d"].load(empty["c"].state.game_id)
    empty["c"].restart()
    empty["c"].compare()
    empty["c"].boot(OTHER)
    assert empty["d"].snapshot().active


@pytest.mark.parametrize("field", ["user_name", "last_active", "badge"])
def test_reasons_can_be_written(empty: World, field: str) -> None:
    """A player whose id is half a surrogate pair is reported in texts that any store takes."""
    players = {"ana": old.player("ana"), "\ud800": old.player("\ud800") | {field: ["\udfff"]}}
    old.write(empty.store, game(players=players), steps=1)
    assert list(empty["c"].snapshot().players) == ["ana"]
    assert empty["c"].quarantined
    for reason in reasons(empty["c"].quarantined):
        assert reason.encode()


def test_texts_that_cannot_be_stored(empty: World) -> None:
    """Half a surrogate pair in a store that answers with texts quarantines, and says so."""
    fields: Any = {"game_id": "\ud800"}
    empty.store["sg:game_session:c"] = fields
    assert empty["c"].state.quarantine.encode()
    text: Any = '{"game_id": "\ud800"}'
    empty.store["game:session:d"] = text
    assert empty["d"].state.quarantine.encode()


@pytest.mark.parametrize(
    "player",
    [
        {"user_name": 7},
        {"user_id": "another"},
        {"joined_turn": True},
        {"joined_turn": -1},
        {"joined_turn": 10**20},
        {"last_active": "now"},
        {"last_active": float("nan")},
        {"last_active": 1e300},
        {"last_active": -(10**16)},
        {"last_active": 10**400},
        {"last_active_turn": 1.5},
        {"consecutive_skips": None},
        {"user_name": "\ud800"},
    ],
    ids=str,
)
def test_malformed_players(empty: World, player: dict[str, Any]) -> None:
    """One malformed player is put aside; the others and the game are restored."""
    players = {"ana": old.player("ana"), "bad": old.player("bad") | player}
    old.write(empty.store, game(players=players))
    assert list(empty["c"].snapshot().players) == ["ana"]
    assert all("players.bad" in reason for reason in reasons(empty["c"].quarantined))
    assert b"bad" in empty["c"].quarantined[0].value


@pytest.mark.parametrize("damaged", ["json", "hash"])
@pytest.mark.parametrize("json_turn", [4, 5])
def test_a_player_that_one_form_still_has(empty: World, damaged: str, json_turn: int) -> None:
    """Is restored from that one, in its place, whichever form the game is read from."""
    names = ("ana", "bo", "cy")
    session = game(turn_number=4, players={name: old.player(name) for name in names})
    session["players"]["bo"]["badge"] = "gold"
    old.write(empty.store, session)
    text = json.loads(empty.store.text("game:session:c"))
    text["turn_number"] = json_turn
    fields = empty.store.hash("sg:game_session:c")
    players = json.loads(fields[b"players"])
    (text["players"] if damaged == "json" else players)["bo"]["joined_turn"] = "x"
    empty.store["game:session:c"] = json.dumps(text).encode()
    fields[b"players"] = json.dumps(players).encode()
    channel = empty["c"]
    assert list(channel.snapshot().players) == list(names)
    assert [b"bo" in one.value for one in channel.quarantined] == [True]
    channel.ask(m.Save())
    for written in (
        json.loads(empty.store.text("game:session:c"))["players"],
        json.loads(empty.store.hash("sg:game_session:c")[b"players"]),
    ):
        assert list(written) == list(names)
        assert written["bo"]["joined_turn"] == 0
        assert written["bo"]["badge"] == "gold"


def test_damage_of_an_old_game_is_put_aside_by_whoever_loads_it(empty: World) -> None:
    """Its forms may be gone before its own channel is restored."""
    players = {"ana": old.player("ana"), "bad": {"user_id": 1}}
    old.write(empty.store, game(active=False, players=players))
    empty["d"].load(GAME)
    assert {one.key for one in empty["d"].decision.quarantined} == {
        "game:session:c",
        "sg:game_session:c",
    }


def test_a_stamp_that_no_clock_can_have_meant(empty: World) -> None:
    """The player is active when they act, and not for ever."""
    ahead = old.player("ana") | {"last_active": 1.9e12}
    old.write(empty.store, game(turn_number=9, players={"ana": ahead}))
    channel = empty["c"]
    channel.press("ana")
    assert channel.snapshot().players["ana"].last_active == empty.now - 1
    for _ in range(6):
        channel.close()
        channel.ask(m.CloseWindow(empty=True))
    ((_, tier),) = channel.ask(m.ReadRoster(), empty.now + 10_000)
    assert tier is ActivityTier.DORMANT
