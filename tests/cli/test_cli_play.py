"""`gamegirl play`: a script of lines, a crash, a second player's terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.command import PATIENCE_SECONDS, Command, Player, answer, until

Playing = Callable[..., Player]
HOSTS = pytest.mark.parametrize("host", ["asyncio", "trio"])

SCRIPT = """\
Ana: Open the door
Ben: [red]run[/red]
/crown ana
Ana: Light a lamp
/close
Ben: sing"""


@HOSTS
def test_a_script_of_lines_is_played_to_its_end(
    gamegirl: Command, sqlite_url: str, host: str
) -> None:
    """At the end of the input the open window is closed and its story told; the status is 0."""
    played = gamegirl("play", "demo", "--store", sqlite_url, "--backend", host, typed=SCRIPT)
    assert played.exit_code == 0
    assert "Loading cartridge: The Haunted Cartridge" in played.stdout
    assert "👑 Ana wears the crown." in played.stdout
    assert "👑 Ana: Light a lamp\nBen: [red]run[/red]\n" in played.stdout
    assert "Ben: sing\n" in played.stdout.partition("── Turn 2 ")[2]
    records = answer(gamegirl("history", "demo", "--store", sqlite_url, "--json"))
    assert [record["choices"] for record in records] == [
        {"ana": "Light a lamp", "ben": "[red]run[/red]"},
        {"ben": "sing"},
    ]


def test_an_empty_script_leaves_an_empty_game(gamegirl: Command, sqlite_url: str) -> None:
    """Without a line a game is booted, and goes on the next time."""
    assert gamegirl("play", "demo", "--store", sqlite_url, typed="").exit_code == 0
    again = gamegirl("play", "demo", "--store", sqlite_url, typed="\n\n")
    assert again.exit_code == 0
    assert "“The Haunted Cartridge” goes on" in again.stdout


def test_a_real_pipe_with_half_a_line_at_its_end(sqlite_url: str) -> None:
    """The last line counts though no line end follows it; bytes that are no text harm nothing."""
    played = subprocess.run(
        [sys.executable, "-W", "error", "-m", "gamegirl", "play", "demo", "--store", sqlite_url],
        input=b"Ana: \xff knock\nBen: r\xc3\xa9veil",
        capture_output=True,
        env={**os.environ, "PYTHONUTF8": "1"},
        check=False,
    )
    assert played.returncode == 0, played.stderr
    assert "Ben: réveil\n" in played.stdout.decode()
    assert "Ana: \ufffd knock\n" in played.stdout.decode()


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the input")
def test_a_closed_input_is_the_end_of_it(gamegirl: Command, sqlite_url: str) -> None:
    """As a job without a standard input is started: it ends with 0 and gives the channel up."""
    command = [sys.executable, "-W", "error", "-m", "gamegirl", "play", "demo"]
    played = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command, "--store", sqlite_url],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (played.returncode, played.stderr) == (0, "")
    assert answer(gamegirl("show", "demo", "--store", sqlite_url, "--json"))["owner"] is None


def test_wait_lets_the_window_close_by_itself(gamegirl: Command, sqlite_url: str) -> None:
    """/wait goes on after the window's time and its story."""
    played = gamegirl(
        "play",
        "demo",
        "--window",
        "0.1",
        "--store",
        sqlite_url,
        typed="Ana: knock\n/wait\n/history\n/history 0\n",
    )
    told, _, listed = played.stdout.partition("Turn 1  ")
    assert "── Turn 1 ─" in told
    assert "Ana: knock" in listed
    assert "Nothing has been recorded yet." in listed


def test_quitting_leaves_the_window_as_it_is(gamegirl: Command, sqlite_url: str) -> None:
    """The next one to play finds the choices and what is left of the window."""
    script = "Ana: knock\n/crown Ana\n/quit\nBen: never read\n"
    left = gamegirl("play", "demo", "--window", "600", "--store", sqlite_url, typed=script)
    assert "The window stays open for another " in left.stdout
    again = gamegirl("play", "demo", "--window", "600", "--store", sqlite_url, typed="/close\n")
    assert re.search(r"Its window is open for another (5\d\d\.\d|600\.0) s", again.stdout)
    assert "  👑 Ana: knock\n" in again.stdout
    assert "── Turn 1 ─" in again.stdout
    assert "never read" not in again.stdout
    assert (
        "The window stays"
        not in gamegirl("play", "demo", "--store", sqlite_url, typed="/quit\n").stdout
    )


