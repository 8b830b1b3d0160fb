"""The store goes back in time: the server's append-only file is cut back by a random amount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import attrs

from gamegirl.chaos._bench import Bench
from gamegirl.chaos._gateway import Crowd, Gateway
from gamegirl.chaos._ledger import Book
from gamegirl.chaos._regression import UNCHECKED, Regressions
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import Worker

_WORKERS = 2
_LOUD = 4
_QUIET = 3
_LOAD_SECONDS = (0.05, 0.3)
_BACK_SECONDS = 1.0
_GUEST_TURNS = 4
_STATE_SECONDS = 5.0


@attrs.define
class _Guest:
    """A channel of a worker that is gone, or paused, while the store goes back."""

    channel: str
    worker: Worker


class _Rollback:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._regressions = Regressions(bench)
        self._plan = bench.plan(
            events=["StoreRegressed", "ActorLost"],
            sabotage=UNCHECKED if bench.control else "",
        )
        self._staff: list[Worker] = []
        self._gateway = Gateway(lambda: self._staff, bench.random)
        self._crowd = Crowd(self._gateway, bench.ledger, bench.random)
        self._loud = [f"loud-{number}" for number in range(_LOUD)]
        self._quiet = [f"quiet-{number}" for number in range(_QUIET)]
        self._adopted: list[str] = []

    async def run(self, rounds: int) -> None:
        bench, regressions = self._bench, self._regressions
        await regressions.open("always")
        self._staff = await bench.staff(_WORKERS, self._plan)
        async with anyio.create_task_group() as load:
            for channel in [*self._loud, *self._quiet]:
                await self._crowd.boot(channel)
            for channel in self._loud:
                load.start_soon(regressions.play, self._crowd, channel)
            for number in range(rounds):
                await self._round(number)
                bench.round()
            self._crowd.stop()
        await regressions.finish(self._crowd, [*self._loud, *self._quiet, *self._adopted])
        await regressions.judge()

    async def _round(self, number: int) -> None:
        bench, regressions = self._bench, self._regressions
        assert bench.server is not None
        guest = await self._invite(number) if number % 2 else None
        paused = number % 4 == 3
        await anyio.sleep(bench.random.uniform(*_LOAD_SECONDS))
        await regressions.turn(self._crowd, bench.random.choice(self._quiet))
        cut_to = self._moment()
        bench.server.kill()
        minds = [*self._staff, *([guest.worker] if guest and paused else [])]
        memories = await regressions.memories(minds)
        if guest is not None:
            if paused:
                guest.worker.pause()
            else:
                guest.worker.kill()
                bench.figures.count("workers whose memory was lost with it")
        bench.figures.count("rollbacks")
        affected = await regressions.restart(cut_to, memories)
        there = [memory for memory in affected if memory.worker in self._staff]
        await regressions.expect(there)
        await regressions.repaired(self._staff)
        if guest is not None:
            await self._adopt(guest)
            if paused:
                guest.worker.resume()
                await regressions.expect([memory for memory in affected if memory not in there])
                guest.worker.kill()

    def _moment(self) -> int:
        """Back to where: mostly within a second, sometimes anywhere, sometimes a few bytes."""
        file, randomness = self._regressions.file, self._bench.random
        dice = randomness.random()
        if dice < 0.7:
            return file.size_before(randomness.uniform(0, _BACK_SECONDS))
        if dice < 0.85:
            return max(0, file.size - randomness.randrange(4096))
        return randomness.randrange(file.size)

    async def _invite(self, number: int) -> _Guest:
        """A worker with a game of its own, some turns of it told."""
        bench = self._bench
        worker = (await bench.staff(1, self._plan))[0]
        channel = f"guest-{bench.seed}-{number}"
        crowd = Crowd(Gateway(lambda: [worker], bench.random), bench.ledger, bench.random)
        await crowd.boot(channel)
        for _ in range(bench.random.randint(1, _GUEST_TURNS)):
            await self._regressions.turn(crowd, channel)
        return _Guest(channel, worker)

    async def _adopt(self, guest: _Guest) -> None:
        """Whoever has a guest's channel now goes on from what is stored, without gap or doublet."""
        bench, channel = self._bench, guest.channel
        book = bench.ledger.books.pop(channel)
        with anyio.fail_after(_STATE_SECONDS):
            state = await self._gateway.ask(channel, "state")
            history = await self._gateway.ask(channel, "history", 1000)
        if not state["active"]:
            bench.figures.count("games of such workers that were gone")
            return
        for fault in rebase(book, state, history):
            bench.violation(f"{channel}: {fault}")
        bench.ledger.books[channel] = book
        self._adopted.append(channel)
        await self._regressions.turn(self._crowd, channel)
        bench.figures.count("games of such workers that went on")


def rebase(book: Book, state: dict[str, Any], history: Sequence[dict[str, Any]]) -> list[str]:
    """Take what a store that went back has of a game for the truth; what can't be so?"""
    faults: list[str] = []
    numbers = [record["turn"] for record in history]
    waiting = [turn["turn"] for turn in state["closed_turns"]]
    if state["game_id"] != book.game_id:
        faults.append(f"there is game {state['game_id']}, not {book.game_id}")
    if numbers + waiting != list(range(1, state["turn_number"] + 1)):
        faults.append(f"turn {state['turn_number']} has the records {numbers}, {waiting} wait")
    if state["turn_number"] > max(book.closed, default=0) + 1:
        faults.append(f"nobody ever saw turn {state['turn_number']}")
    faults += [
        f"the record of turn {record['turn']} is another one than acknowledged"
        for record in history
        if record["narrative_summary"] != book.recorded.get(record["turn"])
    ]
    faults += [
        f"turn {turn['turn']} has other choices than were handed out"
        for turn in [*history, *state["closed_turns"]]
        if turn["choices"] != book.closed.get(turn["turn"], turn["choices"])
    ]
    book.closed = {turn: book.closed[turn] for turn in book.closed if turn in numbers + waiting}
    book.recorded = {turn: book.recorded[turn] for turn in book.recorded if turn in numbers}
    pending = set(state["pending_choices"].values())
    for press in book.presses.values():
        if press.turn is not None and press.turn > state["turn_number"]:
            kept = press.turn == state["turn_number"] + 1 and press.choice in pending
            press.turn = press.turn if kept else None
    return faults


async def _run(bench: Bench, rounds: int) -> None:
    await _Rollback(bench).run(rounds)


ROLLBACK = Scenario(
    name="rollback",
    happens=(
        "The server's append-only file is cut back by a random amount, while workers live, are "
        "paused, or are killed with what they knew"
    ),
    promise=(
        "Each channel of which the store has forgotten something is named by whoever has it in "
        "memory, and written anew; no turn is missing or there twice; what nobody alive remembers "
        "goes on from what is stored, in order"
    ),
    control="the check for regressions is off",
    unit="rollbacks",
    rounds=200,
    batch=50,
    small=4,
    run=_run,
    own_server=True,
)
