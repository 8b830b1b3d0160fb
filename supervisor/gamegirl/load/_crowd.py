"""Who presses where: channels of unequal business, split between processes."""

from __future__ import annotations

import random
import zlib
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

import attrs


def channel_name(run: str, number: int) -> str:
    """A channel of this run, which is nobody else's; its game is named alike."""
    return f"load-{run}-{number}"


def home(number: int, processes: int) -> int:
    """The process that a channel is played in: by its number's hash, so that busy ones mix.

    Each run's channels have other names, and one seed is to split them alike in all runs.
    """
    return zlib.crc32(str(number).encode()) % processes


def weights(channels: int, skew: float) -> list[float]:
    """How busy each channel is, in all 1: Zipf's law, the first is the busiest.

    Example:
        >>> weights(2, 1.0)
        [0.666..., 0.333...]
    """
    raw = [(number + 1) ** -skew for number in range(channels)]
    total = sum(raw)
    return [one / total for one in raw]


@attrs.frozen
class Crowd:
    """The players of one process's channels.

    Attributes:
        numbers: Its channels.
        share: The part of all presses that is theirs.
        players: In each.
    """

    numbers: Sequence[int]
    share: float
    players: int
    _cumulative: Sequence[float]

    @classmethod
    def of(cls, *, channels: int, skew: float, players: int, process: int, processes: int) -> Crowd:
        """The crowd of one of the processes."""
        numbers = [number for number in range(channels) if home(number, processes) == process]
        business = weights(channels, skew)
        cumulative = list(accumulate(business[number] for number in numbers))
        return cls(numbers, cumulative[-1] if cumulative else 0.0, players, cumulative)

    def choose(self, randomness: random.Random) -> tuple[int, int]:
        """Whose turn it is to press: the position of a channel in `numbers`, and a player."""
        position = bisect(self._cumulative, randomness.random() * self.share)
        # The last sum may have been rounded to less than what was drawn below it.
        last = len(self.numbers) - 1
        return min(position, last), int(randomness.random() * self.players)
