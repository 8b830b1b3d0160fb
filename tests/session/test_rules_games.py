"""The rules of coming and going: boot, exit, swap, load, wipe."""

from __future__ import annotations

from typing import Any

import pytest
from tests.session import old_system as old
from tests.session.world import GAME, OTHER, Channel, World

from gamegirl.actors import (
    Booted,
    Cancel,
    Ejected,
    GameActiveError,
    GameExistsError,
    NoActiveGameError,
    SessionQuarantinedError,
    UnknownGameError,
    Window,
)
from gamegirl.actors.session import (
    GameBooted,
    GameExited,
    GameLoaded,
    GameSwapped,
    GameWiped,
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
)


@pytest.fixture
def channel(world: World) -> Channel:
    return world["c"]


def entry(world: World, game_id: str) -> Any:
    import json

    text = world.store.field(INDEX_KEY, game_id)
    return None if text is None else json.loads(text)


def test_boot_starts_an_empty_game(channel: Channel, world: World) -> None:
    """Turn 0, an empty roster, no crown, an own empty history; the channel holds the game."""
    booted = channel.boot(name="The Loop", url="https://example.org/x.webp")
    assert booted == Booted("c", GAME, "The Loop", "https://example.org/x.webp")
    session = channel.snapshot()
    assert (session.active, session.turn_number, session.crown_holder) == (True, 0, None)
    assert not session.players
    assert channel.history() == ()
    assert world.store.field(game_key(GAME), "holder") == "channel:c"
    assert entry(world, GAME)["active"] is True
    assert channel.events == [GameBooted("c", GAME, "The Loop")]


def test_boot_banner(channel: Channel) -> None:
    """It shows the title screen, the engine, the cartridge, the game id, and that it waits."""
    banner = channel.boot().banner()
    for part in ("stargazer_title_screen.webp", "S.N.E.S.", "The Loop", GAME, "Awaiting input"):
        assert part in banner
    assert (
        "https://example.org"
        in channel.swap().booted.__class__("c", GAME, "x", "https://example.org").banner()
    )


def test_banners_are_replaceable() -> None:
    """The host's templates are used, with braces in names left alone."""
    world = World(boot_banner="{game_name}|{engine_name}", exit_banner="{players}|{turn_number:03}")
    channel = world["c"]
    assert channel.boot(name="{0}{x}").banner().startswith("{0}{x}|Stargazer")
    assert channel.exit().banner() == "0|000"


def test_boot_over_an_active_game(channel: Channel) -> None:
    """A game that is active is not booted over; the message says what to do."""
    channel.boot()
    with pytest.raises(GameActiveError, match="swap"):
        channel.boot(OTHER)


@pytest.mark.parametrize("where", ["active elsewhere", "saved", "saved here", "only listed"])
def test_boot_with_a_known_id(world: World, where: str) -> None:
    """No game is booted with the id of another one, wherever that is."""
    if where == "only listed":
        world.store[INDEX_KEY] = {GAME.encode(): b"{}"}
    else:
        elsewhere = world["c" if where == "saved here" else "d"]
        elsewhere.boot()
        if where != "active elsewhere":
            elsewhere.exit()
    before = dict(world.store)
    with pytest.raises(GameExistsError, match=GAME):
        world["c"].boot()
    assert world.store == before


