"""The copies in quarantine, as a person and a program see them."""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs

from gamegirl.actors import InvalidInputError, OwnershipLostError, Stored, WrongType
from gamegirl.cli._export import fields_of, json_object
from gamegirl.cli._lines import QUARANTINE, Content, content_of
from gamegirl.cli._options import closing
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import Store
from gamegirl.supervisor.stores import ActorKey, BadType, Claimed, Commit, Process

LEASE_SECONDS = 5.0
"""After a crash of a command its channel is free again after this."""


@attrs.frozen
class Copy:
    """An entry of the quarantine.

    Attributes:
        name: The entry's.
        stored: The entry as it is stored.
        key: Where its content was found; empty: the entry itself can't be read.
        type: What the key held, if this is all of it; "part": a piece; empty: not noted.
        actor: Whose it was.
        at: When it was put aside, epoch seconds.
        value: The content.
    """

    name: str
    stored: bytes
    key: str = ""
    type: str = ""
    reason: str = "the entry itself can't be read"
    actor: ActorKey | None = None
    at: float | None = None
    value: bytes = b""

    @classmethod
    def read(cls, name: bytes, stored: bytes) -> Copy:
        """The entry; what can't be read in it is kept as it is."""
        shown = name.decode("utf-8", "surrogateescape")
        plain = json_object(stored)
        texts = [plain.get(field) for field in ("key", "reason", "kind", "actor_id", "value")]
        if not all(isinstance(text, str) for text in texts):
            return cls(shown, stored, value=stored)
        key, reason, kind, actor_id, value = cast("list[str]", texts)
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return cls(shown, stored, value=stored)
        noted = plain.get("type")
        return cls(
            shown,
            stored,
            key,
            noted if isinstance(noted, str) else "",
            reason,
            ActorKey(kind, actor_id),
            _time(plain.get("at")),
            content,
        )

    @property
    def owner(self) -> str:
        """Whose it was, in words."""
        if self.actor is None:
            return "?"
        kind, actor_id = self.actor.kind, self.actor.actor_id
        return actor_id if kind == "session" else f"{kind} {actor_id}"

    def content(self) -> Content:
        """What the key held.

        Raises:
            InvalidInputError: This isn't all that it held.
        """
        if self.type == "string":
            return self.value
        if self.type in ("hash", "list"):
            try:
                return content_of(self.type, json.loads(self.value))
            except (ValueError, RecursionError) as error:
                raise InvalidInputError(self._refusal(f"it is no {self.type}: {error}")) from None
        if not self.key:
            why = "the entry itself can't be read"
        elif self.type == "part":
            why = f"it is a part of what {self.key} held, not all of it"
        elif not self.type:
            why = "it was put aside before entries noted whether they are all that a key held"
        else:
            why = f"{self.key} held a {self.type}, of which no copy can be made"
        raise InvalidInputError(self._refusal(why))

    def _refusal(self, why: str) -> str:
        return (
            f"{self.name} can't be put back: {why}. Take what you need of it from "
            "`gamegirl quarantine show ENTRY --raw`, put it into its place in a file that "
            f"`gamegirl export` has written{self._of_channel}, and `gamegirl import` that with "
            "--replace"
        )

    @property
    def _of_channel(self) -> str:
        if self.actor is None or self.actor.kind != "session":
            return ""
        return f" of channel {self.actor.actor_id!r}"


async def read_copies(store: Store, channel_id: str | None = None) -> list[Copy]:
    """All copies, or those of a channel, the oldest first.

    Raises:
        GameGirlError: The quarantine's key holds something else.
    """
    (held,) = await store.read([QUARANTINE])
    if held is not None and not isinstance(held, Mapping):
        raise GameGirlError(f"{QUARANTINE} holds {kind_of(held)}, not a hash: rename that key")
    copies = [Copy.read(name, stored) for name, stored in fields_of(held).items()]
    wanted = None if channel_id is None else ActorKey("session", channel_id)
    copies = [copy for copy in copies if wanted is None or copy.actor == wanted]
    return sorted(copies, key=lambda copy: (copy.at or 0.0, copy.name))


def find(copies: Sequence[Copy], name: str) -> Copy | None:
    """The copy of this name, or the only one whose name ends with `#` and this.

    Raises:
        InvalidInputError: There are several.
    """
    found = [copy for copy in copies if copy.name == name]
    found = found or [copy for copy in copies if copy.name.endswith("#" + name)]
    if len(found) > 1:
        raise InvalidInputError(
            f"{name!r} are several entries: {', '.join(copy.name for copy in found)}"
        )
    return found[0] if found else None


def called(actor: ActorKey) -> str:
    """The channel or actor, for a message."""
    kind = "channel" if actor.kind == "session" else actor.kind
    return f"{kind} {actor.actor_id!r}"


def kind_of(value: Stored) -> str:
    """What a key holds, for a message."""
    if isinstance(value, bytes):
        return f"a text of {len(value)} bytes"
    if isinstance(value, WrongType):
        return f"a {value.name}"
    if isinstance(value, Mapping):
        return f"a hash of {len(value)} fields"
    return f"a list of {len(value or ())} items"


@asynccontextmanager
async def opened(store: Store) -> AsyncGenerator[None]:
    """The store, open for writing under a process name of its own; closed in any case."""
    async with closing(store):
        await store.open(Process(f"{os.getpid():x}-{secrets.token_hex(8)}"), LEASE_SECONDS)
        yield


async def release(store: Store, claimed: Claimed, actor: ActorKey, revision: int) -> None:
    """Give up a claim without changing anything."""
    commit = Commit(actor, claimed.owner, revision + 1, secrets.token_hex(8), release=True)
    await store.commit([commit])


def refused(outcome: object, key: str) -> GameGirlError:
    """The error for a commit that wrote nothing."""
    if isinstance(outcome, BadType):
        return GameGirlError(
            f"{outcome.key} holds a {outcome.found}, so that nothing was written: rename that key"
        )
    return OwnershipLostError(
        f"{key} was taken over by another process meanwhile ({outcome}): do it again"
    )


def as_name(name: str) -> str:
    """An entry's name as stores take it, though it need not be UTF-8."""
    return as_text(name.encode("utf-8", "surrogateescape"))


def as_text(value: bytes) -> str:
    """Bytes where a text is asked for, which every store takes."""
    return cast(str, value)


def _time(at: Any) -> float | None:
    if isinstance(at, bool) or not isinstance(at, (int, float)):
        return None
    try:
        return float(at) if math.isfinite(at) else None
    except OverflowError:
        return None
