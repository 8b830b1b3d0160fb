"""What a run must meet, as somebody writes it on a command line: `p99<50ms`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import attrs

from gamegirl.actors import InvalidInputError
from gamegirl.load._histogram import PERCENTILES, Histogram
from gamegirl.load._report import Report


class _Kind(Enum):
    """What a figure measures: the unit that it is shown in."""

    TIME = " ms"
    RATE = "/s"
    COUNT = ""
    MEMORY = " MiB"


_UNITS = {
    _Kind.TIME: {"": 1.0, "us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1000.0},
    _Kind.RATE: {"": 1.0, "/s": 1.0},
    _Kind.COUNT: {"": 1.0},
    _Kind.MEMORY: {"": 1.0, "MiB": 1.0, "GiB": 1024.0},
}
"""The units that a figure may be compared in, and how many of its own one is."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}

_FORM = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<compare><=|>=|==|!=|<|>)\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>\S*)\s*"
)


_Measure: TypeAlias = Callable[[Report], "float | str"]
"""Gives a figure, or says why there is none."""


def _of_latency(name: str) -> _Measure:
    return lambda report: _time(report.figures.latency, name)


def _of_lateness(name: str) -> _Measure:
    return lambda report: _time(report.figures.lateness, name)


def _time(histogram: Histogram, name: str) -> float | str:
    return histogram.figures()[name] if histogram.count else "unknown: nothing was measured"


def _knee(report: Report) -> float:
    knee = report.knee
    return knee.rate_per_s if knee is not None else 0.0


def _lost(report: Report) -> float | str:
    verdict = report.verdict
    return "unknown: it was not verified" if verdict.unverified else verdict.lost


_FIGURES: dict[str, tuple[_Kind, _Measure]] = {
    **{name: (_Kind.TIME, _of_latency(name)) for name in (*PERCENTILES, "max")},
    **{f"lateness_{name}": (_Kind.TIME, _of_lateness(name)) for name in (*PERCENTILES, "max")},
    "offered": (_Kind.RATE, lambda report: report.offered_per_s),
    "achieved": (_Kind.RATE, lambda report: report.achieved_per_s),
    "commits": (_Kind.RATE, lambda report: report.commits_per_s),
    "knee": (_Kind.RATE, _knee),
    "acknowledged": (_Kind.COUNT, lambda report: report.acknowledged),
    "dropped": (_Kind.COUNT, lambda report: report.dropped),
    "errors": (_Kind.COUNT, lambda report: report.failed),
    "lost": (_Kind.COUNT, _lost),
    "windows": (_Kind.COUNT, lambda report: report.figures.lateness.count),
    "presses_per_commit": (_Kind.COUNT, lambda report: report.presses_per_commit),
    "rss": (_Kind.MEMORY, lambda report: report.rss_mib),
}

NAMES = tuple(_FIGURES)
"""What may be asserted about."""


@attrs.frozen
class Held:
    """What an assertion came to.

    Attributes:
        text: The assertion.
        value: What was measured, with its unit; or that nothing was, of which nothing holds.
        holds: Whether it is so.
    """

    text: str
    value: str
    holds: bool


@attrs.frozen
class Assertion:
    """Something that must be true of a report.

    Attributes:
        text: As it was written.
        name: Of the figure.
        compare: `<`, `<=`, `>`, `>=`, `==` or `!=`.
        bound: To be compared with, in the figure's own unit.
    """

    text: str
    name: str
    compare: str
    bound: float

    @classmethod
    def parse(cls, text: str, *, ramp: bool = False) -> Assertion:
        """Read an assertion.

        Args:
            text: As it was written.
            ramp: Whether a ramp is played, which alone has a knee.

        Raises:
            InvalidInputError: It is none; the message says what can be asserted.

        Example:
            >>> Assertion.parse("p99 < 0.05s").bound
            50.0
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise InvalidInputError(
                f"{text!r} is no assertion: write a figure, one of < <= > >= == !=, and a number "
                "with its unit, such as p99<50ms, dropped==0 or achieved>1000/s"
            )
        name, unit = form["name"], form["unit"]
        if name not in _FIGURES:
            raise InvalidInputError(
                f"{text!r}: there is no figure {name!r}; there are {', '.join(NAMES)}"
            )
        if name == "knee" and not ramp:
            raise InvalidInputError(f"{text!r}: only a --ramp has a knee")
        units = _UNITS[_FIGURES[name][0]]
        if unit not in units:
            possible = ", ".join(one for one in units if one) or "none"
            raise InvalidInputError(f"{text!r}: {unit!r} is no unit of {name}: {possible}")
        return cls(text, name, form["compare"], float(form["number"]) * units[unit])

    def check(self, report: Report) -> Held:
        """Whether it is true of a report."""
        kind, measure = _FIGURES[self.name]
        value = measure(report)
        if isinstance(value, str):
            return Held(self.text, value, holds=False)
        held = _COMPARE[self.compare](value, self.bound)
        return Held(self.text, f"{round(value, 3):,.12g}{kind.value}", held)