@pytest.mark.parametrize(
    "message",
    [
        m.Join("ana", "Ana"),
        m.Press("ana", "Ana", "run"),
        m.NextTurn(),
        m.CloseWindow(),
        m.CloseWindow(empty=True),
        m.Record(1, None, ""),
        m.Narrate(""),
        m.ReadRoster(active_only=True),
        m.SetCrown("ana"),
        m.SetTitleScreen(""),
        m.Save(),
        m.Exit("n"),
    ],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("before", ["never booted", "exited"])
def test_without_an_active_game(channel: Channel, message: Any, before: str) -> None:
    """What needs a game is refused without one, and changes nothing."""
    if before == "exited":
        channel.boot()
        channel.exit()
    decision = channel.send(message)
    assert isinstance(decision.error, NoActiveGameError)
    assert "'c'" in str(decision.error)
    assert not decision.writes


def test_reading_what_was_played_last(channel: Channel) -> None:
    """State, history, roster and crown work on what is stored when no game is active."""
    assert channel.snapshot().game_id == ""
    assert channel.history() == ()
    assert channel.ask(m.ReadRoster()) == ()
    assert channel.ask(m.ReadCrown()).name == "Stargazer"
    channel.boot()
    channel.join("ana")
    channel.ask(m.SetCrown("ana"))
    channel.ask(m.Narrate("once"))
    channel.exit()
    channel.restart()
    assert (channel.snapshot().game_id, channel.snapshot().active) == (GAME, False)
    assert [record.narrative_summary for record in channel.history()] == ["once"]
    assert [player.user_id for player, _ in channel.ask(m.ReadRoster())] == ["ana"]
    assert channel.ask(m.ReadCrown()).name == "Ana"


def test_exit_saves(channel: Channel, world: World) -> None:
    """The game is inactive in the store too, in both forms and in the listing."""
    channel.boot()
    channel.join("ana")
    channel.ask(m.CloseWindow(empty=True))
    ejected = channel.exit()
    assert ejected == Ejected("c", GAME, "The Loop", 1, 1)
    for part in ("The Loop", "saved", "Turn 1", "1 players"):
        assert part in ejected.banner()
    assert old.read_json(world.store, "c")["active"] is False
    assert old.read_hash(world.store, "c")[0]["active"] is False
    assert entry(world, GAME)["active"] is False
    holder = world.store.field(game_key(GAME), "holder")
    assert holder is not None
    assert holder.startswith("save:")
    assert channel.events[-1] == GameExited("c", GAME, "The Loop", 1)
    assert Cancel("turn") in channel.decision.effects


@pytest.mark.parametrize("where", ["c", "d"])
def test_load_brings_everything_back(world: World, where: str) -> None:
    """A load restores history, unrecorded turns, their press answers and the kept choices."""
    channel = world["c"]
    channel.boot()
    channel.ask(m.Narrate("once"))
    channel.press("ana", "run")
    channel.close()
    answer = channel.press("bo", "hide", press_id="x")
    before = channel.snapshot()
    channel.exit()
    assert channel.snapshot().window is None

    target = world[where]
    booted = target.load()
    assert booted == Booted(where, GAME, "The Loop", "")
    now = world.now
    session = target.snapshot()
    assert session.players == before.players
    assert [turn.turn for turn in session.closed_turns] == [1]
    assert dict(session.pending_choices) == {"bo": "hide"}
    assert session.window == Window(now, now + 10.0)
    assert target.press("bo", "other", press_id="x") == answer
    assert [record.narrative_summary for record in target.history()] == ["once"]
    assert target.close().turn == 2
    assert target.record(1).turn == 1
    assert world.store.field(game_key(GAME), "holder") == f"channel:{where}"
    assert GameLoaded(where, GAME, "The Loop", 1) in target.events


def test_load_ejects_what_runs(world: World) -> None:
    """What runs is saved and ejected in the same commit, and can be loaded again."""
    world["d"].boot(OTHER, "Neon")
    world["d"].press("bo")
    world["d"].exit()
    channel = world["c"]
    channel.boot()
    channel.press("ana", "run")
    channel.ask(m.Narrate("once"))
    channel.load(OTHER)
    assert channel.snapshot().game_name == "Neon"
    assert channel.history() == ()
    assert list(channel.snapshot().players) == ["bo"]
    channel.load(GAME)
    assert channel.snapshot().pending_choices == {"ana": "run"}
    assert len(channel.history()) == 1


def test_load_refusals(world: World) -> None:
    """Unknown; active here; active elsewhere, naming the channel. Nothing changes."""
    channel = world["c"]
    with pytest.raises(UnknownGameError, match=GAME):
        channel.load()
    channel.boot()
    with pytest.raises(GameActiveError, match="already"):
        channel.load()
    before = dict(world.store)
    with pytest.raises(GameActiveError, match="channel 'c'"):
        world["d"].load()
    assert world.store == before


def test_two_channels_load_one_game(world: World) -> None:
    """Of two loads that saw the same save, only one is committed: a game is never live twice."""
    world["c"].boot()
    world["c"].exit()
    first, second = world.found(GAME), world.found(GAME)
    world["d"].ask(first)
    with pytest.raises(GameActiveError, match="changed hands"):
        world["e"].ask(second)
    assert world["e"].snapshot().active is False
    world["d"].exit()
    with pytest.raises(GameActiveError, match="changed hands"):
        world["e"].ask(second)  # another save by now: what was read of it is out of date


def test_boot_after_exit_keeps_the_save(channel: Channel, world: World) -> None:
    """A later game in the channel takes nothing from the one that was exited."""
    channel.boot()
    channel.ask(m.Narrate("once"))
    channel.exit()
    channel.boot(OTHER)
    assert channel.history() == ()
    channel.exit()
    assert channel.load().game_id == GAME
    assert [record.narrative_summary for record in channel.history()] == ["once"]


def test_swap(channel: Channel, world: World) -> None:
    """One commit saves and ejects the running game and boots another."""
    channel.boot()
    channel.press("ana", "run")
    channel.close()
    channel.ask(m.Narrate("once"))
    swapped = channel.swap()
    assert (swapped.ejected.game_id, swapped.booted.game_id) == (GAME, OTHER)
    session = channel.snapshot()
    assert (session.game_id, session.turn_number, session.closed_turns) == (OTHER, 0, ())
    assert not session.players
    assert channel.history() == ()
    assert entry(world, GAME)["active"] is False
    assert entry(world, OTHER)["active"] is True
    assert channel.events[-1] == GameSwapped("c", OTHER, GAME)
    channel.load(GAME)
    assert [turn.turn for turn in channel.snapshot().closed_turns] == [1]


def test_swap_with_nothing_running(channel: Channel) -> None:
    """It just boots."""
    swapped = channel.swap(GAME)
    assert swapped.ejected is None
    assert swapped.booted.game_id == GAME
    channel.exit()
    assert channel.swap(OTHER).ejected is None


def test_swap_closes_an_overdue_window_first(channel: Channel) -> None:
    """A window whose deadline has passed is a turn of the ejected game."""
    channel.boot()
    channel.press("ana", "run", 100.0)
    channel.ask(m.Swap("Neon", "", OTHER, "n"), 500.0)
    assert not channel.state.turns
    channel.ask(world_load(channel), 501.0)
    assert [turn.closed_at for turn in channel.snapshot().closed_turns] == [110.0]


def world_load(channel: Channel) -> m.Load:
    return channel.world.found(GAME)


def test_exit_closes_an_overdue_window_first(channel: Channel) -> None:
    """The turn goes into the save, not into the channel's keys."""
    channel.boot()
    channel.press("ana", "run", 100.0)
    channel.ask(m.Exit("n"), 500.0)
    assert channel.snapshot().closed_turns == ()
    channel.load()
    assert [dict(turn.choices) for turn in channel.snapshot().closed_turns] == [{"ana": "run"}]


@pytest.mark.parametrize("active", [True, False])
def test_wipe(channel: Channel, world: World, active: bool) -> None:
    """The channel's keys, its current game and the game's entry are gone; another game stays."""
    world["d"].boot(OTHER)
    channel.boot()
    channel.press("ana")
    channel.close()
    channel.press("ana")
    channel.ask(m.Narrate("once"))
    if not active:
        channel.exit()
    channel.ask(m.Wipe())
    assert not {*channel_keys("c"), game_key(GAME)} & world.store.keys()
    assert entry(world, GAME) is None
    assert entry(world, OTHER) is not None
    assert channel.snapshot().game_id == ""
    assert channel.events[-1] == GameWiped("c", GAME)
    channel.boot()


def test_wipe_of_nothing(channel: Channel, world: World) -> None:
    """Wiping an empty channel is fine."""
    channel.ask(m.Wipe())
    assert not world.store


def test_wipe_does_not_keep_a_game_that_came_meanwhile(world: World) -> None:
    """A boot between a refused wipe and its second try is wiped with its key, not half of it."""
    world["c"].boot()
    world["c"].exit()
    world["d"].load()
    with pytest.raises(GameActiveError):
        world["c"].ask(m.Wipe())
    world["c"].boot(OTHER)
    world["c"].ask(m.Wipe(GAME))
    assert game_key(OTHER) not in world.store
    assert entry(world, GAME)["channel_id"] == "d"
    world["c"].boot(OTHER)
    world["c"].exit()
    world["c"].ask(m.Wipe(GAME))
    assert game_key(OTHER) not in world.store


def test_wipe_where_the_game_has_moved(world: World) -> None:
    """A game that was exited here and loaded elsewhere isn't deleted by wiping here."""
    world["c"].boot()
    world["c"].exit()
    world["d"].load()
    with pytest.raises(GameActiveError):
        world["c"].ask(m.Wipe())
    world["c"].ask(m.Wipe(GAME))
    assert json_key("c") not in world.store
    assert world["d"].snapshot().active
    assert entry(world, GAME)["channel_id"] == "d"


def test_forgotten_game(world: World) -> None:
    """Once its save and its entry are deleted it can't be loaded, but its id may be used again."""
    channel = world["c"]
    channel.boot()
    channel.exit()
    del world.store[game_key(GAME)]
    del world.store[INDEX_KEY]
    for where in ("c", "d"):
        with pytest.raises(UnknownGameError):
            world[where].load()
    channel.boot(name="Another")
    assert channel.snapshot().game_name == "Another"


def test_lost_save(world: World) -> None:
    """If only its key is lost, the channel that exited it still has its forms."""
    channel = world["c"]
    channel.boot()
    channel.join("ana")
    channel.exit()
    del world.store[game_key(GAME)]
    channel.load()
    assert list(channel.snapshot().players) == ["ana"]


def test_corrupt_save_is_not_loaded(world: World) -> None:
    """A save that can't be read, or is of a newer version, is left alone."""
    channel = world["c"]
    channel.boot()
    channel.exit()
    good = dict(world.store.hash(game_key(GAME)))
    for field, value in [
        (b"schema", b"2"),
        (b"session", b"{"),
        (b"session", b'{"game_id": "another"}'),
        (b"history", b"[1]"),
        (b"turns", b'{"x": ""}'),
        (b"turns", b'{"1": "{}", "a:1": "x"}'),
        (b"window", b"[]"),
        (b"window", b'[[["u"]], []]'),
    ]:
        world.store[game_key(GAME)] = good | {field: value}
        with pytest.raises(SessionQuarantinedError, match=f"gg:game:{GAME}"):
            world["d"].load()
    world.store[game_key(GAME)] = {name: v for name, v in good.items() if name != b"session"}
    with pytest.raises(SessionQuarantinedError, match="missing"):
        world["d"].load()
    world.store[game_key(GAME)] = b"a text"
    with pytest.raises(SessionQuarantinedError, match="hash"):
        world["d"].load()


def test_full_write_leaves_no_journal(channel: Channel, world: World) -> None:
    """Joins between windows are in the journal until the next full write."""
    channel.boot()
    channel.join("ana")
    assert journal_key("c") in world.store
    channel.ask(m.Save())
    assert journal_key("c") not in world.store
    assert list(old.read_json(world.store, "c")["players"]) == ["ana"]


def test_hash_has_its_ttl(channel: Channel) -> None:
    """Every full write renews the hash's time to live."""
    channel.boot()
    channel.ask(m.Save())
    (ttl,) = [
        getattr(write, "ttl_seconds", None)
        for write in channel.decision.writes
        if write.key == hash_key("c")
    ]
    assert ttl == 14_400


def test_history_key_is_the_games_own(channel: Channel, world: World) -> None:
    """After a swap the channel's list holds nothing of the game that left."""
    channel.boot()
    channel.ask(m.Narrate("once"))
    channel.swap()
    assert history_key("c") not in world.store
