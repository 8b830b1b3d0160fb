"""What is got ready before the clock runs: a game in each of 10,000 channels."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from benchmarks._presses import CHANNELS, channel_name
from gamegirl.supervisor import Supervisor

GAME_NAME = "Neon Catacombs"
_BOOTING = 500
"""So many channels are got ready side by side."""


def game_id(channel: int) -> str:
    return f"{channel:012x}"


async def boot_all(
    supervisor: Supervisor, players: int, enter: Callable[[int, int], Coroutine[Any, Any, object]]
) -> None:
    """Boot the games and have players enter them."""

    async def make_ready(channels: range) -> None:
        for channel in channels:
            session = supervisor.session(channel_name(channel))
            await session.boot(GAME_NAME, game_id=game_id(channel))
            async with anyio.create_task_group() as tasks:
                for player in range(players):
                    tasks.start_soon(enter, channel, player)

    gc.disable()  # It takes half of the set-up, and has nothing to find.
    async with anyio.create_task_group() as tasks:
        for first in range(_BOOTING):
            tasks.start_soon(make_ready, range(first, CHANNELS, _BOOTING))
    gc.enable()
