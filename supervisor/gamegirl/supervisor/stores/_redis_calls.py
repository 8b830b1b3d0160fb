"""Calls of the Redis store's scripts: what goes out and what comes back, whoever sends it.

*Steps* yield requests, get the answers to each of them, and return what all of that means. A worker
thread can take them over a connection of its own, and the loop over the one that it serves.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar

import attrs
from redis.exceptions import NoScriptError, ResponseError

from gamegirl.supervisor.stores import _typed
from gamegirl.supervisor.stores._encode import commit_arguments, outcomes
from gamegirl.supervisor.stores._packing import SLICE, Spelled, parts_of
from gamegirl.supervisor.stores._protocol import Broken, Commit, Outcome
from gamegirl.supervisor.stores._scripts import Script

T = TypeVar("T")

Call: TypeAlias = tuple[list[Any], list[Any]]
"""A script's keys and arguments."""

Request: TypeAlias = tuple[Sequence[bytes], int]
"""Packed commands, in parts, and how many commands there are."""

Steps: TypeAlias = Generator[Iterable[Request], list[list[Any]], T]
"""Requests that go out one after the other, so that the server works while the next one is made."""

PORTION = 64
"""Commits, claims or keys a script call: few enough that nobody else waits long for the server."""


class Refused(Exception):
    """The server refused something.

    Attributes:
        answers: Among which there is at least one `ResponseError`.
    """

    def __init__(self, answers: Sequence[Any]) -> None:
        super().__init__(answers)
        self.answers = answers


@attrs.define
class Batch:
    """Commits that go out in portions, and what brings their outcomes into their order.

    Attributes:
        key: What each call of the script begins with.
        commits: In the order of their outcomes.
    """

    key: bytes
    commits: Sequence[Commit]
    _counts: list[int] = attrs.field(factory=list[int], init=False)
    _broken: dict[int, Broken] = attrs.field(factory=dict[int, Broken], init=False)

    def _requests(self, script: Script) -> Iterator[Request]:
        for start in range(0, len(self.commits), PORTION):
            portion = self.commits[start : start + PORTION]
            keys: list[Any] = [self.key]
            arguments: list[Any] = []
            spelled = Spelled()
            count = len(portion)
            for index, commit in enumerate(portion, start):
                try:
                    commit_arguments(commit, keys, arguments)
                except (TypeError, ValueError, AttributeError) as error:
                    self._broken[index] = _typed.unstorable(error)
                    count -= 1
                if len(arguments) >= SLICE:  # While they are at hand.
                    spelled.add(arguments)
                    arguments = []
            if count:
                self._counts.append(count)
                spelled.add(arguments)
                yield parts_of((b"EVALSHA", script.sha, b"%d" % len(keys), *keys), spelled), 1

    def steps(self, script: Script) -> Steps[list[Outcome]]:
        """Send them all; the outcome of each, in their order."""
        if not self.commits:
            return []
        return self._outcomes((yield from _evaluated(script, self._requests(script))))

    def _outcomes(self, answers: Sequence[Any]) -> list[Outcome]:
        portions: list[list[Any]] = [one for one in answers if isinstance(one, list)]
        if list(map(len, portions)) != self._counts:
            raise ValueError(f"no answers to {self._counts} requests: {answers!r:.200}")
        broken, commits = self._broken, self.commits
        if broken:
            commits = [one for index, one in enumerate(commits) if index not in broken]
        found = outcomes(commits, list(chain.from_iterable(portions)))
        for index in sorted(broken):
            found.insert(index, broken[index])
        return found


def evaluation(script: Script, calls: Iterable[Call]) -> Steps[list[Any]]:
    """Call a script for each of the keys and arguments, in one round trip if it is known."""
    return _evaluated(
        script,
        (
            (parts_of((b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)), 1)
            for keys, arguments in calls
        ),
    )


def _evaluated(script: Script, requests: Iterable[Request]) -> Steps[list[Any]]:
    answers = [answer for (answer,) in (yield from known(script, requests))]
    if any(isinstance(answer, ResponseError) for answer in answers):
        raise Refused(answers)
    return answers


def transactions(requests: Iterable[Request], script: Script | None = None) -> Steps[list[Any]]:
    """Send transactions; what their commands are answered, a wrong type included.

    Args:
        requests: Each is one, its `MULTI` and `EXEC` included.
        script: What the first command of each calls; None: they call none.
    """
    answers = yield from known(script, requests)
    executed = [_executed(one) for one in answers]
    for one in executed:
        if has_errors(one):
            refusals = [answer for answer in one if _failed(answer)]
            if refusals:
                raise Refused(refusals)
    return executed


def known(script: Script | None, requests: Iterable[Request]) -> Steps[list[list[Any]]]:
    """Send requests that call a script, and again with it what the server did not know it for."""
    sent: list[Request] = []

    def noted() -> Iterator[Request]:
        for request in requests:
            sent.append(request)
            yield request

    answers = yield noted()
    if script is None:
        return answers
    unknown = [i for i, answer in enumerate(answers) if _unknown(answer)]
    if unknown:
        # The server was restarted, or flushed its scripts: those calls did nothing.
        load = parts_of((b"SCRIPT", b"LOAD", script.text)), 1
        loaded, *rest = yield [load, *(sent[i] for i in unknown)]
        if isinstance(loaded[0], ResponseError):
            raise Refused(loaded)
        for i, answer in zip(unknown, rest, strict=True):
            answers[i] = answer
    return answers


def _unknown(answers: Sequence[Any]) -> bool:
    """Whether a script that was called, alone or first in a transaction, is not known."""
    last = answers[-1]
    return isinstance(last[0] if isinstance(last, list) and last else last, NoScriptError)


def _executed(answers: list[Any]) -> list[Any]:
    executed: Any = answers[-1]
    if not isinstance(executed, list):
        if any(isinstance(answer, ResponseError) for answer in answers):
            raise Refused(answers)  # One of the commands was refused, and so was EXEC.
    elif executed:
        return executed  # pyright: ignore[reportUnknownVariableType]
    raise ValueError(f"no answers of a transaction: {executed!r:.200}")


_FINE = frozenset((bytes, list, dict, type(None)))


def has_errors(answers: Iterable[Any]) -> bool:
    """Whether there are errors among the answers to commands that read."""
    return not _FINE.issuperset(map(type, answers))


def _failed(answer: Any) -> bool:
    return isinstance(answer, ResponseError) and not str(answer).startswith("WRONGTYPE")
