"""The command `load`: what was ordered, how it goes, what came of it."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import typer
from rich.console import Console
from rich.live import Live as LiveLine
from rich.table import Table

from gamegirl.actors import InvalidInputError
from gamegirl.chaos import BenchError, find_redis_server
from gamegirl.cli._console import errors, output, say, shown, write_json
from gamegirl.cli._files import STANDARD, written
from gamegirl.cli._meter import PATIENCE_SECONDS
from gamegirl.cli._target import VARIABLE
from gamegirl.load import (
    MEMORY,
    Arrivals,
    Assertion,
    Held,
    Histogram,
    Live,
    LoadRun,
    Plan,
    Report,
    Stall,
    Step,
    Target,
    TargetError,
    given,
    page,
    ramp,
    run_name,
    throw_away,
)
from gamegirl.supervisor import Durability

DEFAULT_RATE = 500.0

_BAR = 40


@attrs.frozen(kw_only=True)
class Order:
    """What was asked for.

    Attributes:
        plan: What to play.
        store: The URL of where; None: a redis-server of its own, if there is one.
        force: The store may have keys.
        keep: Leave there what was written.
        assertions: That must hold at the end.
    """

    plan: Plan
    store: str | None
    force: bool
    keep: bool
    assertions: Sequence[Assertion]

    @classmethod
    def of(
        cls,
        *,
        rate: float | None,
        ramp_text: str | None,
        steps: int,
        seconds: float,
        arrivals: str,
        durability: str,
        in_flight: int,
        stall: str | None,
        store: str | None,
        force: bool,
        keep: bool,
        assertions: Sequence[str],
        **plan: Any,
    ) -> Order:
        """The order that a command line gives.

        Raises:
            InvalidInputError: It can't be met, whatever there is here.
        """
        if rate is not None and ramp_text is not None:
            raise InvalidInputError("give --rate or --ramp, not both")
        if keep and (store is None or store.startswith(MEMORY)):
            raise InvalidInputError("--keep needs a --store that lasts")
        if store is not None and store.startswith(MEMORY) and plan["processes"] > 1:
            raise InvalidInputError(f"{MEMORY} is gone with its process: it takes --processes 1")
        backend = plan["backend"]
        if importlib.util.find_spec(backend) is None:
            raise InvalidInputError(f"{backend} is not installed: pip install {backend}")
        parts = (
            (Step(DEFAULT_RATE if rate is None else rate, seconds),)
            if ramp_text is None
            else ramp(ramp_text, steps, seconds)
        )
        return cls(
            plan=Plan(
                steps=parts,
                arrivals=Arrivals(arrivals),
                durability=Durability(durability),
                in_flight_max=in_flight,
                stall=None if stall is None else Stall.parse(stall),
                **plan,
            ),
            store=store,
            force=force,
            keep=keep,
            assertions=[Assertion.parse(text, ramp=ramp_text is not None) for text in assertions],
        )


@contextmanager
def understood() -> Generator[None]:
    """An order that makes no sense, or that can't be met here, is one sentence: exit status 2."""
    try:
        yield
    except (InvalidInputError, TargetError) as error:
        say(f"Error: {error}", "red")
        raise typer.Exit(2) from None


def play(order: Order, told: Callable[[Report], bool]) -> bool:
    """Play what was ordered, and give what came of it to `told`; returns what that returns.

    Raises:
        TargetError: There is no store that it may be played on.
        LoadError: It could not be played to its end.
    """

    async def work() -> bool:
        run = run_name()
        async with _target(order, run) as target:
            say(f"On {target.shown}{f' ({target.server})' if target.server else ''}.")
            with Screen() as screen:
                report = await LoadRun(order.plan, target, run, screen).play()
            # Before anything is deleted, which may take long, or fail.
            good = told(report)
        if order.keep:
            say(f"The games are kept: channels load-{run}-0 to -{order.plan.channels - 1}.")
        return good

    return anyio.run(work)


