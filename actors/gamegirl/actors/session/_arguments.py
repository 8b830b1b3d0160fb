"""Checks of what callers pass in, where it enters: every error says what was wrong and where."""

from __future__ import annotations

import re
from typing import Any

from gamegirl.actors._errors import InvalidInputError
from gamegirl.codec import InvalidIdError, check_id, plain_text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_GAME_ID = re.compile(r"[A-Za-z0-9_-]{1,24}")
_TURN_MAX = 10**15


def id_of(value: Any, what: str, channel_id: str) -> str:
    """An id: 1 to 200 characters, no control characters, no surrogates."""
    try:
        return check_id(value, what)
    except InvalidIdError as error:
        raise InvalidIdError(f"{error} (channel {channel_id!r})") from None


def new_game_id(value: Any, channel_id: str) -> str:
    """An id that a caller chose for a new game: short enough for a turn's token."""
    if not isinstance(value, str) or not _GAME_ID.fullmatch(value):
        raise InvalidIdError(
            f"game id {_shown(value)} for channel {channel_id!r}: expected 1 to 24 of the "
            "characters A-Z a-z 0-9 _ -, or None for a new one"
        )
    return plain_text(value)


def name_of(value: Any, what: str, most: int, channel_id: str) -> str:
    """A name: some characters, no control characters, and not none."""
    name = line_of(value, what, most, channel_id)
    if not name:
        raise InvalidInputError(f"{what} is empty (channel {channel_id!r}): give it a name")
    return name


def line_of(value: Any, what: str, most: int, channel_id: str) -> str:
    """A text without control characters."""
    if type(value) is str and value.isascii() and value.isprintable() and len(value) <= most:
        return value
    line = text_of(value, what, most, channel_id)
    if _CONTROL.search(line):
        raise InvalidInputError(
            f"{what} {_shown(line)} has control characters in it (channel {channel_id!r}): "
            "remove them"
        )
    return line


def text_of(value: Any, what: str, most: int | None, channel_id: str) -> str:
    """A text that can be stored, not longer than allowed."""
    if type(value) is str and value.isascii() and (most is None or len(value) <= most):
        return value
    if not isinstance(value, str):
        raise InvalidInputError(
            f"{what} is a text, not {type(value).__name__} (channel {channel_id!r})"
        )
    if most is not None and len(value) > most:
        raise InvalidInputError(
            f"{what} has {len(value)} characters (channel {channel_id!r}): at most {most} are "
            "allowed"
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(
                f"{what} has half a surrogate pair in it (channel {channel_id!r}): it can't be "
                "stored"
            ) from None
    return plain_text(value)


def count_of(value: Any, what: str, channel_id: str) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(
            f"{what} is a whole number, not {type(value).__name__} (channel {channel_id!r})"
        )
    if not 0 <= value < _TURN_MAX:
        raise InvalidInputError(
            f"{what} is a whole number from 0, not {_shown(value)} (channel {channel_id!r})"
        )
    return int(value)


def flag_of(value: Any, what: str, channel_id: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InvalidInputError(
            f"{what} is True or False, not {_shown(value)} (channel {channel_id!r})"
        )
    return value


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return (
            f"{value:.4g}"
            if abs(value) > _TURN_MAX and abs(value) < 10**300
            else (str(value) if abs(value) <= _TURN_MAX else "a huge number")
        )
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
