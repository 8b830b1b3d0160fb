"""Load that runs inside a worker, with no wire between players and the runtime.

Its jobs answer with what was acknowledged, and how late; the bench enters that into its ledger.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import attrs

from gamegirl.actors.session import ClosedTurn, Session, SessionRef
from gamegirl.chaos._bench import Bench
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import Supervisor

_LOOK_SECONDS = 0.005
_AT_ONCE = 50
_ERRORS_SHOWN = 5


def narrative_of(game_id: str, turn: int) -> str:
    """What every turn is told as."""
    return f"turn {turn} of {game_id}"


async def narrate(turn: ClosedTurn, _: Session) -> str:
    """An `on_turn` that always says the same of a turn."""
    return narrative_of(turn.game_id, turn.turn)


@attrs.define
class Tally:
    """What players saw: `plain` goes over the wire.

    Attributes:
        presses: Channel, user, choice, turn and whether it opened the window, of each answered one.
        late: How long each took, by group, in milliseconds.
        errors: What else they got, the first few word for word.
        failed: How many they got of those.
    """

    presses: list[tuple[str, str, str, int, bool]] = attrs.Factory(
        list["tuple[str, str, str, int, bool]"]
    )
    late: dict[str, list[float]] = attrs.Factory(dict[str, "list[float]"])
    errors: list[str] = attrs.Factory(list[str])
    failed: int = 0

    def fail(self, text: str) -> None:
        """A player got an error."""
        self.failed += 1
        if len(self.errors) < _ERRORS_SHOWN:
            self.errors.append(text)

    def plain(self) -> dict[str, Any]:
        """For the wire."""
        return attrs.asdict(self)


class Players:
    """Players who press for as long as they are let, each waiting for the answer before the next.

    Args:
        tally: Where they note what they see.
        seed: Of their pauses.
        think_seconds: They pause for a random time up to this.
    """

    def __init__(self, tally: Tally, seed: int, think_seconds: float) -> None:
        self._tally = tally
        self._random = random.Random(seed)
        self._think = think_seconds
        self._name = f"{seed:x}"
        self._sent = 0
        self._over = anyio.Event()

    def stop(self) -> None:
        """Let nobody press any more."""
        self._over.set()

    async def press(self, group: str, session: SessionRef, user_id: str) -> None:
        """Press again and again."""
        while True:
            with anyio.move_on_after(self._random.uniform(0, self._think)):
                await self._over.wait()
            if self._over.is_set():
                return
            self._sent += 1
            choice = f"{self._name}-{self._sent} of {user_id}"
            began = time.perf_counter()
            try:
                answer = await session.press(user_id, f"Player {user_id}", choice)
            except GameGirlError as error:
                self._tally.fail(f"{session.channel_id}, {user_id}: {error!r}")
                continue
            milliseconds = (time.perf_counter() - began) * 1000
            self._tally.late.setdefault(group, []).append(round(milliseconds, 3))
            self._tally.presses.append(
                (session.channel_id, user_id, choice, answer.turn, answer.opened)
            )


async def boot(supervisor: Supervisor, games: Mapping[str, str]) -> None:
    """A job: boot a game in each channel, by the game's id."""
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def one(channel: str, game_id: str) -> None:
        async with limit:
            await supervisor.session(channel).boot(f"Game of {channel}", game_id=game_id)

    async with anyio.create_task_group() as tasks:
        for channel, game_id in games.items():
            tasks.start_soon(one, channel, game_id)


async def settle(supervisor: Supervisor, channels: Sequence[str]) -> list[int]:
    """A job: close all windows and wait until `narrate` has told all turns; the last of each."""
    last: dict[str, int] = {}
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def one(channel: str) -> None:
        session = supervisor.session(channel)
        async with limit:
            await session.close_window()
            state = await session.state()
            while state.closed_turns:
                await anyio.sleep(_LOOK_SECONDS)
                state = await session.state()
        last[channel] = state.turn_number

    async with anyio.create_task_group() as tasks:
        for channel in channels:
            tasks.start_soon(one, channel)
    return [last[channel] for channel in channels]


def open_books(bench: Bench, channels: Iterable[str]) -> dict[str, str]:
    """Open a book for each channel; the game ids to boot there."""
    return {
        channel: bench.ledger.open(channel, f"{bench.random.getrandbits(48):012x}").game_id
        for channel in channels
    }


def enter(bench: Bench, tally: Mapping[str, Any]) -> None:
    """Enter what players saw into the ledger; no player may get an error."""
    for press in tally["presses"]:
        bench.ledger.note(*press)
    if tally["failed"]:
        shown = "; ".join(tally["errors"])
        bench.violation(f"players got {tally['failed']} errors, such as {shown}")


def tell_all(bench: Bench, channels: Sequence[str], last: Sequence[int]) -> None:
    """Enter what `narrate` told of each turn."""
    for channel, turns in zip(channels, last, strict=True):
        game_id = bench.ledger.books[channel].game_id
        for turn in range(1, turns + 1):
            bench.ledger.tell(channel, turn, narrative_of(game_id, turn))


JOBS: Callable[[str], str] = f"{__name__}:{{}}".format
"""What the bench calls a job of this module."""
