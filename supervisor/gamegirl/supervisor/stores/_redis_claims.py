"""Claims and reads as commands: what is asked of Redis, and what it answers.

A portion of claims is one transaction: a script that takes the fences, then one plain command for
each key, which reads it as the type that such a key had the last time. Where one has another type
now, all of that actor's keys are read again, by a script that asks for the types first. By then the
actor is ours, so that nobody else commits anything to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import attrs

from gamegirl.actors import Stored
from gamegirl.supervisor.stores import _encode, _scripts, _typed
from gamegirl.supervisor.stores._protocol import Claim
from gamegirl.supervisor.stores._redis_wire import PACK, Request

_MULTI = PACK((b"MULTI",))
_EXEC = PACK((b"EXEC",))
_COMMANDS = {
    _typed.TEXT: b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n",
    _typed.HASH: b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n",
    _typed.LIST: b"*4\r\n$6\r\nLRANGE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\n-1\r\n",
}
"""What reads a key of each type, packed, but for the key and its length."""


@attrs.frozen(eq=False)
class Plan:
    """How some keys are read.

    Attributes:
        types: As which types.
        packed: The packed commands for it, without the keys and their lengths.
    """

    types: Sequence[str]
    packed: bytes

    @classmethod
    def of(cls, types: Sequence[str]) -> Plan:
        """To read keys of these types."""
        return cls(types, b"".join(map(_COMMANDS.__getitem__, types)))

    def commands(self, keys: Sequence[bytes]) -> bytes:
        """The packed commands for these keys."""
        return self.packed % tuple(part for key in keys for part in (len(key), key))

    def held(self, answers: Sequence[Any]) -> list[Stored]:
        """What the keys hold, by the answers."""
        held: list[Stored] = []
        for answer, kind in zip(answers, self.types, strict=True):
            if kind == _typed.HASH:
                held.append(fields_of(answer))
            else:
                held.append(None if answer == [] else answer)
        return held


def fields_of(answer: Any) -> dict[bytes, bytes] | None:
    """A hash, from its names and values in turn; None: there is none."""
    if not answer:
        return None
    if isinstance(answer, dict):  # As protocol 3 has it.
        return cast("dict[bytes, bytes]", answer)
    parts = iter(answer)
    return dict(zip(parts, parts, strict=True))


@attrs.define(eq=False)
class Habits:
    """Which types actors' keys were found to have; one that isn't known is taken for a hash."""

    _types: dict[tuple[str, int], str] = attrs.field(factory=dict[tuple[str, int], str])
    _plans: dict[tuple[str, int], Plan] = attrs.field(factory=dict[tuple[str, int], Plan])

    def plan(self, kind: str, count: int) -> Plan:
        """How to read so many keys of an actor of this kind."""
        plan = self._plans.get((kind, count))
        if plan is None:
            types = [self._types.get((kind, place), _typed.HASH) for place in range(count)]
            plan = self._plans[kind, count] = Plan.of(types)
        return plan

    def note(self, kind: str, stored: Sequence[Stored]) -> None:
        """An actor of this kind was found to hold this; not all as expected."""
        for place, value in enumerate(stored):
            if isinstance(value, bytes):
                self._types[kind, place] = _typed.TEXT
            elif isinstance(value, list):
                self._types[kind, place] = _typed.LIST
            elif isinstance(value, dict):
                self._types[kind, place] = _typed.HASH
        self._plans.clear()


@attrs.define(eq=False)
class Portion:
    """Claims that go out together.

    Attributes:
        indexes: Which ones of the batch.
        plans: How the keys of each are read.
        request: The transaction.
    """

    indexes: list[int]
    plans: list[Plan]
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
    count = 0
    for index in indexes:
        claim = claims[index]
        try:
            fence = _typed.key_bytes(claim.actor.fence)
            own = (claim.nonce.encode(), claim.over.encode())
            keys = list(map(_typed.key_bytes, claim.keys))
        except (TypeError, ValueError, AttributeError) as error:
            results[index] = _typed.unstorable(error)
            continue
        plan = habits.plan(claim.actor.kind, len(keys))
        fences.append(fence)
        arguments += own
        reads.append(plan.commands(keys))
        count += len(keys)
        portion.indexes.append(index)
        portion.plans.append(plan)
    script = (b"EVALSHA", _scripts.CLAIM.sha, b"%d" % len(fences), *fences, *arguments)
    portion.request = _transaction(PACK(script), reads), count + 3
    return portion


def hashes(keys: Sequence[str]) -> Request:
    """A transaction that reads keys as hashes."""
    plan = Plan.of([_typed.HASH] * len(keys))
    reads = plan.commands([_typed.key_bytes(key) for key in keys])
    return _transaction(b"", [reads]), len(keys) + 2


def _transaction(script: bytes, reads: Iterable[bytes]) -> bytes:
    return b"".join((_MULTI, script, *reads, _EXEC))


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
    script = answers[0]
    odd = has_errors(answers)
    at = 1
    for index, plan, said in zip(portion.indexes, portion.plans, script, strict=True):
        loaded = answers[at : at + len(plan.types)]
        at += len(loaded)
        if odd and has_errors(loaded):
            unexpected.append(index)
            results[index] = _encode.claimed(claims[index], said, ())
        else:
            results[index] = _encode.claimed(claims[index], said, plan.held(loaded))
    return unexpected


_FINE = frozenset((bytes, list, dict, type(None)))


def has_errors(answers: Iterable[Any]) -> bool:
    """Whether there are errors among the answers to such commands."""
    return not _FINE.issuperset(map(type, answers))
