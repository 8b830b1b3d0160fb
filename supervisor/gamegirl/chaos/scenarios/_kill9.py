"""Workers are killed at random moments under load."""

from __future__ import annotations

import time
from typing import Any

import anyio
import attrs

from gamegirl.actors.session._keys import turns_key
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._scenario import REDIS, SQLITE, Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.supervisor.stores import ActorKey

_WORKERS = 4
_CHANNELS = 8
_THINK_SECONDS = 0.3
_LATE_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0
_KILL_SECONDS = (0.02, 0.6)


@attrs.define
class _Silent:
    """A window in which nobody says anything more, of a worker that is killed.

    Attributes:
        deadline: When it should close.
        free_at: When another worker could claim it, as far as is known.
        closed_at: When a worker told that the close is committed.
    """

    channel: str
    worker: Worker
    deadline: float
    free_at: float = 0.0
    closed_at: float | None = None
    closed: anyio.Event = attrs.Factory(anyio.Event)


class _Kill9:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._silents: dict[str, _Silent] = {}
        settings: dict[str, Any] = {}
        if bench.control:
            # Answers don't wait for their commit: what a kill takes is lost.
            settings = {"durability": "turn", "flush_seconds": 0.3}
        self._plan = bench.plan(settings=settings, events=["TurnClosed"])
        bench.watchers.append(self._watch)

    def _watch(self, _: Worker, event: dict[str, Any]) -> None:
        silent = self._silents.get(event.get("channel_id", ""))
        if silent is not None and event["event"] == "TurnClosed" and silent.closed_at is None:
            silent.closed_at = event["at"]
            silent.closed.set()

    async def run(self, rounds: int) -> None:
        bench = self._bench
        await bench.staff(_WORKERS, self._plan)
        crowd = bench.crowd(think_seconds=_THINK_SECONDS)
        channels = [f"loud-{number}" for number in range(_CHANNELS)]
        async with anyio.create_task_group() as load:
            for channel in channels:
                await crowd.boot(channel)
                load.start_soon(crowd.play, channel)
            async with anyio.create_task_group() as waiting:
                for number in range(rounds):
                    await self._round(number, waiting)
                    bench.round()
            crowd.stop()
        await bench.settle(crowd, [*channels, *self._silents])
        for gap in bench.gateway.gaps:
            bench.figures.sample("ms from a failed call to its answer", gap * 1000)
        await bench.judge()

    async def _round(self, number: int, waiting: anyio.abc.TaskGroup) -> None:
        bench = self._bench
        victim = bench.random.choice([worker for worker in bench.workers if worker.alive])
        await victim.started()
        silent = await self._open_silently(f"silent-{bench.seed}-{number}", victim)
        await anyio.sleep(bench.random.uniform(*_KILL_SECONDS))
        victim.kill()
        await bench.worker(attrs.evolve(self._plan, seed=bench.random.getrandbits(32)))
        end = await self._lease_end(victim)
        await self._owner_died(victim, end)
        if silent is not None:
            silent.free_at = max(silent.free_at, end)
            waiting.start_soon(self._expect_close, silent)

    async def _owner_died(self, victim: Worker, end: float) -> None:
        """Whoever had taken a dead worker's window over may be killed in its turn."""
        open_ones = [one for one in self._silents.values() if one.closed_at is None]
        fences = await self._bench.read(
            *(ActorKey("session", silent.channel).fence for silent in open_ones)
        )
        for silent, fence in zip(open_ones, fences, strict=True):
            if fence and victim.owns(fence[b"owner"].decode()):
                silent.free_at = max(silent.free_at, end)

    async def _open_silently(self, channel: str, worker: Worker) -> _Silent | None:
        bench = self._bench
        book = bench.ledger.open(channel, f"{bench.random.getrandbits(48):012x}")
        press_id, choice = bench.ledger.send(channel, "quiet")
        try:
            await worker.call("boot", "Silence", channel=channel, game_id=book.game_id)
            answer = await worker.call(
                "press", "quiet", "Quiet", choice, channel=channel, press_id=press_id
            )
        except (CallFailed, WorkerGone):
            del bench.ledger.books[channel]
            return None
        bench.ledger.acknowledge(channel, press_id, answer)
        silent = self._silents[channel] = _Silent(channel, worker, answer["deadline"])
        return silent

    async def _lease_end(self, worker: Worker) -> float:
        """When the lease of a killed worker runs out, epoch seconds; where locks are, at once."""
        bench = self._bench
        await worker.gone.wait()
        if not bench.is_redis:
            return time.time()

        def look() -> float:
            with bench.redis() as client:
                names = client.keys(f"gg:lease:{worker.pid:x}-*")
                left = client.pttl(names[0]) if names else 0
                return time.time() + max(left, 0) / 1000

        end: float = await bench.in_thread(look)
        return end

    async def _expect_close(self, silent: _Silent) -> None:
        bench = self._bench
        with anyio.move_on_after(_PATIENCE_SECONDS):
            await silent.closed.wait()
        if silent.closed_at is None:
            (turns,) = await bench.read(turns_key(silent.channel))
            if not turns:
                bench.violation(f"{silent.channel}: its window did not close by itself")
            else:
                bench.figures.count("windows closed by the killed worker itself")
            return
        late = silent.closed_at - max(
            silent.deadline, silent.free_at if silent.free_at < silent.closed_at else 0.0
        )
        bench.figures.sample("ms a window of a dead worker closed late", late * 1000)
        if late > bench.limit(_LATE_SECONDS):
            bench.violation(f"{silent.channel}: its window closed {late * 1000:.0f} ms late")


async def _run(bench: Bench, rounds: int) -> None:
    await _Kill9(bench).run(rounds)


KILL9 = Scenario(
    name="kill9",
    happens="SIGKILL of a worker at random moments, under load",
    promise=(
        "No acknowledged press, turn or record is lost; turn numbers are contiguous, each once; "
        "windows close within 100 ms of their deadline, or of the moment the channel could be "
        "claimed, although nobody speaks"
    ),
    control="answers don't wait for their commit (Durability.TURN)",
    unit="kills",
    rounds=1000,
    batch=100,
    small=6,
    run=_run,
    stores=frozenset((REDIS, SQLITE)),
)