@asynccontextmanager
async def _target(order: Order, run: str) -> AsyncGenerator[Target]:
    url = order.store
    if url is None:
        try:
            find_redis_server()
        except BenchError as error:
            url = os.environ.get(VARIABLE)
            if not url:
                raise TargetError(str(error)) from error
        else:
            async with throw_away() as target:
                yield target
            return
    async with given(
        url,
        run,
        channels=order.plan.channels,
        force=order.force,
        keep=order.keep,
        trouble=lambda text: say(f"Warning: {text}", "red"),
    ) as target:
        yield target


class Screen:
    """Shows on the standard error how a run goes: a line that changes, or one from time to time."""

    def __init__(self) -> None:
        self._console = errors()
        self._line: LiveLine | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._line = LiveLine(console=self._console, transient=True, auto_refresh=False)
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.stop()

    def phase(self, name: str, done: int, total: int) -> None:
        """Something that takes a while has come so far."""
        self._show(f"{name}: {done:,} of {total:,}")

    def live(self, now: Live) -> None:
        """Presses are being offered."""
        self._show(live_line(now))

    def _show(self, text: str) -> None:
        if self._line is not None:
            self._line.update(shown(text), refresh=True)
        elif time.monotonic() - self._told >= PATIENCE_SECONDS:
            self._told = time.monotonic()
            say(text)


def live_line(now: Live) -> str:
    """How a run goes, in a line."""
    trouble = f", {now.failed:,} errors" if now.failed else ""
    return (
        f"{now.seconds:5.1f} s  target {now.target:,.0f}/s  achieved {now.achieved:,.0f}/s  "
        f"dropped {now.dropped:,}{trouble}  p50 {now.p50:,.1f} ms  p99 {now.p99:,.1f} ms  "
        f"{now.sessions:,} sessions  {now.rss_mib:,.0f} MiB"
    )


def tell(order: Order, report: Report, json_file: Path | None, html_file: Path | None) -> bool:
    """Show what came of it and write the files; returns whether all is as it must be."""
    held = [one.check(report) for one in order.assertions]
    show(report, held, to_errors=json_file == STANDARD)
    done = write(report, held, json_file, html_file)
    return done and report.verdict.holds and all(one.holds for one in held)


def write(
    report: Report, held: Sequence[Held], json_file: Path | None, html_file: Path | None
) -> bool:
    """Write the files that were asked for; returns whether each could be."""
    done = True
    if json_file is not None:
        plain = {**report.plain(), "assertions": [attrs.asdict(one) for one in held]}
        if json_file == STANDARD:
            done = written("the standard output", lambda: write_json(plain))
        else:
            text = json.dumps(plain, indent=2) + "\n"
            done = written(repr(str(json_file)), lambda: json_file.write_text(text, "utf-8"))
    if html_file is not None:
        plots = page(report, held)
        done &= written(repr(str(html_file)), lambda: html_file.write_text(plots, "utf-8"))
    return done


def show(report: Report, held: Sequence[Held], *, to_errors: bool = False) -> None:
    """Print what came of it."""
    console = errors() if to_errors else output()
    if report.seconds < report.plan.seconds - 0.5:
        say(f"It was stopped after {report.seconds:.1f} s.", "yellow")
    console.print(_figures(report))
    if report.plan.is_ramp:
        console.print(_steps(report))
        _tell_knee(console, report)
    _show_histogram(console, report.figures.latency)
    _tell_verdict(console, report)
    for one in held:
        verdict = "holds" if one.holds else "does not hold"
        line = f"assert {one.text}: {verdict}, it is {one.value}"
        console.print(shown(line, "green" if one.holds else "red"), soft_wrap=True)


