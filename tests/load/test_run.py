"""Whole runs: processes of their own, a real Redis, all hosts, and what they leave behind."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import psutil
import pytest
import redis
from tests.stores.test_redis_rights import DOCUMENT, rule

from gamegirl.load import (
    Live,
    LoadError,
    LoadRun,
    Plan,
    Report,
    Step,
    Target,
    TargetError,
    given,
    run_name,
    throw_away,
)
from gamegirl.load._run import Hand
from gamegirl.supervisor import Supervisor

PLAN = Plan(steps=(Step(120.0, 2.0),), channels=20, players=3, window=0.5)


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.lives: list[Live] = []

    def phase(self, name: str, done: int, total: int) -> None:
        self.phases.append((name, done, total))

    def live(self, now: Live) -> None:
        self.lives.append(now)


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with cast(Any, redis.Redis).from_url(redis_url) as made:
        yield made


def left(client: Any) -> list[bytes]:
    """The keys that are there, but for leases that run out by themselves."""
    return sorted(
        key for key in client.keys("*") if not key.startswith(b"gg:lease:") or client.ttl(key) == -1
    )


def run(plan: Plan, url: str, watcher: Watcher | None = None) -> Report:
    """A run as the command does it: on a loop of its own."""

    async def work() -> Report:
        name = run_name()
        async with given(url, name, channels=plan.channels) as target:
            return await LoadRun(plan, target, name, watcher or Watcher()).play()

    return anyio.run(work)


def plan(**changes: object) -> Plan:
    return Plan.of_plain({**PLAN.plain(), **changes})


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_run_on_redis_loses_nothing_and_leaves_nothing(
    backend: str, redis_url: str, client: Any
) -> None:
    """On each host; the store is as empty afterwards as before."""
    report = run(plan(backend=backend), redis_url)
    assert report.verdict.holds, report.verdict.examples
    assert report.verdict.acknowledged == report.acknowledged > 100
    assert report.offered == report.acknowledged + report.dropped + report.failed
    assert report.verdict.records > 0
    # None was begun before it was due: no Redis has ever answered as fast as that would look.
    assert next(report.figures.latency.recorded())[0] > 0.02
    assert left(client) == []
    versions = report.versions()
    assert versions["store"].startswith(("Redis ", "Valkey "))
    assert ("trio" in versions, "uvloop" in versions) == (backend == "trio", backend == "uvloop")


def test_two_processes_play_all_channels_once(redis_url: str) -> None:
    """Their figures are added up: the percentiles are of all presses."""
    watcher = Watcher()
    report = run(plan(processes=2), redis_url, watcher)
    assert report.verdict.holds, report.verdict.examples
    assert report.figures.counts["sessions"] == PLAN.channels
    assert report.figures.latency.count == report.acknowledged == report.verdict.acknowledged
    assert report.offered == pytest.approx(240, rel=0.4)
    assert {name for name, _, _ in watcher.phases} == {"starting games", "looking into the store"}
    assert ("looking into the store", 20, 20) in watcher.phases
    assert watcher.lives[-1].sessions == PLAN.channels
    # Between two ticks of each process: never nothing now and twice as much then.
    assert all(now.target == 120.0 for now in watcher.lives if now.seconds < 2)
    achieved = [now.achieved for now in watcher.lives]
    assert min(achieved) > 0
    assert sum(achieved) / len(achieved) == pytest.approx(120, rel=0.5)


def test_a_stall_of_two_seconds_shows_in_p99_and_max(redis_url: str) -> None:
    """As the wait of everybody who pressed meanwhile, which a closed loop would not have seen."""
    steps = ({"rate": 120.0, "seconds": 5.0},)
    stalled = run(plan(steps=steps, stall={"seconds": 2.0, "at": 1.5}, processes=2), redis_url)
    assert stalled.verdict.holds, stalled.verdict.examples
    assert stalled.figures.latency.longest > 1800
    assert stalled.figures.latency.quantile(99) > 1500


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/games.db"])
def test_a_run_on_the_other_stores(url: str, tmp_path: Path) -> None:
    """Nothing is lost, and no file is left."""
    report = run(PLAN, url.format(folder=tmp_path))
    assert report.verdict.holds, report.verdict.examples
    assert report.acknowledged > 100
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_a_server_of_its_own_if_it_wants() -> None:
    """Which is gone afterwards."""

    async def work() -> tuple[Report, int]:
        async with throw_away() as target:
            report = await LoadRun(PLAN, target, run_name(), Watcher()).play()
            assert target.server.startswith("Redis ")
            return report, int(target.url.rpartition(":")[2].partition("/")[0])

    report, port = anyio.run(work)
    assert report.verdict.holds
    with pytest.raises(redis.ConnectionError), redis.Redis(port=port) as client:
        cast(Any, client).ping()


def contents(client: Any) -> list[Any]:
    keys = left(client)
    values = client.get("somebody"), client.hgetall("game:index")
    return [keys, *values, client.zrange("gg:due", 0, -1, withscores=True)]


def test_a_store_with_keys_is_refused_unless_it_is_forced(redis_url: str, client: Any) -> None:
    """And then only what bears the run's name is deleted."""
    client.set("somebody", "else's")
    client.hset("game:index", "0123456789ab", "{}")
    client.zadd("gg:due", {"session:lobby": 2e9})
    before = contents(client)

    async def work(*, force: bool) -> Report:
        async with given(redis_url, "x", channels=20, force=force) as target:
            return await LoadRun(PLAN, target, "x", Watcher()).play()

    with pytest.raises(TargetError, match="3 keys"):
        anyio.run(lambda: work(force=False))
    assert anyio.run(lambda: work(force=True)).verdict.holds
    client.delete("gg:epoch")  # The counter of claims is everybody's: it stays as it has grown.
    assert contents(client) == before


