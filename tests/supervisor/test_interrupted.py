"""What cancelled callers and busy loops must not do to anybody."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from gamegirl.actors import ActorCrashedError, Behaviour, Decision
from gamegirl.supervisor import MemoryStore, Settings, Supervisor, _courtesy
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio


async def test_a_watcher_who_is_cancelled_misses_no_change() -> None:
    """A watch may be waited for with a timeout, again and again: the change comes the next time."""
    store = FaultyStore(MemoryStore())
    async with Supervisor(store) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        watch = session.watch()
        await anext(watch)
        await session.press("1", "Ana", "x")
        await supervisor.release("c")
        store.claims_down = True
        asked = len(store.claims)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, watch)
            await eventually(lambda: len(store.claims) > asked)
            tasks.cancel_scope.cancel()
        store.claims_down = False
        with anyio.fail_after(5):
            assert (await anext(watch)).pending_choices == {"1": "x"}


async def test_a_busy_loop_rests_while_the_store_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that always computes leaves the store's threads their time; else nobody rests."""
    rests = 0

    def rest(seconds: float) -> None:
        nonlocal rests
        assert seconds < 0.001
        rests += 1

    monkeypatch.setattr(_courtesy, "_rest", rest)
    store = FaultyStore(MemoryStore())
    store.threaded = True
    async with Supervisor(store, settings=Settings(commit_timeout_seconds=30)) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")

        async def compute() -> None:
            while True:
                sum(range(5000))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(compute)
            before = rests  # Booting may have been work enough.
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            assert rests == before
            store.hold()
            tasks.start_soon(session.press, "1", "Ana", "x")
            await eventually(lambda: rests > before + 3, seconds=25)
            store.let_go()
            await eventually(lambda: supervisor.statistics().unsettled == 0)
            await anyio.lowlevel.checkpoint()
            rests = 0
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert rests == 0
            tasks.cancel_scope.cancel()


class _Endless(Behaviour[None]):
    kind = "endless"

    def initial(self, actor_id: str) -> None:
        return None

    def handle(self, state: None, message: object, now: float) -> Decision:
        return self._back(message)

    def _back(self, message: object) -> Decision:
        return self.handle(None, message, 0.0)


async def test_a_handler_that_calls_itself_without_end_is_told_in_few_lines() -> None:
    """Telling of a thousand frames would hold everybody up; the innermost ones say it all."""
    async with Supervisor(MemoryStore(), behaviours=[_Endless()]) as supervisor:
        with pytest.raises(ActorCrashedError, match="RecursionError"):
            await supervisor.actor("endless", "e").ask("go")
        (crash,) = supervisor.crashes()
        assert "RecursionError" in crash.traceback
        assert "_back" in crash.traceback
        assert len(crash.traceback.splitlines()) < 200
