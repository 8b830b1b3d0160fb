"""Faults at random: what strikes a bench that is only meant to go on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import attrs

from gamegirl.chaos._bench import Bench
from gamegirl.chaos._proxy import Proxy
from gamegirl.chaos._worker import WorkerPlan
from gamegirl.chaos._workers import Worker


class Weather:
    """Kills, pauses, cuts, delays, silences and short outages, each as often as its weight says.

    Args:
        plan: Of the workers that take the place of those that are killed.
        proxy: What all workers reach the store through.
        spared: Is paused and cut off like the others, but never killed.
    """

    def __init__(self, bench: Bench, plan: WorkerPlan, proxy: Proxy, spared: Worker) -> None:
        self._bench = bench
        self._plan = plan
        self._proxy = proxy
        self._spared = spared
        self._faults: dict[Callable[[], Coroutine[Any, Any, None]], int] = {
            self._kill: 4,
            self._pause: 4,
            self._cut: 8,
            self._delay: 8,
            self._spoil: 12,
            self._outage: 3,
            self._silence: 3,
        }

    async def strike(self) -> None:
        """One fault, until it is over."""
        faults, weights = list(self._faults), list(self._faults.values())
        (fault,) = self._bench.random.choices(faults, weights)
        await fault()

    async def _kill(self) -> None:
        victim = self._victim()
        if victim is not None:
            self._bench.figures.count("kills")
            victim.kill()
            seed = self._bench.random.getrandbits(32)
            await self._bench.worker(attrs.evolve(self._plan, seed=seed))

    def _victim(self) -> Worker | None:
        able = [
            worker
            for worker in self._bench.workers
            if worker.alive and not worker.paused and worker is not self._spared
        ]
        return self._bench.random.choice(able) if able else None

    async def _pause(self) -> None:
        """Past its lease."""
        worker = self._bench.random.choice([self._spared, self._victim() or self._spared])
        if not worker.paused and worker.alive:
            self._bench.figures.count("pauses")
            worker.pause()
            await anyio.sleep(self._bench.random.uniform(0.6, 1.5))
            worker.resume()

    async def _cut(self) -> None:
        self._bench.figures.count("cuts")
        await self._proxy.cut()

    async def _delay(self) -> None:
        self._bench.figures.count("delays")
        self._proxy.delay_seconds = self._bench.random.uniform(0.005, 0.1)
        await anyio.sleep(0.5)
        self._proxy.delay_seconds = 0.0

    async def _spoil(self) -> None:
        self._bench.figures.count("spoiled requests", by=3)
        self._proxy.cut_requests += 1
        self._proxy.halve_requests += 1
        self._proxy.drop_replies += 1

    async def _outage(self) -> None:
        self._bench.figures.count("outages")
        await self._proxy.refuse()
        await anyio.sleep(self._bench.random.uniform(0.3, 2.0))
        self._proxy.refusing = False

    async def _silence(self) -> None:
        self._bench.figures.count("silences")
        self._proxy.silent = True
        await anyio.sleep(self._bench.random.uniform(0.3, 1.5))
        self._proxy.speak()
