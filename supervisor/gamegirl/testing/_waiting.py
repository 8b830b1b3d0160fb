"""Waiting for a state, not for a time."""

from __future__ import annotations

from collections.abc import Callable

import anyio

_LOOK_SECONDS = 0.002


async def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: It didn't, for that long.

    Example:
        await eventually(lambda: supervisor.get("1234") is None)
    """
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - any condition will do, not just events
            await anyio.sleep(_LOOK_SECONDS)
