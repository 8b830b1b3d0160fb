"""Hashes: one text a field, as strict as JSON."""

from __future__ import annotations

import math
from enum import Enum, IntEnum
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamegirl.codec import CodecError, HashCodec, NewerSchemaError, Schema


class Phase(Enum):
    OPEN = "open"
    CLOSED = "closed"


class Level(IntEnum):
    EASY = 1
    HARD = 2


class Mixed(Enum):
    ONE = 1
    TWO = "two"


@attrs.frozen
class Window:
    opened_at: float
    deadline: float


@attrs.frozen
class Session:
    game_name: str
    active: bool
    turn_number: int = 0
    stamp: float = 0.0
    crown_holder: str | None = None
    limit: int | None = None
    window: Window | None = None
    players: dict[str, Window] = attrs.field(factory=dict[str, Window])
    phase: Phase = Phase.OPEN
    level: Level = Level.EASY
    mixed: Mixed = Mixed.ONE
    kind: Literal["solo", "duel"] = "solo"
    extra: Any = None
    either: int | str = 0


SESSIONS = HashCodec(Session)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
windows = st.builds(Window, finite, finite)
sessions = st.builds(
    Session,
    game_name=texts,
    active=st.booleans(),
    turn_number=st.integers(),
    stamp=finite,
    crown_holder=st.none() | texts.filter(bool),
    limit=st.none() | st.integers(),
    window=st.none() | windows,
    players=st.dictionaries(texts, windows, max_size=3),
    phase=st.sampled_from(Phase),
    level=st.sampled_from(Level),
    mixed=st.sampled_from(Mixed),
    kind=st.sampled_from(["solo", "duel"]),
    extra=st.none() | st.integers() | st.lists(texts),
    either=st.integers() | texts,
)


def faults(fields: dict[Any, Any]) -> dict[str, str]:
    """The paths and reasons that the codec gives for a hash, beyond its two required fields."""
    with pytest.raises(CodecError) as caught:
        SESSIONS.decode({"game_name": "x", "active": "1", **fields})
    return {fault.path: fault.reason for fault in caught.value.faults}


@given(sessions)
def test_what_is_encoded_is_decoded_to_the_same(session: Session) -> None:
    """With names and values as text or as bytes, as clients return them."""
    fields = SESSIONS.encode(session)
    assert SESSIONS.decode(fields) == session
    assert (
        SESSIONS.decode({name.encode(): text.encode() for name, text in fields.items()}) == session
    )
    assert SESSIONS.decode({name: text.encode() for name, text in fields.items()}) == session


def test_fields_have_the_forms_of_old() -> None:
    """Booleans 1 and 0, numbers as text, nobody as the empty text, nested values as JSON."""
    session = Session("Zoë", True, 3, 1.5, players={"42": Window(0.0, 1.0)}, level=Level.HARD)
    assert SESSIONS.encode(session) == {
        "game_name": "Zoë",
        "active": "1",
        "turn_number": "3",
        "stamp": "1.5",
        "crown_holder": "",
        "limit": "",
        "window": "",
        "players": '{"42":{"opened_at":0.0,"deadline":1.0}}',
        "phase": "open",
        "level": "2",
        "mixed": "1",
        "kind": "solo",
        "extra": "null",
        "either": "0",
    }
    assert SESSIONS.encode(Session("", False))["active"] == "0"


def test_unknown_fields_are_ignored_and_missing_ones_take_their_defaults() -> None:
    """Whatever bytes are in the unknown ones."""
    fields: dict[Any, Any] = {
        b"game_name": b"Chess",
        b"active": b"0",
        b"\xff": b"1",
        b"shoes": b"\xff",
        "x": "y",
    }
    assert SESSIONS.decode(fields) == Session("Chess", False)


