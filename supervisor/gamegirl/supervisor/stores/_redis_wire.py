"""A connection on which requests are pipelined, on the loop itself.

Whoever sends and receives in a thread has to win the interpreter's lock from the loop for it, and
the loop to win it back: on a busy loop that takes longer than the server does. So commits and
claims go this way. redis-py makes the connection (address, TLS, login, database), in a thread,
since that waits; then its socket is ours alone, whatever becomes of its pool.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, cast

import anyio
import hiredis
from anyio.lowlevel import checkpoint
from redis.exceptions import ExecAbortError, NoScriptError, ResponseError

from gamegirl.supervisor._hosting import spawn
from gamegirl.supervisor.stores._redis_calls import Request
from gamegirl.supervisor.stores._redis_exchange import ended

_CHUNK = 1 << 18
_PARTS_MAX = 1000
"""More parts than that are put together before they are sent: systems take 1,024 at a time."""

_CLOSE_SECONDS = 1.0

_REFUSALS = {"EXECABORT": ExecAbortError, "NOSCRIPT": NoScriptError}
"""By the first word: those that are told apart from others."""

_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_MORE = object()
"""What the parser answers when a reply isn't complete."""


class _Call:
    """Requests that were sent together, and what came back."""

    __slots__ = ("answers", "counts", "error", "first", "over", "wanted")

    def __init__(self, counts: Sequence[int], first: bool) -> None:
        self.counts = counts
        self.first = first
        self.wanted = sum(counts)
        self.answers: list[Any] = []
        self.error: Exception | None = None
        self.over = anyio.Event()

    def parts(self) -> list[list[Any]]:
        """The answers to each request."""
        answers = iter(self.answers)
        return [list(islice(answers, count)) for count in self.counts]


