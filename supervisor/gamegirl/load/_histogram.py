"""Times in a HdrHistogram: exact to a part of the value, whatever its size, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # it has no types

LONGEST_SECONDS = 3600.0
"""Whatever takes longer counts as this long."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}

_MICROSECONDS = 1_000_000
_MOST = int(LONGEST_SECONDS * _MICROSECONDS)
_ROUGH, _EXACT = 2, 3
_STEPS = (1, 2, 5)
_LEAST_BOUND = -9


class Histogram:
    """How often which time was measured.

    Args:
        exact: To a thousandth of the value; else to a hundredth, in a tenth of the memory.
    """

    __slots__ = ("_counts", "_digits", "_record")

    def __init__(self, *, exact: bool = False) -> None:
        self._digits = _EXACT if exact else _ROUGH
        self._counts: Any = cast(Any, HdrHistogram)(1, _MOST, self._digits)
        self._record = self._counts.record_value

    def record(self, seconds: float) -> None:
        """Count a time; one that has not even begun to pass counts as none."""
        self._record(min(max(int(seconds * _MICROSECONDS), 0), _MOST))

    def add(self, other: Histogram) -> None:
        """Count all that another one has counted."""
        if other.count:
            self._counts.add(other._counts)

    @property
    def count(self) -> int:
        """How many were counted."""
        total: int = self._counts.get_total_count()
        return total

    def quantile(self, percent: float) -> float:
        """The time in ms that this part of all did not exceed; 0 if there were none."""
        return float(self._counts.get_value_at_percentile(percent)) / 1000 if self.count else 0.0

    @property
    def longest(self) -> float:
        """The longest time, in ms; 0 if there was none."""
        return float(self._counts.get_max_value()) / 1000 if self.count else 0.0

    def figures(self) -> dict[str, float]:
        """The usual percentiles and the longest, in ms."""
        found = {name: round(self.quantile(part), 3) for name, part in PERCENTILES.items()}
        # A bucket's upper end may lie above all that is in it.
        longest = max([round(self.longest, 3), *found.values()]) if self.count else 0.0
        return {**found, "max": longest}

    def recorded(self) -> Iterator[tuple[float, int]]:
        """Each time in ms that was measured, the smallest first, and how often."""
        if self.count:
            for item in self._counts.get_recorded_iterator():
                yield item.value_iterated_to / 1000, item.count_at_value_iterated_to

    def curve(self) -> Iterator[tuple[float, float]]:
        """Percentiles and times in ms, ever closer together towards 100."""
        if self.count:
            for item in self._counts.get_percentile_iterator(4):
                yield item.percentile_level_iterated_to, item.value_iterated_to / 1000

    def rows(self) -> list[tuple[float, float, int]]:
        """How many times lay above one bound and up to the next, in ms: 1, 2, 5, 10 and so on."""
        counts: dict[int, int] = {}
        for value, count in self.recorded():
            number = _bound_number(value)
            counts[number] = counts.get(number, 0) + count
        if not counts:
            return []
        return [
            (_bound(number - 1), _bound(number), counts.get(number, 0))
            for number in range(min(counts), max(counts) + 1)
        ]

    def encoded(self) -> str:
        """The histogram as text, compressed."""
        encoded: bytes = self._counts.encode()
        return f"{self._digits}:{encoded.decode()}"

    @classmethod
    def decoded(cls, text: str) -> Histogram:
        """What `encoded` gave."""
        digits, _, encoded = text.partition(":")
        made = cls(exact=int(digits) == _EXACT)
        made._counts.decode_and_add(encoded)
        return made


def _bound(number: int) -> float:
    """Of 1, 2, 5, 10, 20 …, with 1 at number 0.

    Example:
        >>> [_bound(number) for number in range(-3, 4)]
        [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    """
    decade, place = divmod(number, len(_STEPS))
    return _STEPS[place] * 10.0**decade if decade >= 0 else _STEPS[place] / 10**-decade


def _bound_number(value: float) -> int:
    """The first bound that a value does not exceed."""
    number = _LEAST_BOUND
    while _bound(number) < value:
        number += 1
    return number
