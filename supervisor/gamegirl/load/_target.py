"""The store that a load is played on: a server of its own, or a given one, left as it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import redis
from anyio import to_thread

from gamegirl.load._crowd import channel_name
from gamegirl.load._errors import TargetError
from gamegirl.supervisor import open_store
from gamegirl.supervisor.stores import ActorKey

MEMORY = "memory://"

_OWN = ("game:session:", "sg:game_session:", "gg:session:", "gg:fence:session:", "gg:game:")
"""What the keys of a channel or a game begin with, before its name."""

_INDEX, _DUE, _EPOCH = "game:index", "gg:due", "gg:epoch"
_BATCH = 1000
_TIMEOUT_SECONDS = 10.0
_SQLITE_PARTS = ("", "-wal", "-shm", "-journal", ".locks")


@attrs.frozen
class Target:
    """The store of a run.

    Attributes:
        url: Of the store; it may have a password in it.
        shown: The same for people.
        server: Name and version of the server; empty: there is none.
    """

    url: str
    shown: str
    server: str = ""


@asynccontextmanager
async def throw_away() -> AsyncGenerator[Target]:
    """A redis-server of the run's own, on the loopback interface, that keeps nothing on disk.

    Raises:
        TargetError: There is no redis-server here.
    """
    # Processes whose memory is measured import this module, and have no use for that one.
    from gamegirl.chaos import BenchError, RedisServer

    folder = await to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="gamegirl-load-"))
    try:
        try:
            server = RedisServer(Path(folder))
            await server.start()
        except BenchError as error:
            raise TargetError(str(error)) from error
        try:
            version = await to_thread.run_sync(_version_of, server.url)
            yield Target(server.url, "a redis-server of its own", version)
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def given(
    url: str,
    run: str,
    *,
    channels: int,
    force: bool = False,
    keep: bool = False,
    trouble: Callable[[str], None] = lambda _text: None,
) -> AsyncGenerator[Target]:
    """A store that somebody named; what the run wrote is deleted afterwards.

    Args:
        url: Of the store.
        run: The run's name, which its channels and games bear.
        channels: How many there are.
        force: A Redis that holds something will do; only what bears the run's name is deleted.
        keep: Nothing is deleted.
        trouble: Is told if something could not be deleted; the run was one all the same.

    Raises:
        TargetError: It can't be used, or something is in it.
    """
    shown = repr(open_store(url)).partition("(")[2].rstrip(")").strip("'\"") or MEMORY
    if url.lower().startswith("memory:"):
        yield Target(url, MEMORY)
        return
    if url.lower().startswith("sqlite:"):
        path = Path(url.partition(":///")[2])
        if await to_thread.run_sync(path.exists):
            raise TargetError(f"there is a database at {path}: name one that isn't there yet")
        clean_up: Callable[[], None] = lambda: _delete_files(path)  # noqa: E731
        version = ""
    else:
        empty = await to_thread.run_sync(_check, url, force)
        clean_up = lambda: _delete_keys(url, run, channels, empty=empty)  # noqa: E731
        version = await to_thread.run_sync(_version_of, url)
    try:
        yield Target(url, shown, version)
    finally:
        if not keep:
            with anyio.CancelScope(shield=True):
                try:
                    await to_thread.run_sync(clean_up)
                except (redis.RedisError, OSError) as error:
                    trouble(
                        f"what was written could not be deleted ({error}): delete the keys with "
                        f"{channel_name(run, 0)[:-1]} in their names, and these fields of {_INDEX} "
                        f"and members of {_DUE}"
                    )


def _client(url: str) -> Any:
    connect = cast(Any, redis.Redis).from_url
    return connect(url, socket_timeout=_TIMEOUT_SECONDS, protocol=2)


def _version_of(url: str) -> str:
    try:
        with _client(url) as client:
            info: dict[str, Any] = client.info("server")
    except redis.ResponseError:
        return "a server that tells no version"
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


def _check(url: str, force: bool) -> bool:
    """Whether nothing is in it.

    Raises:
        TargetError: Something is, and it isn't forced.
    """
    try:
        with _client(url) as client:
            size: int = client.dbsize()
    except (redis.RedisError, OSError) as error:
        raise TargetError(f"the Redis of --store can't be used: {error}") from error
    if size and not force:
        raise TargetError(
            f"the database of --store has {size:,} keys: name an empty one, such as "
            "redis://127.0.0.1:6379/9, or say --force (games of the load test have names of "
            "their own, and only these are deleted afterwards)"
        )
    return not size


def _delete_keys(url: str, run: str, channels: int, *, empty: bool) -> None:
    name = channel_name(run, 0)[:-1]
    with _client(url) as client:
        for prefix in _OWN:
            found: list[bytes] = []
            for key in client.scan_iter(f"{prefix}{name}*", count=_BATCH):
                found.append(key)
                if len(found) == _BATCH:
                    client.unlink(*found)
                    found.clear()
            if found:
                client.unlink(*found)
        for start in range(0, channels, _BATCH):
            names = [
                channel_name(run, number) for number in range(start, min(start + _BATCH, channels))
            ]
            client.hdel(_INDEX, *names)
            client.zrem(_DUE, *(ActorKey("session", one).member for one in names))
        if empty:
            client.delete(_EPOCH)


def _delete_files(path: Path) -> None:
    for part in _SQLITE_PARTS:
        file = path.with_name(path.name + part)
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
