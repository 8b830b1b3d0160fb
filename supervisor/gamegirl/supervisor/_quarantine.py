"""Where copies of stored content go that could not be used."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from gamegirl.actors import PatchHash, Quarantined, WrongType
from gamegirl.actors import Stored as StoredValue
from gamegirl.codec import encode_json
from gamegirl.supervisor.stores import ActorKey

QUARANTINE_KEY = "gg:quarantine"
"""A hash: entry name to a JSON object with `key`, `reason`, `kind`, `actor_id`, `at`, `value`."""


def quarantine_writes(
    actor: ActorKey, items: Sequence[Quarantined], now: float
) -> tuple[Sequence[PatchHash], Sequence[str]]:
    """The writes that put copies aside, and the entries' names.

    A name is made from the content, so that the same content found again makes no second entry.
    """
    fields: dict[str, bytes] = {}
    names: list[str] = []
    for item in items:
        digest = hashlib.blake2b(item.value, digest_size=8).hexdigest()
        name = f"{_plain(item.key)}#{digest}"
        names.append(name)
        fields[name] = encode_json(
            {
                "key": _plain(item.key),
                "reason": _plain(item.reason),
                "kind": actor.kind,
                "actor_id": actor.actor_id,
                "at": now,
                "value": base64.b64encode(item.value).decode(),
            }
        )
    return (PatchHash(QUARANTINE_KEY, fields),), names


def _plain(text: str) -> str:
    """The text without half surrogate pairs, which what is damaged may have in it."""
    return text.encode("utf-8", "backslashreplace").decode()


def raw(value: StoredValue) -> bytes:
    """A stored value as bytes for a copy: a text as it is, a hash or list as JSON."""
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(value, WrongType):
        return b"" if value is None else value.name.encode()
    if isinstance(value, Mapping):
        return encode_json({_text(name): _text(field) for name, field in value.items()})
    return encode_json([_text(item) for item in value])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
