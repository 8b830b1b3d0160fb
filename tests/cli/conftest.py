"""What the tests of the commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gamegirl.cli._app import app

# The helpers beside this file are imported as `tests.cli.…`, whatever pytest was started from.
if (root := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.insert(0, root)

from tests.cli.command import Command, Player


@pytest.fixture
def gamegirl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The command, with a data directory of its own and no store in the environment."""
    monkeypatch.delenv("GAMEGIRL_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    runner = CliRunner()

    def call(*arguments: str, typed: str | bytes | None = None) -> Result:
        return runner.invoke(app, list(arguments), input=typed, catch_exceptions=False)

    return call


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'games.db'}"


@pytest.fixture
def playing() -> Iterator[Callable[..., Player]]:
    """Starts players; those that are left at the end are killed."""
    players: list[Player] = []

    def start(store: str, *arguments: str) -> Player:
        players.append(Player(store, *arguments))
        return players[-1]

    yield start
    for player in players:
        if player.process.poll() is None:
            player.kill()
        elif player.process.stdout is not None and not player.process.stdout.closed:
            player.end()
