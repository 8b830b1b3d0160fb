"""Ids: which are allowed, and that no two of them share a key."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gamegirl.codec import Fate, GameGirlError, InvalidIdError, check_id, escape_id, unescape_id

encodable = st.text(st.characters(exclude_categories=["Cs"]))
escaped_alphabet = st.text("Aa0_-.~!@+%:2C3F ", max_size=12)


@pytest.mark.parametrize(
    "value", ["1", "x" * 200, "a:history", "*", "{x}", "🎮", "a b", "\u00a0", "😀" * 200]
)
def test_ids_of_1_to_200_characters_are_returned_as_they_are(value: str) -> None:
    """Spaces, punctuation and emoji are nobody's business."""
    assert check_id(value) is value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is empty"),
        ("x" * 201, "has 201 characters"),
        ("a\nb", r"control character U\+000A at position 1"),
        ("\x00", r"control character U\+0000"),
        ("\x7f", r"control character U\+007F"),
        ("\x85", r"control character U\+0085"),
        ("a\ud800", r"lone surrogate U\+D800"),
        (42, "must be a str, not int"),
        (None, "must be a str, not NoneType"),
        (b"42", "must be a str, not bytes"),
    ],
)
def test_other_ids_are_refused_and_told_why(value: object, why: str) -> None:
    """The message names the id and what is wrong with it."""
    with pytest.raises(InvalidIdError, match=f"channel id .*{why}") as caught:
        check_id(value, "channel id")
    assert caught.value.fate is Fate.NOT_DELIVERED
    assert isinstance(caught.value, GameGirlError)
    assert isinstance(caught.value, ValueError)
    str(caught.value).encode("utf-8")


def test_safe_characters_stay_as_they_are() -> None:
    """Today's keys keep their names."""
    safe = "ABCXYZabcxyz0189_-.~!@+"
    assert escape_id(safe) is safe
    assert unescape_id(safe) is safe


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("a:history", "a%3Ahistory"),
        ("*", "%2A"),
        ("{x}", "%7Bx%7D"),
        ("\x00", "%00"),
        ("a\n", "a%0A"),
        ("50%", "50%25"),
        ("%3A", "%253A"),
        ("é", "%C3%A9"),
        ("🎮", "%F0%9F%8E%AE"),
        ("²", "%C2%B2"),
        ("", ""),
    ],
)
def test_all_else_becomes_its_bytes_in_upper_case_hex(value: str, escaped: str) -> None:
    """The form is fixed, since it is part of keys."""
    assert escape_id(value) == escaped
    assert unescape_id(escaped) == value


@given(encodable)
def test_an_escaped_id_has_nothing_of_a_key_or_pattern_in_it(value: str) -> None:
    """No id reaches another's key."""
    assert set(escape_id(value)) <= set(string.ascii_letters + string.digits + "_-.~!@+%")


@given(encodable)
def test_unescaping_gives_the_id_back(value: str) -> None:
    """And so no two ids have the same form."""
    assert unescape_id(escape_id(value)) == value


@given(encodable, encodable)
@example("%41", "A")
@example("a%", "a%25")
def test_no_two_ids_have_the_same_form(one: str, other: str) -> None:
    """Escaping is injective."""
    assert (escape_id(one) == escape_id(other)) == (one == other)


@given(escaped_alphabet)
@example("%41")
@example("%3a")
@example("%")
@example("%G0")
@example("%ED%A0%80")
@example("a:b")
def test_only_what_escaping_writes_is_unescaped(text: str) -> None:
    """The round trip is the identity in both directions."""
    try:
        value = unescape_id(text)
    except InvalidIdError:
        return
    assert escape_id(value) == text


@pytest.mark.parametrize(
    "text", ["%41", "%3a", "%", "%G0", "%FF", "%ED%A0%80", "a:b", "é", "\ud800", "%2", 5, None]
)
def test_other_texts_are_no_escaped_ids(text: Any) -> None:
    """Nothing that somebody else wrote into a key is taken for an id of ours."""
    with pytest.raises(InvalidIdError):
        unescape_id(text)


@pytest.mark.parametrize("value", ["\ud800", "a\udfff", 42, None, b"a"])
def test_what_is_no_text_has_no_form(value: Any) -> None:
    """The error is ours, not one of the encoder's."""
    with pytest.raises(InvalidIdError):
        escape_id(value)
