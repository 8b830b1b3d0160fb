"""What a run of a scenario counted, measured and found wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

_VIOLATIONS_SHOWN = 50
"""So many violations are kept word for word; all are counted."""


@attrs.define
class Figures:
    """Counts, measurements and violations, which add up over parts.

    Attributes:
        rounds: So many rounds were run.
        seconds: They took so long.
        counts: What was counted.
        samples: What was measured, each value.
        peaks: The largest value of what was watched.
        violations: What must not be, the first of them word for word.
        violated: How many violations there were.
    """

    rounds: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = attrs.Factory(dict[str, int])
    samples: dict[str, list[float]] = attrs.Factory(dict[str, "list[float]"])
    peaks: dict[str, float] = attrs.Factory(dict[str, float])
    violations: list[str] = attrs.Factory(list[str])
    violated: int = 0

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count; by 0 makes it known."""
        self.counts[name] = self.counts.get(name, 0) + by

    def sample(self, name: str, value: float) -> None:
        """Keep a measured value."""
        self.samples.setdefault(name, []).append(round(value, 3))

    def peak(self, name: str, value: float) -> None:
        """Keep the value if it is the largest so far."""
        self.peaks[name] = max(round(value, 3), self.peaks.get(name, -math.inf))

    def violation(self, text: str) -> None:
        """Something is not as promised."""
        self.violated += 1
        if len(self.violations) < _VIOLATIONS_SHOWN:
            self.violations.append(text)

    def add(self, other: Figures) -> None:
        """Take another part's figures in."""
        self.rounds += other.rounds
        self.seconds += other.seconds
        for name, by in other.counts.items():
            self.count(name, by)
        for name, values in other.samples.items():
            self.samples.setdefault(name, []).extend(values)
        for name, value in other.peaks.items():
            self.peak(name, value)
        self.violated += other.violated
        room = _VIOLATIONS_SHOWN - len(self.violations)
        self.violations.extend(other.violations[: max(room, 0)])

    def numbers(self) -> dict[str, int | dict[str, float]]:
        """Every figure, in the order in which they came up: a count, or what was measured."""
        found: dict[str, int | dict[str, float]] = {**self.counts}
        for name, values in self.samples.items():
            found[name] = {
                "p50": quantile(values, 0.5),
                "p99": quantile(values, 0.99),
                "max": max(values),
                "values": len(values),
            }
        found.update({name: {"max": value} for name, value in self.peaks.items()})
        return found

    def summary(self) -> dict[str, str]:
        """The same as texts."""
        return {name: _text_of(figure) for name, figure in self.numbers().items()}

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Figures:
        """What `plain` gave."""
        return cls(**plain)


def _text_of(figure: int | dict[str, float]) -> str:
    if isinstance(figure, int):
        return f"{figure:,}"
    if "p50" not in figure:
        return f"at most {figure['max']:,.1f}"
    return (
        f"p50 {figure['p50']:,.1f}, p99 {figure['p99']:,.1f}, "
        f"max {figure['max']:,.1f} ({figure['values']:,} values)"
    )


def quantile(values: list[float], part: float) -> float:
    """The value that so large a part of the values doesn't exceed.

    Example:
        >>> quantile([3.0, 1.0, 2.0], 0.5)
        2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
