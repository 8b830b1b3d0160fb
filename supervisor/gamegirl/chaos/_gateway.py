"""Who plays in the bench: calls that find their way to a worker, players, and their narrator."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from gamegirl.chaos._ledger import Ledger
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone

_PAUSE_SECONDS = 0.01
_PAUSES_MAX = 5
"""Each pause is longer than the one before, up to so many times: many wait at once."""

PASSING = frozenset(
    (
        "OwnedElsewhereError",
        "OwnershipLostError",
        "StoreUnavailableError",
        "SupervisorClosedError",
    )
)
"""Errors after which the same call is sent again."""


class Gateway:
    """Sends each channel's calls to the worker that has it, as a host with several processes would.

    Args:
        workers: The workers there are now.
        failed: Is told each failed attempt: the operation, and what it raised.

    Attributes:
        gaps: How long calls took that had to be sent more than once, seconds; not of those that
            wait for a turn, who may wait for long anyway.
    """

    def __init__(
        self,
        workers: Callable[[], Sequence[Worker]],
        randomness: random.Random,
        failed: Callable[[str, CallFailed | WorkerGone], None] = lambda _op, _error: None,
    ) -> None:
        self._workers = workers
        self._random = randomness
        self._failed = failed
        self._homes: dict[str, Worker] = {}
        self.gaps: list[float] = []

    def home(self, channel: str) -> Worker | None:
        """The worker that the channel's calls go to now, if one is alive."""
        home = self._homes.get(channel)
        return home if home is not None and home.alive else None

    def move(self, channel: str, worker: Worker) -> None:
        """Send the channel's calls there from now on."""
        self._homes[channel] = worker

    async def ask(self, channel: str, op: str, *arguments: Any, **options: Any) -> Any:
        """Call until there is an answer that isn't passing.

        Raises:
            CallFailed: The answer is an error that sending again doesn't change.
        """
        began = time.monotonic()
        tries = 0
        doubtful = False
        while True:
            tries += 1
            worker = self.home(channel) or self._any()
            if worker is not None:
                self._homes[channel] = worker
                try:
                    answer = await worker.call(op, *arguments, channel=channel, **options)
                except WorkerGone as error:
                    self._failed(op, error)
                    doubtful = True
                except CallFailed as error:
                    self._failed(op, error)
                    if error.kind not in PASSING:
                        error.repeated = doubtful
                        raise
                    doubtful = doubtful or error.fate == "in doubt"
                    self._reroute(channel, worker, error)
                else:
                    if tries > 1 and op != "next_turn":
                        self.gaps.append(time.monotonic() - began)
                    return answer
            await anyio.sleep(_PAUSE_SECONDS * min(tries, _PAUSES_MAX))

    def _any(self) -> Worker | None:
        able = [worker for worker in self._workers() if worker.alive and not worker.paused]
        return self._random.choice(able) if able else None

    def _reroute(self, channel: str, worker: Worker, error: CallFailed) -> None:
        if error.kind == "OwnedElsewhereError":
            for other in self._workers():
                if other is not worker and other.alive and other.owns(error.owner):
                    self._homes[channel] = other
                    return
        if error.kind == "SupervisorClosedError" and self._homes.get(channel) is worker:
            others = [one for one in self._workers() if one is not worker and one.alive]
            if others:
                self._homes[channel] = self._random.choice(others)


class Crowd:
    """Players and a narrator in every channel, all of whose doings are in the ledger.

    Args:
        think_seconds: A player waits a random time up to this between presses.
    """

    def __init__(
        self,
        gateway: Gateway,
        ledger: Ledger,
        randomness: random.Random,
        *,
        players: int = 3,
        think_seconds: float = 0.2,
        narrating: bool = True,
    ) -> None:
        self._gateway = gateway
        self._ledger = ledger
        self._random = randomness
        self._players = players
        self._think = think_seconds
        self._narrating = narrating
        self._playing = True

    async def boot(self, channel: str) -> None:
        """Start a game."""
        game_id = f"{self._random.getrandbits(48):012x}"
        self._ledger.open(channel, game_id)
        try:
            await self._gateway.ask(channel, "boot", f"Game of {channel}", game_id=game_id)
        except CallFailed as error:
            if error.kind not in ("GameActiveError", "GameExistsError"):
                raise  # Else the first attempt, whose answer was lost, had done it.

    async def play(self, channel: str) -> None:
        """Play until `stop`."""
        async with anyio.create_task_group() as narrators:
            if self._narrating:
                narrators.start_soon(self._narrate, channel)
            async with anyio.create_task_group() as players:
                for number in range(self._players):
                    players.start_soon(self._play_one, channel, f"u{number}")
            narrators.cancel_scope.cancel()

    async def _play_one(self, channel: str, user_id: str) -> None:
        while self._playing:
            await anyio.sleep(self._random.uniform(0, self._think))
            if self._playing:
                await self.press(channel, user_id)

    async def press(self, channel: str, user_id: str) -> None:
        """One press, sent until it is answered or refused."""
        press_id, choice = self._ledger.send(channel, user_id)
        try:
            answer = await self._gateway.ask(
                channel, "press", user_id, f"Player {user_id}", choice, press_id=press_id
            )
        except CallFailed as error:
            if error.fate == "in doubt":
                raise
            self._ledger.refuse(channel, press_id)
            if error.kind != "TurnBacklogError":
                raise
            await anyio.sleep(self._think)
        else:
            self._ledger.acknowledge(channel, press_id, answer)

    async def _narrate(self, channel: str) -> None:
        while True:
            await self._record(channel, await self._gateway.ask(channel, "next_turn"))

    async def _record(self, channel: str, turn: dict[str, Any]) -> None:
        self._ledger.close(channel, turn)
        narrative = f"turn {turn['turn']} of {turn['game_id']}, as told the first time"
        self._ledger.tell(channel, turn["turn"], narrative)
        record = await self._gateway.ask(channel, "record", turn["turn"], narrative)
        self._ledger.record(channel, record)

    def stop(self) -> None:
        """Press no more."""
        self._playing = False

    async def finish(self, channel: str) -> None:
        """Close the window and record all turns, so that the game can be judged."""
        while True:
            # A press whose player has given up may still be on its way, and open another window.
            await self._gateway.ask(channel, "close_window")
            state = await self._gateway.ask(channel, "state")
            if not state["closed_turns"] and state["window"] is None:
                return
            for turn in state["closed_turns"]:
                await self._record(channel, turn)
