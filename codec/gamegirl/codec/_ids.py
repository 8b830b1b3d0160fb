"""Ids: which texts are allowed as one, and how they are written inside a key or a log line."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from gamegirl.codec._errors import InvalidIdError
from gamegirl.codec._plain import plain_text

ID_MAX: Final = 200
"""How many characters an id may have."""

_SAFE: Final = re.compile(r"[A-Za-z0-9_.~!@+-]*")
_UNSAFE_BUT_QUOTE_KEEPS_IT: Final = "!@+"
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_id(value: object, what: str = "id") -> str:
    r"""Return the value if it may be an id: 1 to 200 characters, no controls, no surrogates.

    Of a subclass of `str` (an enum's member, a template's markup) it is the text that returns.

    Args:
        value: What somebody gave as an id.
        what: What it is the id of, for the message.

    Raises:
        InvalidIdError: It may not; the message says why.

    Example:
        >>> check_id("1470000589843488", "channel id")
        '1470000589843488'
        >>> check_id("a\nb", "channel id")
        Traceback (most recent call last):
        gamegirl.codec._errors.InvalidIdError: channel id has the control character U+000A at ...
    """
    if type(value) is not str:
        if not isinstance(value, str):
            raise InvalidIdError(f"{what} must be a str, not {type(value).__name__}: pass str(...)")
        value = plain_text(value)
    if value.isascii() and value.encode().isalnum() and len(value) <= ID_MAX:
        return value  # As most ids are; of bytes this is seen without the tables of Unicode.
    if not value:
        raise InvalidIdError(f"{what} is empty: it must have 1 to {ID_MAX} characters")
    if len(value) > ID_MAX:
        raise InvalidIdError(
            f"{what} has {len(value)} characters: it must have 1 to {ID_MAX} ({value[:20]!a}…)"
        )
    if forbidden := _FORBIDDEN.search(value):
        code = ord(forbidden[0])
        kind = "lone surrogate" if code >= 0xD800 else "control character"
        raise InvalidIdError(
            f"{what} has the {kind} U+{code:04X} at position {forbidden.start()}: remove it"
        )
    return value


def escape_id(value: str) -> str:
    """Write an id so that nothing in it can be taken for a part of a key, a pattern or a line.

    `A-Z a-z 0-9 _ - . ~ ! @ +` stay as they are; all else becomes its UTF-8 bytes as `%3A`. No two
    ids have the same form, and `unescape_id` gives the id back. It does not check the id: limits
    bind what people pass in, not what is stored already.

    Raises:
        InvalidIdError: It is no str, or has a lone surrogate, which UTF-8 can't express.

    Example:
        >>> escape_id("a:history"), escape_id("*"), escape_id("Ana@home")
        ('a%3Ahistory', '%2A', 'Ana@home')
    """
    try:
        if (type(value) is str and value.encode().isalnum()) or _SAFE.fullmatch(value):
            return value
        return quote(value, safe=_UNSAFE_BUT_QUOTE_KEEPS_IT)
    except UnicodeEncodeError as error:
        raise InvalidIdError(
            f"id has a lone surrogate at position {error.start}: remove it"
        ) from error
    except (AttributeError, TypeError) as error:
        raise InvalidIdError(f"id must be a str, not {type(value).__name__}") from error


def unescape_id(text: str) -> str:
    """Give back the id that `escape_id` wrote.

    Raises:
        InvalidIdError: `escape_id` never writes such a text (so that one id has one form only).

    Example:
        >>> unescape_id("a%3Ahistory")
        'a:history'
        >>> unescape_id("%41")
        Traceback (most recent call last):
        gamegirl.codec._errors.InvalidIdError: '%41' is no escaped id: 'A' is written as 'A'
    """
    try:
        if _SAFE.fullmatch(text):
            return text
        value = unquote_to_bytes(text).decode("utf-8")
    except UnicodeError as error:
        raise InvalidIdError(f"{text!a} is no escaped id: it is not UTF-8") from error
    except TypeError as error:
        raise InvalidIdError(f"escaped id must be a str, not {type(text).__name__}") from error
    if (canonical := escape_id(value)) != text:
        raise InvalidIdError(f"{text!a} is no escaped id: {value!a} is written as {canonical!a}")
    return value
