"""What workers and the bench say to each other: one JSON object a line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, cast

import anyio
import attrs
import msgspec

_CHUNK = 1 << 16


def plain(value: object) -> Any:
    """A result as JSON has it: structs and attrs classes become objects, all else its repr."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): plain(item) for key, item in items}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if attrs.has(type(value)):
        fields = attrs.fields(cast(Any, type(value)))
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return repr(value)


class Wire:
    """One end of a connection: lines of JSON, in order, written without waiting.

    Args:
        connection: A connected stream socket; the wire closes it.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._outbox = bytearray()
        self._any = anyio.Event()
        self._part = b""
        self._closed = False

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message, soon."""
        self._outbox += json.dumps(message).encode() + b"\n"
        self._any.set()

    async def write(self) -> None:
        """Send what is said, until cancelled or cut off."""
        while True:
            self._any = anyio.Event()
            if not await self.flush():
                return
            await self._any.wait()

    async def flush(self) -> bool:
        """Send what was said so far.

        Returns:
            Whether there is still somebody to read it.
        """
        while self._outbox and not self._closed:
            try:
                sent = self._socket.send(self._outbox[:_CHUNK])
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except OSError:
                return False
            else:
                del self._outbox[:sent]
        return not self._closed

    async def read(self) -> list[dict[str, Any]]:
        """The next messages, at least one; none at all once the other end is gone."""
        while not self._closed:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            except OSError:
                data = b""
            if not data:
                return []
            if found := list(self._lines(data)):
                return found
        return []

    def _lines(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._part = (self._part + data).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def close(self) -> None:
        """Hang up."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()
            self._any.set()
