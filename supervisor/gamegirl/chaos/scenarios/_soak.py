"""A long evening: many channels, all kinds of faults, and one worker that lives through them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from gamegirl.actors.session._keys import history_key, json_key
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._leak import LEAKING, VITALS, Sample, growth
from gamegirl.chaos._ledger import judge_game
from gamegirl.chaos._proxy import Proxy
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.chaos.scenarios._weather import Weather
from gamegirl.supervisor import Supervisor

_CHANNELS = 200
_CHANNELS_SMALL = 30
_SMALL = 20
"""Runs of fewer seconds have fewer channels."""

_OTHERS = 2
"""So many workers are killed and replaced, beside the one that lives."""

_HISTORY = 10
"""So many records are kept, so that histories are full soon."""

_WINDOW_SECONDS = 1.0
_THINK_SECONDS = 6.0
_TRAVEL_SECONDS = 20.0
"""A channel's game leaves it and comes back about so often."""

_SAMPLES = 240
"""So often the memory is measured, in all."""

_GROWTH_MIB = 1.0
_GROWTH_SECONDS = 600.0
_LONG_SECONDS = 240.0
_WARMING_MIB = 2.0
"""What a worker may still grow by in a run that is too short for it to have seen everything."""

_LOST_SECONDS = 30.0
_REST_SECONDS = 20.0
"""Idle threads end by themselves, ten seconds after their last work."""

_BURST = 12
_BURST_SECONDS = 0.02

_FAULTS = 0.6
"""In so large a part of the seconds there is a fault."""

_PAUSE_SECONDS = 0.05
_RECORD = "gamegirl.chaos.scenarios._games:record_token"


