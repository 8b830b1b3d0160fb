"""Runs one coroutine function as a task of its own, on whatever backend the host runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextvars import copy_context


def spawn(main: Callable[[], Awaitable[None]], name: str) -> object:
    """Start an asyncio task or a trio system task: no child of any caller's.

    `main` must not raise anything but its own cancellation.

    Returns:
        The task, which the caller must keep: asyncio itself doesn't.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        task: object = trio.lowlevel.spawn_system_task(main, name=name, context=copy_context())
        return task

    async def run() -> None:
        await main()

    return asyncio.get_running_loop().create_task(run(), name=name)
