"""One process's part of a load test: its channels, its presses, its look into the store."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import TypeVar

import anyio
import attrs
import psutil
from anyio.lowlevel import checkpoint

from gamegirl.actors import (
    ClosedTurn,
    Fate,
    GameGirlError,
    OwnedElsewhereError,
    Session,
    SessionRef,
    StoreUnavailableError,
    SupervisorClosedError,
    TurnClosed,
    WindowOpened,
)
from gamegirl.load._crowd import Crowd, channel_name, home
from gamegirl.load._figures import Figures
from gamegirl.load._ledger import (
    Ledger,
    Place,
    Placed,
    Verdict,
    choice_number,
    choice_text,
)
from gamegirl.load._plan import Plan
from gamegirl.load._pressers import Pressers
from gamegirl.load._schedule import arrivals
from gamegirl.load._stores import LoadStore
from gamegirl.supervisor import EventsLost, Settings, Statistics, Store, Supervisor
from gamegirl.supervisor.stores import ActorKey

OVERTIME_SECONDS = 2.0
"""Presses that were due may be begun so long after the end of offers; the rest is dropped."""

GRACE_SECONDS = 10.0
"""Presses that are unanswered so long after the last one was begun count as failed."""

_SIDE_BY_SIDE = 200
_YIELD_PRESSES = 32
_YIELD_COUNTED = 4096
_TICK_SECONDS = 0.5
_RECENT_MAX = 200
_MIB = 1 << 20
_RETRY_SECONDS = 0.1
_PATIENCE_SECONDS = 20.0

T = TypeVar("T")

Job = tuple[float, int, int]
"""When a press is due, in which channel (its position here), whose."""


@attrs.frozen
class Tick:
    """How one process's part goes, for whoever watches.

    Attributes:
        at: When, seconds since the first press could come.
        offered: Presses that were due so far.
        acknowledged: Of these, those that were answered.
        dropped: Those that were not begun.
        failed: Those that got an error.
        in_flight: Those that are unanswered.
        sessions: That are live.
        rss_mib: What is resident in memory.
        recent: How long some of the answers since the last tick took, ms.
    """

    at: float
    offered: int
    acknowledged: int
    dropped: int
    failed: int
    in_flight: int
    sessions: int
    rss_mib: float
    recent: Sequence[float]


def settings_of(plan: Plan) -> Settings:
    """What the supervisors of a plan use: the defaults, unless the plan says otherwise."""
    defaults = Settings()
    # All turns of the run stay in the history, or they could not be looked for in it afterwards.
    # They go on beyond its end: presses are begun in overtime, then those that were not are
    # counted, then answers are waited for, and at last the supervisor drains.
    turns = int((plan.seconds + 3 * GRACE_SECONDS) / plan.window) + 2
    stalled = plan.stall.seconds if plan.stall is not None else 0.0
    return Settings(
        window_seconds=plan.window,
        durability=plan.durability,
        history_max=max(defaults.history_max, turns),
        # Its few players stand for as many as press there.
        mailbox_share=1.0,
        players_max=max(defaults.players_max, plan.players),
        # A stall is to show how long answers take, not how channels change their owner.
        lease_seconds=defaults.lease_seconds + 2 * stalled,
        events_max=1_000_000,
    )


async def narrate(turn: ClosedTurn, _session: Session) -> str:
    """The narrator, who needs no time."""
    return f"Turn {turn.turn}, {len(turn.choices)} choices."


class Share:
    """One process's channels, and their presses.

    Args:
        plan: The whole plan.
        run: The run's name, which its channels bear.
        process: Which of the plan's processes this is.
        store: The store; it is opened and closed here.

    Attributes:
        figures: What was measured.
        crowd: Who presses here.
    """

    def __init__(self, plan: Plan, run: str, process: int, store: Store) -> None:
        self._plan = plan
        self._run = run
        self._process = process
        self._settings = settings_of(plan)
        self._store = self._own(store)
        self.crowd = Crowd.of(
            channels=plan.channels,
            skew=plan.skew,
            players=plan.players,
            process=process,
            processes=plan.processes,
        )
        self.figures = Figures(plan.steps)
        self._ledger = Ledger(len(self.crowd.numbers), plan.players)
        self._users = [f"u{player}" for player in range(plan.players)]
        self._names = [f"Player {player}" for player in range(plan.players)]
        self._process_here = psutil.Process()
        self._sessions: list[SessionRef] = []
        self._recent: list[float] = []
        self._deadlines: dict[str, float] = {}
        self._begin = inf

    def _own(self, store: Store) -> LoadStore:
        prefix = channel_name(self._run, 0)[:-1]

        def ours(actor: ActorKey) -> bool:
            return actor.actor_id.startswith(prefix)

        def mine(actor: ActorKey) -> bool:
            return ours(actor) and (
                home(int(actor.actor_id.removeprefix(prefix)), self._plan.processes)
                == self._process
            )

        return LoadStore(store, mine, ours)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Have the supervisor run; when it is closed, everything is committed and given up."""
        self.figures.counts["rss_before_mib"] = self._rss()
        self._supervisor = Supervisor(
            self._store,
            settings=self._settings,
            on_turn=narrate,
            randomness=random.Random(f"{self._plan.seed} supervisor {self._process}"),
        )
        async with self._supervisor:
            self._sessions = [
                self._supervisor.session(channel_name(self._run, number))
                for number in self.crowd.numbers
            ]
            yield

    async def boot(self, booted: Callable[[int], None]) -> None:
        """Start all games, with all players; `booted` is told how many there are so far."""
        done = 0

        async def boot(position: int) -> None:
            nonlocal done
            session = self._sessions[position]
            await session.boot("Load Test", game_id=session.channel_id)
            for user_id, name in zip(self._users, self._names, strict=True):
                await session.join(user_id, name)
            done += 1
            if done % _SIDE_BY_SIDE == 0:
                booted(done)

        await _side_by_side(range(len(self._sessions)), boot)
        self.figures.counts["rss_booted_mib"] = self._rss()
        booted(done)

    def stop(self) -> None:
        """Offer no presses but those that are due by now."""
        self.figures.until = min(self.figures.until, max(self._now(), 0.0))

    async def play(self, begin: float, tick: Callable[[Tick], None]) -> None:
        """Offer presses from then on, by the monotonic clock, and wait for their answers.

        Every press that is due before the end of offers is begun, or counted as dropped.
        """
        self._begin = begin
        stall = self._plan.stall
        if stall is not None:
            self._store.stalled = (begin + stall.at, begin + stall.at + stall.seconds)
        before = self._supervisor.statistics()
        async with anyio.create_task_group() as watchers:
            watchers.start_soon(self._watch)
            watchers.start_soon(self._tell, tick)
            async with anyio.create_task_group() as tasks:
                self._pressers = Pressers(tasks, self._in_flight_max(), self._press)
                async with anyio.create_task_group() as offering:
                    offering.start_soon(self._count, before)
                    await self._offer()
                with anyio.move_on_after(GRACE_SECONDS):
                    while self._pressers.busy:  # noqa: ASYNC110 - nobody has an event for it
                        await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            watchers.cancel_scope.cancel()
        for deadline in self._deadlines.values():
            if (late := time.time() - deadline) > 0:
                self.figures.closed(self._now(), late)
        self.figures.counts["restarts"] = self._supervisor.statistics().restarts - before.restarts
        tick(self._tick())
        self._fill_memory()

    def _in_flight_max(self) -> int:
        return -(-self._plan.in_flight_max // self._plan.processes)

    async def _offer(self) -> None:
        plan, figures, pressers = self._plan, self.figures, self._pressers
        seed = f"{plan.seed} {self._process}"
        choose, crowd = random.Random(f"{seed} crowd"), self.crowd
        schedule = arrivals(
            plan.steps, plan.arrivals, crowd.share, random.Random(f"{seed} schedule")
        )
        late = False
        for number, due in enumerate(schedule):
            if due > self._now():
                await self._reach(due)
            elif number % (_YIELD_COUNTED if late else _YIELD_PRESSES) == 0:
                # However late we are, those who were begun get on.
                await checkpoint()
            if due >= figures.until:
                return
            late = self._now() > figures.until + OVERTIME_SECONDS
            interval = figures.at(due)
            interval.offered += 1
            if late or not pressers.take((due, *crowd.choose(choose))):
                interval.dropped += 1

    async def _reach(self, at: float) -> None:
        """Wait until then, or until the end of offers: it is looked whether that has moved."""
        # Loops that count in milliseconds wake us too early, and nobody has an event for the end.
        while (left := min(at, self.figures.until) - self._now()) > 0:  # noqa: ASYNC110
            await anyio.sleep(min(left, _TICK_SECONDS))

    async def _count(self, before: Statistics) -> None:
        """Count what was done when offers end, however many presses are to be begun yet."""
        await self._reach(inf)
        after, counts = self._supervisor.statistics(), self.figures.counts
        counts["seconds"] = self.figures.until
        counts["counted_after"] = self._now()  # A busy loop may have woken us late.
        counts["answers"] = sum(interval.acknowledged for interval in self.figures.intervals)
        counts["commits"] = after.commits - before.commits
        counts["batches"] = after.batches - before.batches
        counts["sessions"] = sum(after.live.values())

    def _now(self) -> float:
        """Seconds from the start."""
        return time.monotonic() - self._begin

    async def _press(self, job: Job) -> None:
        due, channel, player = job
        number = self._ledger.send()
        try:
            pressed = await self._sessions[channel].press(
                self._users[player], self._names[player], choice_text(number)
            )
        except GameGirlError as error:
            self.figures.failed(due, self._now(), type(error).__name__)
            if error.fate is Fate.IN_DOUBT:
                self._ledger.doubt(number)
        except BaseException:
            self.figures.failed(due, self._now(), "Unanswered")
            self._ledger.doubt(number)
            raise
        else:
            answered = self._now()
            self._ledger.acknowledge(channel, player, number, pressed.turn)
            self.figures.acknowledged(due, answered)
            self._recent.append(answered - due)

    async def _watch(self) -> None:
        """Note how late windows close: when we are told, and so would be any host."""
        deadlines = self._deadlines
        async with self._supervisor.events() as events:
            async for event in events:
                if isinstance(event, WindowOpened):
                    deadlines[event.channel_id] = event.deadline
                elif isinstance(event, TurnClosed):
                    deadline = deadlines.pop(event.channel_id, None)
                    if deadline is not None:
                        at = time.monotonic() - self._begin
                        self.figures.closed(at, time.time() - deadline)
                elif isinstance(event, EventsLost):
                    counts = self.figures.counts
                    counts["events_lost"] = counts.get("events_lost", 0) + event.count
                    deadlines.clear()  # Nobody knows which of them have closed.

    async def _tell(self, tick: Callable[[Tick], None]) -> None:
        while True:
            await anyio.sleep(_TICK_SECONDS)
            tick(self._tick())

    def _tick(self) -> Tick:
        figures, recent = self.figures, self._recent
        self._recent = []
        rss, at = self._rss(), time.monotonic() - self._begin
        figures.at(at).rss_mib = rss
        counts = figures.counts
        counts["rss_peak_mib"] = max(counts.get("rss_peak_mib", 0.0), rss)
        intervals = figures.intervals
        return Tick(
            at=at,
            offered=sum(interval.offered for interval in intervals),
            acknowledged=sum(interval.acknowledged for interval in intervals),
            dropped=sum(interval.dropped for interval in intervals),
            failed=sum(interval.failed for interval in intervals),
            in_flight=self._pressers.busy,
            sessions=sum(self._supervisor.statistics().live.values()),
            rss_mib=rss,
            recent=tuple(
                round(seconds * 1000, 3) for seconds in recent[:: len(recent) // _RECENT_MAX + 1]
            ),
        )

    def _fill_memory(self) -> None:
        """A busy loop may have missed an interval, in which memory was still used."""
        last = self.figures.counts["rss_booted_mib"]
        for interval in self.figures.intervals:
            last = interval.rss_mib = interval.rss_mib or last

    def _rss(self) -> float:
        return float(self._process_here.memory_info().rss) / _MIB

    async def verify(self, store: Store, looked: Callable[[int], None]) -> Verdict:
        """Look for every acknowledged press in the store, as a host that starts anew finds it.

        Args:
            store: A handle on the store that nothing of this run has used.
            looked: Is told how many channels have been looked at.

        Returns:
            What was found; if the store can't be reached, as far as it was, and why no further.
        """
        verdict, done = Verdict(), 0

        async def look(position: int) -> None:
            nonlocal done
            if verdict.unverified:
                return  # One has waited in vain: all would.
            session = supervisor.session(channel_name(self._run, self.crowd.numbers[position]))
            try:
                placed = await _patiently(lambda: self._placed(session))
            except GameGirlError as error:
                verdict.unverified = f"{type(error).__name__}: {error}"
                return
            verdict.add(self._ledger.judge(position, session.channel_id, placed))
            done += 1
            if done % _SIDE_BY_SIDE == 0:
                looked(done)

        # Nothing that was kept in memory is asked: this supervisor knows only what is stored.
        settings = attrs.evolve(self._settings, lease_seconds=Settings().lease_seconds)

        async def start() -> Supervisor:
            started = Supervisor(self._own(store), settings=settings)
            await started.start()
            return started

        try:
            supervisor = await _patiently(start)
        except GameGirlError as error:
            return Verdict(unverified=f"{type(error).__name__}: {error}")
        try:
            await _side_by_side(range(len(self.crowd.numbers)), look)
        finally:
            with suppress(SupervisorClosedError):  # All that it was for is done.
                await supervisor.aclose()
        looked(done)
        return verdict

    async def _placed(self, session: SessionRef) -> list[Placed]:
        history = await session.history(self._settings.history_max)
        state = await session.state()
        found: list[Placed] = []
        for record in history:
            found += self._choices(record.turn, record.choices.items(), Place.RECORD)
        for turn in state.closed_turns:
            found += self._choices(turn.turn, turn.choices.items(), Place.CLOSED)
        found += self._choices(state.turn_number + 1, state.pending_choices.items(), Place.OPEN)
        return found

    def _choices(
        self, turn: int, choices: Iterable[tuple[str, str]], place: Place
    ) -> Iterable[Placed]:
        for user_id, text in choices:
            yield Placed(turn, int(user_id[1:]), choice_number(text), place)


async def _side_by_side(positions: Iterable[int], work: Callable[[int], Awaitable[None]]) -> None:
    """Do something for each, a bounded number at a time."""
    left = iter(positions)

    async def run() -> None:
        for position in left:
            await work(position)

    async with anyio.create_task_group() as tasks:
        for _ in range(_SIDE_BY_SIDE):
            tasks.start_soon(run)


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again while the store is slow or away, or the lease of what was played runs out."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await attempt()
        except (OwnedElsewhereError, StoreUnavailableError):
            if time.monotonic() > until:
                raise
        await anyio.sleep(_RETRY_SECONDS)
