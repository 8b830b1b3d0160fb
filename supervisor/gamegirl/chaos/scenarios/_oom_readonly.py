"""The server is there, and refuses: full, read-only, busy, loading, or not for us."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import attrs

from gamegirl.actors import StoreUnavailableError
from gamegirl.actors.session._digests import digest_of, digest_of_hash, fits_history
from gamegirl.actors.session._keys import channel_keys
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._gateway import Crowd, Gateway
from gamegirl.chaos._ledger import Ledger
from gamegirl.chaos._redis_server import RedisServer
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.chaos.scenarios._conditions import CONDITIONS, Condition, Span, hold
from gamegirl.supervisor import Supervisor, open_store
from gamegirl.supervisor.stores import Done

_WORKERS = 2
_SIDE_BY_SIDE = 4
_CHANNELS = 3
_HOLD_SECONDS = 1.0
_CALM_SECONDS = 0.3
_COMMIT_TIMEOUT = 0.6
_THINK_SECONDS = 0.4
_MARGIN_SECONDS = 0.25
"""So much later than the commit timeout an error may reach its caller, beside the loops' lag."""

_RECOVERY_SECONDS = 2.0
_LAG_SECONDS = 0.02
_WATCH_SECONDS = 0.3
"""So long a worker is watched at a time."""

_SILENT = "the store has not answered"
"""What callers are told while nobody knows why; or no longer, since it answers again."""


@attrs.frozen
class Attempt:
    """A call that failed.

    Attributes:
        sent: When, on the monotonic clock.
        seconds: How long it took.
        lag: How late the bench's own loop was meanwhile.
    """

    op: str
    sent: float
    seconds: float
    lag: float
    error: CallFailed

    def waited(self, span: Span) -> float:
        """So long, in seconds, it waited for the store.

        Who asks for the next turn waits for that first, and for the store once it is there: which
        may be when the last commit was made before the condition held.
        """
        began = max(self.sent, span.held) if self.op == "next_turn" else self.sent
        return max(0.0, self.sent + self.seconds - began)


class _Timed:
    """A worker whose failed calls are kept with their times."""

    def __init__(self, worker: Worker, arena: _Arena) -> None:
        self._worker = worker
        self._arena = arena

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    async def call(self, op: str, *arguments: Any, channel: str = "", **options: Any) -> Any:
        sent = time.monotonic()
        try:
            return await self._worker.call(op, *arguments, channel=channel, **options)
        except CallFailed as error:
            seconds = time.monotonic() - sent
            lag = max((late for at, late in self._arena.lags if at >= sent), default=0.0)
            self._arena.attempts.append(Attempt(op, sent, seconds, lag, error))
            raise


