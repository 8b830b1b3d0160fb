"""The append-only file of a server of the bench's own: what is in it, and cutting it back.

Redis writes each change as a command, and a script's changes as one transaction. Whoever cuts the
file at some byte and starts the server again has a store that went back to that moment: what a
failover to a late replica or a machine that loses its power leaves behind.

A file that ends within a transaction is cut further back, to where that begins, as
`redis-check-aof --fix` does: servers without Valkey's change 4342 ignore half a transaction when
they load it, but leave it there, and play it together with the next one when they are started once
more. No client can prevent that.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs

_FENCES = b"gg:fence:session:"
_BEGIN = b"*1\r\n$5\r\nMULTI\r\n"
_REMEMBERED_SECONDS = 5.0


@attrs.frozen
class Fence:
    """What a fence says at some point of the file."""

    owner: str
    revision: int


@attrs.frozen
class _Change:
    end: int
    channel: str
    fields: dict[bytes, bytes]


class AppendOnly:
    """Reads what a server has appended, and cuts it back while the server is down.

    Args:
        folder: The server's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changes: list[_Change] = []
        self._read = 0
        self._sizes: deque[tuple[float, int]] = deque()

    @property
    def path(self) -> Path:
        """The file that the server appends to: Redis 7 has several, in a folder of their own."""
        parts = sorted(
            self._folder.glob("appendonlydir/*.incr.aof"), key=lambda part: part.stat().st_mtime
        )
        return parts[-1] if parts else self._folder / "appendonly.aof"

    @property
    def size(self) -> int:
        """How long it is, in bytes."""
        return self.path.stat().st_size

    async def watch(self, seconds: float) -> None:
        """Note its size every so often, until cancelled."""
        while True:
            now = time.monotonic()
            self._sizes.append((now, self.size))
            while self._sizes[0][0] < now - _REMEMBERED_SECONDS:
                self._sizes.popleft()
            await anyio.sleep(seconds)

    def size_before(self, seconds: float) -> int:
        """How long it was so long ago, as far as it was watched."""
        moment = time.monotonic() - seconds
        sizes = [size for at, size in self._sizes if at <= moment]
        return min(sizes[-1] if sizes else self._sizes[0][1], self.size)

    def cut(self, size: int) -> int:
        """Cut it back to so many bytes, be that within a command; how many are gone."""
        before = self.size
        with self.path.open("r+b") as file:
            file.truncate(_outside(file.read(size)))
        self._sizes.clear()
        self._sizes.append((time.monotonic(), self.size))
        self._read_on()
        return before - self.size

    def fences(self) -> dict[str, Fence]:
        """The channels' fences, as a server finds them that loads the file as it is."""
        self._read_on()
        held: dict[str, dict[bytes, bytes]] = {}
        for change in self._changes:
            held.setdefault(change.channel, {}).update(change.fields)
        return {
            channel: Fence(fields.get(b"owner", b"").decode(), int(fields.get(b"rev", b"0") or 0))
            for channel, fields in held.items()
        }

    def _read_on(self) -> None:
        size = self.size
        while self._changes and self._changes[-1].end > size:
            self._changes.pop()
        # A server that finds half a transaction at the end cuts it off: nothing after the last
        # whole change is known to stay as it is.
        start = min(self._read, size, self._changes[-1].end if self._changes else 0)
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read()
        inside = False
        waiting: list[tuple[str, dict[bytes, bytes]]] = []
        self._read = start
        for end, command in _commands(data):
            name = command[0].upper()
            if name == b"MULTI":
                inside = True
                continue
            if name == b"HSET" and command[1].startswith(_FENCES):
                channel = command[1][len(_FENCES) :].decode()
                waiting.append((channel, dict(zip(command[2::2], command[3::2], strict=True))))
            if name == b"EXEC" or not inside:
                inside = False
                self._read = start + end
                self._changes += [_Change(start + end, *change) for change in waiting]
                waiting = []


def _outside(data: bytes) -> int:
    """How much of what was appended can stay, so that no transaction is begun and not ended.

    Of one that has to go a part of its first command stays.
    """
    begun = end = 0
    inside = False
    for after, command in _commands(data):
        name = command[0].upper()
        if name == b"MULTI":
            begun, inside = end, True
        elif name == b"EXEC":
            inside = False
        end = after
    return begun + (len(data) - begun) % len(_BEGIN) if inside else len(data)


def _commands(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Each whole command, and where it ends."""
    at = 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0 or data[at : at + 1] != b"*":
            return
        count, at = int(data[at + 1 : line]), line + 2
        command: list[bytes] = []
        for _ in range(count):
            line = data.find(b"\r\n", at)
            if line < 0:
                return
            length = int(data[at + 1 : line])
            at = line + 2 + length + 2
            if at > len(data):
                return
            command.append(data[line + 2 : at - 2])
        yield at, command
