"""The server is killed under load and started again, and loses its last second or nothing."""

from __future__ import annotations

import anyio

from gamegirl.chaos._bench import Bench
from gamegirl.chaos._regression import UNCHECKED, Regressions
from gamegirl.chaos._scenario import Scenario

_WORKERS = 3
_LOUD = 8
_QUIET = 3
_LOAD_SECONDS = (0.1, 0.5)
_UNSYNCED_SECONDS = 1.0

_MODES = ("always", "always", "everysec", "power")
"""How the rounds take turns; `power`: everysec, and what was not synced is gone as well."""


class _RedisKill:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._regressions = Regressions(bench)
        self._crowd = bench.crowd()
        self._quiet = [f"quiet-{number}" for number in range(_QUIET)]

    async def run(self, rounds: int) -> None:
        bench, regressions = self._bench, self._regressions
        loud = [f"loud-{number}" for number in range(_LOUD)]
        await regressions.open(_fsync(0))
        plan = bench.plan(
            events=["StoreRegressed", "ActorLost"], sabotage=UNCHECKED if bench.control else ""
        )
        await bench.staff(_WORKERS, plan)
        async with anyio.create_task_group() as load:
            for channel in [*loud, *self._quiet]:
                await self._crowd.boot(channel)
            for channel in loud:
                load.start_soon(regressions.play, self._crowd, channel)
            for number in range(rounds):
                await self._round(number)
                bench.round()
            self._crowd.stop()
        await regressions.finish(self._crowd, [*loud, *self._quiet])
        await regressions.judge()
        for gap in bench.gateway.gaps:
            bench.figures.sample("ms from a failed call to its answer", gap * 1000)

    async def _round(self, number: int) -> None:
        bench, regressions = self._bench, self._regressions
        assert bench.server is not None
        mode = _MODES[number % len(_MODES)]
        await anyio.sleep(bench.random.uniform(*_LOAD_SECONDS))
        await regressions.turn(self._crowd, bench.random.choice(self._quiet))
        back = bench.random.uniform(0, _UNSYNCED_SECONDS)
        cut_to = regressions.file.size_before(back) if mode == "power" else None
        bench.server.kill()
        memories = await regressions.memories(bench.workers)
        bench.figures.count(f"kills of the server ({mode})")
        affected = await regressions.restart(cut_to, memories, appendfsync=_fsync(number + 1))
        if mode == "always":
            for memory in affected:
                bench.violation(
                    f"{memory.channel}: revision {memory.revision} was acknowledged, and a server "
                    "that syncs always has lost it"
                )
        await regressions.expect(affected)
        await regressions.repaired(bench.workers)


def _fsync(number: int) -> str:
    return "always" if _MODES[number % len(_MODES)] == "always" else "everysec"


async def _run(bench: Bench, rounds: int) -> None:
    await _RedisKill(bench).run(rounds)


REDISKILL = Scenario(
    name="rediskill",
    happens=(
        "SIGKILL of the redis-server under load, and a restart: it syncs always, or every second, "
        "or every second and loses up to a second of what it wrote, as when the machine dies"
    ),
    promise=(
        "Syncing always, nothing is lost; every second, each regression is repaired from memory or "
        "reported, never silent"
    ),
    control="the check for regressions is off",
    unit="kills",
    rounds=100,
    batch=25,
    small=4,
    run=_run,
    own_server=True,
)
