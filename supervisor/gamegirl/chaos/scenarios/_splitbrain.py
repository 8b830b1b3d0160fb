"""Workers are stopped past their lease, others take over and play, and the stopped ones go on."""

from __future__ import annotations

import time
from typing import Any

import anyio
import attrs

from gamegirl.actors.session._keys import channel_keys, game_key
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._errors import leaves
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.supervisor.stores import ActorKey

_STOPPED = 6
_PLAYERS = 3
_WAITERS = 2
_LATE_PRESSES = 3
_PRESS_SECONDS = 0.006
_EXTRA_SECONDS = 0.8
_LEASE_SECONDS = 0.8
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_SETTLED_SECONDS = 20.0

_STILL_SECONDS = 0.4
"""Who stands still for so long may lose its lease: between two renewals a third of it has gone."""

_LOST, _ELSEWHERE = "OwnershipLostError", "OwnedElsewhereError"


@attrs.define
class _Call:
    """A call of the worker that is stopped.

    Attributes:
        late: It was sent when the worker had stopped already, so it must have no effect.
        press_id: Of a press.
        error: What it raised.
        answered: It has an answer.
    """

    op: str
    late: bool
    press_id: str = ""
    error: CallFailed | None = None
    answered: bool = False

    @property
    def over(self) -> bool:
        """Whether the caller was told anything."""
        return self.answered or self.error is not None


class _StoodStill(Exception):
    """An heir was stopped past its own lease, by a machine that has other things to do."""


