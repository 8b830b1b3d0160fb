"""A channel moves from one process to another: when its owner drains, releases it, or is told to.

Until then calls elsewhere get `OwnedElsewhereError`, at once and without any effect; then they
succeed, with everything that the first process had accepted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from gamegirl.actors import OwnedElsewhereError
from gamegirl.actors.session import Session, SessionRef, TurnClosed
from gamegirl.supervisor import MemoryStore, RedisStore, Settings, SqliteStore, Supervisor

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

Stores = Callable[[], Any]

HANDOVER_SECONDS = 2.0
"""From the moment at which the owner has let go: a call elsewhere succeeds within so long."""

PATIENCE_SECONDS = 20.0


@pytest.fixture(params=["memory", "redis", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Makes handles on one and the same store."""
    if request.param == "memory":
        return MemoryStore().sibling
    if request.param == "sqlite":
        return lambda: SqliteStore(str(tmp_path / "games.db"))
    url: str = request.getfixturevalue("redis_url")
    return lambda: RedisStore(url)


@asynccontextmanager
async def hosted(store: Any, **settings: Any) -> AsyncGenerator[Supervisor]:
    async with Supervisor(store, settings=Settings(**settings)) as supervisor:
        yield supervisor


async def play(session: SessionRef) -> Session:
    """Give a channel a bit of everything: history, crown, an unrecorded turn, an open window."""
    await session.boot("Neon Catacombs")
    await session.press("1", "Ana", "first")
    turn = await session.close_window()
    assert turn is not None
    await session.record(turn, "told")
    await session.press("2", "Bo", "second")
    await session.close_window()
    await session.set_crown("1")
    await session.press("3", "Cy", "third", press_id="p")
    return await session.state()


async def asked_until_here(session: SessionRef, refused: list[str]) -> Session:
    """Ask for the channel until it is here; keeps who was said to own it."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                return await session.state()
            except OwnedElsewhereError as error:
                refused.append(error.owner)
                await anyio.sleep(0.005)


@pytest.mark.parametrize("how", ["drain", "release"])
async def test_a_channel_moves_whole_once_its_owner_lets_go(stores: Stores, how: str) -> None:
    """Refused until then, with nothing changed; then here in time, with its window still open."""
    first = Supervisor(stores(), settings=Settings(window_seconds=60))
    await first.start()
    async with hosted(stores(), window_seconds=60) as second:
        before = await play(first.session("c"))
        session = second.session("c")
        refused: list[str] = []
        times: list[float] = []
        after: list[Session] = []
        for _ in range(3):
            with pytest.raises(OwnedElsewhereError):
                await session.press("4", "Dee", "refused")
        assert await first.session("c").state() == before

        async def ask() -> None:
            after.append(await asked_until_here(session, refused))
            times.append(time.monotonic())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while len(refused) < 5:  # noqa: ASYNC110 - the asking goes on meanwhile
                await anyio.sleep(0.005)
            await (first.aclose() if how == "drain" else first.release("c"))
            times.append(time.monotonic())
        assert abs(times[1] - times[0]) <= HANDOVER_SECONDS
        assert after == [before]
        assert set(refused) == {refused[0]}
        again = await session.press("3", "Cy", "third", press_id="p")
        assert before.window is not None
        assert again.deadline == pytest.approx(before.window.deadline)
        await session.press("4", "Dee", "here")
        turn = await session.close_window()
        assert turn is not None
        assert dict(turn.choices) == {"3": "third", "4": "here"}
        assert [record.narrative_summary for record in await session.history()] == ["told"]
        if how == "release":
            with pytest.raises(OwnedElsewhereError):
                await first.session("c").state()
    await first.aclose()


async def test_a_channel_goes_back_and_forth(stores: Stores) -> None:
    """Two processes hand one channel to each other; every press of either counts once."""
    async with hosted(stores(), window_seconds=60) as a, hosted(stores(), window_seconds=60) as b:
        await a.session("c").boot("G")
        here, there = a, b
        for number in range(10):
            await here.session("c").press(str(number), f"P{number}", "x")
            with pytest.raises(OwnedElsewhereError):
                await there.session("c").state()
            await here.release("c")
            here, there = there, here
        state = await here.session("c").state()
        assert list(state.pending_choices) == [str(number) for number in range(10)]


async def test_an_open_window_closes_on_time_wherever_it_has_moved(stores: Stores) -> None:
    """Nobody asks for the channel: the other process takes the window that was given up."""
    first = Supervisor(stores(), settings=Settings(window_seconds=0.8))
    await first.start()
    async with hosted(stores(), window_seconds=0.8, sweep_seconds=0.1) as second:
        events = second.events()
        session = first.session("c")
        await session.boot("G")
        pressed = await session.press("1", "Ana", "x")
        await first.aclose()
        with anyio.fail_after(PATIENCE_SECONDS):
            async for event in events:
                if isinstance(event, TurnClosed):
                    break
        (turn,) = (await second.session("c").state()).closed_turns
        assert dict(turn.choices) == {"1": "x"}
        assert turn.closed_at == pytest.approx(pressed.deadline, abs=0.001)


PROCESS = """
import sys, anyio
from gamegirl.supervisor import Settings, Supervisor

