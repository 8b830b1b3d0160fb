"""Where contestants meet: each in a process of its own, one at a time, round after round.

The rounds are interleaved, so that whatever else the machine does hits all of them alike, and a
ratio is taken within a round. What is short is held in several laps, for each of which everybody
begins anew: how a process's memory happens to lie makes it 5 to 10 % faster or slower for all of
its life.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import attrs

from benchmarks._contest import (
    UVLOOP,
    Contestant,
    Sample,
    Site,
    Variant,
    Workload,
    uninstalled,
)
from benchmarks._servers import find_redis_server, redis_server

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("codec", "actors", "supervisor")
_STDERR_SHOWN = 2000
_END_SECONDS = 2.0


@attrs.frozen
class Entrant:
    """A contestant on one host."""

    name: str
    host: str


@attrs.frozen
class Contest:
    """The samples of one variant of a workload.

    Attributes:
        samples: By entrant, one a round.
        missing: Who didn't compete, and why.
    """

    workload: Workload
    variant: Variant
    samples: dict[Entrant, list[Sample]]
    missing: dict[Entrant, str]

    def leave(self, entrant: Entrant, reason: str) -> None:
        """It doesn't compete, or no longer: what it did before doesn't count."""
        self.missing[entrant] = reason
        self.samples.pop(entrant, None)


class Failed(Exception):
    """A contestant's process ended before it should."""


def hold(workload: Workload, variant: Variant, rounds: int, tell: Callable[[str], None]) -> Contest:
    """Have all contestants of a workload compete in one variant, for so many rounds a lap."""
    contest = Contest(workload, variant, {}, {})
    if variant.aof and find_redis_server() is None:
        everybody = [entrant for entrant, _ in _entrants(workload)]
        contest.missing.update(dict.fromkeys(everybody, "there is no redis-server"))
        return contest
    for lap in range(workload.laps):
        with ExitStack() as stack:
            server = redis_server(variant.aof) if variant.aof else nullcontext("")
            workers = _enter(contest, stack.enter_context(server), stack, tell)
            for number in range(lap * rounds, (lap + 1) * rounds):
                _round(contest, workers, number, rounds * workload.laps, tell)
    return contest


def _enter(
    contest: Contest, url: str, stack: ExitStack, tell: Callable[[str], None]
) -> dict[Entrant, _Worker]:
    """Have everybody who can compete set up."""
    workers: dict[Entrant, _Worker] = {}
    workload, variant = contest.workload, contest.variant
    for number, (entrant, contestant) in enumerate(_entrants(workload)):
        if entrant in contest.missing:
            continue
        reason = contestant.missing() or (
            uninstalled("uvloop")() if entrant.host == UVLOOP else None
        )
        if reason is not None:
            contest.leave(entrant, reason)
            continue
        tell(f"{_name(contest)}: setting up {entrant.name} on {entrant.host}")
        site = Site(variant.name, entrant.host, workload.round_seconds, url and f"{url}{number}")
        try:
            workers[entrant] = stack.enter_context(_worker(workload, contestant, site))
        except Failed as error:
            contest.leave(entrant, str(error))
    return workers


def _round(
    contest: Contest,
    workers: dict[Entrant, _Worker],
    number: int,
    count: int,
    tell: Callable[[str], None],
) -> None:
    """Have everybody run once."""
    order = list(workers)
    # Everybody comes first and last once, so that nobody has a better place.
    turned = number % max(1, len(order))
    for entrant in order[turned:] + order[:turned]:
        where = f"round {number + 1} of {count}"
        tell(f"{_name(contest)}: {where}: {entrant.name} on {entrant.host}")
        try:
            contest.samples.setdefault(entrant, []).append(workers[entrant].run())
        except Failed as error:
            contest.leave(entrant, str(error))
            del workers[entrant]


def _name(contest: Contest) -> str:
    return f"{contest.workload.name}, {contest.variant.name}"


def _entrants(workload: Workload) -> Iterator[tuple[Entrant, Contestant]]:
    for contestant in workload.contestants:
        for host in contestant.hosts:
            yield Entrant(contestant.name, host), contestant


class _Worker:
    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    def wait_until_ready(self) -> None:
        self._line()

    def run(self) -> Sample:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed() from error
        sample: dict[str, float] = json.loads(self._line())
        return sample

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failed()
        return line

    def _failed(self) -> Failed:
        self._process.wait()
        self._errors.seek(0)
        shown = self._errors.read()[-_STDERR_SHOWN:].strip()
        print(shown, file=sys.stderr)
        said = [line for line in shown.splitlines() if line.strip(" |+-")]  # Not a group's frame.
        return Failed(f"it failed: {said[-1].strip(' |') if said else self._process.returncode}")


@contextmanager
def _worker(
    workload: Workload, contestant: Contestant, site: Site
) -> Generator[_Worker, None, None]:
    request = json.dumps(
        {"workload": workload.name, "contestant": contestant.name, "site": attrs.asdict(site)}
    )
    environment = dict(os.environ)
    if contestant.from_sources:
        environment["PYTHONPATH"] = os.pathsep.join(str(_ROOT / root) for root in _SOURCES)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._worker", request],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            worker = _Worker(process, errors)
            worker.wait_until_ready()
            yield worker
        finally:
            # What it holds is thrown away with its server: nothing is worth an orderly end.
            process.kill()
            process.wait(_END_SECONDS)
