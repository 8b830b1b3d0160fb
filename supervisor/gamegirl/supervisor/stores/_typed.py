"""What a commit and a claim do to typed keys: the rules of every store that isn't Redis.

The memory and the SQLite store only say how a key of each type is kept; `make_commit` and
`make_claim` decide. The scripts of the Redis store follow the same order:

    commit   fence there? owner equal? done before? revision the next? requirements? types? write
    claim    fence readable? owner alive? epoch readable? take it, then read the keys, and along
             with them what one of them names
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from gamegirl.actors import (
    AppendList,
    Drop,
    PatchHash,
    Prefetch,
    PutHash,
    PutList,
    PutText,
    Require,
    Stored,
    Value,
    Write,
)
from gamegirl.supervisor.stores._protocol import (
    KEEP_DUE,
    BadType,
    Broken,
    Claim,
    Claimed,
    Commit,
    Conflict,
    Done,
    Fenced,
    Outcome,
    Owned,
    Process,
    Unmet,
)

TEXT = "string"
HASH = "hash"
LIST = "list"
INDEX = "zset"
"""The types a key can have, by the names that Redis gives them."""

EPOCH_KEY = b"gg:epoch"
DUE_KEY = b"gg:due"
LEASE_PREFIX = "gg:lease:"

FENCE_FIELDS = (b"owner", b"rev", b"cid")
SINCE_FIELD = b"since"

Step: TypeAlias = Callable[[], None]
"""One write, checked and encoded: nothing about it can fail any more but the medium."""


class TypedKeys(Protocol):
    """Where the keys of a store are kept. A key whose time to live is over counts as absent."""

    def type_of(self, key: bytes) -> str | None:
        """The type's name; None: the key is absent."""
        ...

    def fields(self, key: bytes, names: Sequence[bytes]) -> Sequence[bytes | None]:
        """Fields of a hash (or of an absent key)."""
        ...

    def load(self, key: bytes) -> Stored:
        """What the key holds, in values that nobody changes later."""
        ...

    def put_text(self, key: bytes, text: bytes) -> None:
        """Replace the key, and its time to live, by a text."""
        ...

    def put_hash(self, key: bytes, fields: Mapping[bytes, bytes], ttl_seconds: int | None) -> None:
        """Replace the key, and its time to live, by a hash."""
        ...

    def patch_hash(
        self, key: bytes, fields: Mapping[bytes, bytes], remove: Sequence[bytes]
    ) -> None:
        """Set fields, then remove fields."""
        ...

    def put_list(self, key: bytes, items: Sequence[bytes]) -> None:
        """Replace the key, and its time to live, by a list."""
        ...

    def append_list(self, key: bytes, items: Sequence[bytes], keep: int) -> None:
        """Put items at the end of the list, then let only the last `keep` stay."""
        ...

    def drop(self, key: bytes) -> None:
        """Remove the key, whatever it holds."""
        ...

    def schedule(self, member: str, at: float | None) -> None:
        """Put the actor into the due index, or take it out."""
        ...


def key_bytes(key: str) -> bytes:
    """The key as it is stored; names that aren't UTF-8 come back from `key_name` unharmed."""
    return key.encode("utf-8", "surrogateescape")


def key_name(key: bytes) -> str:
    """The name of a stored key."""
    return key.decode("utf-8", "surrogateescape")


def value_bytes(value: Value) -> bytes:
    """The value as it is stored."""
    if type(value) is bytes:
        return value
    return bytes(value) if isinstance(value, bytes | bytearray) else value.encode()


def prefetch_bytes(prefetch: Prefetch, keys: Sequence[bytes]) -> tuple[bytes, bytes, bytes]:
    """The key that names the further one, its field, and the prefix.

    Raises:
        ValueError: The actor has no such key, or it can't be written down.
    """
    if prefetch.place >= len(keys):
        raise ValueError(f"its Prefetch is about the key at {prefetch.place}, of {len(keys)} keys")
    return keys[prefetch.place], prefetch.field.encode(), key_bytes(prefetch.prefix)


def unstorable(error: Exception) -> Broken:
    """The outcome for a commit or claim whose own content can't be encoded."""
    return Broken(f"it can't be put to a store as it is: {error}")


