"""Calling the command in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from typer.testing import Result

PATIENCE_SECONDS = 30.0


class Command(Protocol):
    """Calls the command in this process."""

    def __call__(self, *arguments: str, typed: str | bytes | None = None) -> Result: ...


class Player:
    """A `gamegirl play` of its own process, whose lines are read as they come."""

    def __init__(self, store: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gamegirl", "play", *arguments, "--store", store],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        self.said = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def type(self, *lines: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.said or self.process.poll() is not None)
        assert text in self.said, self.said

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Close the input and wait; gives the exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(PATIENCE_SECONDS)
        self._thread.join(PATIENCE_SECONDS)
        self.process.stdout.close()
        return status


def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of another process."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def answer(result: Result) -> Any:
    """What a program would read."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
