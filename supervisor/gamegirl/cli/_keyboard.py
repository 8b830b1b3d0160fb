"""What people type: lines from a pipe, or keys from a terminal.

A thread of our own reads, because neither a terminal nor a file can be waited for in the same way
on both hosts. It reads from the descriptor, not through `sys.stdin`: a thread that is left behind
in a buffered read would stop the interpreter from ending.
"""

from __future__ import annotations

import codecs
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

from anyio import BrokenResourceError, ClosedResourceError
from anyio.from_thread import BlockingPortal

_CHUNK = 4096
_ESCAPE = "\x1b"
_BACKSPACES = "\x7f\b"
_KILL_LINE = "\x15"
_KILL_WORD = "\x17"
_END = "\x04"

TYPED_MAX = 4_000
"""So many characters may be typed before Enter; more are ignored."""


class Editor:
    """A line that is being typed."""

    def __init__(self) -> None:
        self.text = ""
        self._sequence = ""

    def feed(self, keys: str) -> list[str | None]:
        """Take keys; returns the lines that Enter finished, and None for Ctrl-D on an empty one."""
        lines: list[str | None] = []
        for key in keys:
            if self._sequence or key == _ESCAPE:
                self._swallow(key)
            elif key in "\r\n":
                lines.append(self.text)
                self.text = ""
            elif key in _BACKSPACES:
                self.text = self.text[:-1]
            elif key == _KILL_LINE:
                self.text = ""
            elif key == _KILL_WORD:
                head = self.text.rstrip().rpartition(" ")
                self.text = head[0] + head[1]
            elif key == _END:
                if not self.text:
                    lines.append(None)
            elif key.isprintable() and len(self.text) < TYPED_MAX:
                self.text += key
        return lines

    def _swallow(self, key: str) -> None:
        """An arrow or another key that sends several characters: it does nothing here."""
        self._sequence += key
        start = self._sequence[1:2]
        if len(self._sequence) == 1 or (start in ("[", "O") and len(self._sequence) == 2):
            return
        if start not in ("[", "O") or "@" <= key <= "~":
            self._sequence = ""


def is_terminal() -> bool:
    """Whether somebody types at a terminal whose keys can be read one by one."""
    if importlib.util.find_spec("termios") is None:
        return False
    with suppress(OSError, ValueError, AttributeError):
        return os.isatty(sys.stdin.fileno())
    return False


@contextmanager
def single_keys() -> Generator[None]:
    """Get keys as they are pressed, not echoed, until the block ends; Ctrl-C stays a signal."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def read_in_thread(portal: BlockingPortal, put: Callable[[str | None], Any]) -> None:
    """Read the standard input in a thread; call `put` on the loop with each piece, then None."""

    def run() -> None:
        # Nobody listens any more: the portal, or what is behind it, is closed.
        with suppress(RuntimeError, CancelledError, ClosedResourceError, BrokenResourceError):
            try:
                for piece in _pieces():
                    portal.call(put, piece)
            finally:  # Whatever ends the reading: whoever plays must not wait for more.
                portal.call(put, None)

    threading.Thread(target=run, name="gamegirl.keyboard", daemon=True).start()


def _pieces() -> Generator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    if sys.stdin is None:  # It was closed before Python started.
        return
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError):  # It is closed.
            yield from sys.stdin  # Somebody's object that stands in for it.
        return
    with suppress(OSError):  # The terminal is gone.
        while chunk := os.read(descriptor, _CHUNK):
            yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)
