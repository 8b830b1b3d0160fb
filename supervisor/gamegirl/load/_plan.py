"""What is to be played: channels, players, rates and times, checked when they are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs

from gamegirl.actors import InvalidInputError
from gamegirl.supervisor import Durability

RATE_MAX = 1_000_000.0
SECONDS_MAX = 86_400.0


class Arrivals(Enum):
    """How presses follow each other."""

    POISSON = "poisson"
    """As if they knew nothing of each other, which makes bursts."""

    CONSTANT = "constant"
    """As a metronome beats."""


BACKENDS = ("asyncio", "uvloop", "trio")


@attrs.frozen
class Step:
    """A part of the run, in which presses are offered at one rate.

    Attributes:
        rate: Presses a second, over all processes.
        seconds: How long.
    """

    rate: float
    seconds: float


@attrs.frozen
class Stall:
    """The store answers nobody for a while.

    Attributes:
        seconds: So long.
        at: So many seconds after the first press could come.
    """

    seconds: float
    at: float

    @classmethod
    def parse(cls, text: str) -> Stall:
        """Read `SECONDS@AT`.

        Raises:
            InvalidInputError: It is something else.

        Example:
            >>> Stall.parse("2@10")
            Stall(seconds=2.0, at=10.0)
        """
        seconds, _, at = text.partition("@")
        try:
            stall = cls(float(seconds), float(at))
        except ValueError:
            raise InvalidInputError(
                f"a stall is written SECONDS@AT, such as 2@10, not {text!r}"
            ) from None
        _within("stall", stall.seconds, 0.001, SECONDS_MAX)
        _within("begin of the stall", stall.at, 0.0, SECONDS_MAX)
        return stall


def ramp(text: str, steps: int, seconds: float) -> tuple[Step, ...]:
    """The steps of `FROM..TO`, all of one length, their rates evenly apart.

    Raises:
        InvalidInputError: It is no ramp.

    Example:
        >>> [step.rate for step in ramp("100..400", 4, 20)]
        [100.0, 200.0, 300.0, 400.0]
    """
    low, dots, high = text.partition("..")
    try:
        first, last = float(low), float(high)
    except ValueError:
        raise InvalidInputError(
            f"a ramp is written FROM..TO, presses a second, such as 500..4000, not {text!r}"
        ) from None
    _within("first rate of the ramp", first, 0.001, RATE_MAX)
    _within("last rate of the ramp", last, 0.001, RATE_MAX)
    if not dots or not first < last or steps < 2:
        raise InvalidInputError(f"a ramp goes up, in at least 2 steps: not {text!r} in {steps}")
    return tuple(
        Step(first + (last - first) * number / (steps - 1), seconds / steps)
        for number in range(steps)
    )


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be played.

    Attributes:
        steps: One after the other.
        channels: Each with a game; the first is the busiest.
        players: In each game.
        window: How long a turn's window is open, seconds.
        skew: The exponent of Zipf's law: how much busier the first channels are; 0: none is.
        durability: What an answer promises.
        backend: asyncio, uvloop or trio.
        processes: Between which the channels are split.
        arrivals: How presses follow each other.
        in_flight_max: So many presses may be unanswered, over all processes.
        stall: Of the store, if there is to be one.
        seed: Of everything random.
    """

    steps: tuple[Step, ...]
    channels: int = 1000
    players: int = 4
    window: float = 10.0
    skew: float = 0.8
    durability: Durability = Durability.COMMITTED
    backend: str = "asyncio"
    processes: int = 1
    arrivals: Arrivals = Arrivals.POISSON
    in_flight_max: int = 10_000
    stall: Stall | None = None
    seed: int = 1

    def __attrs_post_init__(self) -> None:
        for step in self.steps:
            _within("rate", step.rate, 0.001, RATE_MAX)
        _within("number of seconds", self.seconds, 0.1, SECONDS_MAX)
        _within("number of channels", self.channels, 1, 10_000_000)
        _within("number of players", self.players, 1, 10_000)
        _within("window", self.window, 0.01, SECONDS_MAX)
        _within("skew", self.skew, 0.0, 10.0)
        _within("number of processes", self.processes, 1, 256)
        _within("number of presses in flight", self.in_flight_max, self.processes, 10_000_000)
        if self.backend not in BACKENDS:
            raise InvalidInputError(
                f"there is no backend {self.backend!r}; there are {', '.join(BACKENDS)}"
            )
        if self.stall is not None and self.stall.at >= self.seconds:
            raise InvalidInputError(
                f"the stall would begin after {self.stall.at:g} s, but the run takes only "
                f"{self.seconds:g} s"
            )

    @property
    def seconds(self) -> float:
        """How long presses are offered."""
        return sum(step.seconds for step in self.steps)

    @property
    def is_ramp(self) -> bool:
        """Whether the rate changes."""
        return len(self.steps) > 1

    def plain(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        plain = attrs.asdict(self)
        plain["durability"] = self.durability.value
        plain["arrivals"] = self.arrivals.value
        return plain

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Plan:
        """What `plain` gave."""
        given = dict(plain)
        given["steps"] = tuple(Step(**step) for step in given["steps"])
        given["durability"] = Durability(given["durability"])
        given["arrivals"] = Arrivals(given["arrivals"])
        given["stall"] = None if given["stall"] is None else Stall(**given["stall"])
        return cls(**given)


def _within(name: str, value: float, least: float, most: float) -> None:
    if not math.isfinite(value) or not least <= value <= most:
        raise InvalidInputError(f"the {name} is from {least:,g} to {most:,g}, not {value:,g}")
