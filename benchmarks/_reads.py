"""The peer of W6: three reads a session, one after the other, and a cattrs JSON converter.

What it reads is what the replaced system keeps of a channel: both forms and the history. It claims
nothing. It gets connections of its own for as many readers side by side as turn out to be best; or
one, as a bot has that restores its channels in a loop when it starts.
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any, TypeAlias

import anyio
import attrs
import redis
import redis.asyncio
from cattrs.preconf.json import JsonConverter, make_converter
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks import _cold
from benchmarks._contest import TRIO, Measure, Sample, Site
from benchmarks._presses import CHANNELS, channel_name

_CONNECTIONS = (1, 8, 32, 128)
_TRIALS = 2
_TRIAL_CHANNELS = 500


@attrs.define
class Player:
    user_id: str
    user_name: str
    joined_turn: int
    last_active: float
    last_active_turn: int
    consecutive_skips: int


@attrs.define
class Record:
    turn: int
    choices: dict[str, str]
    narrative_summary: str
    timestamp: float


@attrs.define
class Game:
    """A session, with what its hash and its history say beyond its JSON form."""

    game_id: str
    game_name: str
    channel_id: str
    active: bool
    turn_number: int
    title_screen_url: str
    crown_holder: str | None
    players: dict[str, Player]
    pending: dict[str, str] = attrs.field(factory=dict[str, str])
    records: list[Record] = attrs.field(factory=list[Record])


_Read: TypeAlias = Callable[[int], Awaitable[Game]]


def _game(
    converter: JsonConverter, text: bytes, fields: dict[bytes, bytes], history: list[bytes]
) -> Game:
    game = converter.loads(text, Game)
    if int(fields[b"turn_number"]) >= game.turn_number:
        game.pending = json.loads(fields[b"pending_choices"])
    game.records = [converter.loads(record, Record) for record in history]
    return game


@asynccontextmanager
async def one_reader(site: Site) -> AsyncGenerator[Measure, None]:
    """Restores all, one after the other."""
    await _cold.make(site.redis)
    async with _reads(site, 1) as measure:
        yield measure


@asynccontextmanager
async def sequential_reads(site: Site) -> AsyncGenerator[Measure, None]:
    """Restores all, with the number of connections that was best in a short trial."""
    await _cold.make(site.redis)
    await anyio.to_thread.run_sync(_cold.renew, site.redis)
    best: tuple[float, int] = (0.0, 1)
    for connections in _CONNECTIONS * _TRIALS:
        async with _reader(site, connections) as read:
            took = await _restore(read, connections, _TRIAL_CHANNELS, {})
        best = max(best, (_TRIAL_CHANNELS / took, connections))
    async with _reads(site, best[1]) as measure:
        yield measure


@asynccontextmanager
async def _reads(site: Site, connections: int) -> AsyncGenerator[Measure, None]:
    async with _reader(site, connections) as read:

        async def measure() -> Sample:
            await anyio.to_thread.run_sync(_cold.renew, site.redis)
            games: dict[int, Game] = {}
            gc.collect()
            took = await _restore(read, connections, CHANNELS, games)
            for channel in range(CHANNELS):
                _check(channel, games[channel])
            return {"per_second": CHANNELS / took, "connections": float(connections)}

        yield measure


async def _restore(read: _Read, readers: int, channels: int, games: dict[int, Game]) -> float:
    waiting = iter(range(channels))

    async def call() -> None:
        for channel in waiting:  # They share it.
            games[channel] = await read(channel)

    started = perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(readers):
            tasks.start_soon(call)
    return perf_counter() - started


def _check(channel: int, game: Game) -> None:
    players = tuple(
        (user_id, game.players[user_id].user_name, game.players[user_id].last_active_turn)
        for user_id in sorted(game.players)
    )
    records = tuple((one.turn, one.choices, one.narrative_summary) for one in game.records)
    said = (game.game_id, game.game_name, game.active, game.turn_number, players, records)
    _cold.check(channel, said)


@asynccontextmanager
async def _reader(site: Site, connections: int) -> AsyncGenerator[_Read, None]:
    make = _threaded if site.host == TRIO else _native
    async with make(site.redis, connections) as read:
        yield read


@asynccontextmanager
async def _native(url: str, connections: int) -> AsyncGenerator[_Read, None]:
    """By redis.asyncio."""
    converter = make_converter(detailed_validation=False)
    async with AsyncExitStack() as stack:
        free: list[Any] = []
        for _ in range(connections):
            client: Any = redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
            )
            free.append(await stack.enter_async_context(client))
            await client.ping()

        async def read(channel: int) -> Game:
            client = free.pop()
            try:
                name = channel_name(channel)
                text = await client.get(f"game:session:{name}")
                fields = await client.hgetall(f"sg:game_session:{name}")
                history = await client.lrange(f"game:session:{name}:history", 0, -1)
            finally:
                free.append(client)
            return _game(converter, text, fields, history)

        yield read


@asynccontextmanager
async def _threaded(url: str, connections: int) -> AsyncGenerator[_Read, None]:
    """By the synchronous client, one change of threads a session: redis.asyncio knows no trio."""
    converter = make_converter(detailed_validation=False)
    limiter = anyio.CapacityLimiter(connections)
    async with AsyncExitStack() as stack:
        free: list[Any] = []
        for _ in range(connections):
            client: Any = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
            )
            free.append(stack.enter_context(client))
            client.ping()

        def read_in_thread(channel: int) -> Game:
            client = free.pop()
            try:
                name = channel_name(channel)
                text = client.get(f"game:session:{name}")
                fields = client.hgetall(f"sg:game_session:{name}")
                history = client.lrange(f"game:session:{name}:history", 0, -1)
            finally:
                free.append(client)
            return _game(converter, text, fields, history)

        async def read(channel: int) -> Game:
            return await anyio.to_thread.run_sync(read_in_thread, channel, limiter=limiter)

        yield read
