"""The command `chaos`: which scenarios to play, how far they are, what they found."""

from __future__ import annotations

import platform
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import typer
from rich.table import Table

from gamegirl.actors import InvalidInputError
from gamegirl.chaos import SCENARIOS, BenchError, Figures, Part, Run, Scenario, parts_of
from gamegirl.cli._console import output, say, shown, write_json
from gamegirl.cli._meter import Meter

THROWAWAY = ("redis", "sqlite")

_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost", None))


@attrs.frozen(kw_only=True)
class Order:
    """What was asked for.

    Attributes:
        scenarios: To be played, in this order.
        rounds: In all, over the hosts; None: as many as a full run has.
        seed: For everything random.
        backends: What workers run on.
        target: `redis` or `sqlite`, thrown away; or the URL of an empty local store.
        plain: With all safeguards.
        control: Without the safeguard of each.
        slack: Times may be so many times as long as promised.
        progress: Where to keep what is done, and to go on from.
    """

    scenarios: Sequence[Scenario]
    rounds: int | None
    seed: int
    backends: Sequence[str]
    target: str
    plain: bool
    control: bool
    slack: float
    progress: Path | None

    def parts(self, scenario: Scenario, *, control: bool) -> list[Part]:
        """What is to be played of a scenario."""
        full = scenario.control_rounds * len(self.backends) if control else scenario.rounds
        # A control is there to fail, which it does in its first rounds or not at all.
        rounds = full if self.rounds is None else min(self.rounds, full) if control else self.rounds
        return list(
            parts_of(
                scenario,
                self.backends,
                self.target,
                rounds,
                self.seed,
                control=control,
                slack=self.slack,
            )
        )


@attrs.frozen
class Result:
    """What came of a scenario.

    Attributes:
        figures: With all safeguards; None: not played so.
        control: Without its safeguard; None: not played so.
    """

    scenario: Scenario
    figures: Figures | None
    control: Figures | None

    @property
    def holds(self) -> bool:
        """Nothing was wrong, and something was where a safeguard was off if both were played."""
        if self.figures is None:
            return self.control is None or not self.control.violated
        proved = self.control is None or self.control.violated > 0
        return not self.figures.violated and proved


def chosen(names: Sequence[str], target: str) -> list[Scenario]:
    """The scenarios of these names; `all` names those that can be played on the store.

    Raises:
        InvalidInputError: There is none of such a name, or it can't be played on that store.
    """
    kind = "sqlite" if target.startswith("sqlite") else "redis"
    found: list[Scenario] = []
    for name in names:
        if name == "all":
            found += [one for one in SCENARIOS.values() if not _hindrance(one, kind, target)]
            continue
        scenario = SCENARIOS.get(name)
        if scenario is None:
            raise InvalidInputError(
                f"there is no scenario {name!r}; there are: all, {', '.join(SCENARIOS)}"
            )
        if hindrance := _hindrance(scenario, kind, target):
            raise InvalidInputError(hindrance)
        found.append(scenario)
    return list(dict.fromkeys(found))


def _hindrance(scenario: Scenario, kind: str, target: str) -> str:
    if kind not in scenario.stores:
        return f"{scenario.name} can't be played on {kind}: it needs a Redis"
    if scenario.own_server and target not in THROWAWAY:
        return (
            f"{scenario.name} kills, stops or fills the server, so it starts one of its own: "
            "leave --store out"
        )
    return ""


def checked_target(target: str | None) -> str:
    """The store to play on: a throw-away one, or an empty one on this machine.

    Raises:
        InvalidInputError: It is somewhere else.
    """
    if target is None or target in THROWAWAY:
        return target or "redis"
    parts = urlsplit(target)
    if parts.scheme in ("redis", "rediss") and parts.hostname not in _LOOPBACK:
        raise InvalidInputError(
            f"chaos plays on this machine only, not on {parts.hostname}: name a store on 127.0.0.1"
        )
    if parts.scheme not in ("redis", "rediss", "unix", "sqlite"):
        raise InvalidInputError(
            "--store is redis or sqlite (thrown away afterwards), or the URL of an empty store "
            "on this machine"
        )
    return target


