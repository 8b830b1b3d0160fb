"""A run: processes that play their shares at one time, and what they add up to."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import IO, Any, Protocol

import anyio
import attrs
from anyio.abc import Process, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from gamegirl.load import _worker as worker
from gamegirl.load._errors import LoadError
from gamegirl.load._figures import Figures
from gamegirl.load._ledger import Verdict
from gamegirl.load._plan import Plan
from gamegirl.load._report import Report
from gamegirl.load._share import GRACE_SECONDS, OVERTIME_SECONDS, Tick
from gamegirl.load._target import Target

BOOT_SECONDS = 600.0
"""Starting processes and games may take so long; looking into the store as well."""

_START = f"from {worker.__name__} import main; main()"
_LINE_MAX = 1 << 28
_AHEAD_SECONDS = 0.2
_LIVE_SECONDS = 0.5
_LOOK_SECONDS = 0.1
_COUNT_SECONDS = 1e-5
_LATE_SECONDS = 60.0
_LOG_SHOWN = 2000


@attrs.frozen
class Live:
    """How a run goes at a moment.

    Attributes:
        seconds: Since it began.
        target: Presses a second that are offered now.
        achieved: Answers a second, lately.
        dropped: So far.
        failed: So far.
        p50: Of the answers lately, ms.
        p99: Of the answers lately, ms.
        sessions: That are live.
        rss_mib: What is resident in memory, over all processes.
    """

    seconds: float
    target: float
    achieved: float
    dropped: int
    failed: int
    p50: float
    p99: float
    sessions: int
    rss_mib: float


class Watch(Protocol):
    """Is told how a run goes."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Something that takes a while has come so far."""
        ...

    def live(self, now: Live) -> None:
        """Presses are being offered."""
        ...


class Hand:
    """A process that plays a share, as the run sees it.

    Attributes:
        ready: It has started its games.
        played: It has told its figures.
        done: It has told what the store said of them, or never will.
        booted: So many games have been started.
        looked: So many channels have been looked at in the store.
        figures: What it measured, once it has played.
        verdict: What the store said, once it is done.
    """

    def __init__(self, number: int, process: Process, log: Path) -> None:
        self._number = number
        self._process = process
        self._log = log
        self.ready = anyio.Event()
        self.played = anyio.Event()
        self.done = anyio.Event()
        self.booted = 0
        self.looked = 0
        self._seen = Tick(0.0, 0, 0, 0, 0, 0, 0, 0.0, ())
        self._ticks: list[Tick] = []
        self.figures: dict[str, Any] = {}
        self.verdict = Verdict()

    async def tell(self, order: str, content: Any = True) -> None:
        """Order something."""
        assert self._process.stdin is not None
        with suppress(anyio.BrokenResourceError):  # It has ended, which `listen` tells.
            await self._process.stdin.send(json.dumps({order: content}).encode() + b"\n")

    async def listen(self) -> None:
        """Take what it tells, until it is done.

        If it fails after it has played, only the store was not looked into.

        Raises:
            LoadError: It failed before.
        """
        assert self._process.stdout is not None
        lines = BufferedByteReceiveStream(self._process.stdout)
        while not self.done.is_set():
            try:
                line = await lines.receive_until(b"\n", _LINE_MAX)
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError):
                self._fail(f"ended before it was done{self._tail()}")
            else:
                what, content = json.loads(line)
                self._take(what, content)

    def give_up(self, reason: str) -> None:
        """Wait no longer for what it tells: that it ends is no news any more."""
        if not self.done.is_set():
            self.verdict = Verdict(unverified=reason)
            self.done.set()
            with suppress(ProcessLookupError):  # It has ended.
                self._process.kill()

    def _fail(self, how: str) -> None:
        reason = f"process {self._number} of the load {how}"
        if not self.played.is_set() and not self.done.is_set():
            raise LoadError(reason)
        self.give_up(reason)

    @property
    def has_news(self) -> bool:
        """Whether there are ticks that nobody has seen."""
        return bool(self._ticks)

    def news(self) -> tuple[Tick, Sequence[Tick]]:
        """The tick that was seen last, and those since then."""
        before, ticks = self._seen, self._ticks
        self._seen, self._ticks = ticks[-1], []
        return before, ticks

    def _take(self, what: str, content: Any) -> None:
        if what == worker.TICK:
            self._ticks.append(Tick(**content))
        elif what == worker.BOOTED:
            self.booted = content
        elif what == worker.LOOKED:
            self.looked = content
        elif what == worker.READY:
            self.ready.set()
        elif what == worker.PLAYED:
            self.figures = content
            self.played.set()
        elif what == worker.RESULT:
            self.verdict = Verdict(**content)
            self.done.set()
        else:
            self._fail(f"failed: {content}")

    def _tail(self) -> str:
        text = self._log.read_text(errors="replace")[-_LOG_SHOWN:].strip()
        return f"; it said: {text}" if text else ""


