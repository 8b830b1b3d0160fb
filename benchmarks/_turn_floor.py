"""The floor of W3: its callers, its wire and its commands, with nothing behind them.

A turn is played in each channel, and the commits that the runtime makes of it are caught. Each
round 1,000 callers want the same commits made, spelled before, one after the other in their own ten
channels; they go in portions as the runtime has them. Nothing is decided, gated, watched or
spelled. Between the rounds the fences are set back, so that Redis makes every commit again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from unittest.mock import patch

import anyio
import attrs
import redis

from benchmarks._booting import boot_all
from benchmarks._contest import Measure, Sample, Site
from benchmarks._portions import Portions
from benchmarks._presses import (
    CALLERS,
    CHANNELS,
    CHOICE,
    PLAYERS,
    channel_name,
    player_id,
    player_name,
)
from benchmarks._turns import NARRATIVE
from gamegirl.supervisor import RedisStore, Settings, Supervisor
from gamegirl.supervisor.stores import Commit, Outcome
from gamegirl.supervisor.stores._encode import commit_arguments
from gamegirl.supervisor.stores._packing import parts_of
from gamegirl.supervisor.stores._redis_client import client_for
from gamegirl.supervisor.stores._redis_exchange import Connections
from gamegirl.supervisor.stores._redis_wire import Wire
from gamegirl.supervisor.stores._scripts import COMMIT
from gamegirl.supervisor.stores._typed import DUE_KEY

_SECONDS = 60.0
"""Without a byte from the server: never, in a benchmark."""


@attrs.frozen
class _Spelled:
    """A commit as it is sent: how many keys and arguments, and these."""

    keys: int
    spelled_keys: bytes
    arguments: int
    spelled_arguments: bytes

    @classmethod
    def of(cls, commit: Commit) -> _Spelled:
        keys: list[Any] = []
        arguments: list[Any] = []
        commit_arguments(commit, keys, arguments)
        return cls(len(keys), _spelled(keys), len(arguments), _spelled(arguments))


@asynccontextmanager
async def turn_floor(site: Site) -> AsyncGenerator[Measure, None]:
    """The same commits, spelled before."""
    caught = await _caught(site.redis)
    commits = [[_Spelled.of(commit) for commit in caught[channel]] for channel in range(CHANNELS)]
    first = [caught[channel][0] for channel in range(CHANNELS)]
    connections = Connections(client_for(site.redis, _SECONDS).connection_pool, _SECONDS)
    wire = Wire(await anyio.to_thread.run_sync(connections.own, "measure"), _SECONDS)
    await wire.exchange([(parts_of((b"SCRIPT", b"LOAD", COMMIT.text)), 1)])

    async def make(portion: Sequence[_Spelled]) -> None:
        (answers,), *_ = await wire.exchange([(_call_of(portion), 1)], first=True)
        if answers != [1] * len(portion):
            raise ValueError(f"commits were answered {answers!r:.200}")

    async def measure() -> Sample:
        await anyio.to_thread.run_sync(_set_back, site.redis, first)
        started = perf_counter()
        async with anyio.create_task_group() as tasks:
            portions = Portions(make, tasks.start_soon)
            for caller in range(CALLERS):
                tasks.start_soon(_call, portions, commits[caller::CALLERS])
        return {"per_second": CHANNELS / (perf_counter() - started)}

    try:
        yield measure
    finally:
        await wire.aclose()


async def _call(portions: Portions[_Spelled], channels: Sequence[Sequence[_Spelled]]) -> None:
    for commits in channels:
        for commit in commits:
            await portions.add(commit)


def _call_of(portion: Sequence[_Spelled]) -> list[bytes]:
    """The script call that makes these commits, in parts."""
    keys = 1 + sum(commit.keys for commit in portion)
    arguments = sum(commit.arguments for commit in portion)
    return [
        b"*%d\r\n" % (3 + keys + arguments),
        _spelled([b"EVALSHA", COMMIT.sha, b"%d" % keys, DUE_KEY]),
        *[commit.spelled_keys for commit in portion],
        *[commit.spelled_arguments for commit in portion],
    ]


def _spelled(parts: Sequence[bytes]) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


async def _caught(url: str) -> list[list[Commit]]:
    """The commits of a turn of each channel."""
    sent: dict[str, list[Commit]] = {channel_name(channel): [] for channel in range(CHANNELS)}
    commit = RedisStore.commit

    async def caught(store: RedisStore, commits: Sequence[Commit]) -> Sequence[Outcome]:
        for one in commits:
            sent[one.actor.actor_id].append(one)
        return await commit(store, commits)

    async with Supervisor(url, settings=Settings(window_seconds=3600.0)) as supervisor:

        async def join(channel: int, player: int) -> None:
            session = supervisor.session(channel_name(channel))
            await session.join(player_id(player), player_name(player))

        async def play(caller: int) -> None:
            for channel in range(caller, CHANNELS, CALLERS):
                session = supervisor.session(channel_name(channel))
                for player in range(PLAYERS):
                    await session.press(player_id(player), player_name(player), CHOICE)
                turn = await session.close_window()
                assert turn is not None
                await session.record(turn, NARRATIVE)

        async def turn() -> None:
            async with anyio.create_task_group() as tasks:
                for caller in range(CALLERS):
                    tasks.start_soon(play, caller)

        await boot_all(supervisor, PLAYERS, join)
        await turn()  # The first one has the joins to see to.
        with patch.object(RedisStore, "commit", caught):
            await turn()
    if {len(commits) for commits in sent.values()} != {PLAYERS + 2}:
        raise ValueError("a turn was not six commits")
    return [sent[channel_name(channel)] for channel in range(CHANNELS)]


def _set_back(url: str, first: Sequence[Commit]) -> None:
    """Have each channel's fence as it was before the first of its commits."""
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    with client:
        pipeline = client.pipeline(transaction=False)
        for commit in first:
            fence = {"owner": commit.owner, "rev": str(commit.revision - 1), "cid": "set back"}
            pipeline.hset(commit.actor.fence, mapping=fence)
        pipeline.execute()
