"""What callers wait on, on both hosts."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from gamegirl.supervisor._signal import Awaited, signal_maker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def signal() -> Awaited:
    return signal_maker()()


async def test_a_signal_that_is_set_is_not_waited_for(signal: Awaited) -> None:
    """Awaiting it returns at once."""
    signal.set_result(None)
    with anyio.fail_after(5):
        await signal
    assert signal.done()


async def test_a_signal_wakes_who_waits(signal: Awaited) -> None:
    """Once it is set, and not before."""
    woken = False

    async def wait() -> None:
        nonlocal woken
        await signal
        woken = True

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert not woken
            signal.set_result(None)
    assert woken


@pytest.mark.parametrize("waits", [True, False], ids=["while it waits", "before it waits"])
async def test_who_is_cancelled_waits_no_more(signal: Awaited, *, waits: bool) -> None:
    """A signal that is set afterwards doesn't wake the task again."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                if waits:
                    tasks.start_soon(_cancel, scope)
                else:
                    scope.cancel()
                await signal
            assert scope.cancelled_caught
    if not signal.done():
        signal.set_result(None)
    await anyio.lowlevel.checkpoint()


async def _cancel(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


async def test_who_is_cancelled_and_woken_in_one_turn_goes_on(signal: Awaited) -> None:
    """Whichever of the two it notices."""
    passed = False

    async def wait(scope: anyio.CancelScope) -> None:
        nonlocal passed
        with scope:
            await signal
        passed = True

    scope = anyio.CancelScope()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, scope)
            await anyio.wait_all_tasks_blocked()
            signal.set_result(None)
            scope.cancel()
    assert passed
