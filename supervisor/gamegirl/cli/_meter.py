"""Progress, for whatever takes longer than a person waits without wondering."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gamegirl.cli._console import errors, say

PATIENCE_SECONDS = 2.0
"""What is done sooner shows no progress; where no terminal is, a line comes so often."""


class Meter:
    """Shows how far something has come, on the standard error.

    Args:
        doing: What is done, in a word or two.
        total: How many steps it has.
        clock: Seconds that only grow.
    """

    def __init__(self, doing: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._doing = doing
        self._total = total
        self._clock = clock
        self._done = 0
        self._told = clock()
        self._bar: Progress | None = None

    def advance(self, steps: int = 1) -> None:
        """So many more steps are done."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif self._clock() - self._told >= PATIENCE_SECONDS:
            self._told = self._clock()
            self._tell()

    def _tell(self) -> None:
        console = errors()
        if not console.is_terminal:
            say(f"{self._doing}: {self._done} of {self._total}")
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bar.add_task(self._doing, total=self._total, completed=self._done)
        self._bar.start()

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
