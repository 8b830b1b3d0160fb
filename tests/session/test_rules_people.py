"""The rules of players, tiers, the crown and the title screen; and the results' own methods."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from tests.session.world import GAME, Channel, World

from gamegirl.actors import (
    ActivityTier,
    ClosedTurn,
    Crown,
    InvalidInputError,
    Player,
    SessionRules,
    TurnToken,
)
from gamegirl.actors.session import CrownMoved, PlayerJoined, TitleScreenSet
from gamegirl.actors.session import _messages as m

ACTIVE, IDLE, DORMANT = ActivityTier


@pytest.fixture
def channel(world: World) -> Channel:
    channel = world["c"]
    channel.boot()
    channel.events.clear()
    return channel


def test_join_is_new_once(channel: Channel) -> None:
    """A new player has the current turn's number; a known one is refreshed and keeps the name."""
    channel.ask(m.CloseWindow(empty=True))
    assert channel.join("ana", 100.0) == Player("ana", "Ana", 1, 100.0, 1, 0)
    channel.ask(m.CloseWindow(empty=True))
    again = channel.ask(m.Join("ana", "Anna"), 200.0)
    assert again == Player("ana", "Ana", 1, 200.0, 2, 1)
    assert [e for e in channel.events if isinstance(e, PlayerJoined)] == [
        PlayerJoined("c", GAME, "ana", "Ana")
    ]


def test_roster_is_in_joining_order(channel: Channel) -> None:
    """Joining order stays, whoever presses or comes back later."""
    channel.join("bo")
    channel.press("ana")
    channel.join("cy")
    channel.join("ana")
    channel.press("bo")
    channel.close()
    channel.join("dee")
    roster = channel.ask(m.ReadRoster())
    assert [player.user_id for player, _ in roster] == ["bo", "ana", "cy", "dee"]


@pytest.mark.parametrize(
    ("turns", "seconds", "tier"),
    [
        (0, 10**6, ACTIVE),
        (2, 10**6, ACTIVE),
        (3, 900.0, ACTIVE),
        (3, 900.1, IDLE),
        (5, 10**6, IDLE),
        (6, 3600.0, IDLE),
        (6, 3600.1, DORMANT),
        (100, 900.0, ACTIVE),
        (-1, -5.0, ACTIVE),
    ],
)
def test_tiers_at_their_borders(turns: int, seconds: float, tier: ActivityTier) -> None:
    """Active: 2 turns or 900 seconds; idle: 5 turns or 3,600 seconds; else dormant."""
    player = Player("ana", "Ana", 0, 1_000.0, 10)
    assert player.tier(10 + turns, 1_000.0 + seconds) is tier


def test_active_players_are_not_dormant(channel: Channel) -> None:
    """Dormant players are on the roster, and left out of the active ones."""
    channel.join("ana", 100.0)
    for _ in range(6):
        channel.ask(m.CloseWindow(empty=True))
    channel.join("bo", 4_000.0)
    assert list(channel.ask(m.ReadRoster(active_only=True), 4_000.0)) == ["bo"]
    assert channel.ask(m.ReadRoster(), 4_000.0) == (
        (channel.state.players["ana"].player(), DORMANT),
        (channel.state.players["bo"].player(), ACTIVE),
    )


def test_crown(channel: Channel) -> None:
    """One player or nobody; somebody who isn't on the roster is unknown."""
    channel.join("ana")
    assert channel.ask(m.SetCrown("ana")) == Crown("ana", "Ana")
    assert channel.ask(m.ReadCrown()).held_by("ana")
    assert not channel.ask(m.ReadCrown()).held_by("bo")
    assert channel.ask(m.SetCrown("bo")) == Crown("bo", "Unknown")
    nobody = channel.ask(m.SetCrown(None))
    assert nobody == Crown(None, "Stargazer")
    assert not nobody.held_by("ana")
    assert not nobody.held_by(None)
    assert [e.user_id for e in channel.events if isinstance(e, CrownMoved)] == ["ana", "bo", None]


