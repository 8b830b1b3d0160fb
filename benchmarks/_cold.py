"""10,000 cold sessions of eight players, the same for everybody who restores them.

Whoever comes first has the runtime write them, into a database that nobody restores from: it writes
what the replaced system wrote, and its own notes. Before each round everybody gets a fresh copy, so
that nothing is owned and nothing was restored before.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import anyio
import redis

from benchmarks._booting import GAME_NAME, boot_all, game_id
from benchmarks._presses import CALLERS, CHANNELS, CHOICE, channel_name, player_id, player_name
from benchmarks._servers import DATABASES
from benchmarks._turns import NARRATIVE
from gamegirl.supervisor import Settings, Supervisor

SEATS = 8
"""The players of each."""

_CALLERS = 500
_PORTION = 1000

_COPY = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  redis.call('COPY', key, key, 'DB', ARGV[1], 'REPLACE')
end
return redis.call('DBSIZE')
"""


async def make(url: str) -> None:
    """Have the sessions written, unless they are there."""
    template = _template(url)
    if await anyio.to_thread.run_sync(_size, template):
        return
    async with Supervisor(template, settings=Settings(window_seconds=3600.0)) as supervisor:

        async def press(channel: int, player: int) -> None:
            session = supervisor.session(channel_name(channel))
            await session.press(player_id(player), player_name(player), CHOICE)

        async def play(channels: range) -> None:
            for channel in channels:
                session = supervisor.session(channel_name(channel))
                turn = await session.close_window()
                assert turn is not None
                await session.record(turn, NARRATIVE)

        await boot_all(supervisor, SEATS, press)
        async with anyio.create_task_group() as tasks:
            for first in range(_CALLERS):
                tasks.start_soon(play, range(first, CHANNELS, _CALLERS))


async def restore(supervisor: Supervisor) -> None:
    """Have a thousand callers restore them all.

    Raises:
        ValueError: Nothing is stored of one.
    """

    async def call(channels: range) -> None:
        for channel in channels:
            if await supervisor.restore(channel_name(channel)) is None:
                raise ValueError(f"nothing is stored of {channel_name(channel)}")

    async with anyio.create_task_group() as tasks:
        for first in range(CALLERS):
            tasks.start_soon(call, range(first, CHANNELS, CALLERS))


def renew(url: str) -> None:
    """Put a copy of the sessions in place of all that the database holds."""
    with _client(url) as client:
        client.flushdb()
    with _client(_template(url)) as client:
        expected = client.eval(_COPY, 0, _database(url))
    if (copied := _size(url)) != expected:
        raise ValueError(f"{copied} keys were copied, not {expected}")


def owners(url: str) -> int:
    """How many sessions somebody owns, by what is stored."""
    found = 0
    with _client(url) as client:
        for first in range(0, CHANNELS, _PORTION):
            pipeline = client.pipeline(transaction=False)
            for channel in range(first, min(first + _PORTION, CHANNELS)):
                pipeline.hget(f"gg:fence:session:{channel_name(channel)}", "owner")
            found += sum(map(bool, pipeline.execute()))
    return found


def check(channel: int, restored: tuple[object, ...]) -> None:
    """Whether this is the channel's session.

    Args:
        channel: Its number.
        restored: Its game's id and name, whether it is active, its turn; its players' ids, names
            and last turns, by id; the turn, choices and narrative of its records.

    Raises:
        ValueError: It isn't.
    """
    players = tuple((player_id(seat), player_name(seat), 0) for seat in range(SEATS))
    choices = {player_id(seat): CHOICE for seat in range(SEATS)}
    expected = (game_id(channel), GAME_NAME, True, 1, players, ((1, choices, NARRATIVE),))
    if restored != expected:
        raise ValueError(f"{channel_name(channel)} was restored as {restored!r:.300}…")


def _client(url: str) -> Any:
    return redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]


def _size(url: str) -> int:
    with _client(url) as client:
        return int(client.dbsize())


def _database(url: str) -> int:
    return int(urlsplit(url).path.removeprefix("/"))


def _template(url: str) -> str:
    return urlsplit(url)._replace(path=f"/{DATABASES - 1}").geturl()
