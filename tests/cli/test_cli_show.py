"""`games`, `show`, `history`, `forget`, `wipe`: what people and programs read, and bad input."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.cli.command import Command, answer

import gamegirl.cli
from gamegirl.cli._target import default_path

SCRIPT = "Ana: Open the door\nBen: run\n/crown Ana\n/close\nBen: [b]sing\n/quit\n"


@pytest.fixture
def played(gamegirl: Command, sqlite_url: str) -> str:
    """A store with a game in `demo`, with an open window."""
    done = gamegirl("play", "demo", "--window", "300", "--store", sqlite_url, typed=SCRIPT)
    assert done.exit_code == 0
    return sqlite_url


def test_a_program_reads_a_channel(gamegirl: Command, played: str) -> None:
    """`show --json` has the game, the players with their tiers, the window and the owner."""
    seen = answer(gamegirl("show", "demo", "--json", "--store", played))
    players = seen.pop("players")
    window = seen.pop("window")
    assert [(one["user_name"], one["tier"]) for one in players] == [
        ("Ana", "active"),
        ("Ben", "active"),
    ]
    assert 0 < window["remaining"] <= 300
    assert len(seen.pop("game_id")) == 12
    assert seen == {
        "channel_id": "demo",
        "game_name": "The Haunted Cartridge",
        "active": True,
        "turn_number": 1,
        "title_screen_url": "",
        "crown_holder": "ana",
        "pending_choices": {"ben": "[b]sing"},
        "closed_turns": [],
        "restored_from": "hash",
        "damaged": [],
        "owner": None,
    }


def test_a_person_reads_a_channel(gamegirl: Command, played: str) -> None:
    """`show` says whose turn it is, what is left of the window, and who wears the crown."""
    seen = gamegirl("show", "demo", "--store", played).stdout
    assert "The Haunted Cartridge  game " in seen
    assert "It is being played in channel demo, turn 1." in seen
    assert "1 of 2 have chosen." in seen
    assert "Nobody owns it." in seen
    assert "👑  Ana  active" in seen
    assert "[b]sing" in seen


def test_an_inactive_game_is_said_to_be_so(gamegirl: Command, played: str) -> None:
    """After an exit `show` still shows the game, and `games` lists it as saved."""
    gamegirl("play", "demo", "--store", played, typed="/exit\n")
    assert (
        "Not active: it was played last in channel demo"
        in gamegirl("show", "demo", "--store", played).stdout
    )
    assert "saved" in gamegirl("games", "--store", played).stdout


def test_the_history_is_shown_with_names(gamegirl: Command, played: str) -> None:
    """`history` shows the latest turns, as many as asked for."""
    seen = gamegirl("history", "demo", "--store", played).stdout
    assert "Turn 1  20" in seen
    assert "  Ana: Open the door\n  Ben: run\n" in seen
    assert answer(gamegirl("history", "demo", "-n", "0", "--json", "--store", played)) == []
    assert (
        "Nothing has been recorded"
        in gamegirl("history", "demo", "--count", "0", "--store", played).stdout
    )


def test_a_fresh_store_has_no_games(gamegirl: Command, tmp_path: Path) -> None:
    """Looking makes no database, and is no error where none was named."""
    assert "There are no games yet" in gamegirl("games").stdout
    assert answer(gamegirl("games", "--json")) == []
    assert answer(gamegirl("history", "demo", "--json")) == []
    assert not (tmp_path / "data").exists()


def test_a_database_that_is_not_there_is_an_error_where_it_was_named(
    gamegirl: Command, sqlite_url: str
) -> None:
    """A slip in --store isn't taken for an empty store."""
    missed = gamegirl("games", "--store", sqlite_url)
    assert missed.exit_code == 1
    assert "there is no database at" in missed.stderr


