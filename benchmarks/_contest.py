"""What is compared: workloads, their contestants, and the goals that ours must reach."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import attrs

ASYNCIO = "asyncio"
UVLOOP = "uvloop"
TRIO = "trio"
OWN = "own process"
"""The host of a contestant that runs in no Python loop: its figure counts for every host."""

SOURCES = "gamegirl, not compiled"
"""What runs where nothing is compiled, next to what is."""

Sample: TypeAlias = Mapping[str, float]
"""The figures of one round, by name."""

Measure: TypeAlias = Callable[[], Awaitable[Sample]]
"""Runs one round."""


@attrs.frozen
class Site:
    """Where a contestant competes.

    Attributes:
        variant: The workload's.
        host: What runs its loop.
        round_seconds: How long a round shall take, roughly.
        redis: The URL of a server, with a database of its own; empty: the workload needs none.
    """

    variant: str
    host: str
    round_seconds: float
    redis: str = ""


def always_there() -> str | None:
    return None


@attrs.frozen
class Contestant:
    """One that can do the work.

    Attributes:
        name: As the results show it.
        hosts: Where it runs.
        enter: Sets it up, which isn't timed, and gives what runs a round.
        missing: Why it can't compete on this machine; None: it can.
        from_sources: It runs gamegirl's sources, whatever is compiled.
    """

    name: str
    hosts: Sequence[str]
    enter: Callable[[Site], AbstractAsyncContextManager[Measure]]
    missing: Callable[[], str | None] = always_there
    from_sources: bool = False


@attrs.frozen
class Goal:
    """What a figure of ours shall be: so many times a peer's, or so much by itself.

    A goal without a bound is there to be seen: it shows the ratio, and can't be missed. So does any
    on uvloop: what is promised holds for asyncio and for trio.

    Attributes:
        against: The peer's name; empty: the bound is a value, whoever else competes.
        at_least: The lowest ratio or value that will do.
        on_trio: The same there, if another.
        at_most: The highest one.
        figure: The name of the figure; empty: the workload's.
        unit: Its unit, if it has one of its own.
    """

    against: str = ""
    at_least: float | None = None
    on_trio: float | None = None
    at_most: float | None = None
    figure: str = ""
    unit: str = ""

    def lowest(self, host: str) -> float | None:
        """The lowest ratio or value that will do on this host; None: any will."""
        if host == UVLOOP:
            return None
        return self.on_trio if host == TRIO and self.on_trio is not None else self.at_least

    def highest(self, host: str) -> float | None:
        """The highest ratio or value that will do on this host; None: any will."""
        return None if host == UVLOOP else self.at_most

    def met(self, value: float, host: str) -> bool | None:
        """Whether that will do; None: anything will."""
        lowest, highest = self.lowest(host), self.highest(host)
        if lowest is None and highest is None:
            return None
        return (lowest is None or value >= lowest) and (highest is None or value <= highest)


@attrs.frozen
class Variant:
    """A form of a workload.

    Attributes:
        aof: `no` or `everysec`: it needs a Redis with such an append-only file; empty: it doesn't.
        figure: What is compared in this one, if another figure than the workload's.
        unit: Its unit.
        goals: Those of this one alone.
    """

    name: str
    aof: str = ""
    figure: str = ""
    unit: str = ""
    goals: Sequence[Goal] = ()


@attrs.frozen
class Workload:
    """Something to do, and who does it; the first contestant is ours.

    Attributes:
        figure: The name of the figure that is compared.
        unit: Its unit.
        goals: Those of all variants.
        details: The names of other figures worth showing.
        laps: So often all begin anew, in other processes, for as many rounds as are asked for.
    """

    name: str
    promise: str
    figure: str
    unit: str
    variants: Sequence[Variant]
    contestants: Sequence[Contestant]
    goals: Sequence[Goal]
    round_seconds: float
    details: Sequence[str] = ()
    laps: int = 1

    def contestant(self, name: str) -> Contestant:
        return next(one for one in self.contestants if one.name == name)

    def variant(self, name: str) -> Variant:
        return next(one for one in self.variants if one.name == name)


def uninstalled(module: str) -> Callable[[], str | None]:
    """Why a contestant that needs this module can't compete."""

    def missing() -> str | None:
        return None if importlib.util.find_spec(module) else f"{module} is not installed"

    return missing
