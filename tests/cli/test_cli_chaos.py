"""`gamegirl chaos`: what it takes, how it goes on, what its exit status says."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from tests.cli.command import Command, answer, until

from gamegirl.chaos import SCENARIOS, Figures
from gamegirl.chaos._figures import quantile
from gamegirl.cli._chaos import interruptible


def test_without_a_scenario_they_are_listed(gamegirl: Command) -> None:
    """Somebody who looks around sees what there is, and nothing runs."""
    shown = gamegirl("chaos")
    assert shown.exit_code == 0
    for name in SCENARIOS:
        assert name in shown.stdout
    listed = json.loads(gamegirl("chaos", "--json").stdout)
    assert [one["scenario"] for one in listed] == list(SCENARIOS)


def test_a_round_is_played_told_and_written_down(gamegirl: Command, tmp_path: Path) -> None:
    """The figures come as JSON for a program and as a page, and the exit status is 0."""
    page = tmp_path / "page.md"
    told = answer(
        gamegirl(
            "chaos",
            "kill9",
            "--rounds",
            "2",
            "--backend",
            "asyncio",
            "--json",
            "--slack",
            "20",
            "--report",
            str(page),
        )
    )
    run = told["scenarios"]["kill9"]["run"]
    assert (run["rounds"], run["violations"]) == (2, 0)
    assert run["figures"]["acknowledged presses"] > 0
    assert "| [kill9](#kill9) | 2 kills | 0 |" in page.read_text()


def test_a_sigterm_takes_its_servers_and_workers_along() -> None:
    """As Ctrl-C does: whoever ends it from outside has nothing left to look for."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gamegirl", "chaos", "kill9", "--rounds", "500", "--slack", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: "127.0.0.1:" in " ".join(map(_name, children.read_text().split())))
    started = children.read_text().split()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode != 0, (out, err)
    until(lambda: not any(map(_name, started)))


def test_whatever_a_sigterm_breaks_it_is_an_interruption() -> None:
    """Where Ctrl-C is ignored it comes between any two steps, also of the loop's own."""

    def leave_half_way() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as interruption:
            raise RuntimeError("a cancel scope was left half-way") from interruption

    def leave_in_a_task() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as interruption:
            raise BaseExceptionGroup("a task's", [interruption]) from None

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), interruptible():
            leave_half_way()
        with pytest.raises(KeyboardInterrupt), interruptible():
            leave_in_a_task()
        with pytest.raises(RuntimeError), interruptible():
            raise RuntimeError("of its own")
    finally:
        signal.signal(signal.SIGINT, before)


def _name(pid: str) -> str:
    """What a process calls itself (a redis-server that serves: with its address); empty: gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def played(tmp_path: Path, figures: Figures) -> tuple[str, ...]:
    """A command whose seven kills have been played already."""
    progress = tmp_path / "progress.jsonl"
    part = {
        "scenario": "kill9",
        "backend": "trio",
        "target": "redis",
        "rounds": 7,
        "seed": 1000,
        "control": False,
        "slack": 1.0,
    }
    progress.write_text(json.dumps({"part": part, "figures": figures.plain()}) + "\n")
    return ("chaos", "kill9", "--rounds", "7", "--backend", "trio", "--progress", str(progress))


def test_what_was_played_is_not_played_again(gamegirl: Command, tmp_path: Path) -> None:
    """A run that was stopped goes on from its file; another seed is another run."""
    figures = Figures(rounds=7, violated=1, violations=["a made-up one"])
    result = gamegirl(*played(tmp_path, figures))
    assert "a made-up one" in result.stdout
    assert result.exit_code == 1  # Its violation counts as if it had been found now.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
def test_a_report_that_cannot_be_written_in_the_end_costs_no_figures(
    gamegirl: Command, tmp_path: Path
) -> None:
    """They are shown, and what failed is one sentence: status 1."""
    result = gamegirl(*played(tmp_path, Figures(rounds=7)), "--report", "/dev/full")
    assert result.exit_code == 1
    assert "violations" in result.stdout
    assert "'/dev/full' could not be written: No space left on device" in result.stderr


def test_a_page_keeps_what_it_cannot_read(gamegirl: Command, tmp_path: Path) -> None:
    """What stands around the figures stays to the byte, also if it is no UTF-8."""
    page = tmp_path / "page.md"
    page.write_bytes(b"caf\xe9\n<!-- figures -->\nold\n<!-- end of figures -->\n\xff\n")
    result = gamegirl(*played(tmp_path, Figures(rounds=7)), "--report", str(page))
    assert result.exit_code == 0
    before, _, after = page.read_bytes().partition(b"<!-- figures -->")
    assert (before, after.rpartition(b"-->")[2]) == (b"caf\xe9\n", b"\n\xff\n")
    assert b"old" not in after


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no-such"], "there is no scenario"),
        (["kill9", "--store", "redis://games.example/0"], "on this machine only"),
        (["kill9", "--store", "memory://"], "--store is redis or sqlite"),
    ],
)
def test_an_order_that_cannot_be_met_is_one_sentence(
    gamegirl: Command, arguments: list[str], reason: str
) -> None:
    """Nothing is played."""
    result = gamegirl("chaos", *arguments)
    assert result.exit_code == 1
    assert reason in result.stderr


def test_a_store_with_games_in_it_is_not_played_on(gamegirl: Command, redis_url: str) -> None:
    """Somebody's games are neither played with nor deleted."""
    with cast(Any, redis.Redis).from_url(redis_url) as client:
        client.set("game:session:1", "somebody's")
        result = gamegirl("chaos", "kill9", "--rounds", "1", "--store", redis_url)
        assert result.exit_code == 2
        assert "has 1 keys" in result.stderr
        assert client.get("game:session:1") == b"somebody's"


def test_a_given_store_is_empty_again_afterwards(gamegirl: Command, redis_url: str) -> None:
    """Who lends an empty Redis gets an empty Redis back."""
    ordered = ("chaos", "kill9", "--rounds", "1", "--backend", "asyncio", "--json", "--slack", "20")
    assert answer(gamegirl(*ordered, "--store", redis_url))["store"] == "given"
    with cast(Any, redis.Redis).from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_figures_of_parts_add_up() -> None:
    """Counts are summed, values pooled, peaks the largest, violations all counted."""
    one, other = Figures(rounds=1), Figures(rounds=2)
    for figures, value in ((one, 1.0), (other, 3.0)):
        figures.count("things", 2)
        figures.sample("ms", value)
        figures.peak("mib", value)
    for number in range(60):
        other.violation(f"number {number}")
    one.add(Figures.of_plain(json.loads(json.dumps(other.plain()))))
    assert (one.rounds, one.counts, one.samples) == (3, {"things": 4}, {"ms": [1.0, 3.0]})
    assert (one.peaks, one.violated, len(one.violations)) == ({"mib": 3.0}, 60, 50)
    assert quantile([5.0, 1.0, 9.0], 0.99) == 9.0


def test_a_bench_names_what_it_needs(gamegirl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a redis-server is no violation."""
    monkeypatch.setenv("PATH", "")

    def found_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", found_nothing)
    result = gamegirl("chaos", "kill9", "--rounds", "1", "--backend", "asyncio")
    assert result.exit_code == 2
    assert "there is no redis-server" in result.stderr
