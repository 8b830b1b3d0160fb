"""The command `chaos`: which scenarios to play, how far they are, what they found."""

from __future__ import annotations

import platform
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import typer
from rich.table import Table

from gamegirl.actors import InvalidInputError
from gamegirl.chaos import SCENARIOS, BenchError, Figures, Part, Run, Scenario, parts_of
from gamegirl.cli._console import output, say, shown
from gamegirl.cli._meter import Meter

THROWAWAY = ("redis", "sqlite")

_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost", None))


class Backends(StrEnum):
    """What workers run on."""

    ASYNCIO = "asyncio"
    TRIO = "trio"
    BOTH = "both"

    @property
    def names(self) -> tuple[str, ...]:
        """Each of them."""
        return ("asyncio", "trio") if self is Backends.BOTH else (self.value,)


@attrs.frozen(kw_only=True)
class Order:
    """What was asked for.

    Attributes:
        scenarios: To be played, in this order.
        rounds: In all, over the hosts; None: as many as a full run has.
        seed: For everything random.
        backends: What workers run on.
        target: `redis` or `sqlite`, thrown away; or the URL of an empty local store.
        control: Without their safeguards.
        progress: Where to keep what is done, and to go on from.
    """

    scenarios: Sequence[Scenario]
    rounds: int | None
    seed: int
    backends: Sequence[str]
    target: str
    control: bool
    progress: Path | None

    def parts(self, scenario: Scenario) -> list[Part]:
        """What is to be played of a scenario."""
        rounds = self.rounds
        if rounds is None:
            each = scenario.control_rounds * len(self.backends)
            rounds = each if self.control else scenario.rounds
        return list(
            parts_of(scenario, self.backends, self.target, rounds, self.seed, control=self.control)
        )


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


def play(order: Order) -> dict[str, Figures]:
    """Play what was ordered; the figures of each scenario.

    Raises:
        BenchError: A scenario can't be played here.
    """
    run = Run(order.progress)
    found: dict[str, Figures] = {}
    for scenario in order.scenarios:
        figures = found[scenario.name] = Figures()
        parts = order.parts(scenario)
        done = [part for part in parts if run.done(part)]
        if done:
            say(f"{scenario.name}: {len(done)} of {len(parts)} parts were played before")
        title = f"{scenario.name}{' without its safeguard' if order.control else ''}"
        total = sum(part.rounds for part in parts)
        with Meter(f"{title} ({scenario.unit})", total) as meter:
            for part in parts:
                before = run.done(part)
                figures.add(before or run.play(scenario, part, meter.advance))
                if before:
                    meter.advance(part.rounds)
        verdict = f"{figures.violated:,} violations" if figures.violated else "as promised"
        say(
            f"{title}: {figures.rounds:,} {scenario.unit} in {figures.seconds:.0f} s, {verdict}",
            "red" if figures.violated and not order.control else "",
        )
    return found


def show(found: dict[str, Figures], *, control: bool) -> None:
    """Print the figures, and each violation."""
    for name, figures in found.items():
        scenario = SCENARIOS[name]
        table = Table(title=f"{name}: {scenario.happens}", title_justify="left", show_header=False)
        table.add_column()
        table.add_column()
        table.add_row("must hold", scenario.promise)
        if control:
            table.add_row("safeguard off", scenario.control)
        table.add_row(scenario.unit, f"{figures.rounds:,}")
        for line, text in figures.summary().items():
            table.add_row(line, text)
        table.add_row(
            "violations", f"{figures.violated:,}", style="red" if figures.violated else ""
        )
        output().print(table)
        for text in figures.violations:
            output().print(shown(f"  {text}", "red"), soft_wrap=True)
        if len(figures.violations) < figures.violated:
            output().print(f"  … and {figures.violated - len(figures.violations):,} more")


def plain(order: Order, found: dict[str, Figures]) -> dict[str, Any]:
    """The figures for a program."""
    return {
        "seed": order.seed,
        "backends": list(order.backends),
        "store": order.target if order.target in THROWAWAY else "given",
        "control": order.control,
        "python": platform.python_version(),
        "scenarios": {
            name: {
                "rounds": figures.rounds,
                "seconds": round(figures.seconds, 1),
                "figures": figures.summary(),
                "violations": figures.violated,
                "examples": figures.violations,
            }
            for name, figures in found.items()
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


def a_seed(
    seed: int | None, choose: Callable[[], int] = lambda: random.randrange(1_000_000)
) -> int:
    """The seed that was given, or another one, which is named so that the run can be repeated."""
    if seed is None:
        seed = choose()
    say(f"Seed {seed}")
    return seed
