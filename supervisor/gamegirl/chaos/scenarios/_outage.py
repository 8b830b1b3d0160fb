"""The store is gone for a while, in one of four ways, while the games go on."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, cast

import anyio
import attrs

from gamegirl.chaos._bench import Bench, every
from gamegirl.chaos._gateway import Crowd, Gateway
from gamegirl.chaos._ledger import Ledger
from gamegirl.chaos._proxy import Proxy
from gamegirl.chaos._redis_server import RedisServer
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.supervisor import Supervisor, open_store

_ARENAS = 5
_WORKERS = 2
_CHANNELS = 3
_SMALL = 4

_RECOVERY_SECONDS = 2.0
_GROWTH_MIB = 32.0
_SLACK_SECONDS = 0.25
"""A call may take so much longer than the commit timeout: the loops of the worker, which answers,
and of the bench, which looks at its clock, have all the other processes of a small machine to wait
for. Time in which one of them stood still for more than 50 ms doesn't count, as the runtime doesn't
count it; the longest is among the figures."""

_CLOCK_SECONDS = 0.02
"""So far apart the clocks of two processes may seem: each follows the wall clock for itself."""

_PACE_SECONDS = 0.1
"""A player who was told an error waits up to this long, and not 10 ms, before the next attempt."""

_LOOK_SECONDS = 0.02
_STALL_SECONDS = 0.05

_PATIENCE_SECONDS = 10.0
_QUIET_SECONDS = 1.0
_KINDS = ("refused", "silent", "stopped", "killed")
_NO_TIMEOUT_SECONDS = 3600.0


@attrs.frozen
class _Times:
    """How long the store is gone, and how soon calls must be told."""

    outage_seconds: float
    commit_timeout_seconds: float


_FULL_TIMES = _Times(20.0, 1.0)
_SMALL_TIMES = _Times(1.2, 0.4)


class _Stalls:
    """When a process did not run, although it wanted to: for that it can't be blamed."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def note(self, late: float) -> float:
        """A sleep has just ended so late."""
        if late > _STALL_SECONDS:
            self._seen.append((time.monotonic(), late))
        return late

    def during(self, begin: float, end: float) -> float:
        """How long it stood still between two moments."""
        return sum(late for at, late in self._seen if begin <= at <= end + late)


async def lateness(_: Supervisor) -> float:
    """How late a sleep of this process' loop ends, in seconds."""
    began = time.monotonic()
    await anyio.sleep(_LOOK_SECONDS)
    return time.monotonic() - began - _LOOK_SECONDS


class _Timed:
    """A worker whose calls are timed."""

    def __init__(self, worker: Worker, arena: _Arena) -> None:
        self._worker = worker
        self._arena = arena

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    async def call(self, op: str, *arguments: Any, channel: str = "", **options: Any) -> Any:
        arena = self._arena
        if op == "press":
            arena.pressing(options["press_id"])
        while True:
            began = time.monotonic()
            try:
                answer = await self._worker.call(op, *arguments, channel=channel, **options)
            except CallFailed as error:
                arena.took(self._worker, op, channel, time.monotonic() - began)
                await anyio.sleep(arena.random.uniform(0, _PACE_SECONDS))
                if error.kind != "MailboxFullError":
                    raise
                arena.full()  # Repeats of what is unsettled count: that is how memory is bounded.
            else:
                arena.took(self._worker, op, channel, time.monotonic() - began)
                if op == "press":
                    arena.pressed(channel, options["press_id"], answer)
                return answer


