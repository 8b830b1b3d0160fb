"""What the Redis store's scripts get and answer: requests as arguments, answers as outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import msgspec

from gamegirl.actors import (
    AppendList,
    Drop,
    PatchHash,
    PutHash,
    PutList,
    PutText,
    Stored,
    WrongType,
)
from gamegirl.supervisor.stores import _typed
from gamegirl.supervisor.stores._protocol import (
    KEEP_DUE,
    ActorKey,
    BadType,
    Broken,
    Claim,
    Claimed,
    Commit,
    Done,
    Due,
    Entry,
    Fenced,
    Outcome,
    Owned,
    Unmet,
)

Argument: TypeAlias = "str | bytes"

_NUMBER = msgspec.json.Encoder().encode

_FEW = 24
_HEADS = tuple(b"%d:0:1" % size for size in range(_FEW))
"""Of commits of one write that do nothing else, as nearly all are, by how many arguments follow."""

_PATCHES = tuple(b"P%d:0" % (2 * count) for count in range(_FEW))
"""Of patches that remove nothing, by how many fields they set."""

_BYTES, _TEXTS = {bytes}, {str}

_DONE = Done()
_DONE_BEFORE = Done(again=True)


def commit_arguments(commit: Commit, keys: list[Argument], arguments: list[Argument]) -> None:
    """Add a commit to a script call: its keys and its arguments.

    Raises:
        TypeError, ValueError, AttributeError: It can't be encoded; nothing is added.
    """
    # Whatever is in them is looked at here, and nowhere before: it may be of any type.
    writes: Sequence[Any] = commit.writes
    requires: Sequence[Any] = commit.requires
    first, head = len(keys), len(arguments)
    try:
        arguments += (
            b"",
            commit.owner.encode(),
            b"%d" % commit.revision,
            commit.commit_id.encode(),
        )
        keys.append(commit.actor.fence.encode())
        marks: bytes | None = None
        if commit.due != KEEP_DUE or requires or commit.release or len(writes) != 1:
            marks = _due_arguments(commit, arguments)
            for require in requires:
                keys.append(_typed.key_bytes(require.key))
                arguments.append(_typed.value_bytes(require.field))
                value = require.value
                arguments.append(b"" if value is None else b"=" + _typed.value_bytes(value))
        for write in writes:
            keys.append(write.key.encode("utf-8", "surrogateescape"))  # As `_typed.key_bytes`.
            if type(write) is PatchHash:  # As nearly all are.
                _add_patch(write, arguments)
            else:
                _write_arguments(write, arguments)
    except BaseException:
        del keys[first:], arguments[head:]
        raise
    size = len(arguments) - head - 1
    if marks is None and size < _FEW:
        arguments[head] = _HEADS[size]
    else:
        arguments[head] = b"%d:%d:%d%b" % (size, len(requires), len(writes), marks or b"")


def _due_arguments(commit: Commit, to: list[Argument]) -> bytes:
    """Add the actor's entry of the due index, if that changes; the marks of the commit's head."""
    due = commit.due
    mark = b""
    if due != KEEP_DUE:
        mark = b"-" if due is None else b"+"
        to.append(commit.actor.member.encode())
        if due is not None:
            if problem := _typed.due_problem(due):
                raise ValueError(problem)
            to.append(seconds(float(due)))
    return mark + b"r" if commit.release else mark


def seconds(moment: float) -> bytes:
    """A moment as text, as `repr` has it."""
    # The encoder has it in an eighth of the time, and of usual numbers in the same digits.
    return _NUMBER(moment) if 1e-3 < moment < 1e15 else repr(moment).encode()


def _write_arguments(write: object, to: list[Argument]) -> None:
    add = _ADD.get(type(write))
    if add is None:
        add = next((_ADD[known] for known in _ADD if isinstance(write, known)), None)
        if add is None:
            raise TypeError(f"{write!r:.100} is no write")
    add(write, to)


def _add_text(write: Any, to: list[Argument]) -> None:
    to += (b"T", _typed.value_bytes(write.text))


def _add_hash(write: Any, to: list[Argument]) -> None:
    ttl = b"" if write.ttl_seconds is None else b"%d" % write.ttl_seconds
    to.append(b"H%d:%b" % (2 * len(write.fields), ttl))
    _add_fields(write.fields, to)


def _add_patch(write: Any, to: list[Argument]) -> None:
    fields, remove = write.fields, write.remove
    count = len(fields)
    if remove or count >= _FEW:
        to.append(b"P%d:%d" % (2 * count, len(remove)))
    else:
        to.append(_PATCHES[count])
    for name, value in fields.items():
        to += (
            name.encode() if type(name) is str else _typed.value_bytes(name),
            value if type(value) is bytes else _typed.value_bytes(value),
        )
    if remove:
        to += map(_typed.value_bytes, remove)


def _add_list(write: Any, to: list[Argument]) -> None:
    to.append(b"L%d" % len(write.items))
    to += map(_typed.value_bytes, write.items)


def _add_items(write: Any, to: list[Argument]) -> None:
    to.append(b"A%d:%d" % (len(write.items), max(write.keep, 0)))
    to += map(_typed.value_bytes, write.items)


def _add_drop(_: Drop, to: list[Argument]) -> None:
    to.append(b"D")


_ADD: Mapping[type, Callable[[Any, list[Argument]], None]] = MappingProxyType(
    {
        PatchHash: _add_patch,
        PutText: _add_text,
        PutHash: _add_hash,
        PutList: _add_list,
        AppendList: _add_items,
        Drop: _add_drop,
    }
)


def _add_fields(fields: Any, to: list[Argument]) -> None:
    # Without a call for each: a full form has dozens, which are mostly all texts or all bytes.
    flat: list[bytes] = [b""] * (2 * len(fields))
    flat[::2] = _all_bytes(fields)
    flat[1::2] = _all_bytes(fields.values())
    to += flat


def _all_bytes(values: Iterable[Any]) -> Iterable[bytes]:
    kinds = set(map(type, values))
    if kinds == _BYTES:
        return values
    return map(str.encode if kinds == _TEXTS else _typed.value_bytes, values)


def outcomes(commits: Sequence[Commit], answers: Sequence[Any]) -> list[Outcome]:
    """What the script says about commits, in their order.

    Raises:
        LookupError, TypeError, ValueError: Among the answers is one that is no such answer.
    """
    if answers.count(1) == len(answers):  # As nearly always.
        return [_DONE] * len(answers)
    return list(map(outcome, commits, answers))


def outcome(commit: Commit, answer: Any) -> Outcome:
    """What the script says about a commit.

    Raises:
        LookupError, TypeError, ValueError: It is no such answer.
    """
    if answer == 1:
        return _DONE
    if answer == 2:
        return _DONE_BEFORE
    fence = commit.actor.fence
    match answer:
        case [b"F"]:
            return Fenced(None)
        case [b"F", bytes(owner), bytes(rev), bytes(since)]:
            return _typed.fenced(*(text.decode("utf-8", "replace") for text in (owner, rev, since)))
        case [b"C", bytes(rev)]:
            return _typed.conflict(fence, rev.decode("utf-8", "replace"))
        case [b"B", int(position), bytes(found)]:
            touched = [require.key for require in commit.requires]
            touched += [write.key for write in commit.writes]
            return BadType(touched[position - 1], found.decode())
        case [b"U", int(index)]:
            return Unmet(index)
        case [b"X"]:
            return Broken(f"{fence} does not hold a hash: it is no fence")
        case _:
            raise ValueError(f"no outcome of a commit: {answer!r:.200}")


def claimed(claim: Claim, answer: Any, loaded: Sequence[Stored]) -> Claimed | Owned | Broken:
    """What the script says about a claim, with what its keys hold.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is no such answer.
    """
    prefetch = claim.prefetch
    if len(answer) == (5 if prefetch is None else 6):
        _, owner, previous, rev, commit_id, *prefetched = answer
        if prefetch is not None:
            loaded = [*loaded, fields_of(prefetched[0])]
        return Claimed(
            owner.decode(),
            None if previous is None else previous.decode("utf-8", "replace"),
            int(rev),
            commit_id.decode("utf-8", "replace"),
            loaded,
        )
    fence = claim.actor.fence
    match answer:
        case [b"O", bytes(owner), int(milliseconds)]:
            return Owned(owner.decode("utf-8", "replace"), milliseconds / 1000)
        case [b"X"]:
            return Broken(f"{fence} does not hold a hash: it is no fence")
        case [b"R", bytes(rev)]:
            return Broken(f"{fence} holds the revision {rev!r:.50}, which is no number")
        case [b"E"]:
            return Broken("gg:epoch does not hold a number: no owner token can be made")
        case _:
            raise ValueError(f"no answer to a claim: {answer!r:.200}")


def stored(answer: Any) -> Stored:
    """What a key holds, from its type's name and its value."""
    kind: bytes = answer[0]
    if kind == b"none":
        return None
    if kind == b"hash":
        return fields_of(answer[1])
    if kind in (b"string", b"list"):
        value: Stored = answer[1]
        return value
    return WrongType(kind.decode())


def fields_of(answer: Any) -> dict[bytes, bytes] | None:
    """A hash, from its names and values in turn; None: there is none."""
    if not answer:
        return None
    if isinstance(answer, dict):  # As protocol 3 has it.
        return cast("dict[bytes, bytes]", answer)
    parts = iter(answer)
    return dict(zip(parts, parts, strict=True))


def entry(key: str, answer: Any) -> Entry:
    """A key as it is stored, from its type's name, its value and its seconds to live."""
    return Entry(key, stored(answer), max(answer[2], -1))


def due_actors(flat: Sequence[Any]) -> tuple[int, list[tuple[str, Due]]]:
    """How long a page of the due index is, and its actors by their names in it.

    A name that is no actor's is left out: whoever put it there didn't do it by a commit, and no
    claim could take it out again.
    """
    found: list[tuple[str, Due]] = []
    for member, at, owner, milliseconds in zip(*(iter(flat),) * 4, strict=True):
        try:
            name = member.decode()
            actor = ActorKey.of_member(name)
        except ValueError:
            continue
        if actor.kind and actor.actor_id:
            due = Due(actor, float(at), owner.decode("utf-8", "replace"), milliseconds / 1000)
            found.append((name, due))
    return len(flat) // 4, found
