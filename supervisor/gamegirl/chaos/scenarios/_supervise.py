"""Actors crash among others that don't: once, again and again, and with messages in their queue."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import anyio
import attrs

from gamegirl.actors import (
    ActorCrashedError,
    ActorRef,
    Behaviour,
    Decision,
    SessionFailedError,
)
from gamegirl.actors.session._messages import Press
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._figures import quantile
from gamegirl.chaos._inside import JOBS, Players, Tally, enter, open_books, tell_all
from gamegirl.chaos._scenario import REDIS, SQLITE, Scenario
from gamegirl.chaos._workers import Worker
from gamegirl.codec import GameGirlError, JsonCodec
from gamegirl.supervisor import Supervisor

_SESSIONS = 1000
_SESSIONS_A_ROUND = 20
_PRESSES_A_SECOND = 100
"""Of all siblings together: they are there to be disturbed, not to keep the machine busy."""

_SLICE = 8
"""So many victims at a time; then the siblings play as long without."""

_SIDE_BY_SIDE = 5
_PLAYED_SECONDS = 0.25
_RESTARTS_MAX = 3
_RESTART_SECONDS = 0.1
_SLOWER = 2.0
_NOTICED_MS = 5.0
"""No player notices less, and what is short when it is quiet is doubled by any neighbour."""
_BEHIND = 3
"""So many messages are in the queue behind a poisonous one."""


# --- A behaviour that can be made to crash -------------------------------------------------------


@attrs.define
class Frailty:
    """How often an actor was asked."""

    actor_id: str
    total: int = 0


@attrs.frozen
class Poison:
    """What makes the handler raise, or break its contract."""

    token: str
    way: str


class Frail(Behaviour[Frailty]):
    """Counts, and crashes when it is told to."""

    kind = "frail"
    codec = JsonCodec(Frailty)

    def initial(self, actor_id: str) -> Frailty:
        """Nothing yet."""
        return Frailty(actor_id)

    def handle(self, state: Frailty, message: Any, now: float) -> Decision:
        """Count one, or crash."""
        state.total += 1
        if isinstance(message, Poison):
            return _WAYS[message.way](message)
        return Decision(state.total, writes=self.stored(state))


def _raise(poison: Poison) -> Decision:
    raise ValueError(f"poisoned with {poison.token}")


def _recurse(poison: Poison) -> Decision:
    return _recurse(poison)


def _break_off(_: Poison) -> Any:
    return None


_WAYS: dict[str, Callable[[Poison], Decision]] = {
    "raises": _raise,
    "recurses": _recurse,
    "returns nothing": _break_off,
}

# --- Jobs ----------------------------------------------------------------------------------------


@attrs.define
class _Findings:
    """What the victims of a slice showed: `attrs.asdict` of it goes over the wire."""

    faults: list[str] = attrs.Factory(list[str])
    restarts: list[float] = attrs.Factory(list[float])
    crashes: int = 0
    failed: int = 0


class _Victim:
    """An actor of its own that is made to crash: a session, or a frail one."""

    def __init__(self, supervisor: Supervisor, name: str, chance: random.Random) -> None:
        self._supervisor = supervisor
        self._name = name
        self._chance = chance
        self._is_session = chance.random() < 0.5
        self._kind = "session" if self._is_session else "frail"
        self._actor: ActorRef = supervisor.actor(self._kind, name)
        self._total = 0
        self._poisons = 0
        self.findings = _Findings()

    def _fault(self, text: str) -> None:
        self.findings.faults.append(f"{self._kind} {self._name}: {text}")

    async def ask(self) -> None:
        """A message that is well: its answer shows all that was acknowledged before."""
        self._total += 1
        if self._is_session:
            await self._supervisor.session(self._name).press("u", "Ana", f"{self._total}")
            await self._expect_choice()
            return
        answer = await self._actor.ask("well")
        if answer != self._total:
            self._fault(f"it knows of {answer} messages, not of {self._total}")

    async def _expect_choice(self) -> None:
        state = await self._supervisor.session(self._name).state()
        choice = state.pending_choices.get("u")
        if choice != f"{self._total}":
            self._fault(f"it knows of press {choice}, not of {self._total}")

    def _poison(self) -> Any:
        self._poisons += 1
        self.findings.crashes += 1
        way = self._chance.choice(tuple(_WAYS))
        poison: Any = Poison(f"poison {self._poisons} of {self._name}", way)
        # No choice is anything but a text, as a session's own reference would have noticed.
        return Press("u", "Ana", poison) if self._is_session else poison

    def _expect_kept(self, poison: Any) -> None:
        kept = [crash for crash in self._supervisor.crashes() if crash.message == poison]
        if len(kept) != 1 or kept[0].actor_id != self._name or not kept[0].traceback:
            self._fault(f"{poison} is kept as {kept}")

    async def poison(self) -> None:
        """A message that makes it crash, which is kept, and named."""
        poison = self._poison()
        try:
            answer = await self._actor.ask(poison)
        except ActorCrashedError as error:
            if error.__cause__ is None:
                self._fault("its crash has no cause")
        else:
            self._fault(f"{poison} was answered with {answer}")
        self._expect_kept(poison)

    async def crash_once(self) -> None:
        """It is back soon, and knows all."""
        await self.ask()
        await self.poison()
        began = time.perf_counter()
        await self.ask()
        self.findings.restarts.append((time.perf_counter() - began) * 1000)

    async def crash_before_others(self) -> None:
        """What is in the queue behind the poison is handled, in its order."""
        await self.ask()
        poison = self._poison()
        self._actor.tell(poison)
        for _ in range(_BEHIND):
            self._total += 1
            well = Press("u", "Ana", f"{self._total}") if self._is_session else "well"
            self._actor.tell(well)
        if self._is_session:
            await self._expect_choice()
        await self.ask()
        self._expect_kept(poison)

    async def crash_on(self) -> None:
        """It crashes until its restarts are used up; then it stays away until it is revived."""
        await self.crash_once()
        for _ in range(_RESTARTS_MAX - 1):
            await self.poison()
            await self.ask()
        await self.poison()
        try:
            await self.ask()
        except SessionFailedError:
            self._total -= 1
            self.findings.failed += 1
        else:
            self._fault(f"it restarted more than {_RESTARTS_MAX} times")
        await self._supervisor.revive(self._name, kind=self._kind)
        await self.ask()

    async def run(self, way: str) -> None:
        """Suffer in one of the ways."""
        try:
            if self._is_session:
                await self._supervisor.session(self._name).boot("Victim")
            await getattr(self, way)()
            await self._supervisor.release(self._name, kind=self._kind)
        except GameGirlError as error:
            self._fault(f"{way}: {error!r}")


_CRASHES = ("crash_once", "crash_once", "crash_before_others", "crash_on")


async def play(
    supervisor: Supervisor, *, seed: int, siblings: int, first: int, victims: int, seconds: float
) -> dict[str, Any]:
    """A job: siblings play while so many others crash, and for so many seconds at least."""
    tally = Tally()
    players = Players(tally, seed, siblings / _PRESSES_A_SECOND)
    chance = random.Random(seed)
    findings = _Findings()
    began = time.monotonic()
    took = 0.0
    async with anyio.create_task_group() as tasks:
        for number in range(siblings):
            session = supervisor.session(f"sibling-{number}")
            tasks.start_soon(players.press, "siblings", session, "u")
        await anyio.sleep(seconds)
        limit = anyio.CapacityLimiter(_SIDE_BY_SIDE)

        async def suffer(name: str, way: str) -> None:
            victim = _Victim(supervisor, name, chance)
            async with limit:
                await victim.run(way)
            found = victim.findings
            findings.faults += found.faults
            findings.restarts += found.restarts
            findings.crashes += found.crashes
            findings.failed += found.failed

        async with anyio.create_task_group() as suffering:
            for number in range(first, first + victims):
                way = _CRASHES[number % len(_CRASHES)]
                suffering.start_soon(suffer, f"victim-{number}", way)
        took = time.monotonic() - began
        players.stop()
    return {"tally": tally.plain(), "findings": attrs.asdict(findings), "seconds": took}


# --- The bench -----------------------------------------------------------------------------------


class _Supervise:
    def __init__(self, bench: Bench, rounds: int) -> None:
        self._bench = bench
        self._siblings = min(_SESSIONS, _SESSIONS_A_ROUND * rounds)
        self._quiet: list[float] = []
        self._crashing: list[float] = []

    async def run(self, rounds: int) -> None:
        bench = self._bench
        settings: dict[str, Any] = {
            "window_seconds": 5.0,
            "commit_timeout_seconds": 5.0,
            "restarts_max": 1_000_000 if bench.control else _RESTARTS_MAX,
            "restart_backoff_seconds": 0.01,
        }
        plan = bench.plan(
            settings=settings, on_turn=JOBS("narrate"), behaviours=[f"{__name__}:Frail"]
        )
        (worker,) = await bench.staff(1, plan)
        channels = [f"sibling-{number}" for number in range(self._siblings)]
        await worker.call(JOBS("boot"), open_books(bench, channels))
        done = 0
        while done < rounds:
            victims = min(_SLICE, rounds - done)
            seconds = await self._play(worker, self._crashing, first=done, victims=victims)
            await self._play(worker, self._quiet, seconds=seconds)
            done += victims
            for _ in range(victims):
                bench.round()
        self._compare()
        tell_all(bench, channels, await worker.call(JOBS("settle"), channels))
        await bench.judge()

    async def _play(
        self,
        worker: Worker,
        late: list[float],
        *,
        first: int = 0,
        victims: int = 0,
        seconds: float = _PLAYED_SECONDS,
    ) -> float:
        bench = self._bench
        seen = await worker.call(
            f"{__name__}:play",
            seed=bench.random.getrandbits(32),
            siblings=self._siblings,
            first=first,
            victims=victims,
            seconds=seconds,
        )
        enter(bench, seen["tally"])
        findings = _Findings(**seen["findings"])
        bench.figures.count("crashes", findings.crashes)
        bench.figures.count("actors that used up their restarts", findings.failed)
        for fault in findings.faults:
            bench.violation(fault)
        for value in findings.restarts:
            bench.figures.sample("ms from a crash to the next answer", value)
        how = "while others crash" if victims else "quiet"
        values = seen["tally"]["late"].get("siblings", [])
        if values:
            late.append(quantile(values, 0.99))
        for value in values:
            bench.figures.sample(f"ms a press of a sibling took, {how}", value)
        took: float = seen["seconds"]
        return took

    def _compare(self) -> None:
        bench = self._bench
        restarts = bench.figures.samples["ms from a crash to the next answer"]
        if quantile(restarts, 0.99) > bench.limit(_RESTART_SECONDS) * 1000:
            bench.violation(f"the p99 of restarts is {quantile(restarts, 0.99):.0f} ms")
        # By the median of the slices, so that no hiccup of the machine decides it.
        quiet, crashing = statistics.median(self._quiet), statistics.median(self._crashing)
        bench.figures.peak("times as slow siblings, p99", crashing / quiet)
        if crashing > max(bench.limit(_SLOWER) * quiet, quiet + _NOTICED_MS):
            bench.violation(
                f"the p99 of siblings was {quiet:.2f} ms when it was quiet, and {crashing:.2f} ms "
                "while others crashed"
            )


async def _run(bench: Bench, rounds: int) -> None:
    await _Supervise(bench, rounds).run(rounds)


SUPERVISE = Scenario(
    name="supervise",
    happens="Handlers crash among sessions that play: once, in loops, with messages behind them",
    promise=(
        "Siblings notice nothing (their p99 is at most doubled, or 5 ms longer); the p99 of "
        "restarts is at most 100 ms before backoff; an actor that uses up its restarts stops "
        "alone; every poisonous message is kept and named"
    ),
    control="restarts have no budget",
    unit="crashing actors",
    rounds=1000,
    batch=500,
    small=16,
    run=_run,
    stores=frozenset((REDIS, SQLITE)),
)