class _Soak:
    def __init__(self, bench: Bench, rounds: int) -> None:
        self._bench = bench
        self._rounds = rounds
        many = _CHANNELS if rounds >= _SMALL else _CHANNELS_SMALL
        self._channels = [f"evening-{number}" for number in range(many)]
        self._over = anyio.Event()
        self._records: dict[str, dict[int, Any]] = {name: {} for name in self._channels}
        self._samples: list[Sample] = []
        self._proxy: Proxy
        self._survivor: Worker

    async def run(self) -> None:
        bench = self._bench
        self._proxy = await bench.proxy()
        self._plan = bench.plan(
            store=self._proxy.url,
            settings={"history_max": _HISTORY, "window_seconds": _WINDOW_SECONDS},
            sabotage=LEAKING if bench.control else "",
        )
        # Alone at first, so that it has once had all channels, and been as large as it will be.
        (self._survivor,) = await bench.staff(1, self._plan)
        async with anyio.create_task_group() as tasks:
            for channel in self._channels:
                tasks.start_soon(self._boot, channel)
        # Slow commits and reads at once have it open all the connections that it ever opens.
        self._proxy.delay_seconds = _BURST_SECONDS
        async with anyio.create_task_group() as tasks:
            for channel in self._channels[:_BURST]:
                tasks.start_soon(bench.gateway.ask, channel, "save")
                tasks.start_soon(self._survivor.call, "games")
        self._proxy.delay_seconds = 0.0
        began = await self._resting()
        await bench.staff(_OTHERS, self._plan)
        async with anyio.create_task_group() as play:
            for channel in self._channels:
                play.start_soon(self._play, channel)
            play.start_soon(self._measure)
            play.start_soon(self._watch_the_loop)
            await self._evening()
            self._over.set()
        await self._finish()
        await self._judge()
        await self._compare(began)
        self._judge_memory()

    # --- Play -----------------------------------------------------------------------------------

    async def _boot(self, channel: str) -> None:
        bench = self._bench
        book = bench.ledger.open(channel, f"{bench.random.getrandbits(48):012x}")
        await bench.gateway.ask(channel, "boot", f"Evening of {channel}", game_id=book.game_id)

    async def _play(self, channel: str) -> None:
        async with anyio.create_task_group() as narrators:
            narrators.start_soon(self._narrate, channel)
            async with anyio.create_task_group() as players:
                players.start_soon(self._press_often, channel, "ana", self._press)
                players.start_soon(self._press_often, channel, "bo", self._press)
                players.start_soon(self._press_often, channel, "cy", self._press_and_leave)
                players.start_soon(self._travel, channel)
            narrators.cancel_scope.cancel()

    async def _press_often(
        self, channel: str, user_id: str, press: Callable[[str, str], Awaitable[None]]
    ) -> None:
        while not await self._rested(self._bench.random.uniform(0, _THINK_SECONDS)):
            await press(channel, user_id)

    async def _rested(self, seconds: float) -> bool:
        """Wait so long, or until the evening is over, which it tells."""
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return self._over.is_set()

    async def _press(self, channel: str, user_id: str) -> None:
        ledger = self._bench.ledger
        press_id, choice = ledger.send(channel, user_id)
        try:
            answer = await self._bench.gateway.ask(
                channel, "press", user_id, user_id.title(), choice, press_id=press_id
            )
        except CallFailed as error:
            if error.kind not in ("NoActiveGameError", "TurnBacklogError"):
                raise
            if not error.repeated:
                ledger.refuse(channel, press_id)
        else:
            self._acknowledge(channel, press_id, answer)

    def _acknowledge(self, channel: str, press_id: str, answer: Any) -> None:
        # Else it counts in the game that was swapped in, and whether it did here is in doubt.
        if answer["game_id"] == self._bench.ledger.books[channel].game_id:
            self._bench.ledger.acknowledge(channel, press_id, answer)

    async def _press_and_leave(self, channel: str, user_id: str) -> None:
        """A press whose caller is cancelled in the worker, perhaps before it is answered."""
        bench = self._bench
        press_id, choice = bench.ledger.send(channel, user_id)
        seconds = bench.random.uniform(0, 0.01)
        home = bench.gateway.home(channel)
        if home is None:
            bench.ledger.refuse(channel, press_id)
            return
        try:
            answer = await home.call(
                f"{__name__}:{cancelled_press.__name__}",
                *(channel, user_id, choice, press_id, seconds),
            )
        except (CallFailed, WorkerGone):
            return
        if answer is None:
            bench.figures.count("cancelled callers")
        else:
            self._acknowledge(channel, press_id, answer)

    async def _narrate(self, channel: str) -> None:
        while True:
            turn = await self._ask(channel, "next_turn")
            if turn is not None:
                await self._record(channel, turn)

    async def _record(self, channel: str, turn: dict[str, Any]) -> None:
        ledger = self._bench.ledger
        game_id, number = turn["game_id"], turn["turn"]
        narrative = f"turn {number} of {game_id}, as everybody tells it"
        if game_id != ledger.books[channel].game_id:
            await self._ask(channel, _RECORD, channel, game_id, number, narrative)
            return
        ledger.close(channel, turn)
        ledger.tell(channel, number, narrative)
        record = None
        while record is None:
            # Also when the game has left meanwhile: it comes back, and whether this happened is
            # only known from an answer, since the history is soon cut.
            record = await self._ask(channel, _RECORD, channel, game_id, number, narrative)
        ledger.record(channel, record)
        self._records[channel][number] = record

    async def _ask(self, channel: str, op: str, *arguments: Any) -> Any | None:
        """An answer, or None after a while if the game isn't there at the moment."""
        try:
            return await self._bench.gateway.ask(channel, op, *arguments)
        except CallFailed as error:
            if error.kind not in ("NoActiveGameError", "StaleTurnError", "UnknownTurnError"):
                raise
            await anyio.sleep(_PAUSE_SECONDS)
            return None

    async def _travel(self, channel: str) -> None:
        """The game leaves its channel, perhaps for another one, and comes back."""
        bench = self._bench
        while not await self._rested(bench.random.expovariate(1 / _TRAVEL_SECONDS)):
            if bench.random.random() < 0.7:
                await self._ask(channel, "exit")
                bench.figures.count("exits and loads")
                await self._load(channel)
            else:
                swapped = await self._ask(channel, "swap", "An interlude")
                bench.figures.count("swaps")
                await self._load(channel)
                if swapped is not None:
                    await self._forget(swapped["booted"]["game_id"])

    async def _load(self, channel: str) -> None:
        gateway, game_id = self._bench.gateway, self._bench.ledger.books[channel].game_id
        why = "no answer"
        with anyio.move_on_after(_LOST_SECONDS):
            while True:
                try:
                    await gateway.ask(channel, "load", game_id)
                except CallFailed as error:
                    why = str(error)
                    if error.kind == "GameActiveError":
                        state = await gateway.ask(channel, "state")
                        if state["active"] and state["game_id"] == game_id:
                            return  # An earlier attempt, whose answer was lost, had done it.
                    await anyio.sleep(_PAUSE_SECONDS)
                else:
                    return
        self._bench.violation(f"{channel}: game {game_id} can't be loaded any more: {why}")

    async def _forget(self, game_id: str) -> None:
        try:
            await self._survivor.call("forget", game_id)
        except CallFailed as error:
            if error.kind not in ("StoreUnavailableError", "UnknownGameError", "GameActiveError"):
                raise

    async def _evening(self) -> None:
        random = self._bench.random
        weather = Weather(self._bench, self._plan, self._proxy, self._survivor)
        async with anyio.create_task_group() as faults:
            for _ in range(self._rounds):
                if random.random() < _FAULTS:
                    faults.start_soon(weather.strike)
                await anyio.sleep(1)
                self._bench.round()

    # --- What is left ---------------------------------------------------------------------------

    async def _measure(self) -> None:
        began = time.monotonic()
        while not await self._rested(max(0.1, self._rounds / _SAMPLES)):
            used = await self._survivor.call(VITALS)
            self._samples.append(Sample(time.monotonic() - began, used["sessions"], used["MiB"]))
            figures = self._bench.figures
            figures.sample("MiB held by the worker that lives", used["MiB"])
            figures.sample("MiB of it resident", self._survivor.memory_mib())

    async def _watch_the_loop(self) -> None:
        """Whoever plays and judges here must not be too slow itself."""
        while not self._over.is_set():
            before = time.monotonic()
            await anyio.sleep(_PAUSE_SECONDS)
            late = time.monotonic() - before - _PAUSE_SECONDS
            self._bench.figures.sample("ms the bench's own loop was late", late * 1000)

    def _judge_memory(self) -> None:
        """In the second half of the evening: histories are full by then, but in a short one."""
        half = self._samples[len(self._samples) // 2 :]
        seconds = half[-1].at - half[0].at
        each = growth(half)
        most = _GROWTH_MIB / _GROWTH_SECONDS
        if self._rounds < _LONG_SECONDS:
            most += _WARMING_MIB / seconds
        self._bench.figures.sample("MiB of growth in 10 min", each * _GROWTH_SECONDS)
        if each > most:
            self._bench.violation(
                f"the worker that lived grew by {each * _GROWTH_SECONDS:.2f} MiB in 10 min "
                f"({half[0].mib:.1f} to {half[-1].mib:.1f} MiB in the last {seconds:.0f} s)"
            )

    async def _finish(self) -> None:
        """Close all windows and record all turns."""

        async def finish(channel: str) -> None:
            await self._ask(channel, "close_window")
            while True:
                state = await self._ask(channel, "state")
                if state is not None and state["window"] is None and not state["closed_turns"]:
                    return
                for turn in state["closed_turns"] if state is not None else ():
                    await self._record(channel, turn)
                await self._ask(channel, "close_window")

        try:
            with anyio.fail_after(_LOST_SECONDS):
                async with anyio.create_task_group() as tasks:
                    for channel in self._channels:
                        tasks.start_soon(finish, channel)
        except TimeoutError:
            self._bench.violation(f"the games could not be played out in {_LOST_SECONDS:g} s")

    async def _judge(self) -> None:
        bench = self._bench
        faults = list(bench.ledger.contradictions)
        values = iter(
            await bench.read(
                *(key for name in self._channels for key in (json_key(name), history_key(name)))
            )
        )
        for channel in self._channels:
            form, history = next(values), next(values)
            faults += self._judge_channel(channel, form, history or [])
        for fault in faults:
            bench.violation(fault)
        bench.figures.count("acknowledged presses", bench.ledger.acknowledged)
        bench.figures.count("turns", bench.ledger.turns)
        bench.figures.count("acknowledged records", bench.ledger.records)

    def _judge_channel(self, channel: str, form: Any, history: list[bytes]) -> list[str]:
        """The stored end of the history, and before it what was answered to each record."""
        known = self._records[channel]
        kept = [json.loads(item) for item in history]
        faults = [
            f"{channel}: the record of turn {record['turn']} is not as it was acknowledged"
            for record in kept
            if record["turn"] in known and record["choices"] != known[record["turn"]]["choices"]
        ]
        if len(kept) > _HISTORY:
            faults.append(f"{channel}: its history has {len(kept)} records")
        before = [known[turn] for turn in sorted(known) if kept and turn < kept[0]["turn"]]
        every = [json.dumps(record).encode() for record in (*before, *kept)]
        return [*faults, *judge_game(channel, self._bench.ledger.books[channel], form, every)]

    # --- What is in use -------------------------------------------------------------------------

    async def _resting(self) -> dict[str, int]:
        """What the worker has in use when it has let go of all channels."""
        for worker in self._bench.workers:
            async with anyio.create_task_group() as tasks:
                for channel in self._channels:
                    tasks.start_soon(self._release, worker, channel)
        return await self._vitals()

    async def _release(self, worker: Worker, channel: str) -> None:
        try:
            await worker.call("release", channel)
        except WorkerGone:
            return

    async def _vitals(self) -> dict[str, int]:
        worker = self._survivor
        used: dict[str, int] = await worker.call(VITALS)
        del used["MiB"]  # Judged by its growth.
        return {**used, "descriptors": worker.descriptors(), "threads": worker.threads()}

    async def _compare(self, began: dict[str, int]) -> None:
        used = await self._resting()
        with anyio.move_on_after(_REST_SECONDS):
            while any(used[name] > began[name] for name in began):
                await anyio.sleep(_PAUSE_SECONDS)
                used = await self._vitals()
        for name, number in used.items():
            self._bench.figures.count(f"{name} at the end", number)
            if number > began[name]:
                self._bench.violation(f"{number} {name} at the end, {began[name]} at the beginning")


async def cancelled_press(
    supervisor: Supervisor, channel: str, user_id: str, choice: str, press_id: str, seconds: float
) -> Any:
    """A job: a press that is cancelled after a while; its answer, or None."""
    with anyio.move_on_after(seconds):
        return await supervisor.session(channel).press(
            user_id, user_id.title(), choice, press_id=press_id
        )
    return None


async def _run(bench: Bench, rounds: int) -> None:
    await _Soak(bench, rounds).run()


SOAK = Scenario(
    name="soak",
    happens=(
        "200 channels are played for 20 min, with kills, pauses past the lease, cuts, delays, "
        "silences, short outages, cancelled callers, exits, loads and swaps at random"
    ),
    promise=(
        "Nothing acknowledged is lost; the memory of a worker that lives through it grows by at "
        "most 1 MiB in 10 min once histories are full; tasks, threads and descriptors are back to "
        "where they began"
    ),
    control="something stays in memory at every renewal of the lease",
    unit="seconds",
    rounds=1200,
    batch=600,
    small=2,
    run=_run,
)