def test_games_are_swapped_loaded_and_saved(gamegirl: Command, sqlite_url: str) -> None:
    """A game that leaves its channel is listed, and comes back whole."""
    gamegirl("play", "demo", "--game", "First", "--store", sqlite_url, typed="Ana: knock\n")
    (first,) = answer(gamegirl("games", "--store", sqlite_url, "--json"))
    script = f"/swap Second\n/games\n/load {first['game_id']}\n/history\n/exit\nAna: on\n"
    played = gamegirl("play", "demo", "--store", sqlite_url, typed=script).stdout
    assert "**First** was saved and ejected." in played
    assert "Loading cartridge: Second" in played
    assert "Loading cartridge: First" in played
    assert "  Ana: knock" in played
    assert "Refused: no game is active" in played
    games = answer(gamegirl("games", "--store", sqlite_url, "--json"))
    assert [(game["game_name"], game["active"]) for game in games] == [
        ("First", False),
        ("Second", False),
    ]


def test_swapping_where_nothing_runs_just_boots(gamegirl: Command, sqlite_url: str) -> None:
    """After /exit another game can be started in the same sitting."""
    played = gamegirl("play", "demo", "--store", sqlite_url, typed="/exit\n/swap Second\n").stdout
    assert played.count("was saved and ejected") == 1
    assert "Loading cartridge: Second" in played


@pytest.mark.parametrize(
    ("line", "answered"),
    [
        ("hello", "write `name: choice`"),
        (": run", "write `name: choice`"),
        ("Ana:", "write `name: choice`"),
        ("/jump", "/jump is no command"),
        ("/crown", "write /crown NAME"),
        ("/crown Zoe", "'Zoe' has not joined"),
        ("/close", "no window is open"),
        ("/history x", "write /history"),
        ("/load", "is empty"),
        ("/load nothing", "there is no game nothing"),
        ("/swap", "is empty"),
        ("A\x07b: run", "control character"),
        ("A" * 201 + ": run", "201 characters"),
        ("Ana: " + "x" * 2001, "2001 characters"),
    ],
)
def test_a_line_that_cannot_be_done_is_refused_and_play_goes_on(
    gamegirl: Command, sqlite_url: str, line: str, answered: str
) -> None:
    """The answer says what is wrong; the next line is played, the status is 0."""
    played = gamegirl(
        "play", "demo", "--store", sqlite_url, typed=f"{line}\n/crown -\n/help\nBen: go on\n"
    )
    assert played.exit_code == 0
    assert "Refused: " in played.stdout
    assert answered in played.stdout
    assert "Nobody wears the crown: Stargazer tells the story alone." in played.stdout
    assert "── Turn 1 ─" in played.stdout


def test_what_people_type_cannot_move_the_cursor(gamegirl: Command, sqlite_url: str) -> None:
    """Control characters and text directions are shown as a replacement character."""
    played = gamegirl(
        "play", "demo", "--store", sqlite_url, typed="Ana: \x1b[2J\u202eevil\u00a0👩\u200d🚀\n"
    )
    assert "\x1b" not in played.stdout
    assert "\u202e" not in played.stdout
    assert "Ana: \ufffd[2J\ufffdevil 👩\u200d🚀" in played.stdout


def test_many_choices_are_told_briefly(gamegirl: Command, sqlite_url: str) -> None:
    """The narrator tells three choices, the crown's first, and counts the others."""
    script = "".join(f"P{number}: {'x' * 100}\n" for number in range(5)) + "/crown P4\n"
    played = gamegirl("play", "demo", "--store", sqlite_url, typed=script).stdout
    assert "P4 — “" + "x" * 79 + "…”; P0 — " in played
    assert "; 2 more: " in played


@HOSTS
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_killed_in_an_open_window_it_goes_on(
    gamegirl: Command,
    playing: Playing,
    request: pytest.FixtureRequest,
    kind: str,
    host: str,
) -> None:
    """After SIGKILL the game is there, with the presses and what is left of the window."""
    url: str = request.getfixturevalue(f"{kind}_url")
    player = playing(url, "demo", "--window", "3000", "--backend", host)
    player.type("Ana: knock", "Ben: run", "Ana: ring")
    player.wait_for("Ana chooses for turn 1: ring")
    seen = answer(gamegirl("show", "demo", "--store", url, "--json"))
    assert seen["owner"]["alive"] is True
    player.process.send_signal(signal.SIGKILL)
    player.end()
    again = playing(url, "demo", "--window", "3000", "--backend", host)
    again.wait_for("Its window is open for another 29")
    again.type("/close", "/quit")
    assert again.end() == 0
    assert "  Ana: ring\n  Ben: run\n" in again.said
    (record,) = answer(gamegirl("history", "demo", "--store", url, "--json"))
    assert record["choices"] == {"ana": "ring", "ben": "run"}


