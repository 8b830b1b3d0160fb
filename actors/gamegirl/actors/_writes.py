"""What a decision changes in the store, as data.

A store holds keys of three types, Redis' own: a text, a hash (field to value) and a list. A write
names one key and what becomes of it. `PatchHash` is the patch (a small field; under
`Durability.TURN` it may wait for company); all others are full forms.

They are structs, not attrs classes: a press makes some, and a struct takes a quarter of the time to
make and is nothing to the garbage collector.

Writes are frozen when they are made: whoever makes one must hand over values that nobody changes
later, because the commit that carries it is built after other messages have been handled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from gamegirl.codec import GameGirlError

Value: TypeAlias = "str | bytes"


class PutText(msgspec.Struct, frozen=True, gc=False):
    """The key is this text from now on."""

    key: str
    text: Value


class PutHash(msgspec.Struct, frozen=True, gc=False):
    """The key is this hash from now on: fields it had before are gone.

    Attributes:
        fields: Field to value; empty: the key goes.
        ttl_seconds: The key goes by itself after this time; None: it stays.
    """

    key: str
    fields: Mapping[str, Value]
    ttl_seconds: int | None = None


class PatchHash(msgspec.Struct, frozen=True, gc=False):
    """These fields of the hash are set and those removed; all others stay."""

    key: str
    fields: Mapping[str, Value] = msgspec.field(default_factory=dict[str, Value])
    remove: Sequence[str] = ()


class PutList(msgspec.Struct, frozen=True, gc=False):
    """The key is this list from now on; empty: the key goes."""

    key: str
    items: Sequence[Value]


class AppendList(msgspec.Struct, frozen=True, gc=False):
    """The items are put at the list's end, of which the last `keep` stay."""

    key: str
    items: Sequence[Value]
    keep: int


class Drop(msgspec.Struct, frozen=True, gc=False):
    """The key goes, whatever type it has."""

    key: str


Write: TypeAlias = "PutText | PutHash | PatchHash | PutList | AppendList | Drop"


class Require(msgspec.Struct, frozen=True):
    """A condition of the commit: if it doesn't hold, nothing is written and `error` is raised.

    For what one actor can't know alone, because other actors write it as well.

    Attributes:
        key: A hash.
        field: One of its fields.
        value: What it must hold; None: it must be absent.
        error: What the caller gets otherwise.
    """

    key: str
    field: str
    value: str | None
    error: GameGirlError