class LoadRun:
    """Plays a plan on a store.

    Args:
        plan: What to play.
        target: Where.
        run: The run's name, which its channels and games bear.
        watch: Is told how it goes.
    """

    def __init__(self, plan: Plan, target: Target, run: str, watch: Watch) -> None:
        self._plan = plan
        self._target = target
        self._run = run
        self._watch = watch
        self._hands: list[Hand] = []
        self._interrupted = False

    async def play(self) -> Report:
        """Play, look into the store, and report.

        The first SIGINT ends the presses early, a second one, or a SIGTERM, everything. What was
        played is reported also if the store can't be looked into: then the verdict says so.

        Raises:
            LoadError: A process ended, or the store could not be used, before all had played.
            KeyboardInterrupt: It was ended, or interrupted before anything was played.
        """
        report: Report | None = None
        try:
            with tempfile.TemporaryDirectory(prefix="gamegirl-load-") as folder:
                async with anyio.create_task_group() as tasks:
                    if threading.current_thread() is threading.main_thread():
                        await tasks.start(self._heed, tasks.cancel_scope)
                    async with self._processes(Path(folder)) as hands:
                        self._hands = hands
                        for hand in hands:
                            tasks.start_soon(hand.listen)
                        report = await self._conduct()
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            ours = group.subgroup(LoadError)
            if ours is None:
                raise
            raise worker.first_of(ours) from group
        if report is None:
            raise KeyboardInterrupt
        return report

    @asynccontextmanager
    async def _processes(self, folder: Path) -> AsyncGenerator[list[Hand]]:
        hands: list[Hand] = []
        processes: list[Process] = []
        try:
            for number in range(self._plan.processes):
                log = folder / f"{number}.log"
                with log.open("wb") as stream:
                    process = await _start(stream)
                processes.append(process)
                hands.append(Hand(number, process, log))
                assert process.stdin is not None
                given = {
                    "plan": self._plan.plain(),
                    "run": self._run,
                    "process": number,
                    "url": self._target.url,
                }
                await process.stdin.send(json.dumps(given).encode() + b"\n")
            yield hands
        except BaseException:
            for hand in hands:
                hand.give_up("the run has ended")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                for process in processes:
                    await process.aclose()

    async def _heed(self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for one in signals:
                began = all(hand.ready.is_set() for hand in self._hands) and self._hands
                if self._interrupted or not began or one == signal.SIGTERM:
                    scope.cancel()
                self._interrupted = True
                for hand in self._hands:
                    await hand.tell(worker.STOP)

    async def _conduct(self) -> Report:
        plan, hands = self._plan, self._hands
        with _bounded(BOOT_SECONDS, "get its games ready"):
            await self._progress("starting games", "booted", [hand.ready for hand in hands])
        begin = time.time() + _AHEAD_SECONDS
        for hand in hands:
            await hand.tell(worker.BEGIN, begin)
        # Beyond the overtime, presses that were not begun are counted, which may be nearly all.
        counting = _COUNT_SECONDS * sum(step.rate * step.seconds for step in plan.steps)
        late = OVERTIME_SECONDS + counting + GRACE_SECONDS + _LATE_SECONDS
        with _bounded(plan.seconds + late, "play", "lower the rate, "):
            async with anyio.create_task_group() as watching:
                watching.start_soon(self._show, begin)
                for hand in hands:
                    await hand.played.wait()
                watching.cancel_scope.cancel()
        for hand in hands:
            await hand.tell(worker.VERIFY)
        try:
            with _bounded(BOOT_SECONDS, "look into the store"):
                await self._progress("looking into the store", "looked", [h.done for h in hands])
        except LoadError as error:
            for hand in hands:
                hand.give_up(str(error))
        figures, verdict = Figures(plan.steps), Verdict()
        for hand in hands:
            figures.add(Figures.of_plain(plan.steps, hand.figures))
            verdict.add(hand.verdict)
        return Report(
            plan=plan,
            figures=figures,
            verdict=verdict,
            seconds=max(figures.counts["seconds"] / plan.processes, 0.001),
            store=self._target.shown,
            server=self._target.server,
            began=datetime.fromtimestamp(begin, UTC),
        )

    async def _progress(self, name: str, field: str, done: Sequence[anyio.Event]) -> None:
        total = self._plan.channels

        async def show() -> None:
            while True:
                self._watch.phase(name, sum(getattr(h, field) for h in self._hands), total)
                await anyio.sleep(_LIVE_SECONDS)

        async with anyio.create_task_group() as showing:
            showing.start_soon(show)
            for event in done:
                await event.wait()
            showing.cancel_scope.cancel()
        self._watch.phase(name, total, total)

    async def _show(self, begin: float) -> None:
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            if all(hand.has_news for hand in self._hands):
                self._watch.live(self._live([hand.news() for hand in self._hands], begin))

    def _live(self, news: Sequence[tuple[Tick, Sequence[Tick]]], begin: float) -> Live:
        """What has happened since the tick that each of the processes was last seen at."""
        last = [ticks[-1] for _, ticks in news]
        recent = [one for _, ticks in news for tick in ticks for one in tick.recent]
        cuts = quantiles(recent, n=100) if len(recent) > 1 else [*recent, 0.0][:1] * 99
        seconds = time.time() - begin
        return Live(
            seconds=seconds,
            target=self._rate(seconds),
            achieved=sum(
                (ticks[-1].acknowledged - before.acknowledged)
                / max(ticks[-1].at - before.at, _LOOK_SECONDS)
                for before, ticks in news
            ),
            dropped=sum(tick.dropped for tick in last),
            failed=sum(tick.failed for tick in last),
            p50=cuts[49],
            p99=cuts[98],
            sessions=sum(tick.sessions for tick in last),
            rss_mib=sum(tick.rss_mib for tick in last),
        )

    def _rate(self, offset: float) -> float:
        end = 0.0
        for step in self._plan.steps:
            end += step.seconds
            if offset < end:
                return step.rate
        return 0.0


async def _start(log: IO[bytes]) -> Process:
    return await anyio.open_process(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,  # A terminal's Ctrl-C is for the run, which tells them to stop.
    )


@contextmanager
def _bounded(seconds: float, doing: str, first: str = "") -> Generator[None]:
    """A time limit, told as what took too long, and what to try, something else first."""
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise LoadError(
            f"the load did not {doing} within {seconds:g} s: {first}try fewer channels, or look "
            "at the store"
        ) from None


def run_name() -> str:
    """A name for a run, which no other run has."""
    return secrets.token_hex(4)
