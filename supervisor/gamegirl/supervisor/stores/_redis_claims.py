"""Claims and reads as commands: what is asked of Redis, and what it answers.

A portion of claims is one transaction: a script that takes the fences, then one plain command for
each key, which reads it as the type that such a key had the last time. Where one has another type
now, all of that actor's keys are read again, by a script that asks for the types first. By then the
actor is ours, so that nobody else commits anything to them. What one of the keys names (`Prefetch`)
is read by the script that takes the fences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import attrs
from msgspec.structs import replace

from gamegirl.actors import Prefetch, Stored
from gamegirl.supervisor.stores import _encode, _scripts, _typed
from gamegirl.supervisor.stores._packing import packed
from gamegirl.supervisor.stores._protocol import Broken, Claim, Claimed, Owned
from gamegirl.supervisor.stores._redis_calls import (
    PORTION,
    Request,
    Steps,
    evaluation,
    has_errors,
    transactions,
)

_NO_PREFETCH = (b"0", b"")
"""What a claim says that reads nothing along."""

_MULTI = packed((b"MULTI",))
_EXEC = packed((b"EXEC",))
_COMMANDS = {
    _typed.TEXT: b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n",
    _typed.HASH: b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n",
    _typed.LIST: b"*4\r\n$6\r\nLRANGE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\n-1\r\n",
}
"""What reads a key of each type, packed, but for the key and its length."""


@attrs.frozen(eq=False)
class _Plan:
    """How some keys are read.

    Attributes:
        types: As which types.
        packed: The packed commands for it, without the keys and their lengths.
        hashes: At which places.
        lists: At which places.
    """

    types: Sequence[str]
    packed: bytes
    hashes: Sequence[int]
    lists: Sequence[int]

    @classmethod
    def of(cls, types: Sequence[str]) -> _Plan:
        """To read keys of these types."""
        hashes, lists = (
            [place for place, one in enumerate(types) if one == kind]
            for kind in (_typed.HASH, _typed.LIST)
        )
        return cls(types, b"".join(map(_COMMANDS.__getitem__, types)), hashes, lists)

    def commands(self, keys: Sequence[bytes]) -> bytes:
        """The packed commands for these keys."""
        lengths = map(len, keys)
        return self.packed % tuple(chain.from_iterable(zip(lengths, keys, strict=True)))

    def held(self, answers: Sequence[Any]) -> list[Stored]:
        """What the keys hold, by the answers."""
        held = list(answers)
        if len(held) != len(self.types):
            raise ValueError(f"{len(held)} answers to {len(self.types)} questions")
        for place in self.hashes:
            held[place] = _encode.fields_of(held[place]) if held[place] else None
        for place in self.lists:
            if not held[place]:
                held[place] = None
        return held


@attrs.define(eq=False)
class Habits:
    """Which types actors' keys were found to have; one that isn't known is taken for a hash."""

    _types: dict[tuple[str, int], str] = attrs.field(factory=dict[tuple[str, int], str])
    _plans: dict[tuple[str, int], _Plan] = attrs.field(factory=dict[tuple[str, int], _Plan])

    def plan(self, kind: str, count: int) -> _Plan:
        """How to read so many keys of an actor of this kind."""
        plan = self._plans.get((kind, count))
        if plan is None:
            types = [self._types.get((kind, place), _typed.HASH) for place in range(count)]
            plan = self._plans[kind, count] = _Plan.of(types)
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


def claiming(
    claims: Sequence[Claim], claimer: Sequence[bytes], habits: Habits
) -> Steps[list[Claimed | Owned | Broken]]:
    """Claim all; what became of each, in their order."""
    results: list[Any] = [None] * len(claims)
    portions: list[_Portion] = []

    def requests() -> Iterator[Request]:
        for start in range(0, len(claims), PORTION):
            indexes = range(start, min(start + PORTION, len(claims)))
            portion = _portion_of(claims, indexes, claimer, habits, results)
            if portion.indexes:
                portions.append(portion)
                yield portion.request

    answers = yield from transactions(requests(), _scripts.CLAIM)
    unexpected = [
        index
        for portion, answer in zip(portions, answers, strict=True)
        for index in _take(claims, portion, answer, results)
        if isinstance(results[index], Claimed)
    ]
    if unexpected:
        parts: list[list[str]] = [[]]
        for i in unexpected:  # All keys of an actor in one part, so that they fit together.
            if len(parts[-1]) + len(claims[i].keys) > PORTION:
                parts.append([])
            parts[-1] += claims[i].keys
        loaded = iter((yield from reading(parts)))
        for i in unexpected:
            stored = [_encode.stored(next(loaded)) for _ in claims[i].keys]
            habits.note(claims[i].actor.kind, stored)
            results[i] = replace(results[i], stored=[*stored, *results[i].stored])
    return results


def holding(keys: Sequence[str]) -> Steps[list[Stored]]:
    """What keys hold, which probably are hashes; each portion of them at one moment."""
    parts = portions_of(keys)
    found: list[Stored] = []
    answers = yield from transactions(map(_hashes, parts))
    for part, values in zip(parts, answers, strict=True):
        if has_errors(values):
            found += map(_encode.stored, (yield from reading([part])))
        else:
            found += map(_encode.fields_of, values)
    return found


def reading(parts: Sequence[Sequence[str]]) -> Steps[list[Any]]:
    """What the script says of keys; each part of them at one moment."""
    calls: list[Any] = [([_typed.key_bytes(key) for key in part], []) for part in parts]
    answers = yield from evaluation(_scripts.READ, calls)
    return [
        item
        for part, answer in zip(parts, answers, strict=True)
        for _, item in zip(part, answer, strict=True)
    ]


def portions_of(keys: Sequence[str]) -> list[Sequence[str]]:
    """The keys in portions."""
    return [keys[at : at + PORTION] for at in range(0, len(keys), PORTION)]


@attrs.define(eq=False)
class _Portion:
    """Claims that go out together.

    Attributes:
        indexes: Which ones of the batch.
        plans: How the keys of each are read.
        request: The transaction.
    """

    indexes: list[int]
    plans: list[_Plan]
    request: Request


@attrs.define(eq=False)
class _Prefetches:
    """What is read along with a portion's claims, as the script is told: each once."""

    _numbers: dict[Prefetch, bytes] = attrs.field(factory=dict[Prefetch, bytes])
    _arguments: list[bytes] = attrs.field(factory=list[bytes])

    def argument(self, prefetch: Prefetch, keys: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Its number, and the key that names the further one."""
        key, field, prefix = _typed.prefetch_bytes(prefetch, keys)
        number = self._numbers.get(prefetch)
        if number is None:
            self._arguments += (field, prefix, b"%d" % prefetch.fields_max)
            number = self._numbers[prefetch] = b"%d" % (len(self._numbers) + 1)
        return number, key

    def arguments(self) -> list[bytes]:
        """How many there are, and what each is."""
        return [b"%d" % len(self._numbers), *self._arguments]


def _portion_of(
    claims: Sequence[Claim],
    indexes: Iterable[int],
    claimer: Sequence[bytes],
    habits: Habits,
    results: list[Any],
) -> _Portion:
    """Pack claims; one that can't be encoded has its result at once."""
    portion = _Portion([], [], ((), 0))
    fences: list[bytes] = [_typed.EPOCH_KEY]
    arguments: list[bytes] = []
    prefetches = _Prefetches()
    reads: list[bytes] = []
    count = 0
    for index in indexes:
        claim = claims[index]
        try:
            fence = _typed.key_bytes(claim.actor.fence)
            own = (claim.nonce.encode(), claim.over.encode())
            keys = [key.encode("utf-8", "surrogateescape") for key in claim.keys]
            prefetch = _NO_PREFETCH
            if claim.prefetch is not None:
                prefetch = prefetches.argument(claim.prefetch, keys)
        except (TypeError, ValueError, AttributeError) as error:
            results[index] = _typed.unstorable(error)
            continue
        plan = habits.plan(claim.actor.kind, len(keys))
        fences.append(fence)
        arguments += own
        arguments += prefetch
        reads.append(plan.commands(keys))
        count += len(keys)
        portion.indexes.append(index)
        portion.plans.append(plan)
    arguments = [*claimer, *prefetches.arguments(), *arguments]
    script = (b"EVALSHA", _scripts.CLAIM.sha, b"%d" % len(fences), *fences, *arguments)
    portion.request = _transaction(packed(script), reads), count + 3
    return portion


def _hashes(keys: Sequence[str]) -> Request:
    """A transaction that reads keys as hashes."""
    plan = _Plan.of([_typed.HASH] * len(keys))
    reads = plan.commands([_typed.key_bytes(key) for key in keys])
    return _transaction(b"", [reads]), len(keys) + 2


def _transaction(script: bytes, reads: Iterable[bytes]) -> list[bytes]:
    return [_MULTI, script, *reads, _EXEC]


def _take(
    claims: Sequence[Claim], portion: _Portion, answers: Sequence[Any], results: list[Any]
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