def test_an_empty_text_is_an_absent_optional_and_else_a_text() -> None:
    """As the old system wrote them."""
    session = SESSIONS.decode(
        {"game_name": "", "active": "1", "crown_holder": "", "limit": "", "window": ""}
    )
    assert session == Session("", True)


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("active", "True", "must be 1 or 0, not 'True'"),
        ("active", "", "must be 1 or 0, not ''"),
        ("active", "2", "must be 1 or 0, not '2'"),
        ("turn_number", "5.9", "must be a whole number, not '5.9'"),
        ("turn_number", " 5", "must be a whole number, not ' 5'"),
        ("turn_number", "5\n", r"must be a whole number, not '5\n'"),
        ("turn_number", "1_000", "must be a whole number, not '1_000'"),
        ("turn_number", "٣", "must be a whole number, not '٣'"),
        ("turn_number", "+5", "must be a whole number, not '+5'"),
        ("turn_number", "05", "must be a whole number, not '05'"),
        ("turn_number", "", "must be a whole number, not ''"),
        ("turn_number", "9" * 5000, None),
        ("stamp", "nan", "must be a number, not 'nan'"),
        ("stamp", "inf", "must be a number, not 'inf'"),
        ("stamp", "1e999", "must be a finite number"),
        ("stamp", "1_0.0", "must be a number, not '1_0.0'"),
        ("stamp", "", "must be a number, not ''"),
        ("limit", "x", "must be a whole number, not 'x'"),
        ("level", "3", "must be one of 1, 2, not 3"),
        ("phase", "", "must be one of 'open', 'closed', not ''"),
        ("kind", "trio", "must be one of 'solo', 'duel', not 'trio'"),
        ("players", "", "is not JSON: Expecting value at line 1, column 1"),
        ("players", "[]", "must be an object, not a list"),
    ],
)
def test_nothing_is_coerced(field: str, text: str, reason: str | None) -> None:
    """A text that doesn't say exactly such a value is a fault."""
    found = faults({field: text})
    assert list(found) == [field]
    assert reason is None or found[field] == reason
    assert faults({field.encode(): text.encode(), field: text}) == found


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5.0),
        ("-0.0", 0.0),
        ("1e-07", 1e-7),
        ("1e+16", 1e16),
        ("1726000000.123456", 1726000000.123456),
    ],
)
def test_every_spelling_of_a_number_is_read(text: str, number: float) -> None:
    """A whole number will do for a float."""
    stamp = SESSIONS.decode({"game_name": "", "active": "1", "stamp": text}).stamp
    assert stamp == number
    assert type(stamp) is float


def test_all_faults_come_at_once_with_their_paths() -> None:
    """Those of the texts, and those inside the JSON."""
    assert faults(
        {
            "active": "yes",
            "turn_number": b"\xff",
            "window": '{"opened_at": "x"}',
            "players": '{"42": {"opened_at": NaN, "deadline": 1}, "43": []}',
            "extra": "[",
            "phase": "ajar",
        }
    ) == {
        "turn_number": "is not UTF-8: invalid start byte at byte 0",
        "active": "must be 1 or 0, not 'yes'",
        "extra": "is not JSON: Expecting value at line 1, column 2",
        "window.opened_at": "must be a number, not 'x'",
        "window.deadline": "is missing",
        "players.42.opened_at": "must be a finite number",
        "players.43": "must be an object, not a list",
        "phase": "must be one of 'open', 'closed', not 'ajar'",
    }
    with pytest.raises(CodecError, match="Session: game_name: is missing; active: is missing"):
        SESSIONS.decode({})


@pytest.mark.parametrize(
    ("changes", "path", "why"),
    [
        ({"stamp": math.nan}, "stamp", "must be a finite number"),
        ({"game_name": "\ud800"}, "game_name", "has a lone surrogate"),
        ({"extra": ["\ud800"]}, "extra[0]", "has a lone surrogate"),
        ({"extra": {"a": math.inf}}, "extra.a", "must be a finite number"),
        ({"active": 1}, "active", "must be true or false, not 1"),
        ({"turn_number": 10**5000}, "turn_number", "is not usable"),
        ({"stamp": 10**400}, "stamp", "must be a finite number"),
        ({"turn_number": True}, "turn_number", "must be a whole number, not true"),
        ({"turn_number": "5"}, "turn_number", "must be a whole number, not '5'"),
        ({"game_name": None}, "game_name", "must be a text, not null"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    changes: dict[str, Any], path: str, why: str
) -> None:
    """With its path."""
    with pytest.raises(CodecError) as caught:
        SESSIONS.encode(attrs.evolve(Session("", True), **changes))
    (fault,) = caught.value.faults
    assert fault.path == path
    assert fault.reason.startswith(why)


def test_a_version_is_a_field_of_the_hash() -> None:
    """Older hashes are migrated as texts, newer ones refused."""

    def rename(texts: dict[str, Any]) -> dict[str, Any]:
        texts["opened_at"] = texts.pop("opened")
        return texts

    codec = HashCodec(Window, schema=Schema(2, {1: rename}))
    assert codec.encode(Window(1.0, 2.0)) == {"opened_at": "1.0", "deadline": "2.0", "schema": "2"}
    assert codec.decode({b"opened": b"1", b"deadline": b"2"}) == Window(1.0, 2.0)
    assert codec.decode(codec.encode(Window(1.0, 2.0))) == Window(1.0, 2.0)
    with pytest.raises(NewerSchemaError):
        codec.decode({"schema": "3"})
    for version in ("x", "1.0", "", "0", "9" * 5000):
        with pytest.raises(CodecError, match="schema"):
            codec.decode({"schema": version, "opened": "1", "deadline": "2"})


@pytest.mark.parametrize("cls", [int, dict[str, str], list[Session]])
def test_only_classes_with_fields_have_a_hash(cls: Any) -> None:
    """The program learns it when it makes the codec."""
    with pytest.raises(TypeError, match="fields of an attrs class"):
        HashCodec(cls)


def test_a_codec_says_what_it_is_for() -> None:
    """In a debugger."""
    assert repr(SESSIONS) == "HashCodec(Session)"
