"""Rounds of pressing: 1,000 callers, 10,000 channels, and how long each press took."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from time import perf_counter
from typing import Any

import anyio

from benchmarks._contest import Measure, Sample
from gamegirl.supervisor import Supervisor

CHANNELS = 10_000
CALLERS = 1_000
PLAYERS = 4
"""On the roster of each game; they press in turn."""

CHOICE = "Open the door"

Press = Callable[[int, int], Awaitable[object]]
"""Presses in a channel as a player, and returns when that is stored."""


@cache
def channel_name(channel: int) -> str:
    return f"{channel:018d}"


@cache
def player_id(player: int) -> str:
    return f"{player:018d}"


@cache
def player_name(player: int) -> str:
    return f"Player {player}"


USERS = tuple((player_id(player), player_name(player)) for player in range(PLAYERS))
"""Who is on the roster of each game: ids and names."""

CHANNEL_NAMES = tuple(map(channel_name, range(CHANNELS)))


def pressing_at(supervisor: Supervisor) -> Callable[[int, int], Coroutine[Any, Any, object]]:
    """Presses in the sessions of a supervisor."""
    session = supervisor.session

    def press(channel: int, player: int) -> Coroutine[Any, Any, object]:
        user_id, user_name = USERS[player]
        return session(CHANNEL_NAMES[channel]).press(user_id, user_name, CHOICE)

    return press


def pressing(press: Press, seconds: float) -> Measure:
    """A measure in which every caller presses in its own ten channels, one after the other."""
    laps = [0] * CALLERS  # Where each caller goes on in the next round.

    async def measure() -> Sample:
        latencies: list[float] = []
        own = CHANNELS // CALLERS

        async def call(caller: int) -> None:
            lap = laps[caller]
            before = perf_counter()
            while before < deadline:
                await press(caller + CALLERS * (lap % own), lap // own % PLAYERS)
                now = perf_counter()
                latencies.append(now - before)
                before = now
                lap += 1
            laps[caller] = lap

        started = perf_counter()
        deadline = started + seconds
        async with anyio.create_task_group() as tasks:
            for caller in range(CALLERS):
                tasks.start_soon(call, caller)
        took = perf_counter() - started
        latencies.sort()
        return {
            "per_second": len(latencies) / took,
            "presses": float(len(latencies)),
            "p50_ms": latencies[len(latencies) // 2] * 1000,
            "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
        }

    return measure
