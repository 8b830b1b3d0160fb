"""One player presses as fast as a program can, and waits for no answer."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import Counter
from typing import Any

import anyio
import attrs
from anyio.lowlevel import checkpoint

from gamegirl.actors.session._keys import history_key
from gamegirl.actors.session._messages import Press
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._figures import quantile
from gamegirl.chaos._inside import JOBS, Players, Tally, enter, open_books, tell_all
from gamegirl.chaos._scenario import REDIS, SQLITE, Scenario
from gamegirl.chaos._workers import Worker
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import Settings, Supervisor

_FLOODED = "flooded"
_OTHERS = [f"other-{number}" for number in range(10)]
_PLAYERS = [f"u{number}" for number in range(99)]
_OTHER_PLAYERS = ("v1", "v2", "v3")
_HOSTILE = "hostile"
_THINK_SECONDS = 0.2
_SLICE = 25_000
"""So many presses of the hostile player; then the others play as long without."""

_BURST = 8
"""So many presses of the hostile player come in at each turn of the loop, which never rests: about
60,000 a second. (With 16, 90,000 a second, a round trip takes about twice as long as without.)"""

_LOOKED_AT = 256
"""After so many presses the unsettled messages are counted."""

_SLOWER = 2.0
_MEMORY_MIB = 32.0
_LOOK_SECONDS = 0.05
_UNSETTLED_MAX = (
    int(Settings().mailbox_max * Settings().mailbox_share)
    + len(_PLAYERS)
    + len(_OTHERS) * len(_OTHER_PLAYERS)
)
"""The hostile player's share of a mailbox, and one message of everybody else."""

_FLOOD_CHOICE = re.compile(r"flood ([0-9]+)")


async def play(
    supervisor: Supervisor, *, seed: int, presses: int, first: int, seconds: float
) -> dict[str, Any]:
    """A job: everybody plays while the hostile player presses so often; or for so many seconds."""
    tally = Tally()
    players = Players(tally, seed, _THINK_SECONDS)
    refused: Counter[str] = Counter()
    unsettled = 0
    began = time.monotonic()
    took = 0.0
    async with anyio.create_task_group() as tasks:
        for user_id in _PLAYERS:
            session = supervisor.session(_FLOODED)
            tasks.start_soon(players.press, "the other 99", session, user_id)
        for channel in _OTHERS:
            for user_id in _OTHER_PLAYERS:
                session = supervisor.session(channel)
                tasks.start_soon(players.press, "other channels", session, user_id)
        hostile = supervisor.actor("session", _FLOODED)
        for number in range(first, first + presses):
            try:
                hostile.tell(Press(_HOSTILE, "Hostile", f"flood {number}"))
            except GameGirlError as error:
                refused[type(error).__name__] += 1
            if number % _LOOKED_AT == 0:
                unsettled = max(unsettled, supervisor.statistics().unsettled)
            if number % _BURST == 0:
                await checkpoint()
        await anyio.sleep(seconds)
        took = time.monotonic() - began
        players.stop()
    return {**tally.plain(), "refused": dict(refused), "unsettled": unsettled, "seconds": took}


@attrs.define
class _Slices:
    """The p99 of each slice in milliseconds, by group."""

    quiet: dict[str, list[float]] = attrs.Factory(dict[str, "list[float]"])
    flooded: dict[str, list[float]] = attrs.Factory(dict[str, "list[float]"])


