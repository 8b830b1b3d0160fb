"""What is measured while it is played, in intervals of time, for one process or added up."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from gamegirl.load._histogram import Histogram
from gamegirl.load._plan import Step

INTERVALS_MAX = 240
_SHORTEST_SECONDS = 0.5
_ROUNDING = 1e-6


def interval_bounds(steps: Sequence[Step]) -> list[float]:
    """When intervals begin and end, in seconds from the start; none reaches over two steps.

    Example:
        >>> interval_bounds([Step(10, 1.0), Step(20, 1.0)])
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    seconds = sum(step.seconds for step in steps)
    length = max(_SHORTEST_SECONDS, seconds / INTERVALS_MAX)
    bounds, begin = [0.0], 0.0
    for step in steps:
        pieces = max(1, math.floor(step.seconds / length))
        bounds += [begin + step.seconds * piece / pieces for piece in range(1, pieces + 1)]
        begin += step.seconds
    return bounds


@attrs.define
class Interval:
    """What was measured in a piece of time.

    Attributes:
        offered: Presses that the schedule had in it.
        dropped: Of these, those that were not begun, as too many were unanswered.
        failed: Of these, those that got an error, or no answer.
        acknowledged: Of these, those that were.
        answered: Acknowledgements that came in it, before the end of offers, whenever their presses
            were due.
        latency: Of those that were due in it, from then to their answers or errors.
        lateness: Of windows that closed in it; in the last one also of those that had not.
        rss_mib: What was resident in memory at its end.
    """

    offered: int = 0
    dropped: int = 0
    failed: int = 0
    acknowledged: int = 0
    answered: int = 0
    latency: Histogram | None = None
    lateness: Histogram | None = None
    rss_mib: float = 0.0

    def add(self, other: Interval) -> None:
        """Count what another process measured in the same piece of time."""
        self.offered += other.offered
        self.dropped += other.dropped
        self.failed += other.failed
        self.acknowledged += other.acknowledged
        self.answered += other.answered
        self.rss_mib += other.rss_mib
        self.latency = _sum(self.latency, other.latency)
        self.lateness = _sum(self.lateness, other.lateness)

    def plain(self) -> dict[str, Any]:
        """The interval as JSON has it."""
        return attrs.asdict(
            self,
            value_serializer=lambda _, __, value: (
                value.encoded() if isinstance(value, Histogram) else value
            ),
        )

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Interval:
        """What `plain` gave."""
        given = dict(plain)
        for name in ("latency", "lateness"):
            given[name] = None if given[name] is None else Histogram.decoded(given[name])
        return cls(**given)


def _sum(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    if other is None:
        return one
    total = one or Histogram()
    total.add(other)
    return total


class Figures:
    """All that is measured, by one process or, added up, by all.

    Args:
        steps: What is played.

    Attributes:
        bounds: When intervals begin and end, seconds from the start.
        intervals: What was measured in each.
        until: When presses are offered no more, seconds from the start; earlier than planned if it
            was stopped.
        latency: Of all presses that were begun, from when they were due to their answers or errors.
        lateness: Of all windows, from their deadline to the event of their committed close; of
            those that are overdue when the run ends, to that end.
        errors: How many presses failed, by the error's class.
        counts: What else was counted, each of which adds up over processes.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.bounds = interval_bounds(steps)
        self.intervals = [Interval() for _ in self.bounds[1:]]
        self.latency = Histogram(exact=True)
        self.lateness = Histogram(exact=True)
        self.errors: dict[str, int] = {}
        self.counts: dict[str, float] = {}
        self.until = self.bounds[-1]
        self._last = len(self.intervals) - 1

    def at(self, offset: float) -> Interval:
        """The interval that a time is in; all before or after them is in the first or the last."""
        return self.intervals[min(max(bisect_right(self.bounds, offset) - 1, 0), self._last)]

    def acknowledged(self, due: float, answered: float) -> None:
        """A press that was due at one time was answered at another."""
        self.at(due).acknowledged += 1
        self._waited(due, answered)
        if answered < self.until:
            self.at(answered).answered += 1

    def failed(self, due: float, told: float, kind: str) -> None:
        """A press that was due at one time got an error of this class, or no answer, at another."""
        self.at(due).failed += 1
        self.errors[kind] = self.errors.get(kind, 0) + 1
        self._waited(due, told)  # Or an outage would look as if nobody had waited.

    def _waited(self, due: float, told: float) -> None:
        interval = self.at(due)
        if interval.latency is None:
            interval.latency = Histogram()
        interval.latency.record(told - due)
        self.latency.record(told - due)

    def closed(self, at: float, late: float) -> None:
        """A window's close was told, or had not been at the end, so long after its deadline."""
        interval = self.at(at)
        if interval.lateness is None:
            interval.lateness = Histogram()
        interval.lateness.record(late)
        self.lateness.record(late)

    def add(self, other: Figures) -> None:
        """Count what another process measured."""
        for ours, theirs in zip(self.intervals, other.intervals, strict=True):
            ours.add(theirs)
        self.latency.add(other.latency)
        self.lateness.add(other.lateness)
        for kind, count in other.errors.items():
            self.errors[kind] = self.errors.get(kind, 0) + count
        for name, value in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value

    def plain(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        return {
            "intervals": [interval.plain() for interval in self.intervals],
            "latency": self.latency.encoded(),
            "lateness": self.lateness.encoded(),
            "errors": self.errors,
            "counts": self.counts,
        }

    @classmethod
    def of_plain(cls, steps: Sequence[Step], plain: Mapping[str, Any]) -> Figures:
        """What `plain` gave of the same steps."""
        figures = cls(steps)
        figures.intervals = [Interval.of_plain(one) for one in plain["intervals"]]
        figures.latency = Histogram.decoded(plain["latency"])
        figures.lateness = Histogram.decoded(plain["lateness"])
        figures.errors = dict(plain["errors"])
        figures.counts = dict(plain["counts"])
        return figures

    def of_steps(self, steps: Sequence[Step]) -> list[Interval]:
        """What was measured in each step."""
        sums = [Interval() for _ in steps]
        position, end = 0, steps[0].seconds
        for begin, interval in zip(self.bounds, self.intervals, strict=False):
            while begin >= end - _ROUNDING and position < len(steps) - 1:
                position += 1
                end += steps[position].seconds
            sums[position].add(interval)
            sums[position].rss_mib = interval.rss_mib
        return sums