def due_problem(due: float | None) -> str | None:
    """What is wrong with a commit's due time, if anything."""
    if due is None or math.isfinite(due):
        return None
    return f"it is due at {due}, which is no time"


def process_of(owner: str) -> str:
    """The process that an owner token ends with; empty for what is no token."""
    parts = owner.split(":", 2)
    return parts[2] if len(parts) == 3 else ""


def make_commit(keys: TypedKeys, commit: Commit) -> Outcome:
    """Make a commit, or write nothing and say why not."""
    try:
        fence = key_bytes(commit.actor.fence)
        steps = _checked(keys, commit, fence)
    except (TypeError, ValueError, AttributeError) as error:
        return unstorable(error)
    if not isinstance(steps, list):
        return steps
    for step in steps:
        step()
    mark = {b"rev": b"%d" % commit.revision, b"cid": value_bytes(commit.commit_id)}
    if commit.release:
        mark[b"owner"] = b""
    keys.patch_hash(fence, mark, ())
    if commit.due != KEEP_DUE:
        keys.schedule(commit.actor.member, commit.due)
    return Done()


def _checked(keys: TypedKeys, commit: Commit, fence: bytes) -> Outcome | list[Step]:
    held = keys.type_of(fence)
    if held not in (None, HASH):
        return Broken(f"{commit.actor.fence} holds a {held}, not a fence")
    owner, rev, cid = (_text(value) for value in keys.fields(fence, FENCE_FIELDS))
    done = rev == str(commit.revision) and cid == commit.commit_id
    if owner != commit.owner:
        # A release that is sent again finds the fence as it has left it itself: nobody's.
        if done and commit.release and owner == "":
            return Done(again=True)
        (since,) = (_text(value) for value in keys.fields(fence, (SINCE_FIELD,)))
        return fenced(owner, rev, since)
    if done:
        return Done(again=True)
    if (rev or "0") != str(commit.revision - 1):
        return conflict(commit.actor.fence, rev)
    if problem := due_problem(commit.due):
        return Broken(problem)
    value_bytes(commit.commit_id)
    for index, require in enumerate(commit.requires):
        if (refusal := _unmet(keys, index, require)) is not None:
            return refusal
    return _steps(keys, commit.writes)


def fenced(owner: str | None, rev: str | None, since: str | None) -> Fenced:
    """The outcome for a fence with another owner."""
    if owner is None:
        return Fenced(None)
    return Fenced(owner, revision_number(rev), revision_number(since) if since else None)


def fence_of(stored: Stored) -> Fenced:
    """What a fence says, whoever has spoilt it; what is no fence names no owner."""
    held = stored if isinstance(stored, dict) else {}
    return fenced(*(_text(held.get(name)) for name in (b"owner", b"rev", SINCE_FIELD)))


def conflict(fence: str, rev: str | None) -> Conflict | Broken:
    """The outcome for a fence with another revision than the one before the commit's."""
    revision = revision_number(rev)
    if revision is None:
        return Broken(f"{fence} holds the revision {rev!r}, which is no number")
    return Conflict(revision)


def revision_number(rev: str | None) -> int | None:
    """The revision that a fence holds; None: it holds something else."""
    if not rev:
        return 0
    return int(rev) if rev.isascii() and rev.isdigit() and len(rev) < 16 else None


def _unmet(keys: TypedKeys, index: int, require: Require) -> Outcome | None:
    key = key_bytes(require.key)
    found = keys.type_of(key)
    if found not in (None, HASH):
        return BadType(require.key, str(found))
    (held,) = keys.fields(key, (value_bytes(require.field),))
    wanted = None if require.value is None else value_bytes(require.value)
    return None if held == wanted else Unmet(index)