def _figures(report: Report) -> Table:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column()
    latency, lateness = report.figures.latency.figures(), report.figures.lateness.figures()
    table.add_row("offered", f"{report.offered_per_s:,.1f}/s, {report.offered:,} presses")
    table.add_row("achieved", f"{report.achieved_per_s:,.1f}/s")
    table.add_row("acknowledged", f"{report.acknowledged:,}")
    table.add_row("dropped", f"{report.dropped:,}", style="red" if report.dropped else "")
    causes = ", ".join(f"{name} {n:,}" for name, n in sorted(report.figures.errors.items()))
    table.add_row(
        "errors",
        f"{report.failed:,}{f': {causes}' if causes else ''}",
        style="red" if report.failed else "",
    )
    table.add_row("latency", _times(latency))
    windows = report.figures.lateness.count
    table.add_row("lateness", f"{_times(lateness)} ({windows:,} windows)" if windows else "–")
    table.add_row(
        "commits",
        f"{report.commits_per_s:,.1f}/s, {report.presses_per_commit:.2f} presses each",
    )
    for name, count in (("restarts", report.restarts), ("events lost", report.events_lost)):
        if count:
            table.add_row(name, f"{count:,}", style="red")
    table.add_row("memory", f"{report.rss_mib:,.1f} MiB at most")
    table.add_row("seed", str(report.plan.seed))
    return table


def _times(figures: dict[str, float]) -> str:
    names = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "max"}
    return "  ".join(f"{names[name]} {value:,.2f}" for name, value in figures.items()) + "  ms"


def _steps(report: Report) -> Table:
    table = Table("rate", "offered/s", "achieved/s", "dropped", "errors", "p50 ms", "p99 ms", "")
    for column in table.columns[:-1]:
        column.justify = "right"
    for one in report.steps:
        table.add_row(
            f"{one.step.rate:,.6g}",
            f"{one.offered_per_s:,.1f}",
            f"{one.achieved_per_s:,.1f}",
            f"{one.dropped:,}",
            f"{one.failed:,}",
            f"{one.latency_ms['p50']:,.2f}",
            f"{one.latency_ms['p99']:,.2f}",
            "keeps up" if one.keeps_up else "falls behind",
            style="" if one.keeps_up else "red",
        )
    return table


def _tell_knee(console: Console, report: Report) -> None:
    knee = report.knee
    assert knee is not None
    if not knee.reached:
        text = f"It kept up with every step: the knee lies above {knee.rate_per_s:,.6g}/s."
    elif knee.rate_per_s:
        text = f"The knee: it kept up with {knee.rate_per_s:,.6g}/s, and not with the next step."
    else:
        text = "It did not even keep up with the first step: begin the ramp lower."
    console.print(shown(text), soft_wrap=True)


def _show_histogram(console: Console, latency: Histogram) -> None:
    rows = latency.rows()
    if not rows:
        return
    table = Table(title="latency of presses", show_lines=False)
    table.add_column("up to ms", justify="right")
    table.add_column("presses", justify="right")
    table.add_column("%", justify="right")
    table.add_column("")
    most, done, total = max(count for _, _, count in rows), 0, latency.count
    for _, high, count in rows:
        done += count
        table.add_row(f"{high:,g}", f"{count:,}", f"{100 * done / total:.2f}", _bar(count / most))
    console.print(table)


def _bar(part: float) -> str:
    """A bar of eighths of a mark; whatever isn't nothing is seen.

    Example:
        >>> _bar(0.05), _bar(0.0)
        ('██', '')
    """
    eighths = round(part * _BAR * 8)
    if part and not eighths:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def _tell_verdict(console: Console, report: Report) -> None:
    verdict = report.verdict
    if verdict.unverified:
        console.print(shown(f"not verified: {verdict.unverified}", "red"), soft_wrap=True)
    line = (
        f"Looked for {verdict.acknowledged:,} acknowledged presses in the store: "
        f"{verdict.lost:,} lost. {verdict.records:,} are in records, {verdict.closed_turns:,} in "
        f"closed turns, {verdict.open_windows:,} in open windows; {verdict.replaced:,} were "
        "replaced by a later press of their player in the same window."
    )
    console.print(shown(line, "green" if verdict.holds else "red"), soft_wrap=True)
    if verdict.foreign:
        line = f"{verdict.foreign:,} choices are there that nobody made, or that were refused."
        console.print(shown(line, "red"), soft_wrap=True)
    for example in verdict.examples:
        console.print(shown(f"  {example}", "red"), soft_wrap=True)
