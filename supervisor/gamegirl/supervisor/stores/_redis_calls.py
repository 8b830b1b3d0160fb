"""Calls of the Redis store's scripts, whoever sends them: what goes out, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import attrs
from redis.exceptions import NoScriptError, ResponseError

from gamegirl.supervisor.stores import _typed
from gamegirl.supervisor.stores._protocol import Broken
from gamegirl.supervisor.stores._scripts import Script

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")

Call: TypeAlias = tuple[list[Any], list[Any]]
"""A script's keys and arguments."""

PORTION = 64
"""Commits, claims or keys a script call: few enough that nobody else waits long for the server."""


@attrs.define
class Batch(Generic[RequestT, ResultT]):
    """Requests that go out in portions, and what brings their results into their order.

    Attributes:
        head: The keys and arguments that each call of the script begins with.
        requests: Commits, or claims.
        encode: Adds a request to keys and arguments, or raises and adds nothing.
        decode: Makes a result of a request and its answer.
    """

    head: Call
    requests: Sequence[RequestT]
    encode: Callable[[RequestT, list[Any], list[Any]], None]
    decode: Callable[[RequestT, Any], ResultT]
    _sent: list[list[int]] = attrs.field(factory=list[list[int]], init=False)
    _broken: dict[int, Broken] = attrs.field(factory=dict[int, Broken], init=False)

    def calls(self) -> Iterator[Call]:
        """The calls of the script, made one after the other."""
        for start in range(0, len(self.requests), PORTION):
            keys, arguments = list(self.head[0]), list(self.head[1])
            indexes: list[int] = []
            for index in range(start, min(start + PORTION, len(self.requests))):
                try:
                    self.encode(self.requests[index], keys, arguments)
                except (TypeError, ValueError, AttributeError) as error:
                    self._broken[index] = _typed.unstorable(error)
                else:
                    indexes.append(index)
            if indexes:
                self._sent.append(indexes)
                yield keys, arguments

    def results(self, answers: Sequence[Any]) -> list[ResultT | Broken]:
        """The result of each request, in their order."""
        results: dict[int, ResultT | Broken] = dict(self._broken)
        for indexes, answer in zip(self._sent, answers, strict=True):
            for index, item in zip(indexes, answer, strict=True):
                results[index] = self.decode(self.requests[index], item)
        return [results[index] for index in range(len(self.requests))]


def evaluation(
    script: Script, calls: Iterable[Call]
) -> Generator[Iterable[tuple[Any, ...]], list[Any], list[Any]]:
    """Gives the commands to send, gets their answers, until there is an answer to each call."""
    commands: list[tuple[Any, ...]] = []

    def made() -> Iterator[tuple[Any, ...]]:
        for keys, arguments in calls:
            command = (b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)
            commands.append(command)
            yield command

    answers = yield made()
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        # The server was restarted, or flushed its scripts: those calls did nothing.
        loaded, *rest = yield [
            ("SCRIPT", "LOAD", script.text),
            *(commands[i] for i in unknown),
        ]
        if isinstance(loaded, ResponseError):
            return [loaded]
        for i, answer in zip(unknown, rest, strict=True):
            answers[i] = answer
    return answers