class _SplitBrain:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        # The window of a stopped worker has passed its deadline when the worker goes on.
        self._plan = bench.plan(
            sabotage="gamegirl.chaos._sabotage:unfenced" if bench.control else "",
            settings={"window_seconds": 0.5, "lease_seconds": _LEASE_SECONDS},
        )

    async def run(self, rounds: int) -> None:
        """Stop half of the workers at a time, each with a channel of its own."""
        bench = self._bench
        workers = await bench.staff(2 * min(_STOPPED, rounds), self._plan)
        for first in range(0, rounds, _STOPPED):
            bench.random.shuffle(workers)
            numbers = range(first, min(first + _STOPPED, rounds))
            stopped = dict(zip(map(self._channel, numbers), workers, strict=False))
            async with anyio.create_task_group() as booting:
                for channel, stale in stopped.items():
                    booting.start_soon(self._boot, channel, stale)
            # Nobody is an heir who is still to be stopped: it would lose the channel again.
            self._heirs = [worker for worker in workers if worker not in stopped.values()]
            self._steady = [*self._heirs]
            async with anyio.create_task_group() as side_by_side:
                for channel, stale in stopped.items():
                    side_by_side.start_soon(self._round, channel, stale)
        await bench.settle(bench.crowd(), list(bench.ledger.books), seconds=_SETTLED_SECONDS)
        await bench.judge()

    def _channel(self, number: int) -> str:
        return f"split-{self._bench.seed}-{number}"

    async def _boot(self, channel: str, worker: Worker) -> None:
        bench = self._bench
        game_id = f"{bench.random.getrandbits(48):012x}"
        await worker.call("boot", "Split brain", channel=channel, game_id=game_id)
        bench.ledger.open(channel, game_id)

    async def _round(self, channel: str, stale: Worker) -> None:
        bench = self._bench
        calls: list[_Call] = []
        try:
            async with anyio.create_task_group() as callers:
                await self._split(callers, calls, channel, stale)
                callers.cancel_scope.cancel()
        except* (CallFailed, WorkerGone) as errors:
            for error in leaves(errors):
                bench.violation(f"{channel}: a call of its owner raised {error}")
        finally:
            self._resume(stale)
        bench.round()

    def _resume(self, stale: Worker) -> None:
        """From now on it stays awake."""
        stale.resume()
        if stale not in self._steady:
            self._steady.append(stale)

    async def _split(
        self,
        callers: anyio.abc.TaskGroup,
        calls: list[_Call],
        channel: str,
        stale: Worker,
    ) -> None:
        bench = self._bench
        try:
            for number in range(_PLAYERS):
                await self._press(stale, channel, f"u{number}")
        except CallFailed as error:
            if error.kind not in (_LOST, _ELSEWHERE):
                raise
            # A busy machine had stopped it past its lease already, before we could.
            bench.figures.count("owners that had lost their channel before they were stopped")
            return
        for _ in range(_WAITERS):
            self._send(callers, calls, stale, channel, _Call("next_turn", late=False))
        await self._stop_amid_presses(callers, calls, stale, channel)
        self._send_late(callers, calls, stale, channel)
        heir = None
        try:
            heir = await self._inherit(channel)
        except _StoodStill:  # What is stored may change now: somebody else has the channel.
            bench.figures.count("heirs that stood still past their own lease")
        else:
            bench.gateway.move(channel, heir)
        await anyio.sleep(bench.random.uniform(0.0, _EXTRA_SECONDS))
        before = await self._stored(channel)
        resumed = time.monotonic()
        self._resume(stale)
        with anyio.move_on_after(_PATIENCE_SECONDS):
            await self._told(calls, resumed)
        self._check(channel, calls)
        if heir is not None:
            self._compare(channel, before, await self._stored(channel))
            await self._expect_elsewhere(stale, heir, channel)

    async def _press(self, worker: Worker, channel: str, user_id: str) -> None:
        bench = self._bench
        press_id, choice = bench.ledger.send(channel, user_id)
        answer = await worker.call(
            "press", user_id, user_id, choice, channel=channel, press_id=press_id
        )
        bench.ledger.acknowledge(channel, press_id, answer)

    def _send(
        self,
        callers: anyio.abc.TaskGroup,
        calls: list[_Call],
        worker: Worker,
        channel: str,
        call: _Call,
        *arguments: Any,
        **options: Any,
    ) -> None:
        calls.append(call)

        async def run() -> None:
            try:
                answer = await worker.call(call.op, *arguments, channel=channel, **options)
            except CallFailed as error:
                call.error = error
            else:
                call.answered = True
                if call.op == "next_turn":
                    # A turn that was committed in time; the judge compares it with the record.
                    self._bench.ledger.close(channel, answer)
                elif call.press_id and not call.late:
                    self._bench.ledger.acknowledge(channel, call.press_id, answer)

        callers.start_soon(run)

    async def _stop_amid_presses(
        self, callers: anyio.abc.TaskGroup, calls: list[_Call], stale: Worker, channel: str
    ) -> None:
        """Stop it at any moment between reading a press and having its commit answered."""
        bench = self._bench
        for number in range(_PLAYERS):
            press_id, choice = bench.ledger.send(channel, f"u{number}")
            call = _Call("press", late=False, press_id=press_id)
            user = f"u{number}"
            self._send(callers, calls, stale, channel, call, user, user, choice, press_id=press_id)
        await anyio.sleep(bench.random.uniform(0.0, _PRESS_SECONDS))
        stale.pause()
        bench.figures.count("workers stopped past their lease")

    def _send_late(
        self, callers: anyio.abc.TaskGroup, calls: list[_Call], stale: Worker, channel: str
    ) -> None:
        """These wait in its socket: the first it does when it goes on is to handle them."""
        bench = self._bench
        for number in range(_LATE_PRESSES):
            user = f"late{number}"
            press_id, choice = bench.ledger.send(channel, user)
            bench.ledger.refuse(channel, press_id)
            call = _Call("press", late=True, press_id=press_id)
            self._send(callers, calls, stale, channel, call, user, user, choice, press_id=press_id)
        self._send(callers, calls, stale, channel, _Call("close_window", late=True))
        stories = _Call("narrate", late=True)
        self._send(callers, calls, stale, channel, stories, "told by a stale owner")

    async def _inherit(self, channel: str) -> Worker:
        """Another one claims the channel, plays a turn and more, and falls silent.

        Returns:
            Who has it now.

        Raises:
            CallFailed: Nobody can have it.
            _StoodStill: Whoever had it did, and lost it.
        """
        bench = self._bench
        heir = bench.random.choice(self._heirs)
        began = time.monotonic()
        press_id, choice = bench.ledger.send(channel, "heir")
        while True:
            asked = time.monotonic()
            try:
                answer = await heir.call(
                    "press", "heir", "Heir", choice, channel=channel, press_id=press_id
                )
                break
            except CallFailed as error:
                if error.kind != _ELSEWHERE or asked - began > _PATIENCE_SECONDS:
                    await self._excuse(heir, error, asked)
                    raise
                # Any of them may have seen before us that the window is due.
                heir = next((one for one in self._steady if one.owns(error.owner)), heir)
            await anyio.sleep(_LOOK_SECONDS)
        claimed = time.monotonic()
        bench.ledger.acknowledge(channel, press_id, answer)
        bench.figures.sample("ms until another could claim", (claimed - began) * 1000)
        try:
            await self._play(heir, channel)
        except CallFailed as error:
            await self._excuse(heir, error, claimed)
            raise
        return heir

    async def _play(self, heir: Worker, channel: str) -> None:
        for _ in range(2):
            await self._press(heir, channel, "heir")
            await heir.call("close_window", channel=channel)
        for turn in (await heir.call("state", channel=channel))["closed_turns"]:
            await self._record(heir, channel, turn)

    async def _excuse(self, heir: Worker, error: CallFailed, since: float) -> None:
        """Raise `_StoodStill` if an heir has lost its channel since it did."""
        still = await heir.stood_still(since - _LEASE_SECONDS)
        self._bench.figures.peak("ms that an heir stood still that was refused", still * 1000)
        if error.kind in (_LOST, _ELSEWHERE) and still > _STILL_SECONDS:
            raise _StoodStill from error

    async def _record(self, heir: Worker, channel: str, turn: dict[str, Any]) -> None:
        ledger = self._bench.ledger
        ledger.close(channel, turn)
        narrative = f"turn {turn['turn']} as the heir tells it"
        ledger.tell(channel, turn["turn"], narrative)
        record = await heir.call("record", turn["turn"], narrative, channel=channel)
        ledger.record(channel, record)

    async def _told(self, calls: list[_Call], resumed: float) -> None:
        while not all(call.over for call in calls):  # noqa: ASYNC110
            await anyio.sleep(_LOOK_SECONDS)
        self._bench.figures.sample(
            "ms until all callers of a stale owner were told", (time.monotonic() - resumed) * 1000
        )

    def _check(self, channel: str, calls: list[_Call]) -> None:
        """Every caller is told that the ownership is lost; none is told that something happened."""
        bench = self._bench
        for call in calls:
            if call.error is not None and call.error.kind == _LOST:
                bench.figures.count(f"callers told {_LOST}")
                if call.press_id and call.error.fate != "in doubt":
                    bench.ledger.refuse(channel, call.press_id)
            elif call.error is not None and call.late and call.error.kind == _ELSEWHERE:
                bench.figures.count(f"callers told {_ELSEWHERE}")
            elif call.error is not None:
                bench.violation(f"{channel}: {call.op} of the stale owner raised {call.error}")
            elif not call.answered:
                bench.violation(f"{channel}: {call.op} of the stale owner was never answered")
            elif call.late:
                bench.violation(f"{channel}: {call.op} of the stale owner was answered")
            else:
                bench.figures.count(f"{call.op} answered from before their worker stopped")

    async def _stored(self, channel: str) -> list[Any]:
        """All that the store has of the channel and its game."""
        bench = self._bench
        keys = [
            *channel_keys(channel),
            ActorKey("session", channel).fence,
            game_key(bench.ledger.books[channel].game_id),
        ]
        stored = await bench.read(*keys, "game:index")
        listing: dict[bytes, bytes] = stored.pop() or {}
        return [*stored, listing.get(bench.ledger.books[channel].game_id.encode())]

    def _compare(self, channel: str, before: list[Any], after: list[Any]) -> None:
        self._bench.figures.count("effects of a stale owner", int(before != after))
        if before != after:
            changed = [
                f"{old!r:.200} became {new!r:.200}"
                for old, new in zip(before, after, strict=True)
                if old != new
            ]
            self._bench.violation(f"{channel}: the stale owner wrote: {'; '.join(changed)}")

    async def _expect_elsewhere(self, stale: Worker, heir: Worker, channel: str) -> None:
        """Whoever asks it now is sent to the new owner."""
        bench = self._bench
        for op in ("state", "close_window"):
            try:
                await stale.call(op, channel=channel)
            except CallFailed as error:
                if error.kind == _ELSEWHERE and heir.owns(error.owner):
                    bench.figures.count(f"later calls told {_ELSEWHERE} with the new owner")
                    continue
                bench.violation(f"{channel}: a later {op} of the stale owner raised {error}")
            else:
                bench.violation(f"{channel}: a later {op} of the stale owner was answered")


async def _run(bench: Bench, rounds: int) -> None:
    await _SplitBrain(bench).run(rounds)


SPLITBRAIN = Scenario(
    name="splitbrain",
    happens="SIGSTOP of a worker past its lease; another claims and plays; SIGCONT",
    promise=(
        "The stale owner changes nothing in the store, byte for byte; all its callers get "
        "OwnershipLostError, those who ask it later OwnedElsewhereError with the new owner; "
        "nothing acknowledged is lost"
    ),
    control="commits are made whoever owns the channel by now (no fence)",
    unit="workers stopped",
    rounds=500,
    batch=125,
    small=4,
    run=_run,
)
