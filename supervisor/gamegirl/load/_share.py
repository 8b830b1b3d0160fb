"""One process's part of a load test: its channels, its presses, its look into the store."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

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

GRACE_SECONDS = 10.0
"""Presses that are unanswered so long after the last one was due count as failed."""

_SIDE_BY_SIDE = 200
_YIELD_PRESSES = 32
_TICK_SECONDS = 0.5
_RECENT_MAX = 200
_MIB = 1 << 20
_RETRY_SECONDS = 0.1
_TRIES = 100

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
    turns = int((plan.seconds + 2 * GRACE_SECONDS) / plan.window) + 2
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
            run=run,
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
        self._stopped = False

    def _own(self, store: Store) -> LoadStore:
        prefix = channel_name(self._run, 0)[:-1]

        def mine(actor: ActorKey) -> bool:
            return (
                actor.actor_id.startswith(prefix)
                and home(actor.actor_id, self._plan.processes) == self._process
            )

        return LoadStore(store, mine)

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
        """Offer no more presses."""
        self._stopped = True

    async def play(self, begin: float, tick: Callable[[Tick], None]) -> None:
        """Offer presses from then on, by the monotonic clock, and wait for their answers."""
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
                await self._offer()
                await self._count(before)
                with anyio.move_on_after(GRACE_SECONDS):
                    while self._pressers.busy:  # noqa: ASYNC110 - nobody has an event for it
                        await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            watchers.cancel_scope.cancel()
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
        for number, due in enumerate(schedule):
            wait = self._begin + due - time.monotonic()
            if wait <= 0 and number % _YIELD_PRESSES == 0:
                # However late we are, those who were begun get on.
                await checkpoint()
            while wait > 0:
                await anyio.sleep(wait)  # Loops that count in milliseconds wake us too early.
                wait = self._begin + due - time.monotonic()
            if self._stopped:
                return
            interval = figures.at(due)
            interval.offered += 1
            if not pressers.take((due, *crowd.choose(choose))):
                interval.dropped += 1
        left = self._begin + plan.seconds - time.monotonic()
        while left > 0 and not self._stopped:
            await anyio.sleep(min(left, _TICK_SECONDS))
            left = self._begin + plan.seconds - time.monotonic()

    async def _count(self, before: Statistics) -> None:
        after, counts = self._supervisor.statistics(), self.figures.counts
        counts["seconds"] = min(time.monotonic() - self._begin, self._plan.seconds)
        counts["commits"] = after.commits - before.commits
        counts["batches"] = after.batches - before.batches
        counts["sessions"] = sum(after.live.values())
        counts["restarts"] = after.restarts - before.restarts

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
        deadlines: dict[str, float] = {}
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
        """
        verdict, done = Verdict(), 0

        async def look(position: int) -> None:
            nonlocal done
            session = supervisor.session(channel_name(self._run, self.crowd.numbers[position]))
            placed = await _patiently(lambda: self._placed(session))
            verdict.add(self._ledger.judge(position, session.channel_id, placed))
            done += 1
            if done % _SIDE_BY_SIDE == 0:
                looked(done)

        # Nothing that was kept in memory is asked: this supervisor knows only what is stored.
        settings = attrs.evolve(self._settings, lease_seconds=Settings().lease_seconds)
        async with Supervisor(self._own(store), settings=settings) as supervisor:
            await _side_by_side(range(len(self.crowd.numbers)), look)
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


async def _patiently(read: Callable[[], Awaitable[Any]]) -> Any:
    """Read again while the store is slow, or the lease of what was played runs out."""
    for _ in range(_TRIES):
        try:
            return await read()
        except (OwnedElsewhereError, StoreUnavailableError):
            await anyio.sleep(_RETRY_SECONDS)
    return await read()
