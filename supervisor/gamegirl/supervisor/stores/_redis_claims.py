"""Claims and reads as commands: what is asked of Redis, and what it answers.

A portion of claims is one transaction: a script that takes the fences, then one plain command for
each key, which reads it as the type that such a key had the last time. Where one has another type
now, all of that actor's keys are read again, by a script that asks for the types first. By then the
actor is ours, so that nobody else commits anything to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import attrs

from gamegirl.actors import Stored
from gamegirl.supervisor.stores import _encode, _scripts, _typed
from gamegirl.supervisor.stores._protocol import Claim
from gamegirl.supervisor.stores._redis_wire import PACK, Request

_MULTI = PACK((b"MULTI",))
_EXEC = PACK((b"EXEC",))

Place: TypeAlias = "tuple[str, int]"
"""A kind of actor, and which of its keys: they hold the same type, nearly always."""


@attrs.define(eq=False)
class Habits:
    """Which types keys were found to have; one that isn't known is taken for a hash."""

    _types: dict[Place, str] = attrs.field(factory=dict[Place, str])

    def expected(self, kind: str, count: int) -> Sequence[str]:
        """The types of the first keys of an actor of this kind."""
        return [self._types.get((kind, place), _typed.HASH) for place in range(count)]

    def note(self, kind: str, stored: Sequence[Stored]) -> None:
        """An actor of this kind was found to hold this; not all as expected."""
        for place, value in enumerate(stored):
            if isinstance(value, bytes):
                self._types[kind, place] = _typed.TEXT
            elif isinstance(value, list):
                self._types[kind, place] = _typed.LIST
            elif isinstance(value, dict):
                self._types[kind, place] = _typed.HASH


def read_command(key: bytes, kind: str) -> bytes:
    """The packed command that reads a key of this type."""
    if kind == _typed.HASH:
        return b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)
    if kind == _typed.TEXT:
        return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
    return b"*4\r\n$6\r\nLRANGE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\n-1\r\n" % (len(key), key)


def held(answer: Any, kind: str) -> Stored:
    """What the key holds, by the answer to such a command."""
    if kind == _typed.TEXT:
        value: Stored = answer
        return value
    if not answer:
        return None  # A hash or list without content is no key.
    if kind == _typed.HASH and type(answer) is list:  # Protocol 3 makes a dict of it itself.
        flat: list[bytes] = answer
        return dict(zip(flat[::2], flat[1::2], strict=True))
    value = answer
    return value


@attrs.define(eq=False)
class Portion:
    """Claims that go out together.

    Attributes:
        indexes: Which ones of the batch.
        types: As which types the keys of each are read.
        request: The transaction.
    """

    indexes: list[int]
    types: list[Sequence[str]]
    request: Request


def portion_of(
    claims: Sequence[Claim],
    indexes: Iterable[int],
    claimer: Sequence[bytes],
    habits: Habits,
    results: list[Any],
) -> Portion:
    """Pack claims; one that can't be encoded has its result at once."""
    portion = Portion([], [], (b"", 0))
    fences: list[bytes] = [_typed.EPOCH_KEY]
    arguments = [*claimer]
    reads: list[bytes] = []
    for index in indexes:
        claim = claims[index]
        try:
            fence = _typed.key_bytes(claim.actor.fence)
            own = (claim.nonce.encode(), claim.over.encode())
            keys = [_typed.key_bytes(key) for key in claim.keys]
        except (TypeError, ValueError, AttributeError) as error:
            results[index] = _typed.unstorable(error)
            continue
        types = habits.expected(claim.actor.kind, len(keys))
        fences.append(fence)
        arguments += own
        reads += map(read_command, keys, types)
        portion.indexes.append(index)
        portion.types.append(types)
    script = (b"EVALSHA", _scripts.CLAIM.sha, b"%d" % len(fences), *fences, *arguments)
    portion.request = _transaction([PACK(script), *reads])
    return portion


def hashes(keys: Iterable[str]) -> Request:
    """A transaction that reads keys as hashes."""
    return _transaction([read_command(_typed.key_bytes(key), _typed.HASH) for key in keys])


def _transaction(packed: list[bytes]) -> Request:
    return b"".join((_MULTI, *packed, _EXEC)), len(packed) + 2


def take(
    claims: Sequence[Claim], portion: Portion, answers: Sequence[Any], results: list[Any]
) -> list[int]:
    """Put what a transaction says about its claims into the results.

    Returns:
        The claims whose keys aren't all of the types that were expected.

    Raises:
        LookupError, TypeError, ValueError: It is no such answer.
    """
    unexpected: list[int] = []
    at = 1
    for index, types, said in zip(portion.indexes, portion.types, answers[0], strict=True):
        loaded = answers[at : at + len(types)]
        at += len(types)
        if any(map(_is_error, loaded)):
            unexpected.append(index)
            loaded = ()
        results[index] = _encode.claimed(claims[index], said, list(map(held, loaded, types)))
    return unexpected


def _is_error(answer: Any) -> bool:
    return isinstance(answer, Exception)