def _steps(keys: TypedKeys, writes: Sequence[Write]) -> BadType | list[Step]:
    """Check the type of every key and encode every value, before the first write."""
    steps: list[Step] = []
    types: dict[bytes, str | None] = {}
    for write in writes:
        key = key_bytes(write.key)
        found = types[key] if key in types else keys.type_of(key)
        needed: str | None
        left: str | None
        match write:
            case PutText():
                needed = left = TEXT
                steps.append(partial(keys.put_text, key, value_bytes(write.text)))
            case PutHash():
                needed, left = HASH, HASH if write.fields else None
                ttl = None if write.ttl_seconds is None else int(write.ttl_seconds)
                steps.append(partial(keys.put_hash, key, _encoded_fields(write.fields), ttl))
            case PatchHash():
                needed, left = HASH, HASH if write.fields else found
                removed = [value_bytes(name) for name in write.remove]
                fields = _encoded_fields(write.fields)
                steps.append(partial(keys.patch_hash, key, fields, removed))
            case PutList():
                needed, left = LIST, LIST if write.items else None
                items = [value_bytes(item) for item in write.items]
                steps.append(partial(keys.put_list, key, items))
            case AppendList():
                keep = max(int(write.keep), 0)
                needed, left = LIST, (LIST if write.items else found) if keep else None
                items = [value_bytes(item) for item in write.items]
                steps.append(partial(keys.append_list, key, items, keep))
            case Drop():
                needed, left = found, None
                steps.append(partial(keys.drop, key))
            case _:
                raise TypeError(f"{write!r:.100} is no write")
        if found is not None and found != needed:
            return BadType(write.key, found)
        types[key] = left
    return steps


def _encoded_fields(fields: Mapping[str, Value]) -> dict[bytes, bytes]:
    return {value_bytes(name): value_bytes(value) for name, value in fields.items()}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def make_claim(
    keys: TypedKeys,
    claim: Claim,
    process: Process,
    remaining: Callable[[str], float],
    moment: float,
) -> Claimed | Owned | Broken:
    """Make a claim, or say who stands in its way.

    `moment` is the claimer's clock, in seconds: no epoch is below its milliseconds, so that a store
    that has lost the counter gives none that it had given before.

    `remaining` says how long the process of that name surely lives, in seconds; 0: it is dead, or
    the claimer may take over from it.
    """
    try:
        fence = key_bytes(claim.actor.fence)
        names = [key_bytes(key) for key in claim.keys]
        nonce = claim.nonce.encode().decode()
        asked = claim.prefetch
        prefetch = None if asked is None else (*prefetch_bytes(asked, names), asked.fields_max)
    except (TypeError, ValueError, AttributeError) as error:
        return unstorable(error)
    held = keys.type_of(fence)
    if held not in (None, HASH):
        return Broken(f"{claim.actor.fence} holds a {held}, not a fence")
    previous, rev, cid = (_text(value) for value in keys.fields(fence, FENCE_FIELDS))
    revision = revision_number(rev)
    if revision is None:
        return Broken(f"{claim.actor.fence} holds the revision {rev!r}, which is no number")
    if previous and previous != claim.over:
        holder = process_of(previous)
        if holder != process.name and (seconds := remaining(holder)) > 0:
            return Owned(previous, seconds)
    epoch = _next_epoch(keys, int(moment * 1000))
    if epoch is None:
        return Broken("gg:epoch does not hold a number: no owner token can be made")
    keys.put_text(EPOCH_KEY, b"%d" % epoch)
    owner = f"{epoch}:{nonce}:{process.name}"
    taken = (owner.encode(), b"%d" % revision, (cid or "").encode(), b"%d" % revision)
    fields = zip((*FENCE_FIELDS, SINCE_FIELD), taken, strict=True)
    keys.patch_hash(fence, dict(fields), ())
    stored = [keys.load(name) for name in names]
    if prefetch is not None:
        stored.append(_prefetched(keys, *prefetch))
    return Claimed(owner, previous, revision, cid or "", stored)


def _prefetched(
    keys: TypedKeys, key: bytes, field: bytes, prefix: bytes, fields_max: int
) -> Stored:
    """What the hash holds whose name ends with what a field of another one says."""
    if keys.type_of(key) != HASH:
        return None
    (name,) = keys.fields(key, (field,))
    held = None if name is None else keys.load(prefix + name)
    return held if isinstance(held, Mapping) and len(held) <= fields_max else None


def _next_epoch(keys: TypedKeys, least: int) -> int | None:
    held = keys.type_of(EPOCH_KEY)
    if held is None:
        return max(1, least)
    text = keys.load(EPOCH_KEY)
    if held != TEXT or not isinstance(text, bytes):
        return None
    epoch = revision_number(_text(text))
    return None if epoch is None else max(epoch + 1, least)
