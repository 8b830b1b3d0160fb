"""Workers are asked to leave under load, with windows open, and replaced one after the other."""

from __future__ import annotations

import time
from typing import Any, cast

import anyio
import attrs

from gamegirl.chaos._bench import Bench
from gamegirl.chaos._errors import leaves
from gamegirl.chaos._figures import quantile
from gamegirl.chaos._scenario import REDIS, SQLITE, Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.supervisor import Store, Supervisor
from gamegirl.supervisor.stores import ActorKey

_WORKERS = 2
_CHANNELS = 16
_SILENT = 2
_EXIT_SECONDS = 5.0
_GAP_SECONDS = 1.0
_LATE_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0
_PLAY_SECONDS = (0.05, 0.4)

_GAP = "ms a caller of a leaving worker was without an answer"


@attrs.define
class _Silent:
    """A window that is open when its worker has to leave, and in which nobody says anything more.

    Attributes:
        closed_at: When a worker told that the close is committed.
    """

    channel: str
    deadline: float
    closed_at: float = 0.0
    closed: anyio.Event = attrs.Factory(anyio.Event)


class _Drain:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._silents: dict[str, _Silent] = {}
        self._channels = [f"loud-{number}" for number in range(_CHANNELS)]
        self._plan = bench.plan(
            sabotage=f"{__name__}:undrained" if bench.control else "", events=["TurnClosed"]
        )
        bench.watchers.append(self._watch)

    def _watch(self, _: Worker, event: dict[str, Any]) -> None:
        silent = self._silents.get(event.get("channel_id", ""))
        if silent is not None and event["event"] == "TurnClosed" and not silent.closed_at:
            silent.closed_at = event["at"]
            silent.closed.set()

    async def run(self, rounds: int) -> None:
        bench = self._bench
        workers = await bench.staff(_WORKERS, self._plan)
        crowd = bench.crowd()
        async with anyio.create_task_group() as load:
            for channel in self._channels:
                await crowd.boot(channel)
                load.start_soon(crowd.play, channel)
            async with anyio.create_task_group() as waiting:
                for number in range(rounds):
                    await anyio.sleep(bench.random.uniform(*_PLAY_SECONDS))
                    # The one that has been there longest: so each of them in turn.
                    workers.append(await self._replace(workers.pop(0), number, waiting))
                    bench.round()
            crowd.stop()
        await bench.settle(crowd, [*self._channels, *self._silents])
        self._judge_gaps()
        await bench.judge()

    async def _replace(self, leaving: Worker, number: int, waiting: anyio.abc.TaskGroup) -> Worker:
        """Have a worker leave while the other one plays on, and put another in its place."""
        bench = self._bench
        silents = [
            await self._open_silently(f"silent-{bench.seed}-{number}-{position}", leaving)
            for position in range(_SILENT)
        ]
        open_windows = await self._windows(leaving)
        began = time.monotonic()
        leaving.terminate()
        bench.figures.count("workers asked to leave")
        bench.figures.count("windows open at that moment", open_windows)
        status: int | None = None
        with anyio.move_on_after(2 * _EXIT_SECONDS):
            status = await leaving.ended()
        seconds = time.monotonic() - began
        bench.figures.sample("ms until a worker has left", seconds * 1000)
        if seconds > bench.limit(_EXIT_SECONDS):
            bench.violation(f"a worker needed {seconds:.1f} s to leave")
        if status != 0:
            bench.violation(f"a worker left with the status {status}, not 0")
            leaving.kill()
        await self._expect_handed_over(leaving)
        for silent in silents:
            waiting.start_soon(self._expect_close, silent)
        successor = await bench.worker(attrs.evolve(self._plan, seed=bench.random.getrandbits(32)))
        await successor.started()
        return successor

    async def _open_silently(self, channel: str, worker: Worker) -> _Silent:
        bench = self._bench
        book = bench.ledger.open(channel, f"{bench.random.getrandbits(48):012x}")
        press_id, choice = bench.ledger.send(channel, "quiet")
        await worker.call("boot", "Silence", channel=channel, game_id=book.game_id)
        answer = await worker.call(
            "press", "quiet", "Quiet", choice, channel=channel, press_id=press_id
        )
        bench.ledger.acknowledge(channel, press_id, answer)
        silent = self._silents[channel] = _Silent(channel, answer["deadline"])
        return silent

    async def _windows(self, worker: Worker) -> int:
        """How many windows are open in a worker now."""
        return int(await worker.call(f"{__name__}:open_windows"))

    async def _expect_handed_over(self, gone: Worker) -> None:
        """Nobody has to wait for the lease of a worker that has left."""
        bench = self._bench
        channels = [*self._channels, *self._silents]
        fences = await bench.read(*(ActorKey("session", channel).fence for channel in channels))
        for channel, fence in zip(channels, fences, strict=True):
            if fence and gone.owns(fence[b"owner"].decode()):
                bench.figures.count("channels not handed over")
                bench.violation(f"{channel}: a worker that has left is still its owner")

    async def _expect_close(self, silent: _Silent) -> None:
        bench = self._bench
        with anyio.move_on_after(_PATIENCE_SECONDS):
            await silent.closed.wait()
        if not silent.closed_at:
            bench.violation(f"{silent.channel}: its window did not close by itself")
            return
        late = silent.closed_at - silent.deadline
        bench.figures.sample("ms a window that was handed over closed late", late * 1000)
        if late > bench.limit(_LATE_SECONDS):
            bench.violation(f"{silent.channel}: its window closed {late * 1000:.0f} ms late")

    def _judge_gaps(self) -> None:
        bench = self._bench
        gaps = bench.gateway.gaps
        for gap in gaps:
            bench.figures.sample(_GAP, gap * 1000)
        if gaps and quantile(gaps, 0.99) > bench.limit(_GAP_SECONDS):
            bench.violation(f"1 % of the callers had no answer for {quantile(gaps, 0.99):.2f} s")


async def open_windows(supervisor: Supervisor) -> int:
    """A job: how many sessions of this worker have a window open."""
    cells = cast(Any, supervisor)._engine.cells()
    return sum(getattr(cell.state, "window", None) is not None for cell in cells)


def undrained(store: Store) -> Store:
    """A worker leaves at once: nothing is handled to its end, nothing is handed over."""

    async def leave(_: Supervisor) -> None:
        pass

    cast(Any, Supervisor)._drain = leave
    return store


async def _run(bench: Bench, rounds: int) -> None:
    try:
        await _Drain(bench).run(rounds)
    except* (CallFailed, WorkerGone) as errors:
        for error in leaves(errors):
            bench.violation(f"a call failed for good: {error}")


DRAIN = Scenario(
    name="drain",
    happens="SIGTERM with windows open, under load: rolling replacement of 2 of 2 workers",
    promise=(
        "Each leaves within 5 s with status 0 and owns nothing any more; nothing acknowledged is "
        "lost; callers are without an answer for less than 1 s (p99); windows close within 100 ms "
        "of their deadline, although their worker has left"
    ),
    control="workers leave without draining",
    unit="workers replaced",
    rounds=200,
    batch=50,
    small=2,
    run=_run,
    stores=frozenset((REDIS, SQLITE)),
)