def test_a_channel_without_a_game_is_an_error(gamegirl: Command, played: str) -> None:
    """`show` of a channel that never had a game fails, and says what to do."""
    missed = gamegirl("show", "nowhere", "--store", played)
    assert missed.exit_code == 1
    assert "No game was ever played in channel 'nowhere'" in missed.stderr
    assert gamegirl("show", "nowhere", "--store", played, "--json").exit_code == 1


def test_a_window_that_waits_for_an_owner_is_told_apart(
    gamegirl: Command, sqlite_url: str, tmp_path: Path
) -> None:
    """Choices without a deadline, as the replaced system left them, are no open window yet."""
    file = tmp_path / "old.jsonl"
    file.write_text(
        '{"key": "sg:game_session:old", "type": "hash", "ttl": 100, "value": {"game_id": "x1",'
        ' "game_name": "Old", "channel_id": "old", "active": "1", "turn_number": "3",'
        ' "players": "{\\"1\\": {\\"user_id\\": \\"1\\", \\"user_name\\": \\"Ana\\"},'
        ' \\"2\\": 5}", "pending_choices": "{\\"1\\": \\"knock\\"}"}}\n'
    )
    assert gamegirl("import", str(file), "--store", sqlite_url).exit_code == 0
    seen = gamegirl("show", "old", "--store", sqlite_url).stdout
    assert "The next owner opens a whole window again; 1 of 1 have chosen." in seen
    assert "Could not be read: sg:game_session:old: players.2" in seen
    plain = answer(gamegirl("show", "old", "--json", "--store", sqlite_url))
    assert plain["window"] is None
    assert plain["pending_choices"] == {"1": "knock"}


def test_content_that_cannot_be_read_is_refused_and_can_be_wiped(
    gamegirl: Command, sqlite_url: str, tmp_path: Path
) -> None:
    """`show` says what is wrong with it; `wipe` deletes it all the same."""
    file = tmp_path / "bad.jsonl"
    file.write_text('{"key": "game:session:bad", "type": "string", "ttl": -1, "value": "{"}\n')
    assert gamegirl("import", str(file), "--store", sqlite_url).exit_code == 0
    for command in ("show", "history"):
        refused = gamegirl(command, "bad", "--store", sqlite_url)
        assert refused.exit_code == 1
        assert "channel 'bad' can't be read: game:session:bad" in refused.stderr
    wiped = gamegirl("wipe", "bad", "--store", sqlite_url, typed="y\n")
    assert "Wipe what can't be read from channel 'bad'" in wiped.stderr
    assert wiped.exit_code == 0
    assert gamegirl("show", "bad", "--store", sqlite_url).exit_code == 1


def test_wipe_asks_first(gamegirl: Command, played: str) -> None:
    """Without an answer, or with no, nothing is wiped; the question says what would go."""
    for typed in ("n\n", ""):
        kept = gamegirl("wipe", "demo", "--store", played, typed=typed)
        assert kept.exit_code == 1
        assert "Wipe “The Haunted Cartridge” (turn 1, players: 2) from channel 'demo'" in (
            kept.stderr
        )
    assert gamegirl("show", "demo", "--store", played).exit_code == 0
    done = gamegirl("wipe", "demo", "--yes", "--store", played)
    assert done.stdout == "Channel demo is empty.\n"
    assert gamegirl("show", "demo", "--store", played).exit_code == 1
    assert answer(gamegirl("games", "--json", "--store", played)) == []
    assert "Wipe nothing from" in gamegirl("wipe", "demo", "--store", played, typed="y\n").stderr