class _Arena:
    """A store of its own, its workers and its games: many can be without a store side by side."""

    def __init__(self, bench: Bench, number: int, times: _Times, stalls: _Stalls) -> None:
        self._bench = bench
        self._ours = stalls
        self._theirs: dict[Worker, _Stalls] = {}
        self._slow: list[tuple[Worker, float, float, str]] = []
        self._times = times
        self._server = RedisServer(
            bench.folder / f"arena-{number}", appendonly="yes", appendfsync="always"
        )
        self._proxy: Proxy
        self._workers: list[Worker] = []
        self._timed: list[_Timed] = []
        self._ledger = Ledger()
        self._first_sent: dict[str, float] = {}
        self._open: dict[str, float] = {}
        self._back = 0.0
        self._recovered: dict[str, float] = {}
        self._channels = [f"arena-{number}-{each}" for each in range(_CHANNELS)]
        self.random = bench.random
        gateway = Gateway(lambda: cast("list[Worker]", self._timed), bench.random)
        self._crowd = Crowd(gateway, self._ledger, bench.random)

    # --- What is seen ---------------------------------------------------------------------------

    async def look(self, worker: Worker) -> None:
        """See when a worker stands still, for as long as it lives."""
        stalls = self._theirs[worker] = _Stalls()
        with suppress(WorkerGone):
            while True:
                late = stalls.note(await worker.call(f"{__name__}:{lateness.__name__}"))
                self._bench.figures.peak("ms a worker's loop was late", late * 1000)

    def took(self, worker: Worker, op: str, channel: str, seconds: float) -> None:
        """An attempt is over, one way or the other."""
        if op == "next_turn":
            return  # It waits for a turn, not for the store.
        self._bench.figures.peak("ms a call took", seconds * 1000)
        if seconds > self._times.commit_timeout_seconds + _SLACK_SECONDS:
            end = time.monotonic()
            self._slow.append((worker, end - seconds, end, f"{channel}: {op}"))

    def _judge_slow(self) -> None:
        allowed = self._times.commit_timeout_seconds + _SLACK_SECONDS
        for worker, begin, end, what in self._slow:
            stood = self._ours.during(begin, end) + self._theirs[worker].during(begin, end)
            if end - begin - stood > allowed:
                self._bench.violation(
                    f"{what} took {end - begin:.2f} s, {stood:.2f} s of which a process stood "
                    f"still, with a commit timeout of {self._times.commit_timeout_seconds:g} s"
                )
            else:
                self._bench.figures.count("calls that were late as a process stood still")

    def pressing(self, press_id: str) -> None:
        """A press is sent, maybe not for the first time."""
        self._first_sent.setdefault(press_id, time.time())

    def pressed(self, channel: str, press_id: str, answer: dict[str, Any]) -> None:
        """A press was acknowledged."""
        first = self._first_sent[press_id]
        if first > answer["deadline"] + _CLOCK_SECONDS:
            self._bench.violation(
                f"{channel}: a press sent {first - answer['deadline']:.3f} s after the deadline of "
                f"turn {answer['turn']} counts in it"
            )
        self._open[channel] = answer["deadline"]
        self._recovered.setdefault(channel, time.monotonic())

    def full(self) -> None:
        """A player had repeated a press too often for the mailbox."""
        self._bench.figures.count("repeats refused because the mailbox was full")

    def watch(self, worker: Worker, event: dict[str, Any]) -> None:
        """A worker tells of a closed window."""
        if worker in self._workers and event["event"] == "TurnClosed":
            self._open.pop(event["channel_id"], None)

    # --- What happens ---------------------------------------------------------------------------

    async def run(self, rounds: list[int]) -> None:
        """Play, and lose the store in each of these rounds; then judge."""
        bench = self._bench
        try:
            await self._server.start()
            self._proxy = Proxy(self._server.url)
            await bench.tasks.start(self._proxy.run)
            timeout = self._times.commit_timeout_seconds
            settings = {"commit_timeout_seconds": _NO_TIMEOUT_SECONDS if bench.control else timeout}
            plan = bench.plan(store=self._proxy.url, settings=settings, events=["TurnClosed"])
            bench.watchers.append(self.watch)
            self._workers = await bench.staff(_WORKERS, plan)
            for worker in self._workers:
                bench.tasks.start_soon(self.look, worker)
            self._timed = [_Timed(worker, self) for worker in self._workers]
            async with anyio.create_task_group() as load:
                for channel in self._channels:
                    await self._crowd.boot(channel)
                    load.start_soon(self._crowd.play, channel)
                for number in rounds:
                    await anyio.sleep(bench.random.uniform(0.3, _QUIET_SECONDS))
                    await self._outage(_KINDS[number % len(_KINDS)])
                    bench.round()
                self._crowd.stop()
            await bench.settle(self._crowd, self._channels)
            await self._judge()
            self._judge_slow()
        finally:
            self._server.kill()

    async def _outage(self, kind: str) -> None:
        figures = self._bench.figures
        before = [worker.memory_mib() for worker in self._workers]
        await self._take_away(kind)
        gone = time.monotonic()
        with anyio.move_on_after(self._times.outage_seconds):
            await every(0.1, lambda: self._weigh(before))
        overdue = {
            channel: deadline for channel, deadline in self._open.items() if deadline < time.time()
        }
        figures.count(f"outages ({kind})")
        self._recovered.clear()
        await self._give_back(kind)
        back = time.monotonic()
        figures.sample("s the store was gone", back - gone)
        closed = await self._recover(back, overdue)
        await self._weigh(before)
        for channel in self._channels:
            self._in_time(channel, "was played", kind, back, self._recovered.get(channel))
        for channel in overdue:
            at = closed.get(channel)
            self._in_time(channel, "closed its overdue window", kind, back, at)

    async def _take_away(self, kind: str) -> None:
        if kind == "refused":
            await self._proxy.refuse()
        elif kind == "silent":
            self._proxy.silent = True
        elif kind == "stopped":
            self._server.pause()
        else:
            self._server.kill()

    async def _give_back(self, kind: str) -> None:
        if kind == "refused":
            self._proxy.refusing = False
        elif kind == "silent":
            self._proxy.speak()
        elif kind == "stopped":
            self._server.resume()
        else:
            await self._server.start()

    async def _recover(self, back: float, overdue: dict[str, float]) -> dict[str, float]:
        """Wait until all is as before; when each overdue window was seen to be closed."""
        closed: dict[str, float] = {}
        while time.monotonic() < back + _PATIENCE_SECONDS:
            for channel, deadline in overdue.items():
                if self._open.get(channel) != deadline:
                    closed.setdefault(channel, time.monotonic())
            if len(closed) == len(overdue) and len(self._recovered) == len(self._channels):
                break
            await anyio.sleep(0.005)
        return closed

    def _in_time(self, channel: str, what: str, kind: str, back: float, at: float | None) -> None:
        if at is None:
            self._bench.violation(f"{channel} never {what} after its store was back")
            return
        after = max(at - back, 0.0)
        self._bench.figures.sample(f"ms until a channel {what} ({kind})", after * 1000)
        if after > _RECOVERY_SECONDS:
            self._bench.violation(f"{channel} {what} {after:.2f} s after its store was back")

    async def _weigh(self, before: list[float]) -> None:
        for worker, then in zip(self._workers, before, strict=True):
            growth = worker.memory_mib() - then
            self._bench.figures.peak("MiB a worker grew in an outage", growth)
            if growth > _GROWTH_MIB:
                self._bench.violation(f"{worker!r} grew by {growth:.0f} MiB in an outage")

    async def _judge(self) -> None:
        bench = self._bench
        store = open_store(self._server.url)
        try:
            for fault in await self._ledger.judge(store):
                bench.violation(fault)
        finally:
            await store.aclose()
        bench.figures.count("acknowledged presses", self._ledger.acknowledged)
        bench.figures.count("turns", self._ledger.turns)
        bench.figures.count("acknowledged records", self._ledger.records)


