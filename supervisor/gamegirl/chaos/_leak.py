"""Whether a worker keeps what it should have let go of: memory, tasks, threads, descriptors."""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any, cast

import anyio
import attrs
import psutil

from gamegirl.supervisor import Store, Supervisor

VITALS = f"{__name__}:vitals"
"""The job that tells what a worker has in use."""

LEAKING = f"{__name__}:leaking"
"""The sabotage that lets a worker grow."""

_MIB = 1 << 20
_BLOCK_BYTES = 96
"""A block of Python's own allocator has 16 to 512 bytes."""

_MOVED = 5
"""From so many sessions more or less it is seen what one of them takes."""

_LEAK_BYTES = 1 << 20


class _MallocUse(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def held_mib() -> float:
    """What this process holds, in MiB: what was allocated and not given back to the allocators.

    Not what is resident: allocators keep what the busiest moment so far needed, in steps, and those
    look like growth. Python's small blocks are counted and taken for middling ones. Where the C
    library doesn't tell, it is what is resident.
    """
    gc.collect()
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return float(psutil.Process().memory_info().rss) / _MIB
    library.mallinfo2.restype = _MallocUse
    used = library.mallinfo2()
    small = sys.getallocatedblocks() * _BLOCK_BYTES
    return float(used.uordblks + used.hblkhd + small) / _MIB


async def vitals(supervisor: Supervisor) -> dict[str, float]:
    """A job: what is in use."""
    statistics = supervisor.statistics()
    return {
        "tasks": len(anyio.get_running_tasks()),
        "sessions": sum(statistics.live.values()),
        "unsettled messages": statistics.unsettled,
        "narrators": statistics.working,
        "timers": statistics.timers,
        "observers": statistics.observers,
        "MiB": held_mib(),
    }


@attrs.frozen
class Sample:
    """A measurement: when, in seconds, of how many sessions, and what was held."""

    at: float
    sessions: float
    mib: float


def growth(samples: Sequence[Sample]) -> float:
    """How fast the memory grows, in MiB a second, beside what sessions that come and go take.

    Example:
        >>> round(growth([Sample(at, at % 3 * 10, 5 + at / 99 + at % 3) for at in range(9)]) * 99)
        1
    """
    pairs = list(itertools.pairwise(samples))
    moved = [
        (later.mib - before.mib) / (later.sessions - before.sessions)
        for before, later in pairs
        if abs(later.sessions - before.sessions) >= _MOVED
    ]
    each = median(moved) if moved else 0.0
    return slope([(sample.at, sample.mib - each * sample.sessions) for sample in samples])


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
