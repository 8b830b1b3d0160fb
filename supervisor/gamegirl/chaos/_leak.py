"""Whether a worker keeps what it should have let go of: memory, tasks, threads, descriptors."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from statistics import median
from typing import Any, cast

import anyio

from gamegirl.supervisor import Store, Supervisor

VITALS = f"{__name__}:vitals"
"""The job that tells what a worker has in use."""

LEAKING = f"{__name__}:leaking"
"""The sabotage that lets a worker grow."""

_LEAK_BYTES = 1 << 20


async def vitals(supervisor: Supervisor) -> dict[str, int]:
    """A job: what is in use, once the garbage is collected and given back to the system.

    What is resident then is what something still holds, and not what the allocators keep for later:
    those hold as much as the busiest moment so far needed, which would look like growth.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    statistics = supervisor.statistics()
    return {
        "tasks": len(anyio.get_running_tasks()),
        "sessions": sum(statistics.live.values()),
        "unsettled messages": statistics.unsettled,
        "narrators": statistics.working,
        "timers": statistics.timers,
        "observers": statistics.observers,
    }


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """How fast the second value grows with the first: the median over all pairs of samples.

    So outliers, up to a quarter of all samples, don't matter (Theil and Sen's estimate).

    Example:
        >>> slope([(0, 1.0), (1, 3.0), (2, 5.0), (3, 99.0), (4, 9.0)])
        2.0
    """
    return median(
        (y - before) / (x - earlier)
        for position, (x, y) in enumerate(samples)
        for earlier, before in samples[:position]
    )


class _Leaking:
    """A store that keeps something at each renewal of its lease, however busy it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: list[bytes] = []

    def __repr__(self) -> str:
        return repr(self._store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def renew(self) -> bool:
        self._kept.append(b"x" * _LEAK_BYTES)
        return await self._store.renew()


def leaking(store: Store) -> Store:
    """Something stays in memory at every renewal of the lease."""
    return cast(Store, _Leaking(store))
