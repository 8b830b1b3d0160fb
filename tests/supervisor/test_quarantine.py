"""What is put aside is kept byte for byte, with what it takes to put it back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gamegirl.actors import Quarantined, WrongType
from gamegirl.supervisor._quarantine import quarantine_writes
from gamegirl.supervisor.stores import ActorKey

CHANNEL = ActorKey("session", "c")


def entries_of(*items: Quarantined) -> dict[str, dict[str, Any]]:
    (write,), names = quarantine_writes(CHANNEL, items, now=7.0)
    assert sorted(write.fields) == sorted(set(names))
    return {name: json.loads(value) for name, value in write.fields.items()}


@pytest.mark.parametrize(
    ("held", "type_", "kept"),
    [
        (b"\x00\xff{", "string", b"\x00\xff{"),
        ({b"a": "Zoë".encode()}, "hash", '{"a":"Zoë"}'.encode()),
        ({b"a\xff": b"\\xff"}, "hash", b'{"a\\udcff":"\\\\xff"}'),
        ([b"x", b"\xed\xa0\x80"], "list", b'["x","\\udced\\udca0\\udc80"]'),
        (WrongType("zset"), "zset", b"zset"),
        (None, "none", b"none"),
    ],
)
def test_an_entry_says_what_its_key_held(held: Any, type_: str, kept: bytes) -> None:
    """The type and the bytes, also those that are no UTF-8."""
    (entry,) = entries_of(Quarantined.whole("k", held, "why")).values()
    assert (entry["key"], entry["type"], entry["reason"], entry["at"]) == ("k", type_, "why", 7.0)
    assert base64.b64decode(entry["value"]) == kept


def test_a_part_is_told_from_the_whole() -> None:
    """A piece, a text and a hash that read alike are three entries; the same twice is one."""
    text = Quarantined.whole("k", b'{"a":"b"}', "text")
    found = entries_of(
        text, text, Quarantined.whole("k", {b"a": b"b"}, ""), Quarantined("k", b'{"a":"b"}', "")
    )
    assert [entry["type"] for entry in found.values()] == ["string", "hash", "part"]


def test_bytes_that_look_like_their_own_escape_are_another_content() -> None:
    """Neither of two different contents takes the other's place."""
    one = Quarantined.whole("k", {b"a": b"\xff"}, "")
    other = Quarantined.whole("k", {b"a": b"\\xff"}, "")
    assert len(entries_of(one, other)) == 2
