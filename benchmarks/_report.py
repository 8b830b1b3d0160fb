"""The results as people read them: a table on the screen, and the same in a file."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import attrs
from rich.console import Console
from rich.table import Table

from benchmarks._arena import Contest, Entrant
from benchmarks._contest import ASYNCIO, OWN, Goal, Sample
from benchmarks._servers import redis_version
from gamegirl.supervisor._build import release

_PACKAGES = ("anyio", "trio", "uvloop", "redis", "hiredis", "pykka", "xoscar")
_HEAD = ("workload", "host", "figure", "against", "ratio", "goal", "met")


@attrs.frozen
class Row:
    """One of ours next to one peer."""

    workload: str
    host: str
    figure: str
    against: str
    ratio: str
    goal: str
    met: str

    def cells(self) -> tuple[str, ...]:
        return (
            self.workload,
            self.host,
            self.figure,
            self.against,
            self.ratio,
            self.goal,
            self.met,
        )


def rows(contest: Contest) -> Iterator[Row]:
    """Each of our hosts next to each goal."""
    workload = contest.workload
    ours = workload.contestants[0]
    for host in ours.hosts:
        own = contest.samples.get(Entrant(ours.name, host))
        title = f"{workload.name} {contest.variant.name}"
        if own is None:
            reason = contest.missing.get(Entrant(ours.name, host), "not run")
            yield Row(title, host, f"missing: {reason}", "", "", "", "–")
            continue
        for goal in (*contest.variant.goals, *workload.goals):
            yield _row(contest, title, host, own, goal)


def _row(contest: Contest, title: str, host: str, own: Sequence[Sample], goal: Goal) -> Row:
    name, unit = _figure(contest)
    name, unit = goal.figure or name, goal.unit or unit
    figure = f"{_spread(own, name)} {unit}"
    if not goal.against:
        value = median(sample[name] for sample in own)
        return Row(
            title, host, figure, "–", "–", _bound(goal, host, f" {unit}"), _met(goal, value, host)
        )
    entrant = _opponent(contest, goal.against, host)
    theirs = contest.samples.get(entrant)
    if theirs is None:
        reason = contest.missing.get(entrant, "not run")
        return Row(title, host, figure, f"{goal.against}: {reason}", "–", _bound(goal, host), "–")
    # Within each round: what else the machine did then, it did to both.
    ratios = [mine[name] / their[name] for mine, their in zip(own, theirs, strict=True)]
    where = "" if entrant.host in (host, OWN) else f" ({entrant.host})"
    return Row(
        title,
        host,
        figure,
        f"{goal.against}{where}: {_spread(theirs, name)}",
        f"{median(ratios):.2f}× [{min(ratios):.2f}–{max(ratios):.2f}]",
        _bound(goal, host),
        _met(goal, median(ratios), host),
    )


def _bound(goal: Goal, host: str, unit: str = "×") -> str:
    bounds = (("≥", goal.lowest(host)), ("≤", goal.highest(host)))
    return (
        ", ".join(f"{sign} {bound:,g}{unit}" for sign, bound in bounds if bound is not None) or "–"
    )


def _met(goal: Goal, value: float, host: str) -> str:
    return {True: "yes", False: "no", None: "–"}[goal.met(value, host)]


def _figure(contest: Contest) -> tuple[str, str]:
    variant, workload = contest.variant, contest.workload
    return variant.figure or workload.figure, variant.unit or workload.unit


def _opponent(contest: Contest, name: str, host: str) -> Entrant:
    hosts = contest.workload.contestant(name).hosts
    return Entrant(name, next(one for one in (host, OWN, ASYNCIO) if one in hosts))


def _spread(samples: Sequence[Sample], name: str) -> str:
    values = [sample[name] for sample in samples]
    return f"{_number(median(values))} [{_number(min(values))}–{_number(max(values))}]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def details(contest: Contest) -> Iterator[tuple[str, ...]]:
    """Every contestant with the medians of all its figures."""
    workload = contest.workload
    figure, unit = _figure(contest)
    for entrant, samples in contest.samples.items():
        others = [
            f"{name} {_number(median(sample[name] for sample in samples))}"
            for name in workload.details
            if name in samples[0] and name != figure
        ]
        yield (
            f"{workload.name} {contest.variant.name}",
            entrant.name,
            entrant.host,
            f"{_spread(samples, figure)} {unit}",
            ", ".join(others),
        )


def missing(contests: Sequence[Contest]) -> Iterator[str]:
    """Who did not compete, and why."""
    told: set[str] = set()
    for contest in contests:
        for entrant, reason in contest.missing.items():
            line = f"{contest.workload.name}: {entrant.name} on {entrant.host}: {reason}"
            if line not in told:
                told.add(line)
                yield line


def machine() -> Iterator[tuple[str, str]]:
    """What the figures depend on."""
    yield "date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield "commit", _output("git", "describe", "--always", "--dirty", "--abbrev=10")
    yield "CPU", _cpu()
    yield "cores", str(os.cpu_count())
    yield "system", f"{platform.system()} {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    # An optimised build takes a fifth less time than another of the same version.
    yield "Python", f"{python}, {platform.python_compiler()}, of {sys.base_prefix}"
    yield "redis-server", redis_version()
    erlang = "io:put_chars(erlang:system_info(otp_release)), halt()."
    yield "Erlang/OTP", _output("erl", "-noshell", "-eval", erlang)
    yield "gamegirl", release()
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return done.stdout.strip() or "none"


def show(contests: Sequence[Contest], console: Console) -> None:
    """Print the results."""
    table = Table(*_HEAD, title="median [lowest–highest]")
    for contest in contests:
        for row in rows(contest):
            table.add_row(*row.cells(), style="bold red" if row.met == "no" else None)
    console.print(table)
    others = Table("workload", "contestant", "host", "figure", "others (medians)")
    for contest in contests:
        for line in details(contest):
            others.add_row(*line)
    console.print(others)
    for text in missing(contests):
        console.print(f"missing: {text}", style="yellow", highlight=False)


def _rounds(contests: Sequence[Contest]) -> str:
    """How many rounds there were of each workload."""
    counts: dict[str, str] = {}
    for contest in contests:
        workload = contest.workload
        count = max(map(len, contest.samples.values()), default=0)
        laps = f" in {workload.laps} laps" if workload.laps > 1 else ""
        counts[workload.name] = f"{workload.name}: {count}{laps}"
    return ", ".join(counts.values())


def write(contests: Sequence[Contest], left_out: Sequence[str], seconds: float, path: Path) -> None:
    """Write the results into a file, and which workloads were left out."""
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    text = [
        "# Results",
        "",
        "Written by `make bench`: not to be edited. A figure is the median of several rounds",
        "[lowest–highest], in which all contestants take turns; a ratio is the median of the",
        "ratios within each round. Figures belong to the machine below; ratios travel better.",
        f"Rounds: {_rounds(contests)}.",
        "For each lap everybody begins anew, in another process.",
        "Once set up, every contestant in Python collects its garbage and freezes what is left",
        "(`gc.collect(); gc.freeze()`); its collector stays on.",
        "",
        line(_HEAD),
        line(["---"] * len(_HEAD)),
        *(line(row.cells()) for contest in contests for row in rows(contest)),
        "",
        "## All figures",
        "",
        line(("workload", "contestant", "host", "figure", "others (medians)")),
        line(["---"] * 5),
        *(line(cells) for contest in contests for cells in details(contest)),
        "",
        "## Missing",
        "",
        *(
            [f"- {name}: was not run this time" for name in left_out]
            + [f"- {one}" for one in missing(contests)]
            or ["Nobody."]
        ),
        "",
        "## Machine",
        "",
        line(("what", "is")),
        line(["---"] * 2),
        *(line(pair) for pair in machine()),
        line(("took", f"{seconds:.0f} s")),
        "",
    ]
    path.write_text("\n".join(text))