def test_games_can_be_kept(redis_url: str) -> None:
    """To look at them, or to play on."""

    async def work() -> int:
        async with given(redis_url, "x", channels=20, keep=True) as target:
            await LoadRun(PLAN, target, "x", Watcher()).play()
        async with Supervisor(redis_url) as supervisor:
            return len(await supervisor.games())

    assert anyio.run(work) == 20


def test_a_database_that_is_there_is_refused(tmp_path: Path) -> None:
    """It may be somebody's games; it stays as it is."""
    path = tmp_path / "games.db"
    path.write_bytes(b"somebody's")
    with pytest.raises(TargetError, match="there is a database"):
        run(PLAN, f"sqlite:///{path}")
    assert path.read_bytes() == b"somebody's"


def test_a_store_that_does_not_answer_is_told(redis_url: str) -> None:
    """Before any process is started."""
    host = redis_url.rpartition(":")[0]
    with pytest.raises(TargetError, match="can't be used"):
        run(PLAN, f"{host}:1/0")


def test_a_process_that_fails_says_why() -> None:
    """The run ends with its reason, not with figures of the others."""

    async def work() -> Report:
        target = Target("redis://127.0.0.1:1/0", "nowhere")
        return await LoadRun(plan(processes=2), target, "x", Watcher()).play()

    with pytest.raises(LoadError, match="StoreUnavailableError"):
        anyio.run(work)
    assert workers() == []


def workers() -> list[int]:
    """The processes that play, of this process."""
    return [
        child.pid
        for child in psutil.Process().children()
        if "gamegirl.load" in " ".join(child.cmdline())
    ]


class Killer(Watcher):
    """Kills a process when presses are offered."""

    def live(self, now: Live) -> None:
        for pid in workers():
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_is_killed_ends_the_run() -> None:
    """Nobody waits for it for ever, and nobody is left behind."""
    with pytest.raises(LoadError, match="ended before it was done"):
        run(plan(processes=1), "memory://", Killer())
    assert workers() == []


class Latecomer(Watcher):
    """Kills or stops the processes when all has been played."""

    def __init__(self, how: signal.Signals) -> None:
        super().__init__()
        self._how = how

    def phase(self, name: str, done: int, total: int) -> None:
        if name == "looking into the store" and done < total:
            for pid in workers():
                os.kill(pid, self._how)


def test_a_process_that_is_killed_at_the_end_costs_no_figures() -> None:
    """What it had measured is reported; the verdict says that nobody looked."""
    report = run(plan(channels=500), "memory://", Latecomer(signal.SIGKILL))
    assert "ended before it was done" in report.verdict.unverified
    assert not report.verdict.holds
    assert report.acknowledged == report.figures.latency.count > 100
    assert workers() == []


def test_a_look_that_takes_too_long_costs_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, with its process."""

    class Impatient(Latecomer):
        def live(self, now: Live) -> None:
            monkeypatch.setattr("gamegirl.load._run.BOOT_SECONDS", 0.5)

    report = run(plan(channels=500), "memory://", Impatient(signal.SIGSTOP))
    assert "did not look into the store within 0.5 s: try fewer" in report.verdict.unverified
    assert report.acknowledged > 100
    assert workers() == []


def test_presses_that_take_too_long_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do: there may be too many."""
    monkeypatch.setattr("gamegirl.load._run._LATE_SECONDS", -13.5)  # Half a second is left.
    with pytest.raises(LoadError, match=r"not play within 0\.5\d* s: lower the rate, try fewer"):
        run(PLAN, "memory://")
    assert workers() == []


async def listened(*lines: str) -> Hand:
    """A process that has told this, to whom it was told."""
    script = f"print({chr(10).join(lines)!r})"
    process = await anyio.open_process([sys.executable, "-c", script], stderr=None)
    async with process:
        hand = Hand(3, process, Path(os.devnull))
        await hand.listen()
    return hand