class _Arena:
    """A server with workers, players and books of its own, which gets into one condition."""

    def __init__(self, bench: Bench, number: int, condition: type[Condition]) -> None:
        self._bench = bench
        self._condition = condition
        self._server = RedisServer(bench.folder / f"server-{number}", **condition.options)
        self._ledger = Ledger()
        self._workers: list[_Timed] = []
        gateway = Gateway(lambda: cast(Any, self._workers), bench.random)
        self._crowd = Crowd(
            gateway, self._ledger, bench.random, players=2, think_seconds=_THINK_SECONDS
        )
        self._channels = [f"{number}-{at}" for at in range(_CHANNELS)]
        self._gateway = gateway
        self.attempts: list[Attempt] = []
        self.lags: list[tuple[float, float]] = []
        self._late = 0.0
        self._span = Span(0.0, 0.0, 0.0, 0.0)
        self._recovered: list[tuple[str, float]] = []

    async def run(self, rounds: int, ready: Callable[[], Awaitable[None]]) -> None:
        """Play so many rounds, once everybody is ready."""
        try:
            await self._server.start()
            await self._run(rounds, ready)
        finally:
            self._server.kill()

    async def _run(self, rounds: int, ready: Callable[[], Awaitable[None]]) -> None:
        bench = self._bench
        condition = self._condition(self._server)
        await condition.prepare()
        plan = bench.plan(
            store=self._server.url,
            settings={"commit_timeout_seconds": _COMMIT_TIMEOUT},
            sabotage=f"{__name__}:pretending" if bench.control else "",
        )
        workers = await bench.staff(_WORKERS, plan)
        self._workers = [_Timed(worker, self) for worker in workers]
        await ready()
        async with anyio.create_task_group() as load:
            load.start_soon(self._watch_loop)
            for channel in self._channels:
                await self._crowd.boot(channel)
                load.start_soon(self._play, channel)
                load.start_soon(self._press_once, channel)
            for _ in range(rounds):
                await anyio.sleep(_CALM_SECONDS)
                await self._round(condition)
                bench.round()
            self._crowd.stop()
            load.cancel_scope.cancel()
        await self._end(workers)
        condition.close()

    async def _end(self, workers: list[Worker]) -> None:
        bench = self._bench
        try:
            await bench.settle(self._crowd, self._channels, seconds=4.0 if bench.control else 30.0)
        except* CallFailed as errors:
            bench.violation(f"{self._name}: the games can't be played out: {errors.exceptions[0]}")
        for worker in workers:
            worker.terminate()
        for worker in workers:
            if status := await worker.ended():
                bench.violation(f"{worker!r} ended with {status}: {bench.log_tail()}")
        store = open_store(self._server.url)
        for fault in await self._ledger.judge(store):
            bench.violation(f"{self._name}: {fault}")
        await store.aclose()
        bench.figures.count("acknowledged presses", self._ledger.acknowledged)
        bench.figures.count("acknowledged records", self._ledger.records)

    @property
    def _name(self) -> str:
        return self._condition.name

    # --- The load -------------------------------------------------------------------------------

    async def _watch_loop(self) -> None:
        """How late everybody's loop is, the bench's first of all."""
        while True:
            began = time.monotonic()
            await anyio.sleep(_LAG_SECONDS)
            now = time.monotonic()
            self.lags.append((now, now - began - _LAG_SECONDS))
            del self.lags[:-500]

    async def _play(self, channel: str) -> None:
        try:
            await self._crowd.play(channel)
        except* CallFailed as errors:
            self._bench.violation(f"{self._name}: {channel}: {errors.exceptions[0]}")

    async def _press_once(self, channel: str) -> None:
        """Presses that nobody sends again: what an error says of them must be so."""
        while True:
            await anyio.sleep(self._bench.random.uniform(0.0, _THINK_SECONDS))
            worker = self._gateway.home(channel)
            if worker is None:
                continue
            press_id, choice = self._ledger.send(channel, "once")
            try:
                answer = await worker.call(
                    "press", "once", "Once", choice, channel=channel, press_id=press_id
                )
            except CallFailed as error:
                if error.fate != "in doubt":
                    self._ledger.refuse(channel, press_id)
                self._bench.figures.count(f"presses that failed, {error.fate}")
            except WorkerGone as error:
                self._bench.violation(f"{self._name}: {error}")
                return
            else:
                self._ledger.acknowledge(channel, press_id, answer)

    # --- A condition ----------------------------------------------------------------------------

    async def _round(self, condition: Condition) -> None:
        bench = self._bench
        self.attempts.clear()
        self._late = 0.0
        done = anyio.Event()
        async with anyio.create_task_group() as watching:
            for worker in self._workers:
                watching.start_soon(self._watch_worker, worker, done)
            await self._hold(condition)
            done.set()
        late = self._late + max((late for _, late in self.lags), default=0.0)
        for channel, seconds in self._recovered:
            if seconds > _RECOVERY_SECONDS + late:
                bench.violation(f"{self._name}: {channel} went on only after {seconds:.1f} s")
        self._judge_errors()
        bench.figures.count(f"condition: {self._name}")

    async def _hold(self, condition: Condition) -> None:
        self._span = await hold(condition, _HOLD_SECONDS)
        await self._bench.in_thread(self._look_for_halves)
        self._recovered.clear()
        async with anyio.create_task_group() as tasks:
            for channel in self._channels:
                tasks.start_soon(self._expect_recovery, channel, self._span.ended)

    async def _watch_worker(self, worker: _Timed, done: anyio.Event) -> None:
        while not done.is_set():
            late = await worker.call(f"{__name__}:loop_lag", _WATCH_SECONDS)
            self._late = max(self._late, late)
            self._bench.figures.peak("ms a worker's loop was late", late * 1000)

    async def _expect_recovery(self, channel: str, since: float) -> None:
        bench = self._bench
        with anyio.move_on_after(_RECOVERY_SECONDS * (1 if bench.control else 4)):
            try:
                await self._crowd.press(channel, "after")
            except CallFailed as error:
                bench.violation(f"{self._name}: {channel}: {error}")
        took = time.monotonic() - since
        bench.figures.sample("ms until a press was answered again", took * 1000)
        self._recovered.append((channel, took))

    def _judge_errors(self) -> None:
        bench, span = self._bench, self._span
        failed = 0
        for attempt in self.attempts:
            error = attempt.error
            if error.kind in ("OwnedElsewhereError", "OwnershipLostError", "TurnBacklogError"):
                continue
            if error.kind != "StoreUnavailableError":
                bench.violation(f"{self._name}: {attempt.op} raised {error}")
                continue
            failed += 1
            seconds = attempt.waited(span)
            bench.figures.sample("ms until a caller got its error", seconds * 1000)
            late = attempt.lag + self._late
            bench.figures.peak(
                "ms an error came after its time, beside the loops' lag",
                (seconds - _COMMIT_TIMEOUT - late) * 1000,
            )
            if seconds > _COMMIT_TIMEOUT + bench.limit(_MARGIN_SECONDS) + late:
                bench.violation(
                    f"{self._name}: {attempt.op} failed only after {seconds:.2f} s "
                    f"(the loops were {late * 1000:.0f} ms late): {error.text}"
                )
            afterwards = attempt.sent + attempt.seconds > span.over - _LAG_SECONDS
            if not any(said in error.text for said in self._condition.says) and not (
                afterwards and _SILENT in error.text
            ):
                at = attempt.sent + attempt.seconds
                bench.violation(
                    f"{self._name}: {attempt.op} is not told why, {at - span.began:.2f} s after it "
                    f"began, {span.over - at:.2f} s before it was over: {error.text}"
                )
            if error.fate not in ("in doubt", "not executed"):
                bench.violation(f"{self._name}: {attempt.op} failed {error.fate!r}")
        if not failed and span.ended - span.began > _COMMIT_TIMEOUT:
            bench.violation(f"{self._name}: nobody was told")
        for _, late in self.lags:
            bench.figures.peak("ms the bench's own loop was late", late * 1000)

    def _look_for_halves(self) -> None:
        """Each channel's keys fit each other: no commit happened in part."""
        with self._server.client() as client:
            for channel in self._channels:
                text, history, fields, *_, meta = self._channel(client, channel)
                noted = {name.decode(): value.decode() for name, value in meta.items()}
                digests = {
                    "json_raw": digest_of(text or b""),
                    "hash_raw": digest_of_hash({k.decode(): v for k, v in fields.items()}),
                }
                wrong = [name for name, digest in digests.items() if noted.get(name) != digest]
                if not fits_history(noted.get("history", ""), history):
                    wrong.append("history")
                for name in wrong:
                    self._bench.violation(f"{self._name}: {channel}: {name} fits nothing")

    def _channel(self, client: Any, channel: str) -> list[Any]:
        json, history, hash_, journal, turns, meta = channel_keys(channel)
        pipe = client.pipeline(transaction=True)
        pipe.get(json)
        pipe.lrange(history, 0, -1)
        for key in (hash_, journal, turns, meta):
            pipe.hgetall(key)
        return cast("list[Any]", pipe.execute())


