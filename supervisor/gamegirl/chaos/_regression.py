"""What a store that went back owes the processes which knew better: a word for each channel."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import anyio
import attrs

from gamegirl.actors import Fate, OwnershipLostError
from gamegirl.actors.session._keys import history_key, json_key
from gamegirl.chaos._append_only import AppendOnly, Fence
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._gateway import Crowd
from gamegirl.chaos._workers import CallFailed, Worker
from gamegirl.supervisor import Store, Supervisor
from gamegirl.supervisor._cell import Status
from gamegirl.supervisor._settlement import Settlement

NAMED_SECONDS = 3.0
"""A channel that the store has forgotten something of is named so soon after the store is back."""

REPAIRED_SECONDS = 5.0
"""And so soon it is written anew from memory."""

UNCHECKED = f"{__name__}:unchecked"
"""The sabotage of a worker that takes its check for regressions away."""

_CONTROL_SECONDS = 0.4
_LOOK_SECONDS = 0.005
_SETTLE_SECONDS = 30.0

Knower: TypeAlias = "tuple[int, str]"
"""A worker's process id and a channel."""


@attrs.frozen
class Memory:
    """What a live process has seen committed of a channel."""

    worker: Worker
    channel: str
    owner: str
    revision: int


class Regressions:
    """Kills the bench's server, cuts what it wrote, and expects the affected channels named.

    Args:
        bench: Its server gets an append-only file, before any worker starts.
    """

    def __init__(self, bench: Bench) -> None:
        assert bench.server is not None
        self._bench = bench
        self._server = bench.server
        self._restarts = 0
        self._named: dict[Knower, int] = {}
        self._reported: set[tuple[str, int]] = set()
        self._lost: set[tuple[str, int]] = set()
        self._broken: set[str] = set()
        self._faults: list[tuple[str, str]] = []
        self.file = AppendOnly(bench.server.folder)
        bench.watchers.append(self._watch)

    def _watch(self, worker: Worker, event: dict[str, Any]) -> None:
        if event["event"] == "StoreRegressed":
            self._named[worker.pid, event["actor_id"]] = self._restarts
            self._reported.add((event["actor_id"], self._restarts))
            self._bench.figures.count("times a channel was named")
        elif event["event"] == "ActorLost":
            self._lost.add((event["actor_id"], self._restarts))

    async def open(self, fsync: str) -> None:
        """Start the server anew, with an append-only file."""
        self._server.kill()
        await self._server.start(
            appendonly="yes",
            appendfsync=fsync,
            **{"auto-aof-rewrite-percentage": "0", "aof-load-truncated": "yes"},
        )
        self._bench.tasks.start_soon(self.file.watch, 0.01)

    async def memories(self, workers: Iterable[Worker]) -> list[Memory]:
        """What live processes have seen committed; to be asked while the server is down."""
        found: list[Memory] = []
        for worker in workers:
            known: dict[str, list[Any]] = await worker.call(f"{__name__}:known")
            found += [Memory(worker, channel, *fence) for channel, fence in known.items()]
        return found

    async def restart(
        self, cut_to: int | None, memories: Iterable[Memory], **options: str
    ) -> list[Memory]:
        """Cut the file and start the server again.

        Returns:
            Those memories of which the store has lost something: `expect` that they are named.
        """
        if cut_to is not None:
            self._bench.figures.sample("KiB cut off", self.file.cut(cut_to) / 1024)
        affected = forgotten(memories, self.file.fences())
        self._bench.figures.count("channels that the store forgot something of", len(affected))
        self._restarts += 1
        await self._server.start(**options)
        self._back = time.time()
        return affected

    async def expect(self, affected: Sequence[Memory]) -> None:
        """Wait until each is named by the process that knows better; what isn't is a violation."""
        patience = _CONTROL_SECONDS if self._bench.control else NAMED_SECONDS
        with anyio.move_on_after(patience):
            while not all(map(self._is_named, affected)):  # noqa: ASYNC110 - others' events
                await anyio.sleep(_LOOK_SECONDS)
        for memory in affected:
            if not self._is_named(memory):
                self._bench.violation(
                    f"{memory.channel}: the store went back behind revision {memory.revision}, "
                    f"which {memory.worker!r} knew, and nobody said so"
                )
        if affected:
            waited = (time.time() - self._back) * 1000
            self._bench.figures.sample("ms until all channels were named", waited)

    async def repaired(self, workers: Iterable[Worker]) -> None:
        """Wait until all that was named is written anew from memory, or given up."""
        left: list[str] = []
        with anyio.move_on_after(REPAIRED_SECONDS) as scope:
            for worker in workers:
                while left := await worker.call(f"{__name__}:rewriting"):  # noqa: ASYNC110
                    await anyio.sleep(_LOOK_SECONDS)
        if scope.cancelled_caught:
            self._bench.violation(f"{left} were not written anew in {REPAIRED_SECONDS:g} s")
        waited = (time.time() - self._back) * 1000
        self._bench.figures.sample("ms until all channels were written anew", waited)

    def _is_named(self, memory: Memory) -> bool:
        return self._named.get((memory.worker.pid, memory.channel)) == self._restarts

    # --- Players whose game may be lost ---------------------------------------------------------

    async def play(self, crowd: Crowd, channel: str) -> None:
        """Play until the crowd stops, or a call fails in a way that a player must not see."""
        await self._see(channel, lambda: crowd.play(channel))

    async def turn(self, crowd: Crowd, channel: str) -> None:
        """Play one whole turn, unless the channel's game is lost."""
        if channel not in self._broken:
            await self._see(channel, lambda: self._turn(crowd, channel))

    async def _turn(self, crowd: Crowd, channel: str) -> None:
        await crowd.press(channel, "quiet")
        await crowd.finish(channel)

    async def finish(self, crowd: Crowd, channels: Iterable[str]) -> None:
        """Play all games out that still can be."""
        with anyio.move_on_after(_SETTLE_SECONDS) as scope:
            async with anyio.create_task_group() as tasks:
                for channel in channels:
                    if channel not in self._broken:
                        tasks.start_soon(self._see, channel, lambda c=channel: crowd.finish(c))
        if scope.cancelled_caught:
            self._bench.violation(f"the games could not be played out in {_SETTLE_SECONDS:g} s")

    async def _see(self, channel: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except* CallFailed as failed:
            self._broken.add(channel)
            for error in flat(failed):
                self._faults.append((channel, f"{channel}: a player was told: {error}"))

    async def judge(self) -> None:
        """Compare the ledger with the store; reported losses are only counted."""
        bench = self._bench
        store = bench.store()
        try:
            for fault in await bench.ledger.judge(store):
                self._faults.append((fault.partition(":")[0], fault))
            excused = {channel for channel, _ in self._lost & self._reported}
            for channel in excused & set(bench.ledger.books):
                await self._check_turns(store, channel)
        finally:
            await store.aclose()
        for channel, fault in self._faults:
            if channel in excused:
                bench.figures.count("losses of channels that were reported")
            else:
                bench.violation(fault)
        bench.figures.count("channels reported, not written anew", len(excused))
        bench.figures.count("acknowledged presses", bench.ledger.acknowledged)
        bench.figures.count("turns", bench.ledger.turns)
        bench.figures.count("acknowledged records", bench.ledger.records)

    async def _check_turns(self, store: Store, channel: str) -> None:
        """Whatever was reported: each turn is there once, and none is missing.

        Their order may be another one: a narrative that was lost is told again.
        """
        form, history = await store.read([json_key(channel), history_key(channel)])
        last = json.loads(cast(bytes, form))["turn_number"] if form else 0
        numbers = sorted(json.loads(item)["turn"] for item in cast("list[bytes]", history or []))
        if numbers != list(range(1, last + 1)):
            self._bench.violation(f"{channel}: its turn is {last}, its records are {numbers}")


def forgotten(memories: Iterable[Memory], fences: Mapping[str, Fence]) -> list[Memory]:
    """Those memories of which the store has lost something."""
    found: list[Memory] = []
    for memory in memories:
        fence = fences.get(memory.channel)
        if fence is None or fence.revision < memory.revision:
            found.append(memory)
    return found


def flat(group: BaseExceptionGroup[CallFailed]) -> list[CallFailed]:
    """The errors in a group of groups."""
    found: list[CallFailed] = []
    for error in group.exceptions:
        found += flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


# --- In a worker --------------------------------------------------------------------------------


async def known(supervisor: Supervisor) -> dict[str, tuple[str, int]]:
    """The owner and the last committed revision of each session in memory."""
    engine = cast(Any, supervisor)._engine
    return {
        cell.key.actor_id: (cell.owner, cell.revision)
        for cell in engine.cells()
        if cell.key.kind == "session" and cell.revision
    }


async def rewriting(supervisor: Supervisor) -> list[str]:
    """The sessions that are about to be written anew from memory."""
    engine = cast(Any, supervisor)._engine
    return [cell.key.actor_id for cell in engine.cells() if cell.status is Status.REWRITING]


def unchecked(store: Store) -> Store:
    """Without the check for regressions: whatever the store says is believed, and nothing said."""

    def believe(self: Any, cell: Any, _found: int | None, **_options: Any) -> None:
        def anew(fate: Fate) -> Exception:
            return OwnershipLostError(f"{cell.name} is loaded anew", fate=fate)

        self.abort(cell, anew)
        self._engine.life.recover(cell)

    def say_nothing(*_: Any) -> None:
        pass

    patched = cast(Any, Settlement)
    patched.regress = believe
    patched.check_fence = patched.report = say_nothing
    return store