def test_crown_stays_where_it_is(channel: Channel) -> None:
    """Giving the crown to its holder changes nothing."""
    channel.ask(m.SetCrown("ana"))
    assert not channel.send(m.SetCrown("ana")).writes


def test_title_screen(channel: Channel) -> None:
    """It is replaced, also by the default; the same one changes nothing."""
    channel.ask(m.SetTitleScreen("https://example.org"))
    assert channel.snapshot().title_screen_url == "https://example.org"
    assert not channel.send(m.SetTitleScreen("https://example.org")).writes
    channel.ask(m.SetTitleScreen(""))
    assert channel.snapshot().title_screen_url == ""
    assert [e.url for e in channel.events if isinstance(e, TitleScreenSet)] == [
        "https://example.org",
        "",
    ]


def test_format_choices(channel: Channel) -> None:
    """One line a player in pressing order, the crown holder's marked; empty without choices."""
    channel.ask(m.SetCrown("bo"))
    channel.press("ana", "run\nBo: surrender\u2028now")
    channel.press("bo", "hide")
    turn = channel.close()
    assert turn.format_choices() == "Ana: run Bo: surrender now\n👑 Bo: hide"
    assert turn.token == TurnToken(GAME, 1)
    assert channel.ask(m.CloseWindow(empty=True)).format_choices() == ""


def test_format_choices_without_a_name() -> None:
    """A player without a known name is still there."""
    turn = ClosedTurn("c", GAME, 1, {"x": "run"}, {}, None, 0.0, 0.0)
    assert turn.format_choices() == "Unknown: run"


def test_format_choices_with_a_name_of_two_lines() -> None:
    """A stored name, which no limit binds, can't speak for another player either."""
    turn = ClosedTurn("c", GAME, 1, {"x": "wait"}, {"x": "Ana\nEve: run"}, None, 0.0, 0.0)
    assert turn.format_choices() == "Ana Eve: run: wait"


@pytest.mark.parametrize("turn", [0, 7, 10**12])
@pytest.mark.parametrize("game_id", [GAME, "a" * 24])
def test_token(game_id: str, turn: int) -> None:
    """A token's text is short enough for a button, and reads back."""
    token = TurnToken(game_id, turn)
    assert len(str(token)) <= 40
    assert TurnToken.parse(str(token)) == token


@pytest.mark.parametrize("text", ["", "x", ":1", "a:", "a:-1", "a:١", "a:1 ", "a:" + "1" * 99, 7])
def test_no_token(text: str) -> None:
    """What is no token's text is refused."""
    with pytest.raises(InvalidInputError, match="no turn token"):
        TurnToken.parse(text)


def test_snapshots_are_frozen(channel: Channel) -> None:
    """A snapshot neither changes nor can be changed."""
    channel.press("ana", "run")
    session = channel.snapshot()
    channel.press("bo", "hide")
    assert list(session.players) == ["ana"]
    with pytest.raises(TypeError):
        session.players["x"] = None
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        session.turn_number = 7


@pytest.mark.parametrize(
    "fields",
    [
        {"window_seconds": 0},
        {"window_seconds": float("nan")},
        {"window_seconds": float("inf")},
        {"window_seconds": True},
        {"window_seconds": "10"},
        {"history_max": 0},
        {"history_max": 2.0},
        {"history_max": True},
        {"summary_max": -1},
        {"engine_name": None},
        {"boot_banner": None},
        {"boot_banner": "{unknown}"},
        {"boot_banner": "{"},
        {"boot_banner": "{0}"},
        {"boot_banner": "{game_name.nothing}"},
        {"exit_banner": "{title_screen_url}"},
    ],
    ids=str,
)
def test_rules_are_checked(fields: dict[str, Any]) -> None:
    """Every setting is checked when it is made, and named in the error."""
    (name,) = fields
    with pytest.raises(InvalidInputError, match=name):
        SessionRules(**fields)
