"""The peer of W2 and W3: one lock a session, and after each press four writes, one after the other.

This is how the replaced class saved, with all that can be done for it from outside: connections of
its own for as many savers side by side as turn out to be best, and no pool in between. A close is
saved like a press; before a record's four writes come its RPUSH and LTRIM.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Any

import anyio
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks._contest import TRIO, Measure, Sample, Site
from benchmarks._presses import (
    CALLERS,
    CHANNELS,
    CHOICE,
    PLAYERS,
    Press,
    channel_name,
    player_id,
    player_name,
    pressing,
)
from benchmarks._turns import NARRATIVE, Play, Rota, check_stored, turning, turning_at_tables

_TTL_SECONDS = 14_400
_CONNECTIONS = (1, 8, 32, 128)
_TRIALS = 3
_TRIAL_SECONDS = 0.5
"""With a thousand callers a step takes a fifth of a second: shorter ones would choose by chance."""

_HISTORY = 50

_Save = Callable[["Game", str], Awaitable[None]]
"""Stores a game, and before it a record if there is one."""


class Game:
    """A session as plain data, with its lock."""

    def __init__(self, channel: int) -> None:
        self.lock = anyio.Lock(fast_acquire=True)
        self.channel_id = channel_name(channel)
        self.game_id = f"{channel:012x}"
        self.turn = 0
        self.pending: dict[str, str] = {}
        self.closed: dict[str, str] = {}
        self.players: dict[str, dict[str, Any]] = {
            player_id(player): {
                "user_id": player_id(player),
                "user_name": player_name(player),
                "joined_turn": 0,
                "last_active": time.time(),
                "last_active_turn": 0,
                "consecutive_skips": 0,
            }
            for player in range(PLAYERS)
        }

    def press(self, user_id: str) -> None:
        player = self.players[user_id]
        player["last_active"] = time.time()
        player["last_active_turn"] = self.turn
        player["consecutive_skips"] = 0
        self.pending[user_id] = CHOICE

    def close(self) -> None:
        self.turn += 1
        self.closed, self.pending = self.pending, {}
        for user_id, player in self.players.items():
            if user_id not in self.closed:
                player["consecutive_skips"] += 1

    def record(self, narrative: str) -> str:
        """The record, as text."""
        record = {
            "turn": self.turn,
            "choices": self.closed,
            "narrative_summary": narrative[:500],
            "timestamp": time.time(),
        }
        return json.dumps(record)

    def forms(self) -> tuple[str, str, dict[str, str]]:
        """The JSON form, the index entry, the hash form."""
        listed = {
            "game_name": "Neon Catacombs",
            "channel_id": self.channel_id,
            "turn_number": self.turn,
            "active": True,
            "title_screen_url": "",
        }
        form = {**listed, "game_id": self.game_id, "crown_holder": None, "players": self.players}
        fields = {
            "game_id": self.game_id,
            "game_name": "Neon Catacombs",
            "channel_id": self.channel_id,
            "active": "1",
            "turn_number": str(self.turn),
            "title_screen_url": "",
            "crown_holder": "",
            "players": json.dumps(self.players),
            "pending_choices": json.dumps(self.pending),
            "countdown_started": "1.0",
        }
        return json.dumps(form), json.dumps(listed), fields


@asynccontextmanager
async def sequential(site: Site) -> AsyncGenerator[Measure, None]:
    """Presses, with the number of connections that was best in short trials."""
    games = [Game(channel) for channel in range(CHANNELS)]

    def presses(save: _Save, seconds: float) -> Measure:
        return pressing(_press(games, save), seconds)

    async with _at_best(site, presses) as measure:
        yield measure


@asynccontextmanager
async def sequential_turns(site: Site, callers: int = CALLERS) -> AsyncGenerator[Measure, None]:
    """Whole turns, with the number of connections that was best in short trials."""
    games = [Game(channel) for channel in range(CHANNELS)]
    rota = Rota(callers)
    async with _saver(site, max(_CONNECTIONS)) as save:
        await rota.spread(_play(games, save))

    def turns(save: _Save, seconds: float) -> Measure:
        return turning(rota, _play(games, save), seconds)

    async with _checked_turns(site, rota, turns) as measure:
        yield measure


@asynccontextmanager
async def sequential_tables(site: Site) -> AsyncGenerator[Measure, None]:
    """The same with players who press side by side, as far as the lock lets them."""
    games = [Game(channel) for channel in range(CHANNELS)]
    rota = Rota()

    def turns(save: _Save, seconds: float) -> Measure:
        return turning_at_tables(rota, _play(games, save), seconds)

    async with _checked_turns(site, rota, turns) as measure:
        yield measure


@asynccontextmanager
async def _checked_turns(
    site: Site, rota: Rota, turns: Callable[[_Save, float], Measure]
) -> AsyncGenerator[Measure, None]:
    async with _at_best(site, turns) as measure:

        async def checked() -> Sample:
            sample = await measure()
            await anyio.to_thread.run_sync(check_stored, site.redis, rota)
            return sample

        yield checked


@asynccontextmanager
async def _at_best(
    site: Site, make: Callable[[_Save, float], Measure]
) -> AsyncGenerator[Measure, None]:
    found: dict[int, list[float]] = {connections: [] for connections in _CONNECTIONS}
    for connections in _CONNECTIONS * _TRIALS:
        async with _saver(site, connections) as save:
            sample = await make(save, _TRIAL_SECONDS)()
        found[connections].append(sample["per_second"])
    best = max(found, key=lambda connections: median(found[connections]))
    async with _saver(site, best) as save:
        measure = make(save, site.round_seconds)

        async def with_connections() -> Sample:
            return {**await measure(), "connections": float(best)}

        yield with_connections


def _press(games: Sequence[Game], save: _Save) -> Press:
    async def press(channel: int, player: int) -> None:
        game = games[channel]
        async with game.lock:
            game.press(player_id(player))
            await save(game, "")

    return press


def _play(games: Sequence[Game], save: _Save) -> Play:
    async def close(channel: int) -> None:
        game = games[channel]
        async with game.lock:
            game.close()
            await save(game, "")

    async def record(channel: int, _: None) -> None:
        game = games[channel]
        async with game.lock:
            await save(game, game.record(NARRATIVE))

    return Play(_press(games, save), close, record)


@asynccontextmanager
async def _saver(site: Site, connections: int) -> AsyncGenerator[_Save, None]:
    make = _threaded if site.host == TRIO else _native
    async with make(site.redis, connections) as save:
        yield save


@asynccontextmanager
async def _native(url: str, connections: int) -> AsyncGenerator[_Save, None]:
    """By redis.asyncio."""
    limiter = anyio.Semaphore(connections, fast_acquire=True)
    async with AsyncExitStack() as stack:
        free: list[Any] = []
        for _ in range(connections):
            client: Any = redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
            )
            free.append(await stack.enter_async_context(client))

        async def save(game: Game, record: str) -> None:
            async with limiter:
                client = free.pop()
                try:
                    if record:
                        history = f"game:session:{game.channel_id}:history"
                        await client.rpush(history, record)
                        await client.ltrim(history, -_HISTORY, -1)
                    text, entry, fields = game.forms()
                    key = f"sg:game_session:{game.channel_id}"
                    await client.set(f"game:session:{game.channel_id}", text)
                    await client.hset("game:index", game.game_id, entry)
                    await client.hset(key, mapping=fields)
                    await client.expire(key, _TTL_SECONDS)
                finally:
                    free.append(client)

        yield save


@asynccontextmanager
async def _threaded(url: str, connections: int) -> AsyncGenerator[_Save, None]:
    """By the synchronous client, one change of threads a save: redis.asyncio knows no trio."""
    limiter = anyio.CapacityLimiter(connections)
    async with AsyncExitStack() as stack:
        free: list[Any] = []
        for _ in range(connections):
            client: Any = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
            )
            free.append(stack.enter_context(client))

        def write(client: Any, game: Game, record: str) -> None:
            if record:
                history = f"game:session:{game.channel_id}:history"
                client.rpush(history, record)
                client.ltrim(history, -_HISTORY, -1)
            text, entry, fields = game.forms()
            key = f"sg:game_session:{game.channel_id}"
            client.set(f"game:session:{game.channel_id}", text)
            client.hset("game:index", game.game_id, entry)
            client.hset(key, mapping=fields)
            client.expire(key, _TTL_SECONDS)

        def save_in_thread(game: Game, record: str) -> None:
            client = free.pop()
            try:
                write(client, game, record)
            finally:
                free.append(client)

        async def save(game: Game, record: str) -> None:
            await anyio.to_thread.run_sync(save_in_thread, game, record, limiter=limiter)

        yield save
