"""The limit of W2: the server with nothing but the runtime's own commits before it.

redis-benchmark sends one fixed command over and over, with random numbers in it, so it can't give
each commit the revision that its fence wants: all but the first would be taken for one that was
done before, and write nothing. The script it runs is therefore the runtime's, word for word, but
for the two comparisons of the revision, which are made and come out as they do for the commit that
is next. The command is the runtime's too, caught on its way to the server: one press of a channel
whose name redis-benchmark replaces by a random number. So the server runs the same commands with
the same bytes on 10,000 fences and journals.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest.mock import patch
from urllib.parse import urlsplit

import anyio
import hiredis
import redis

from benchmarks._contest import Measure, Sample, Site
from benchmarks._presses import CHANNELS, CHOICE, PLAYERS, player_id, player_name
from gamegirl.supervisor import Settings, Supervisor
from gamegirl.supervisor.stores import _packing, _redis_calls
from gamegirl.supervisor.stores._scripts import COMMIT

_CHANNEL = "__rand_int__"
"""What redis-benchmark replaces by twelve digits, each time anew."""

_PIPELINE = 64
_CLIENTS = 50
_TRIAL = 64_000

_NEVER_DONE = (
    b"if rev == revision and fence[3] == id then done = true end",
    b"if rev == revision and fence[3] == id then done = false end",
)
_ALWAYS_NEXT = (
    b"if rev ~= string.format('%.0f', revision - 1) then return {'C', rev} end",
    b"if rev == string.format('%.0f', revision - 1) then return {'C', rev} end",
)


def no_redis_benchmark() -> str | None:
    """Why the limit can't be measured."""
    return None if shutil.which("redis-benchmark") else "there is no redis-benchmark on PATH"


@asynccontextmanager
async def limit(site: Site) -> AsyncGenerator[Measure, None]:
    """`redis-benchmark -P 64`: one commit a call, 64 calls under way on each connection."""
    command, script = await _caught_commit(site.redis)
    for exact, loose in (_NEVER_DONE, _ALWAYS_NEXT):
        if exact not in script:
            raise LookupError(f"the commit script has changed: {exact!r} is not in it")
        script = script.replace(exact, loose)
    command[1] = _prepare(site.redis, command, script)
    server = urlsplit(site.redis)
    benchmark = [
        *("redis-benchmark", "-h", str(server.hostname), "-p", str(server.port)),
        *("--dbnum", server.path.removeprefix("/"), "--csv", "-r", str(CHANNELS)),
        *("-P", str(_PIPELINE), "-c", str(_CLIENTS)),
    ]

    def run(count: int) -> Sample:
        arguments: list[str | bytes] = [*benchmark, "-n", str(count), *command]
        done = subprocess.run(arguments, check=True, capture_output=True)
        # A header, then the command's name and its requests a second.
        names, figures = (_cells(line) for line in done.stdout.decode().splitlines()[-2:])
        return {"per_second": float(figures[names.index("rps") - len(names)])}

    trial = run(_TRIAL)
    count = round(trial["per_second"] * site.round_seconds)

    async def measure() -> Sample:
        return await anyio.to_thread.run_sync(run, count)

    yield measure


def _cells(line: str) -> list[str]:
    return line.strip('"').split('","')


async def _caught_commit(url: str) -> tuple[list[bytes], bytes]:
    """The EVALSHA of one press and the text of its script, as the runtime sends them."""
    sent: list[list[bytes]] = []
    make = _packing.parts_of

    def caught(command: Sequence[Any], more: _packing.Spelled | None = None) -> list[bytes]:
        parts = make(command, more)
        reader = cast("Any", hiredis).Reader()
        reader.feed(b"".join(parts))
        sent.append(reader.gets())
        return parts

    with patch.object(_redis_calls, "parts_of", caught):
        async with Supervisor(url, settings=Settings(window_seconds=3600.0)) as supervisor:
            session = supervisor.session(_CHANNEL)
            await session.boot("Neon Catacombs")
            for player in range(PLAYERS):
                await session.press(player_id(player), player_name(player), CHOICE)
            sent.clear()
            await session.press(player_id(0), player_name(0), CHOICE)
            of_press = tuple(sent)
    (commit,) = [
        parts
        for parts in of_press
        if parts[:2] == [b"EVALSHA", COMMIT.sha] and _CHANNEL.encode() in parts[4]
    ]
    return commit, COMMIT.text


def _prepare(url: str, commit: list[bytes], script: bytes) -> bytes:
    """Give all channels a fence and a journal that the commit fits; the script's name."""
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    with client:
        client.flushdb()
        keys = int(commit[2])
        _, fence, journal = commit[3 : 3 + keys]
        own = commit[3 + keys :]
        _, owner, revision, commit_id, *_ = own
        fields = own[-2:]
        pipeline = client.pipeline(transaction=False)
        for channel in range(CHANNELS):
            number = b"%012d" % channel
            at = fence.replace(_CHANNEL.encode(), number)
            pipeline.hset(at, mapping={"owner": owner, "rev": revision, "cid": commit_id})
            others = [number[-1:] * size for size in range(8, 8 + PLAYERS)]
            window = {other: b"x" * len(fields[1]) for other in others}
            pipeline.hset(
                journal.replace(_CHANNEL.encode(), number), mapping={**window, fields[0]: fields[1]}
            )
            if channel % 1000 == 999:
                pipeline.execute()
        pipeline.execute()
        name = client.script_load(script).encode()
        # redis-benchmark counts refusals like anything else: make sure that this isn't one.
        once = [part.replace(_CHANNEL.encode(), b"%012d" % 0) for part in commit]
        answer = client.execute_command("EVALSHA", name, *once[2:])
        if answer != [1]:
            raise ValueError(f"the server would not do the commit: {answer!r}")
    return bytes(name)