async def _run(bench: Bench, rounds: int) -> None:
    times = _SMALL_TIMES if rounds <= _SMALL else _FULL_TIMES
    shares: list[list[int]] = [[] for _ in range(min(_ARENAS, rounds))]
    for number in range(rounds):
        shares[number % len(shares)].append(number)

    stalls = _Stalls()

    async def look() -> None:
        began = time.monotonic()
        await anyio.sleep(_LOOK_SECONDS)
        late = stalls.note(time.monotonic() - began - _LOOK_SECONDS)
        bench.figures.peak("ms the bench's own loop was late", late * 1000)

    bench.tasks.start_soon(every, 0.0, look)
    async with anyio.create_task_group() as arenas:
        for number, share in enumerate(shares):
            arenas.start_soon(_Arena(bench, number, times, stalls).run, share)


OUTAGE = Scenario(
    name="outage",
    happens=(
        "The store is gone for 20 s under load (for 1.2 s, if there are 4 rounds or less): its "
        "connections are refused, or nothing comes back, or the server is stopped, or killed"
    ),
    promise=(
        "Calls fail within the commit timeout; every channel plays again within 2 s, and overdue "
        "windows are closed by then; what was acknowledged counts, in the turn it was acknowledged "
        "for; no worker grows by more than 32 MiB"
    ),
    control="there is no commit timeout (it is an hour)",
    unit="outages",
    rounds=20,
    batch=10,
    small=_SMALL,
    control_rounds=10,
    run=_run,
    own_server=True,
)