class Wire:
    """Sends requests in the order of the calls, and gives each call its own answers.

    Args:
        connection: A connected connection of redis-py that `fits`; its socket is taken from it.
        seconds: After so long without a byte the connection is given up; None: never.

    Attributes:
        failure: Why it can't be used any more; None: it can.
    """

    def __init__(self, connection: Any, seconds: float | None) -> None:
        self._socket: socket.socket = connection._sock
        connection._sock = None  # Who closes the connection must not close it under us.
        self._socket.setblocking(False)
        self._put = _putting(self._socket)
        self._seconds = seconds
        self._parser = cast(Any, hiredis).Reader(
            protocolError=ConnectionError, replyError=_error, notEnoughData=_MORE
        )
        self._calls: deque[_Call] = deque()
        self._unsent: deque[memoryview] = deque()
        self._received = 0
        self._stuck = anyio.Event()
        self._closed = anyio.Event()
        self.failure: Exception | None = None
        self._task = spawn(self._run, "gamegirl.redis")

    @staticmethod
    def fits(connection: Any) -> bool:
        """Whether a connection has a socket of the operating system, as real ones have.

        And speaks protocol 2: under protocol 3 there may be messages between the answers, which are
        redis-py's to see to.
        """
        real = isinstance(getattr(connection, "_sock", None), socket.socket)
        return real and getattr(connection, "protocol", None) in (2, "2")

    @property
    def alive(self) -> bool:
        """Whether it can be used.

        Where nothing is under way the system is asked: a server that has hung up is gone before
        anything is sent to it, so that nothing is in doubt.
        """
        if self.failure is None and not self._calls:
            self._has_news()
        return self.failure is None

    def _has_news(self) -> bool:
        """Whether something has come that nobody has read; notes it if the server has hung up."""
        try:
            news = socket.socket.recv(self._socket, 1, socket.MSG_PEEK)  # Past any TLS.
        except _LATER:
            return False
        except OSError as error:
            self.fail(error)
            return False
        if not news:
            self.fail(ConnectionError("Connection closed by server."))
        return bool(news)

    async def exchange(
        self, requests: Sequence[Request], *, first: bool = False
    ) -> list[list[Any]]:
        """Send requests and wait for what each is answered: values, or a `ResponseError`.

        A caller who is cancelled leaves the connection as it is: the answers are dropped.

        Args:
            requests: Packed commands.
            first: What the answers lead to goes before the answers to the next call: the caller
                goes on, and so do those whom it wakes. What they need, and do next, is at hand.

        Raises:
            OSError: The connection broke or fell silent; what was sent is in doubt.
        """
        if not requests:
            return []
        call = _Call([count for _, count in requests], first)
        if self.failure is None:
            self._calls.append(call)
            try:
                self._send([part for parts, _ in requests for part in parts])
            except BaseException:  # For want of memory: a part of a command may have gone out.
                self.fail(ConnectionError("not all could be sent"))
                raise
        else:
            self._end(call)
        while not call.over.is_set():
            received = self._received
            with anyio.move_on_after(self._seconds):
                await call.over.wait()
            silent = len(call.answers) < call.wanted and received == self._received
            # What has come while this process stood still is no silence.
            if silent and not call.over.is_set() and not self._has_news():
                self.fail(TimeoutError("Timeout reading from socket"))
        if call.error is not None:
            raise call.error
        return call.parts()

    async def aclose(self) -> None:
        """Close the connection; who still waits gets an error."""
        self.fail(ConnectionError("the store was closed"))
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._closed.wait()
        self._socket.close()  # Its task may have been cancelled before it ran at all.

    def fail(self, error: Exception) -> None:
        """Give the connection up: nobody knows any more which answer belongs to what."""
        if self.failure is not None:
            return
        self.failure = error
        for call in self._calls:
            self._end(call)
        self._calls.clear()
        self._stuck.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # Wakes the tasks; the last of them closes it.

    def _end(self, call: _Call) -> None:
        failure = self.failure
        # An error of each caller's own: raising adds to what it keeps.
        if isinstance(failure, OSError):
            call.error = type(failure)(*failure.args)
        else:
            call.error = ConnectionError(str(failure))
        call.over.set()

    def _send(self, parts: list[bytes]) -> None:
        sent = 0
        if not self._unsent:
            try:
                sent = self._put(parts)
            except _LATER:
                pass
            except OSError as error:
                self.fail(error)
        if self.failure is None and sent < sum(map(len, parts)):
            self._unsent.append(memoryview(b"".join(parts))[sent:])
            self._stuck.set()

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._guarded, self._write)
                await self._guarded(self._read)
                tasks.cancel_scope.cancel()
        finally:
            self.fail(ConnectionError("its task was cancelled"))
            self._socket.close()
            self._closed.set()

    async def _guarded(self, work: Any) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - those who wait are told
            self.fail(error)

    async def _read(self) -> None:
        encrypted = self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        while self.failure is None:
            if encrypted is None or not encrypted.pending():
                await anyio.wait_readable(self._socket)
            try:
                data = self._socket.recv(_CHUNK)
            except _LATER:
                await checkpoint()
                continue
            if not data:
                raise ConnectionError("Connection closed by server.")
            self._received += len(data)
            answered = deque[_Call]()
            try:
                self._understand(data, answered)
            except Exception as error:  # noqa: BLE001 - those who wait are told
                self.fail(error)
            await _give_out(answered)

    def _understand(self, data: bytes, answered: deque[_Call]) -> None:
        """Sort what has come to the calls; those that have all their answers go to `answered`."""
        parser, calls = self._parser, self._calls
        parser.feed(data)
        ready = iter(parser.gets, _MORE)
        while calls:
            call = calls[0]
            call.answers.extend(islice(ready, call.wanted - len(call.answers)))
            if len(call.answers) < call.wanted:
                return
            answered.append(calls.popleft())
            if not all(map(ended, call.parts())):
                raise ConnectionError("a transaction could not be ended")
        if any(True for _ in ready):
            raise ConnectionError("it answered what nobody had asked")

    async def _write(self) -> None:
        unsent = self._unsent
        while self.failure is None:
            if not unsent:
                self._stuck = anyio.Event()
                await self._stuck.wait()
                continue
            await anyio.wait_writable(self._socket)
            try:
                rest = unsent[0][self._socket.send(unsent[0]) :]
            except _LATER:
                await checkpoint()
                continue
            if rest:
                unsent[0] = rest
            else:
                del unsent[0]


async def _give_out(answered: deque[_Call]) -> None:
    """Let those go on who have their answers, whatever becomes of the connection meanwhile."""
    try:
        while answered:
            call = answered.popleft()
            call.over.set()
            if call.first and answered:
                await checkpoint()
                await checkpoint()
    finally:
        for call in answered:
            call.over.set()


def _putting(to: socket.socket) -> Callable[[list[bytes]], int]:
    """What sends parts, and gives how many bytes of them it has taken."""

    def joined(parts: list[bytes]) -> int:
        return to.send(b"".join(parts))

    if isinstance(to, ssl.SSLSocket) or not hasattr(to, "sendmsg"):  # As on Windows.
        return joined
    gather = to.sendmsg

    def put(parts: list[bytes]) -> int:
        # Put together, a portion would be in memory that is in no cache, for nothing.
        return joined(parts) if len(parts) > _PARTS_MAX else gather(parts)

    return put


def _error(text: str) -> ResponseError:
    """A refusal as redis-py would give it, with its first word."""
    return _REFUSALS.get(text.partition(" ")[0], ResponseError)(text)
