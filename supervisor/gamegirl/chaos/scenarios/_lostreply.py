"""Replies to commits are lost, and requests are cut before they arrive or half-way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import anyio

from gamegirl.chaos._bench import SETTINGS, Bench
from gamegirl.chaos._errors import leaves
from gamegirl.chaos._proxy import Proxy
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.supervisor.stores._scripts import COMMIT

_ARENAS = 3
_CHANNELS = 4
_PLAYERS = 3
_THINK_SECONDS = 0.15
_LEASE_SECONDS = 10.0
"""Nobody takes a channel over here, however busy the machine is."""

_TIMEOUT_SECONDS = 0.6
_CALM_SECONDS = 0.02
_STORM_ROUNDS = 20
_STORM_FIRST = 2
"""From this round on, in each `_STORM_ROUNDS`th, faults outlast the commit timeout."""

_ANY = 0.2
"""This part of the dropped replies is to any commit; the others wait for one with a record."""

_LOOK_SECONDS = 0.002
_LAG_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0

_KINDS = {
    "drop_replies": "replies dropped",
    "halve_requests": "requests cut half-way",
    "cut_requests": "requests cut before they arrived",
}
_UNAVAILABLE = "StoreUnavailableError"


class StuckError(Exception):
    """The worker does not get on, although the faults are over."""


class _Arena:
    """A worker behind a proxy of its own, and channels in which people play."""

    def __init__(self, bench: Bench, number: int, proxy: Proxy, worker: Worker) -> None:
        self._bench = bench
        self._proxy = proxy
        self._worker = worker
        self._playing = True
        self._stormy = False
        self._wanted = ""
        self.channels = [f"arena{number}-{channel}" for channel in range(_CHANNELS)]

    async def play(self, rounds: Iterator[int]) -> None:
        """Play, with faults as long as there are rounds."""
        bench = self._bench
        for channel in self.channels:
            game_id = f"{bench.random.getrandbits(48):012x}"
            await self._worker.call("boot", "Lost reply", channel=channel, game_id=game_id)
            bench.ledger.open(channel, game_id)
            bench.gateway.move(channel, self._worker)
        async with anyio.create_task_group() as narrators:
            for channel in self.channels:
                narrators.start_soon(self._narrate, channel)
            async with anyio.create_task_group() as players:
                for channel in self.channels:
                    for number in range(_PLAYERS):
                        players.start_soon(self._play, channel, f"u{number}")
                for number in rounds:
                    await self._round(number)
                    bench.round()
                self._playing = False
            narrators.cancel_scope.cancel()

    # --- Faults ---------------------------------------------------------------------------------

    async def _round(self, number: int) -> None:
        """One fault of each kind, in any order; sometimes so many that commits are late."""
        bench = self._bench
        if number % _STORM_ROUNDS == _STORM_FIRST:
            await self._storm()
        kinds = list(_KINDS)
        bench.random.shuffle(kinds)
        for kind in kinds:
            await anyio.sleep(bench.random.uniform(0.0, _CALM_SECONDS))
            await self._spoil(kind)
            await self._settled()

    async def _spoil(self, kind: str) -> None:
        self._wanted = kind
        if kind != "drop_replies" or self._stormy or self._bench.random.random() < _ANY:
            self._spoil_next()
        with anyio.move_on_after(_PATIENCE_SECONDS):
            while self._wanted or getattr(self._proxy, kind):  # noqa: ASYNC110
                await anyio.sleep(_LOOK_SECONDS)
            self._bench.figures.count(_KINDS[kind])
            return
        raise StuckError(f"no commit came for {_PATIENCE_SECONDS:g} s")

    def _spoil_next(self) -> None:
        if self._wanted:
            setattr(self._proxy, self._wanted, 1)
            self._wanted = ""

    async def _storm(self) -> None:
        bench = self._bench
        self._stormy = True
        over = time.monotonic() + bench.random.uniform(1.1, 1.6) * _TIMEOUT_SECONDS
        kind = bench.random.choice(list(_KINDS))
        while time.monotonic() < over:
            await self._spoil(kind)
        bench.figures.count("times when faults outlasted the commit timeout")
        await self._settled()
        # What was late has been told by now: refusals don't wait for a commit.
        await anyio.sleep(_TIMEOUT_SECONDS)
        await self._settled()
        self._stormy = False

    async def _settled(self) -> None:
        """Wait until the worker has committed all that there was."""
        for channel in self.channels:
            with anyio.move_on_after(_PATIENCE_SECONDS):
                await self._insist(channel, "crown")
                continue
            raise StuckError(f"{channel}: its commits were not settled in {_PATIENCE_SECONDS:g} s")

    # --- People ---------------------------------------------------------------------------------

    async def _play(self, channel: str, user_id: str) -> None:
        while self._playing:
            await anyio.sleep(self._bench.random.uniform(0.0, _THINK_SECONDS))
            await self._press(channel, user_id)

    async def _press(self, channel: str, user_id: str) -> None:
        """A press; who is told that it did not happen, or may have, often leaves it at that."""
        ledger, random = self._bench.ledger, self._bench.random
        press_id, choice = ledger.send(channel, user_id)
        certain = True
        while True:
            try:
                answer = await self._worker.call(
                    "press", user_id, user_id, choice, channel=channel, press_id=press_id
                )
            except CallFailed as error:
                self._judge(channel, "press", error)
                certain = certain and error.fate != "in doubt"
                if error.kind != _UNAVAILABLE or random.random() < 0.5:
                    if certain:
                        ledger.refuse(channel, press_id)
                    return
            else:
                ledger.acknowledge(channel, press_id, answer)
                return
            await anyio.sleep(random.uniform(0.0, _THINK_SECONDS))

    async def _narrate(self, channel: str) -> None:
        ledger = self._bench.ledger
        while True:
            turn = await self._insist(channel, "next_turn")
            ledger.close(channel, turn)
            narrative = f"turn {turn['turn']} of {channel}"
            ledger.tell(channel, turn["turn"], narrative)
            self._spoil_next()
            ledger.record(channel, await self._insist(channel, "record", turn["turn"], narrative))

    async def _insist(self, channel: str, op: str, *arguments: object) -> Any:
        while True:
            try:
                return await self._worker.call(op, *arguments, channel=channel)
            except CallFailed as error:
                self._judge(channel, op, error)
            await anyio.sleep(_THINK_SECONDS)

    def _judge(self, channel: str, op: str, error: CallFailed) -> None:
        """An error is fine only while faults last for so long that commits are late."""
        bench = self._bench
        if error.kind != _UNAVAILABLE:
            if error.kind != "TurnBacklogError":
                bench.violation(f"{channel}: {op} raised {error}")
        elif not self._stormy:
            bench.violation(f"{channel}: {op} raised, though no commit was late: {error}")
        else:
            bench.figures.count(f"callers told it is {error.fate}")


async def _watch_lag(bench: Bench) -> None:
    """How late the proxy itself is: what it holds up longer than the commit timeout is late too."""
    while True:
        before = time.monotonic()
        await anyio.sleep(_LAG_SECONDS)
        late = time.monotonic() - before - _LAG_SECONDS
        bench.figures.sample("ms the bench's own loop was late", late * 1000)


async def _run(bench: Bench, rounds: int) -> None:
    left = iter(range(rounds))
    arenas: list[_Arena] = []
    for number in range(min(_ARENAS, rounds)):
        proxy = await bench.proxy(marker=COMMIT.sha)
        plan = bench.plan(
            store=proxy.url,
            sabotage="gamegirl.chaos._sabotage:forgetful" if bench.control else "",
            settings={
                "lease_seconds": _LEASE_SECONDS,
                "commit_timeout_seconds": _TIMEOUT_SECONDS,
                "window_seconds": SETTINGS["window_seconds"] / 2,
            },
        )
        (worker,) = await bench.staff(1, plan)
        arenas.append(_Arena(bench, number, proxy, worker))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_lag, bench)
            async with anyio.create_task_group() as playing:
                for arena in arenas:
                    playing.start_soon(arena.play, left)
            tasks.cancel_scope.cancel()
    except* (CallFailed, WorkerGone, StuckError) as errors:
        for error in leaves(errors):
            bench.violation(f"it went on no more: {error}")
    channels = [channel for arena in arenas for channel in arena.channels]
    await bench.settle(bench.crowd(), channels)
    await bench.judge()


LOSTREPLY = Scenario(
    name="lostreply",
    happens=(
        "Replies to commits are dropped, requests are cut half-way, and before they arrive: each "
        "once a round"
    ),
    promise=(
        "No press, turn or record is doubled, no acknowledged one is lost; callers are told that "
        "it is in doubt, or not executed, only when faults outlast the commit timeout, and nothing "
        "that was not executed has an effect"
    ),
    control="a commit that is sent again has another id each time",
    unit="replies dropped, and as many requests cut half-way, and before",
    rounds=1000,
    batch=250,
    small=8,
    run=_run,
)
