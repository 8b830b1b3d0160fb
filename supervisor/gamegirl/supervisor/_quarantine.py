"""Where copies of stored content go that could not be used."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from msgspec.structs import replace

from gamegirl.actors import Decision, Emit, PatchHash, Quarantined
from gamegirl.codec import encode_json
from gamegirl.supervisor._events import ContentQuarantined
from gamegirl.supervisor.stores import ActorKey

QUARANTINE_KEY = "gg:quarantine"
"""A hash: entry name to JSON with `key`, `type`, `reason`, `kind`, `actor_id`, `at`, `value`."""


def quarantine_writes(
    actor: ActorKey, items: Sequence[Quarantined], now: float
) -> tuple[Sequence[PatchHash], Sequence[str]]:
    """The writes that put copies aside, and the entries' names.

    A name is made from the content, so that the same content found again makes no second entry. A
    part that reads like a whole key, or a text like a hash, is another content.
    """
    fields: dict[str, bytes] = {}
    names: list[str] = []
    for item in items:
        type_ = b"" if item.type == "string" else item.type.encode()[:16]
        digest = hashlib.blake2b(item.value, digest_size=8, person=type_).hexdigest()
        name = f"{_plain(item.key)}#{digest}"
        names.append(name)
        fields[name] = encode_json(
            {
                "key": _plain(item.key),
                "type": item.type,
                "reason": _plain(item.reason),
                "kind": actor.kind,
                "actor_id": actor.actor_id,
                "at": now,
                "value": base64.b64encode(item.value).decode(),
            }
        )
    return (PatchHash(QUARANTINE_KEY, fields),), names


def put_aside(actor: ActorKey, decision: Decision, now: float) -> Decision:
    """The decision with the copies that it asks for among its writes, and an event for each."""
    items = decision.quarantined
    writes, names = quarantine_writes(actor, items, now)
    events = [
        Emit(ContentQuarantined(actor.kind, actor.actor_id, item.key, item.reason, name))
        for item, name in zip(items, names, strict=True)
    ]
    return replace(
        decision,
        writes=(*decision.writes, *writes),
        effects=(*decision.effects, *events),
        quarantined=(),
    )


def _plain(text: str) -> str:
    """The text without half surrogate pairs, which what is damaged may have in it."""
    return text.encode("utf-8", "backslashreplace").decode()
