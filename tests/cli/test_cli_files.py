"""Files that a command writes in the end: what can't be written is refused before the work."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.cli.command import Command

from gamegirl.cli._files import makeable

LOAD = ("load", "--store", "memory://", "--channels", "1", "--rate", "10", "--seconds", "0.5")
CHAOS = ("chaos", "kill9", "--rounds", "1", "--store", "sqlite")

FILES = pytest.mark.parametrize(
    "arguments",
    [(*LOAD, "--json"), (*LOAD, "--html"), (*CHAOS, "--report"), (*CHAOS, "--progress")],
    ids=["json", "html", "report", "progress"],
)


def refusal(gamegirl: Command, arguments: tuple[str, ...], file: str) -> str:
    """What is said of a file, without anything having been played."""
    result = gamegirl(*arguments, file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"Invalid value for '{arguments[-1]}'" in result.stderr
    return result.stderr


@FILES
def test_a_file_in_what_is_no_directory_is_refused(
    gamegirl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """The directory is named."""
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    assert "there is no directory" in refusal(gamegirl, arguments, "taken/figures")


@FILES
def test_a_directory_is_refused_as_a_file(
    gamegirl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """It stays as it is, and a file in it is asked for."""
    monkeypatch.chdir(tmp_path)
    assert "'.' is a directory" in refusal(gamegirl, arguments, ".")


@FILES
def test_a_file_that_may_not_be_written_is_refused(
    gamegirl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """One that is there, a new one in a directory that takes none, and what can be no file."""
    monkeypatch.chdir(tmp_path)
    Path("there").touch()

    def access(_path: Path, mode: int) -> bool:
        """As of somebody who may only look: who runs the tests may perhaps write everything."""
        return mode != os.W_OK

    monkeypatch.setattr(os, "access", access)
    for file in ("there", "new", "n" * 300):
        assert "can't be written" in " ".join(refusal(gamegirl, arguments, file).split())


def test_the_standard_output_needs_no_directory(
    gamegirl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where - means it, no file of that name is looked for; elsewhere it is a file's name."""
    monkeypatch.chdir(tmp_path)

    def access(_path: Path, mode: int) -> bool:
        return mode != os.W_OK

    monkeypatch.setattr(os, "access", access)
    result = gamegirl(*LOAD, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verified"]["lost"] == 0
    assert "can't be written" in refusal(gamegirl, (*LOAD, "--html"), "-")


def test_a_report_makes_no_directory_and_progress_does(gamegirl: Command, tmp_path: Path) -> None:
    """A missing directory is a slip where a file is written once, and made where one is kept."""
    file = tmp_path / "missing" / "too" / "figures"
    assert makeable(file) == file
    assert "there is no directory" in refusal(gamegirl, (*CHAOS, "--report"), str(file))