async def main():
    async with Supervisor(sys.argv[1], settings=Settings(window_seconds=60)) as supervisor:
        session = supervisor.session("c")
        if not (await session.state()).active:
            await session.boot("G")
        for number in range(int(sys.argv[2]), int(sys.argv[2]) + 5):
            await session.press(str(number), f"P{number}", "x", press_id=str(number))
        print("playing", flush=True)
        what = (await anyio.to_thread.run_sync(sys.stdin.readline)).strip()
        if what == "release":
            await supervisor.release("c")
            print("released", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)

anyio.run(main, backend=sys.argv[3])
"""


class Worker:
    """A process of its own that plays channel `c` until it is told to let go."""

    def __init__(self, url: str, first: int, backend: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, str(first), backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    async def says(self, line: str) -> None:
        assert self.process.stdout is not None
        with anyio.fail_after(PATIENCE_SECONDS):
            said = await anyio.to_thread.run_sync(
                self.process.stdout.readline, abandon_on_cancel=True
            )
        assert said.strip() == line

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Those that are left at the end are killed."""
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.end()


@pytest.mark.parametrize("how", ["drain", "release"])
@pytest.mark.parametrize("kind", ["redis", "sqlite"])
async def test_a_channel_moves_between_real_processes(
    request: pytest.FixtureRequest,
    anyio_backend: str,
    workers: list[Worker],
    tmp_path: Path,
    kind: str,
    how: str,
) -> None:
    """A process plays, this one asks until the other lets go, then a third one goes on."""
    if kind == "redis":
        url: str = request.getfixturevalue("redis_url")
    else:
        url = f"sqlite:///{tmp_path / 'games.db'}"
    workers.append(Worker(url, 0, anyio_backend))
    await workers[0].says("playing")
    async with hosted(url, window_seconds=60) as here:
        session = here.session("c")
        refused: list[str] = []
        with pytest.raises(OwnedElsewhereError):
            await session.press("9", "Zoe", "refused")
        workers[0].tell(how)
        began = time.monotonic()
        state = await asked_until_here(session, refused)
        assert time.monotonic() - began <= HANDOVER_SECONDS
        assert list(state.pending_choices) == [str(number) for number in range(5)]
        if how == "release":
            await workers[0].says("released")
            workers[0].tell("")
        assert workers[0].process.wait(PATIENCE_SECONDS) == 0
        await session.press("4", "P4", "x", press_id="4")
        await here.release("c")
        workers.append(Worker(url, 5, anyio_backend))
        await workers[1].says("playing")
        with pytest.raises(OwnedElsewhereError):
            await session.state()
        workers[1].tell("drain")
        state = await asked_until_here(session, refused)
        assert list(state.pending_choices) == [str(number) for number in range(10)]


async def test_a_window_left_open_by_a_release_closes_when_it_is_due(stores: Stores) -> None:
    """Whoever released it looks at the deadline whether somebody has claimed it, and else does."""
    rare = {"sweep_seconds": 1000.0, "lease_seconds": 3000.0}  # No sweep finds it.
    async with hosted(stores(), window_seconds=0.2, **rare) as supervisor:
        session = supervisor.session("c")
        await session.boot("Neon")
        pressed = await session.press("42", "Ana", "Open it")
        events = supervisor.events()
        await supervisor.release("c")
        with anyio.fail_after(PATIENCE_SECONDS):
            async for event in events:
                if isinstance(event, TurnClosed):
                    break
        assert (await session.state()).closed_turns[0].closed_at == pressed.deadline


async def test_a_window_left_open_by_a_release_stays_with_who_has_claimed_it(
    stores: Stores,
) -> None:
    """The former owner doesn't take it back."""
    async with hosted(stores(), window_seconds=0.2) as first, hosted(stores()) as second:
        await first.session("c").boot("Neon")
        await first.session("c").press("42", "Ana", "Open it")
        await first.release("c")
        assert (await second.session("c").state()).window is not None
        turn = await second.session("c").next_turn()
        assert turn.choices == {"42": "Open it"}
        assert first.get("c") is None