@pytest.mark.anyio
async def test_a_process_whose_store_is_away_when_it_closes_costs_no_figures() -> None:
    """It fails after it has told them: only nobody looked into the store."""
    failure = '["failed", "SupervisorClosedError: the store is away"]'
    hand = await listened('["played", {"counts": {}}]', failure)
    assert hand.figures == {"counts": {}}
    assert hand.done.is_set()
    assert hand.verdict.unverified == (
        "process 3 of the load failed: SupervisorClosedError: the store is away"
    )
    with pytest.raises(LoadError, match="process 3 of the load failed"):
        await listened(failure)


class Interrupter(Watcher):
    """Presses Ctrl-C, once or again and again."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def live(self, now: Live) -> None:
        if self._left:
            self._left -= 1
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_the_presses_and_everything_else_is_done(redis_url: str, client: Any) -> None:
    """Who has seen enough gets the report of what was played."""
    steps = ({"rate": 120.0, "seconds": 60.0},)
    report = run(plan(steps=steps, processes=2), redis_url, Interrupter(1))
    assert report.seconds < 30
    assert report.verdict.holds, report.verdict.examples
    assert report.verdict.acknowledged == report.acknowledged > 0
    assert report.offered_per_s == pytest.approx(120, rel=0.6)
    assert left(client) == []


class Terminator(Watcher):
    """Ends this process as a supervisor of processes would."""

    def live(self, now: Live) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_everything_and_still_cleans_up(redis_url: str, client: Any) -> None:
    """Neither a process nor a key is left."""
    with pytest.raises(KeyboardInterrupt):
        run(plan(steps=({"rate": 120.0, "seconds": 60.0},)), redis_url, Terminator())
    assert workers() == []
    assert left(client) == []


def run_as(user: str, url: str, client: Any) -> list[str]:
    """What a run as this user of the server, who is deleted afterwards, tells to be in trouble."""
    told = list[str]()

    async def work() -> Report:
        mine = url.replace("//", f"//{user}:password@")
        async with given(mine, "x", channels=20, trouble=told.append) as target:
            return await LoadRun(PLAN, target, "x", Watcher()).play()

    try:
        assert anyio.run(work).verdict.holds
    finally:
        client.acl_deluser(user)
    return told


def test_what_can_not_be_deleted_is_told_and_costs_no_report(redis_url: str, client: Any) -> None:
    """Somebody whose user may not delete learns which keys are left."""
    rights = {"enabled": True, "nopass": True, "keys": ["*"], "commands": ["+@all", "-unlink"]}
    client.acl_setuser("guest", **rights)
    told = run_as("guest", redis_url, client)
    assert len(told) == 1
    assert "load-x-" in told[0]
    assert any(b"load-x-" in key for key in left(client))


def test_the_rights_of_the_document_are_enough_for_a_load_test(redis_url: str, client: Any) -> None:
    """Those of a supervisor, and what docs/operations.md says that `gamegirl load` needs beside."""
    more = re.search(r"for `gamegirl load` `([^`]*)`", DOCUMENT.read_text())
    assert more is not None
    rights = [*rule(), *more[1].split()]
    client.execute_command("ACL", "SETUSER", "loader", "reset", "on", ">password", *rights)
    assert run_as("loader", redis_url, client) == []
    assert left(client) == []


def test_a_second_ctrl_c_ends_everything_and_still_cleans_up(redis_url: str, client: Any) -> None:
    """Neither a process nor a key is left."""
    steps = ({"rate": 120.0, "seconds": 60.0},)
    stall = {"seconds": 30.0, "at": 0.0}  # Nothing is answered, so the first one takes its time.
    with pytest.raises(KeyboardInterrupt):
        run(plan(steps=steps, stall=stall), redis_url, Interrupter(2))
    assert workers() == []
    assert left(client) == []


def test_the_report_has_what_a_program_reads() -> None:
    """The names are a promise."""
    plain = run(PLAN, "memory://").plain()
    for name in ("offered_per_s", "achieved_per_s", "commits_per_s", "presses_per_commit"):
        assert plain[name] > 0, name
    assert list(plain["latency_ms"]) == ["p50", "p90", "p99", "p999", "max"]
    assert set(plain["lateness_ms"]) == {"p50", "p90", "p99", "p999", "max", "windows"}
    assert plain["lateness_ms"]["windows"] > 0
    assert (plain["dropped"], plain["errors"], plain["knee"]) == (0, {}, None)
    assert plain["rss_mib"] >= plain["rss_before_mib"] > 0
    assert (plain["verified"]["lost"], plain["verified"]["unverified"]) == (0, "")
    assert (plain["restarts"], plain["events_lost"]) == (0, 0)
    assert plain["seed"] == PLAN.seed
    assert plain["settings"]["channels"] == PLAN.channels
    assert {"python", "gamegirl", "redis", "store"} <= set(plain["versions"])
    assert {"system", "processor", "cores", "memory_mib"} <= set(plain["machine"])
    assert sum(one["offered"] for one in plain["intervals"]) == plain["offered"]