def play(order: Order) -> list[Result]:
    """Play what was ordered.

    Raises:
        BenchError: A scenario can't be played here.
    """
    run = Run(order.progress)
    return [
        Result(
            scenario,
            _play(order, run, scenario, control=False) if order.plain else None,
            _play(order, run, scenario, control=True) if order.control else None,
        )
        for scenario in order.scenarios
    ]


def _play(order: Order, run: Run, scenario: Scenario, *, control: bool) -> Figures:
    figures = Figures()
    parts = order.parts(scenario, control=control)
    title = f"{scenario.name} without its safeguard" if control else scenario.name
    with Meter(f"{title} ({scenario.unit})", sum(part.rounds for part in parts)) as meter:
        for part in parts:
            before = run.done(part)
            figures.add(before or run.play(scenario, part, meter.advance))
            if before:
                meter.advance(part.rounds)
    verdict = f"{figures.violated:,} violations" if figures.violated else "no violation"
    hosts = " and ".join(order.backends)
    say(
        f"{title}: {figures.rounds:,} {scenario.unit} on {hosts} in {figures.seconds:.0f} s, "
        + verdict,
        "red" if bool(figures.violated) != control else "",
    )
    return figures


def show(results: Sequence[Result]) -> None:
    """Print the figures, and each violation."""
    for result in results:
        if result.figures is not None:
            _show(result.scenario, result.figures, control=False)
        if result.control is not None:
            _show(result.scenario, result.control, control=True)


def _show(scenario: Scenario, figures: Figures, *, control: bool) -> None:
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("scenario", f"{scenario.name}: {scenario.happens}")
    table.add_row("must hold", scenario.promise)
    if control:
        table.add_row("safeguard off", scenario.control)
    table.add_row(scenario.unit, f"{figures.rounds:,}")
    for line, text in figures.summary().items():
        table.add_row(line, text)
    table.add_row("violations", f"{figures.violated:,}", style="red" if figures.violated else "")
    console = output()
    console.print(table)
    for text in figures.violations:
        console.print(shown(f"  {text}", "red"), soft_wrap=True)
    if len(figures.violations) < figures.violated:
        console.print(f"  … and {figures.violated - len(figures.violations):,} more")


def list_scenarios(*, as_json: bool) -> None:
    """Print what can be played."""
    if as_json:
        write_json(
            [
                {
                    "scenario": one.name,
                    "happens": one.happens,
                    "promise": one.promise,
                    "rounds": one.rounds,
                    "unit": one.unit,
                    "stores": sorted(one.stores),
                }
                for one in SCENARIOS.values()
            ]
        )
        return
    table = Table("scenario", "what happens", "must hold", "full size", "stores")
    for one in SCENARIOS.values():
        size, stores = f"{one.rounds:,} {one.unit}", ", ".join(sorted(one.stores))
        table.add_row(one.name, one.happens, one.promise, size, stores)
    output().print(table)


def plain(order: Order, results: Sequence[Result]) -> dict[str, Any]:
    """The figures for a program."""
    return {
        "seed": order.seed,
        "backends": list(order.backends),
        "store": order.target if order.target in THROWAWAY else "given",
        "slack": order.slack,
        "python": platform.python_version(),
        "scenarios": {
            result.scenario.name: {
                name: {
                    "rounds": figures.rounds,
                    "seconds": round(figures.seconds, 1),
                    "figures": figures.numbers(),
                    "violations": figures.violated,
                    "examples": figures.violations,
                }
                for name, figures in (("run", result.figures), ("control", result.control))
                if figures is not None
            }
            for result in results
        },
    }


@contextmanager
def unharmed() -> Generator[None]:
    """A bench that can't be set up is told as one sentence, with exit status 2."""
    try:
        yield
    except BenchError as error:
        say(f"Error: {error}", "red")
        raise typer.Exit(2) from None


@contextmanager
def interruptible() -> Generator[None]:
    """A SIGTERM ends it like Ctrl-C: its servers and workers must not outlive it.

    Raises:
        KeyboardInterrupt: One came, whatever that has broken.
    """
    interrupted = False

    def interrupt(*_: object) -> None:
        """Take the way of Ctrl-C, by which the loop cancels what it runs; or the only other."""
        nonlocal interrupted
        interrupted = True
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # As of what a shell runs beside it.
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # Also a group of several tasks' errors, with it among them.
        if interrupted:
            # It came anywhere, also between two steps that belong together.
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
