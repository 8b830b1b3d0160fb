"""Rounds of whole turns in 10,000 channels: four presses, a close, a record.

*One after the other*, by 1,000 callers or by a few: a caller does all steps, each once the one
before it is stored. A round may end in the middle of turns, and the next one goes on from there. So
that every round has as many of each step, the callers are spread over the turn before the first.

*At tables*: each caller is a player. Four of them sit at a table and press side by side, as players
do; the one whose press is stored last closes the window and records. That spares us commits, and
the sequential design nothing.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from math import inf
from time import perf_counter
from typing import Any

import anyio
import attrs
import redis

from benchmarks._contest import Measure, Sample
from benchmarks._presses import CALLERS, CHANNELS, PLAYERS, Press, channel_name
from gamegirl.actors.session._keys import turns_key

NARRATIVE = (
    "The door opens on a corridor of humming neon. Somewhere below, a generator coughs and dies; "
    "the light turns red, and the four of you hear the lift come up, slowly, floor by floor."
)
_STEPS = PLAYERS + 2
_PORTION = 1000
_HISTORY = 50
_TABLES = CALLERS // PLAYERS


@attrs.frozen
class Play:
    """What a caller does in a channel; what each gives is awaited, and done when it is stored.

    Attributes:
        press: As one of the players.
        close: Gives what `record` is called with.
    """

    press: Press
    close: Callable[[int], Awaitable[Any]]
    record: Callable[[int, Any], Awaitable[object]]


@attrs.define
class Rota:
    """Where each caller goes on, and what it was told to be stored.

    Attributes:
        callers: So many share the channels.
        steps: By caller, so many are done.
        open: By caller, the turn that it has closed and is to record.
        closed: By channel.
        recorded: By channel.
    """

    callers: int = CALLERS
    steps: list[int] = attrs.field(init=False)
    open: list[Any] = attrs.field(init=False)
    closed: list[int] = attrs.field(init=False, factory=lambda: [0] * CHANNELS)
    recorded: list[int] = attrs.field(init=False, factory=lambda: [0] * CHANNELS)

    def __attrs_post_init__(self) -> None:
        self.steps = [0] * self.callers
        self.open = [None] * self.callers

    async def spread(self, play: Play) -> None:
        """Let the callers do none to all but one of the steps of their first turn."""
        async with anyio.create_task_group() as tasks:
            for caller in range(self.callers):
                tasks.start_soon(self.go_on, play, caller, caller % _STEPS)

    async def go_on(
        self,
        play: Play,
        caller: int,
        most: float,
        deadline: float = inf,
        latencies: list[float] | None = None,
    ) -> None:
        """Do the caller's next steps, in its own channels in turn.

        Args:
            play: What the steps are.
            caller: Whose.
            most: So many at most.
            deadline: None begins after it.
            latencies: Gets how long each took.
        """
        # What a caller does by itself is measured with what it waits for: it is kept short.
        done, last = self.steps[caller], self.steps[caller] + most
        channel = self._channel(caller, done)
        press, note = play.press, ([] if latencies is None else latencies).append
        before = perf_counter()
        while done < last and before < deadline:
            step = done % _STEPS
            if step < PLAYERS:
                if not step:
                    channel = self._channel(caller, done)
                await press(channel, step)
            elif step == PLAYERS:
                self.open[caller] = await play.close(channel)
                self.closed[channel] += 1
            else:
                await play.record(channel, self.open[caller])
                self.recorded[channel] += 1
            done += 1
            now = perf_counter()
            note(now - before)
            before = now
        self.steps[caller] = done

    def _channel(self, caller: int, done: int) -> int:
        """Where a caller that has done so many steps does the next one."""
        return caller + self.callers * (done // _STEPS % (CHANNELS // self.callers))


def turning(rota: Rota, play: Play, seconds: float) -> Measure:
    """A measure in which every caller goes on with its turns."""

    async def measure() -> Sample:
        latencies: list[float] = []
        recorded = sum(rota.recorded)
        started = perf_counter()
        deadline = started + seconds
        async with anyio.create_task_group() as tasks:
            for caller in range(rota.callers):
                tasks.start_soon(rota.go_on, play, caller, inf, deadline, latencies)
        return _sample(sum(rota.recorded) - recorded, perf_counter() - started, latencies)

    return measure


@attrs.define
class Table:
    """Four players, and what they have done of their turn.

    Attributes:
        number: Which of all tables it is.
        turns: So many are over.
        stored: So many have pressed.
        ended: Set when the turn is over.
        left: Whether they go home then.
    """

    number: int
    turns: int = 0
    stored: int = 0
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    left: bool = False

    async def sit(
        self, rota: Rota, play: Play, player: int, deadline: float, latencies: list[float]
    ) -> None:
        """Play turns as one of its players until the deadline, in its own channels in turn."""
        self.left = False
        while not self.left:
            channel = self.number + _TABLES * (self.turns % (CHANNELS // _TABLES))
            ended, began = self.ended, perf_counter()
            await play.press(channel, player)
            pressed = perf_counter()
            latencies.append(pressed - began)
            self.stored += 1
            if self.stored < PLAYERS:
                await ended.wait()
                continue
            turn = await play.close(channel)
            closed = perf_counter()
            rota.closed[channel] += 1
            await play.record(channel, turn)
            recorded = perf_counter()
            rota.recorded[channel] += 1
            latencies += (closed - pressed, recorded - closed)
            self.turns, self.stored, self.ended = self.turns + 1, 0, anyio.Event()
            self.left = recorded >= deadline
            ended.set()


def turning_at_tables(rota: Rota, play: Play, seconds: float) -> Measure:
    """A measure in which all tables play whole turns."""
    tables = [Table(number) for number in range(_TABLES)]

    async def measure() -> Sample:
        latencies: list[float] = []
        recorded = sum(rota.recorded)
        started = perf_counter()
        deadline = started + seconds
        async with anyio.create_task_group() as tasks:
            for player in range(PLAYERS):
                for table in tables:
                    tasks.start_soon(table.sit, rota, play, player, deadline, latencies)
        return _sample(sum(rota.recorded) - recorded, perf_counter() - started, latencies)

    return measure


def _sample(turns: int, took: float, latencies: list[float]) -> Sample:
    latencies.sort()
    return {
        "per_second": turns / took,
        "turns": float(turns),
        "step_p50_ms": latencies[len(latencies) // 2] * 1000,
        "step_p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }


def check_stored(url: str, rota: Rota) -> None:
    """Whether the store holds every turn that was told to be closed or recorded.

    Raises:
        ValueError: It doesn't.
    """
    played = [channel for channel in range(CHANNELS) if rota.closed[channel]]
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    with client:
        for first in range(0, len(played), _PORTION):
            portion = played[first : first + _PORTION]
            pipeline = client.pipeline(transaction=False)
            for channel in portion:
                key = f"game:session:{channel_name(channel)}"
                pipeline.get(key).llen(f"{key}:history").lindex(f"{key}:history", -1)
                pipeline.hgetall(turns_key(channel_name(channel)))
            answers = iter(pipeline.execute())
            for channel, *found in zip(portion, answers, answers, answers, answers, strict=False):
                _check(channel, rota, *found)


def _check(
    channel: int,
    rota: Rota,
    form: bytes,
    records: int,
    latest: bytes | None,
    kept: dict[bytes, bytes],
) -> None:
    closed, recorded = rota.closed[channel], rota.recorded[channel]
    turn: int = json.loads(form)["turn_number"]
    for number, text in kept.items():  # Ours, of which the form may not know before its record.
        waiting = json.loads(text)
        if "recorded" in waiting or int(number) <= turn:
            continue
        if int(number) != turn + 1 or len(waiting["choices"]) != PLAYERS:
            raise ValueError(f"{channel_name(channel)} keeps as turn {number!r}: {waiting}")
        turn += 1
    if turn != closed:
        raise ValueError(f"{channel_name(channel)} is stored at turn {turn}, not {closed}")
    if records != min(recorded, _HISTORY):
        raise ValueError(f"{channel_name(channel)} has {records} records stored, not {recorded}")
    if latest is not None:
        record = json.loads(latest)
        if len(record["choices"]) != PLAYERS or record["narrative_summary"] != NARRATIVE:
            raise ValueError(f"{channel_name(channel)}: its latest record is {record}")
