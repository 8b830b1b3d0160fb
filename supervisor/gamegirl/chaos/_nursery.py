"""A process that has imported everything and forks workers from itself, in a few milliseconds.

It has one thread and no loop, which is what makes forking safe. It ends, and kills the workers that
still live, when the bench hangs up on it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

_START = f"from {__name__} import main; main()"
_ANSWER = 1 << 12
_REQUEST = 1 << 16


class Nursery:
    """Starts workers; for the bench.

    Args:
        preload: Modules that workers need.
    """

    def __init__(self, *preload: str) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), *preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._lock: anyio.Lock | None = None

    async def fork(self, plan: dict[str, Any], connection: socket.socket, log: Path) -> int:
        """Start a worker with its end of a connection; its process id."""
        request = json.dumps({"plan": plan, "log": str(log)}).encode()
        answer = await self._ask(request, [connection.fileno()])
        return int(answer["pid"])

    async def status(self, pid: int) -> int | None:
        """How a worker ended, as `Popen.returncode` says it; None while it lives."""
        status: int | None = (await self._ask(json.dumps({"wait": pid}).encode(), []))["status"]
        return status

    async def _ask(self, request: bytes, descriptors: list[int]) -> dict[str, Any]:
        if self._lock is None:
            self._lock = anyio.Lock()

        def run() -> dict[str, Any]:
            socket.send_fds(self._ours, [request + b"\n"], descriptors)
            answer: dict[str, Any] = json.loads(self._ours.recv(_ANSWER))
            return answer

        async with self._lock:
            # A cancelled caller must not leave its answer for the next one.
            return await to_thread.run_sync(run, abandon_on_cancel=False)

    def close(self) -> None:
        """End it, and all workers with it."""
        self._ours.close()
        self._process.wait()


def _serve(channel: socket.socket) -> None:
    children: dict[int, int | None] = {}
    try:
        while True:
            request, descriptors = _request(channel)
            if request is None:
                return
            if "wait" in request:
                pid = request["wait"]
                if children[pid] is None:
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    children[pid] = os.waitstatus_to_exitcode(status) if ended else None
                channel.sendall(json.dumps({"status": children[pid]}).encode())
                continue
            pid = os.fork()
            if pid == 0:
                channel.close()
                _be_worker(descriptors[0], request)
            os.close(descriptors[0])
            children[pid] = None
            channel.sendall(json.dumps({"pid": pid}).encode())
    finally:
        for child, ending in children.items():
            if ending is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _request(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    text = b""
    descriptors: list[int] = []
    while not text.endswith(b"\n"):
        data, received, *_ = socket.recv_fds(channel, _REQUEST, 1)
        if not data:
            return None, []
        text += data
        descriptors += received
    return json.loads(text), descriptors


def _be_worker(descriptor: int, request: dict[str, Any]) -> None:
    status = 1
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from gamegirl.chaos._worker import WorkerPlan, work

        status = work(socket.socket(fileno=descriptor), WorkerPlan(**request["plan"]))
    except BaseException:  # noqa: BLE001 - a forked process must not go on as the nursery
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Serve the bench until it hangs up."""
    descriptor, *preload = sys.argv[1:]
    # A terminal's Ctrl-C is for the bench, which ends us when it has cleaned up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("gamegirl.chaos._worker", *preload):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(descriptor)) as channel:
        _serve(channel)