def test_a_saved_game_is_forgotten_and_a_running_one_is_not(gamegirl: Command, played: str) -> None:
    """`forget` deletes what `games` lists as saved, and refuses what is being played."""
    (game,) = answer(gamegirl("games", "--json", "--store", played))
    refused = gamegirl("forget", game["game_id"], "--store", played)
    assert refused.exit_code == 1
    assert "is active in 'demo'" in refused.stderr
    gamegirl("play", "demo", "--store", played, typed="/swap Other\n")
    done = gamegirl("forget", game["game_id"], "--store", played)
    assert done.stdout == f"Forgot “The Haunted Cartridge” ({game['game_id']}).\n"
    missed = gamegirl("forget", game["game_id"], "--store", played)
    assert missed.exit_code == 1
    assert "there is no game" in missed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("play",),
        ("play", "demo", "--window", "0"),
        ("play", "demo", "--backend", "curio"),
        ("show",),
        ("history", "demo", "--count", "-1"),
        ("history", "demo", "--count", "x"),
        ("import", "/no/such/file"),
        ("import", "/"),
        ("forget",),
        ("wipe",),
        ("jump",),
        ("games", "--no-such-option"),
        (),
    ],
)
def test_what_is_no_command_ends_with_2(gamegirl: Command, arguments: tuple[str, ...]) -> None:
    """Wrong usage has the exit status 2 and says what would be right."""
    wrong = gamegirl(*arguments)
    assert wrong.exit_code == 2
    assert "Usage" in wrong.output


@pytest.mark.parametrize("command", ["play", "show", "history", "wipe"])
@pytest.mark.parametrize("channel", ["", "x" * 201, "a\nb"])
def test_what_is_no_channel_is_refused(
    gamegirl: Command, sqlite_url: str, command: str, channel: str
) -> None:
    """An impossible id has the exit status 1 and one sentence."""
    gamegirl("play", "demo", "--store", sqlite_url, typed="")
    wrong = gamegirl(command, channel, "--store", sqlite_url, typed="")
    assert wrong.exit_code == 1
    assert "it must have 1 to 200" in wrong.stderr or "control character" in wrong.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("play", "demo"),
        ("games",),
        ("show", "demo"),
        ("history", "demo"),
        ("export",),
        ("forget", "x"),
        ("wipe", "demo", "--yes"),
    ],
)
@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "redis://127.0.0.1:1/0"])
def test_a_store_that_is_none_is_refused(
    gamegirl: Command, arguments: tuple[str, ...], url: str
) -> None:
    """A wrong or unreachable --store is one sentence and the exit status 1."""
    wrong = gamegirl(*arguments, "--store", url, typed="")
    assert wrong.exit_code == 1
    assert "Error: " in wrong.stderr
    assert "Traceback" not in wrong.output


@pytest.mark.parametrize(
    "command", ["play", "games", "show", "history", "export", "import", "forget", "wipe"]
)
def test_every_command_helps_with_examples(gamegirl: Command, command: str) -> None:
    """--help shows how the command is used."""
    helped = gamegirl(command, "--help")
    assert helped.exit_code == 0
    assert f"• gamegirl {command}" in helped.stdout
    assert "--store" in helped.stdout


def test_without_its_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing typer is one clear sentence and the exit status 2."""
    monkeypatch.delitem(sys.modules, "gamegirl.cli._app", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "gamegirl.cli._console", raising=False)
    with pytest.raises(SystemExit) as ended:
        gamegirl.cli.main()
    assert ended.value.code == 2
    assert "pip install 'gamegirl[cli]'" in capsys.readouterr().err


def test_another_missing_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What isn't the extra's stays an error with its traceback."""
    monkeypatch.delitem(sys.modules, "gamegirl.cli._app", raising=False)
    monkeypatch.setitem(sys.modules, "attrs", None)
    monkeypatch.delitem(sys.modules, "gamegirl.cli._export", raising=False)
    with pytest.raises(ModuleNotFoundError):
        gamegirl.cli.main()


def test_the_command_ends_the_process_with_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`main` runs the process's own arguments."""
    monkeypatch.setattr(sys, "argv", ["gamegirl", "--help"])
    with pytest.raises(SystemExit) as ended:
        gamegirl.cli.main()
    assert ended.value.code == 0
    assert "import" in capsys.readouterr().out


def test_a_relative_data_directory_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG rules say, only an absolute XDG_DATA_HOME counts."""
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    monkeypatch.setenv("HOME", "/home/ana")
    assert default_path() == Path("/home/ana/.local/share/gamegirl/games.db")
