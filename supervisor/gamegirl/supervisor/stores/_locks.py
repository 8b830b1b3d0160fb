"""Which processes live, told by file locks: the kernel lets go of them when a process dies.

A process holds an exclusive `flock` on `<name>.lock` in a directory beside the database. Locks
belong to open files, so two stores within one process see each other alive as well (and a child
that is forked without exec keeps its parent's lock). Who finds a file unlocked knows its process
dead, and removes the file: only while holding the exclusive lock on it, and whoever makes one looks
again, once it is locked, whether it still is the file of that name. So no living lock is removed.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from gamegirl.actors import Fate, StoreUnavailableError
from gamegirl.codec import escape_id
from gamegirl.supervisor.stores._protocol import Process

if sys.platform != "win32":
    import fcntl

_MAKE_SECONDS = 1.0
"""How long to try for a lock of one's own; others only hold it for the moment of a look."""

_INSTANCE_MAX = 4096
"""How many bytes of an instance's name are compared."""


class ProcessLocks:
    """The lock files of all processes that share one database.

    Args:
        directory: Where the files are; it is made when a lock is taken.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mine: int | None = None
        self._process: Process | None = None

    def hold(self, process: Process) -> None:
        """Make the process known as alive.

        Raises:
            StoreUnavailableError: Another one of that name is.
        """
        self.let_go()
        self._mine = self._take(process)
        self._process = process

    def renew(self) -> None:
        """See to it that the lock file is still there (somebody may have tidied up).

        Raises:
            OSError: It isn't, and can't be made now; the next renewal tries again.
        """
        process, handle = self._process, self._mine
        if process and handle is not None and not _is_at(handle, self._path(process.name)):
            self._mine = self._take(process)  # The old one stays ours until there is another.
            os.close(handle)

    def let_go(self) -> None:
        """Remove the lock file and give up the lock."""
        process, handle = self._process, self._mine
        self._process = self._mine = None
        if process is not None and handle is not None:
            path = self._path(process.name)
            with suppress(OSError):
                if _is_at(handle, path):
                    path.unlink()
            os.close(handle)

    def instance_of_living(self, name: str) -> str | None:
        """The instance of the process of that name; None: it is dead."""
        if sys.platform == "win32":
            return None
        path = self._path(name)
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            try:
                # Shared, so that two who look at once don't take each other for the living.
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return os.pread(handle, _INSTANCE_MAX, 0).decode("utf-8", "surrogateescape")
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(handle, path):
                    path.unlink()
            return None
        finally:
            os.close(handle)

    def _take(self, process: Process) -> int:
        """Make the lock file and lock it; the open file."""
        if sys.platform == "win32":
            raise StoreUnavailableError(
                "the SQLite store needs the file locks of a POSIX system: use Redis here",
                fate=Fate.NOT_EXECUTED,
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(process.name)
        deadline = time.monotonic() + _MAKE_SECONDS
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(handle, path):
                    os.truncate(handle, 0)
                    os.pwrite(handle, process.instance.encode("utf-8", "surrogateescape"), 0)
                    return handle
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(handle)
                    raise StoreUnavailableError(
                        f"another live process is called {process.name!r}: names must be unique",
                        fate=Fate.NOT_EXECUTED,
                    ) from None
                time.sleep(0.01)
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _path(self, name: str) -> Path:
        return self._directory / f"{escape_id(name)}.lock"


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