def test_a_window_whose_time_ran_out_meanwhile_is_closed_and_told(
    gamegirl: Command, sqlite_url: str, playing: Playing
) -> None:
    """Nothing that was chosen is lost when the window ran out while nobody was there."""
    player = playing(sqlite_url, "demo", "--window", "2")
    player.type("Ana: knock", "/quit")
    assert player.end() == 0
    until(
        lambda: (
            answer(gamegirl("show", "demo", "--store", sqlite_url, "--json"))["window"]["remaining"]
            == 0
        )
    )
    assert "whose time is up" in gamegirl("show", "demo", "--store", sqlite_url).stdout
    again = gamegirl("play", "demo", "--store", sqlite_url, typed="/wait\n")
    assert "── Turn 1 ─" in again.stdout
    assert "Ana: knock" in again.stdout


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_second_player_of_a_channel_is_told_who_owns_it(
    gamegirl: Command, playing: Playing, request: pytest.FixtureRequest, kind: str
) -> None:
    """Two terminals never play one channel; reading works meanwhile, other channels too."""
    url: str = request.getfixturevalue(f"{kind}_url")
    player = playing(url, "demo", "--window", "300")
    player.type("Ana: knock")
    player.wait_for("Ana chooses")
    refused = gamegirl("play", "demo", "--store", url, typed="Ben: run\n")
    assert refused.exit_code == 1
    owner = answer(gamegirl("show", "demo", "--store", url, "--json"))["owner"]
    assert f"is owned by {owner['token']}" in refused.stderr
    assert "Traceback" not in refused.output
    wiped = gamegirl("wipe", "demo", "--yes", "--store", url)
    assert wiped.exit_code == 1
    assert owner["token"] in wiped.stderr
    shown = gamegirl("show", "demo", "--store", url).stdout
    assert f"Owned by process {owner['process']} " in shown
    assert "which is alive" in shown
    assert "1 of 1 have chosen" in shown
    assert gamegirl("history", "demo", "--store", url).exit_code == 0
    assert gamegirl("play", "other", "--store", url, typed="").exit_code == 0


def test_other_channels_of_the_store_are_left_alone(
    gamegirl: Command, playing: Playing, sqlite_url: str
) -> None:
    """A terminal never closes or tells another channel's turns, though nobody owns them."""
    player = playing(sqlite_url, "theirs", "--window", "2")
    player.type("Ana: knock", "/quit")
    assert player.end() == 0
    until(
        lambda: (
            answer(gamegirl("show", "theirs", "--store", sqlite_url, "--json"))["window"][
                "remaining"
            ]
            == 0
        )
    )
    gamegirl("play", "mine", "--window", "0.3", "--store", sqlite_url, typed="Ben: run\n/wait\n")
    theirs = answer(gamegirl("show", "theirs", "--store", sqlite_url, "--json"))
    assert theirs["pending_choices"] == {"ana": "knock"}
    assert theirs["turn_number"] == 0


@HOSTS
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted_it_leaves_cleanly(
    gamegirl: Command, playing: Playing, sqlite_url: str, name: str, host: str
) -> None:
    """Ctrl-C gives the channel up and is no error; the window stays open."""
    player = playing(sqlite_url, "demo", "--window", "300", "--backend", host)
    player.type("Ana: knock")
    player.wait_for("Ana chooses")
    player.process.send_signal(signal.Signals[name])
    until(lambda: player.process.poll() is not None)
    assert player.end() == 0
    assert "Traceback" not in player.said
    seen = answer(gamegirl("show", "demo", "--store", sqlite_url, "--json"))
    assert seen["owner"] is None
    assert seen["window"]["remaining"] > 0


def test_a_channel_that_is_taken_over_ends_the_game_here(
    gamegirl: Command, playing: Playing, redis_url: str
) -> None:
    """A process that was stopped for too long learns whose the channel is now, and ends with 1."""
    player = playing(redis_url, "demo", "--window", "300")
    player.type("Ana: knock")
    player.wait_for("Ana chooses")
    player.process.send_signal(signal.SIGSTOP)
    try:
        taken = gamegirl("play", "demo", "--store", redis_url, typed="Ben: run\n/close\n")
        assert "Owned by " in taken.stdout
        assert "── Turn 1 ─" in taken.stdout
    finally:
        player.process.send_signal(signal.SIGCONT)
    player.type("Ana: too late")
    until(lambda: player.process.poll() is not None)
    assert player.end() == 1
    assert "the game goes on there" in player.said


def test_the_default_store_is_named_on_the_screen(gamegirl: Command, tmp_path: Path) -> None:
    """Without --store games are kept in the data directory, which the standard error names."""
    played = gamegirl("play", "demo", typed="")
    path = tmp_path / "data" / "gamegirl" / "games.db"
    assert str(path) in played.stderr.replace("\n", "")
    assert path.exists()
    assert "demo" in gamegirl("games").stdout


def test_the_environment_may_name_the_store(
    gamegirl: Command, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$GAMEGIRL_STORE stands for --store."""
    monkeypatch.setenv("GAMEGIRL_STORE", sqlite_url)
    assert gamegirl("play", "demo", typed="").stderr == ""
    assert "demo" in gamegirl("games", "--store", sqlite_url).stdout
