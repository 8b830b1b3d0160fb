"""A run: which parts there are, which are done already, and what came of them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs

from gamegirl.chaos._bench import Bench
from gamegirl.chaos._figures import Figures
from gamegirl.chaos._scenario import Scenario

PART_SECONDS = 3600.0
"""No part may take longer."""


@attrs.frozen(kw_only=True)
class Part:
    """Some rounds of a scenario, in one world.

    Attributes:
        scenario: Its name.
        backend: What the workers run on.
        target: `redis`, `sqlite` or a URL.
        rounds: So many.
        seed: For everything random.
        control: Without its safeguard.
        slack: Times may be so many times as long as promised.
    """

    scenario: str
    backend: str
    target: str
    rounds: int
    seed: int
    control: bool = False
    slack: float = 1.0


def run_part(
    scenario: Scenario,
    part: Part,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> Figures:
    """Play a part in an empty folder; what it counted, measured and found wrong."""

    async def play() -> Figures:
        began = time.monotonic()
        with anyio.fail_after(PART_SECONDS):
            async with Bench(
                backend=part.backend,
                seed=part.seed,
                folder=folder,
                target=part.target,
                control=part.control,
                slack=part.slack,
                tick=tick,
            ) as bench:
                await scenario.run(bench, part.rounds)
        bench.figures.seconds = time.monotonic() - began
        return bench.figures

    return anyio.run(play)


def parts_of(
    scenario: Scenario,
    backends: Sequence[str],
    target: str,
    rounds: int,
    seed: int,
    *,
    control: bool = False,
    slack: float = 1.0,
) -> Iterator[Part]:
    """The parts of so many rounds in all, spread evenly over the hosts."""
    for position, backend in enumerate(backends):
        left = rounds // len(backends) + (position < rounds % len(backends))
        number = 0
        while left > 0:
            size = min(left, scenario.batch)
            yield Part(
                scenario=scenario.name,
                backend=backend,
                target=target,
                rounds=size,
                seed=seed * 1000 + number,
                control=control,
                slack=slack,
            )
            left -= size
            number += 1


class Run:
    """Plays parts and keeps what came of each in a file, so that it can go on where it stopped.

    Args:
        progress: The file, one JSON object a line; None: nothing is kept.
    """

    def __init__(self, progress: Path | None = None) -> None:
        self._progress = progress
        self._done: dict[Part, Figures] = {}
        if progress is not None and progress.exists():
            for line in progress.read_text().splitlines():
                kept: dict[str, Any] = json.loads(line)
                self._done[Part(**kept["part"])] = Figures.of_plain(kept["figures"])

    def done(self, part: Part) -> Figures | None:
        """What came of a part that was played before."""
        return self._done.get(part)

    def play(self, scenario: Scenario, part: Part, tick: Callable[[], None]) -> Figures:
        """Play a part, unless that was done before."""
        figures = self._done.get(part)
        if figures is None:
            with tempfile.TemporaryDirectory(prefix="gamegirl-chaos-") as folder:
                figures = run_part(scenario, part, Path(folder), tick)
            self._done[part] = figures
            if self._progress is not None:
                self._progress.parent.mkdir(parents=True, exist_ok=True)
                with self._progress.open("a") as file:
                    kept = {"part": attrs.asdict(part), "figures": figures.plain()}
                    file.write(json.dumps(kept) + "\n")
        return figures