class _Pretending:
    """A store that says that all is well."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commits: Any) -> Any:
        try:
            return await self._store.commit(commits)
        except StoreUnavailableError:
            return [Done() for _ in commits]


def pretending(store: Any) -> Any:
    """Sabotage: a commit that the server refused passes for done."""
    return _Pretending(store)


async def _run(bench: Bench, rounds: int) -> None:
    # Small runs on the two hosts have all conditions between them.
    first = bench.seed + (_SIDE_BY_SIDE if bench.backend == "trio" else 0)
    count = min(rounds, len(CONDITIONS))
    for start in range(0, count, _SIDE_BY_SIDE):
        await _side_by_side(bench, rounds, range(start, min(start + _SIDE_BY_SIDE, count)), first)


async def _side_by_side(bench: Bench, rounds: int, numbers: range, first: int) -> None:
    """Mostly they wait, so they can do that together."""
    all_there, there = anyio.Event(), 0

    async def ready() -> None:
        """So that nobody's start is another one's load."""
        nonlocal there
        there += 1
        if there == len(numbers):
            all_there.set()
        await all_there.wait()

    count = min(rounds, len(CONDITIONS))
    async with anyio.create_task_group() as arenas:
        for number in numbers:
            condition = CONDITIONS[(number + first) % len(CONDITIONS)]
            share = rounds // count + (number < rounds % count)
            arenas.start_soon(_Arena(bench, number, condition).run, share, ready)


async def loop_lag(_: Supervisor, seconds: float) -> float:
    """A job: how late the worker's loop is, at most, for so long, in seconds."""
    late, until = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        await anyio.sleep(_LAG_SECONDS)
        late = max(late, time.monotonic() - began - _LAG_SECONDS)
    return late


OOM_READONLY = Scenario(
    name="oom-readonly",
    happens=(
        "maxmemory is reached, the server turns replica, can't save (MISCONF), is BUSY, is "
        "LOADING, has another password, has no connection left, all under load"
    ),
    promise=(
        "Callers get StoreUnavailableError with the reason within the commit timeout, its fate is "
        "true; nothing is done in part or lost; all resumes by itself within 2 s"
    ),
    control="a store that says done when the server refused",
    unit="conditions",
    rounds=140,
    batch=70,
    small=4,
    run=_run,
    own_server=True,
)