class _Flood:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._slices = _Slices()
        self._sent = 0

    async def run(self, rounds: int) -> None:
        bench = self._bench
        settings: dict[str, Any] = {"commit_timeout_seconds": 5.0}
        if bench.control:
            settings |= {"mailbox_max": 10_000_000, "mailbox_share": 1.0}
        plan = bench.plan(settings=settings, on_turn=JOBS("narrate"))
        (worker,) = await bench.staff(1, plan)
        channels = [_FLOODED, *_OTHERS]
        await worker.call(JOBS("boot"), open_books(bench, channels))
        await self._play(worker, None, seconds=0.3)  # So that everything is warm.
        before = worker.memory_mib()
        async with anyio.create_task_group() as looking:
            looking.start_soon(self._look, worker, before)
            while self._sent < rounds:
                presses = min(_SLICE, rounds - self._sent)
                seconds = await self._play(worker, self._slices.flooded, presses=presses)
                await self._play(worker, self._slices.quiet, seconds=seconds)
                for _ in range(presses):
                    bench.round()
            looking.cancel_scope.cancel()
        self._compare()
        tell_all(bench, channels, await worker.call(JOBS("settle"), channels))
        await self._enter_flood()
        await bench.judge()

    async def _play(
        self,
        worker: Worker,
        slices: dict[str, list[float]] | None,
        *,
        presses: int = 0,
        seconds: float = 0.0,
    ) -> float:
        bench = self._bench
        seen = await worker.call(
            f"{__name__}:play",
            seed=bench.random.getrandbits(32),
            presses=presses,
            first=self._sent,
            seconds=seconds,
        )
        self._sent += presses
        enter(bench, seen)
        bench.figures.count("presses of the hostile player", presses)
        for kind, times in seen["refused"].items():
            bench.figures.count(f"refused: {kind}", times)
            if kind != "MailboxFullError":
                bench.violation(f"{times} presses were refused with {kind}")
        bench.figures.peak("unsettled messages", seen["unsettled"])
        if seen["unsettled"] > _UNSETTLED_MAX:
            bench.violation(f"{seen['unsettled']} messages were unsettled at a time")
        if slices is not None:
            how = "flooded" if presses else "quiet"
            for group, late in seen["late"].items():
                slices.setdefault(group, []).append(quantile(late, 0.99))
                for value in late:
                    bench.figures.sample(f"ms a press of {group} took, {how}", value)
        took: float = seen["seconds"]
        return took

    async def _look(self, worker: Worker, before: float) -> None:
        while True:
            grown = worker.memory_mib() - before
            self._bench.figures.peak("MiB the worker grew", grown)
            if grown > _MEMORY_MIB:
                self._bench.violation(f"the worker grew by {grown:.1f} MiB")
                return
            await anyio.sleep(_LOOK_SECONDS)

    def _compare(self) -> None:
        """By the median of the slices, so that no hiccup of the machine decides it."""
        for group, flooded in self._slices.flooded.items():
            quiet = statistics.median(self._slices.quiet[group])
            slower = statistics.median(flooded) / quiet
            self._bench.figures.peak(f"times as slow {group}, p99", slower)
            if slower > self._bench.limit(_SLOWER):
                self._bench.violation(
                    f"the p99 of {group} was {quiet:.2f} ms when it was quiet, and {slower:.1f} "
                    "times that in the flood"
                )

    async def _enter_flood(self) -> None:
        """Of the hostile player's presses only those are entered that made it into a turn."""
        (history,) = await self._bench.read(history_key(_FLOODED))
        for item in history or ():
            choice = json.loads(item)["choices"].get(_HOSTILE, "")
            found = _FLOOD_CHOICE.fullmatch(choice)
            if found is not None and int(found[1]) < self._sent:
                self._bench.ledger.note(_FLOODED, _HOSTILE, choice)


async def _run(bench: Bench, rounds: int) -> None:
    await _Flood(bench).run(rounds)


FLOOD = Scenario(
    name="flood",
    happens="One of a channel's 100 players presses as fast as a program can, without waiting",
    promise=(
        "Memory stays bounded; nobody is refused but the hostile player, with MailboxFullError; "
        "the p99 of the other 99 and of other channels is at most twice what it is without"
    ),
    control="the mailbox has no bound, and no share of it is one player's",
    unit="presses",
    rounds=1_000_000,
    batch=500_000,
    small=40_000,
    run=_run,
    control_rounds=40_000,
    stores=frozenset((REDIS, SQLITE)),
)
