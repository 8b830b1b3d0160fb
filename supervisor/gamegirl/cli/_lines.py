r"""The file that games travel in: one key a line, as a JSON object.

    {"key": "game:session:42", "type": "string", "ttl": -1, "value": "…"}

`type` is string, list or hash and says what `value` is: a text, a list of texts, an object of
texts. `ttl` is in seconds, -1 for none. Bytes that are no UTF-8 travel as the lone surrogates that
Python calls `surrogateescape`: the byte 0xff is `\udcff`, so that every value comes back as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias, cast

import attrs

from gamegirl.actors import (
    InvalidInputError,
    PutHash,
    PutList,
    PutText,
    Value,
    Write,
    WrongType,
)
from gamegirl.codec import InvalidIdError, unescape_id
from gamegirl.supervisor.stores import ActorKey, Entry

Content: TypeAlias = "bytes | dict[bytes, bytes] | list[bytes]"

INDEX = "game:index"
QUARANTINE = "gg:quarantine"
GAME_PREFIX = "gg:game:"
ACTOR_PREFIX = "gg:actor:"
CHANNEL_PREFIXES = ("game:session:", "sg:game_session:", "gg:session:")

_CHANNEL = re.compile(
    r"game:session:(?P<json>[^:]+)(?::history)?"
    r"|sg:game_session:(?P<hash>[^:]+)"
    r"|gg:session:(?P<ours>[^:]+):(?:window|turns|meta)"
)
_FIELDS = {"key", "type", "ttl", "value"}


class Part(Enum):
    """What a key is a part of."""

    CHANNEL = "channel"
    INDEX = "index"
    GAME = "game"
    QUARANTINE = "quarantine"
    ACTOR = "actor"


@attrs.frozen
class Place:
    """Where a key belongs.

    Attributes:
        part: What it is a part of.
        actor: Whose it is: a channel's session, a game, an actor of another kind, or nobody's.
    """

    part: Part
    actor: ActorKey


@attrs.frozen
class Line:
    """A key with what it holds.

    Attributes:
        number: Its line's, from 1.
        ttl: Seconds, -1 for none.
    """

    number: int
    key: str
    place: Place
    value: Content
    ttl: int


def place_of(key: str) -> Place | None:
    """Where the key belongs; None: it is none of ours."""
    if key == INDEX:
        return Place(Part.INDEX, ActorKey("import", "index"))
    if key == QUARANTINE:
        return Place(Part.QUARANTINE, ActorKey("import", "index"))
    try:
        if match := _CHANNEL.fullmatch(key):
            name = match["json"] or match["hash"] or match["ours"]
            return Place(Part.CHANNEL, ActorKey("session", unescape_id(name)))
        if key.startswith(GAME_PREFIX):
            game_id = unescape_id(key.removeprefix(GAME_PREFIX))
            return Place(Part.GAME, ActorKey("game", game_id))
        if key.startswith(ACTOR_PREFIX):
            return Place(Part.ACTOR, ActorKey.of_member(key.removeprefix(ACTOR_PREFIX)))
    except InvalidIdError:
        pass
    return None


def line_of(entry: Entry) -> str | None:
    """The entry as a line; None: it can't be one (it is absent, or of a type that we never use)."""
    value = entry.value
    kind: str
    plain: object
    if value is None or isinstance(value, WrongType):
        return None
    if isinstance(value, bytes):
        kind, plain = "string", _to_text(value)
    elif isinstance(value, Mapping):
        kind = "hash"
        plain = {_to_text(field): _to_text(item) for field, item in value.items()}
    else:
        kind, plain = "list", [_to_text(item) for item in value]
    return json.dumps({"key": entry.key, "type": kind, "ttl": entry.ttl_seconds, "value": plain})


def read_lines(lines: Iterable[bytes]) -> Sequence[Line]:
    """All lines of a file; empty ones are skipped.

    Raises:
        InvalidInputError: A line is malformed; the message says which, and what is wrong.
    """
    found: list[Line] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            line = _read_line(number, raw)
        except ValueError as error:
            raise InvalidInputError(
                f"line {number} can't be imported: {error}; nothing was written"
            ) from None
        if line.key in seen:
            raise InvalidInputError(
                f"line {number} has the key {line.key!r} of line {seen[line.key]} once more; "
                "nothing was written"
            )
        seen[line.key] = number
        found.append(line)
    return found


def _read_line(number: int, raw: bytes) -> Line:
    try:
        plain: Any = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    fields = cast("dict[str, Any]", plain) if isinstance(plain, dict) else {}
    if fields.keys() != _FIELDS:
        raise ValueError('expected an object with "key", "type", "ttl" and "value"')
    key, ttl = fields["key"], fields["ttl"]
    if not isinstance(key, str):
        raise ValueError('"key" is no text')
    _to_bytes(key, '"key"')
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not -1 <= ttl < 1 << 40:
        raise ValueError('"ttl" is neither a number of seconds nor -1')
    place = place_of(key)
    if place is None:
        raise ValueError(f"{key!r:.200} is no key of a game")
    content = content_of(fields["type"], fields["value"])
    if place.part not in (Part.CHANNEL, Part.ACTOR) and not isinstance(content, dict):
        raise ValueError(f"{key!r:.200} must be a hash")
    return Line(number, key, place, content, ttl)


def content_of(kind: object, value: Any) -> Content:
    """What a key of this type holds, by its plain form.

    Raises:
        ValueError: It isn't such a form.
    """
    if kind == "string":
        return _to_bytes(value, '"value"')
    if kind == "list":
        if not isinstance(value, list):
            raise ValueError('"value" is no list')
        items = cast("list[Any]", cast(Any, value))
        return [_to_bytes(item, f'"value"[{at}]') for at, item in enumerate(items)]
    if kind == "hash":
        if not isinstance(value, dict):
            raise ValueError('"value" is no object')
        return {
            _to_bytes(field, '"value"'): _to_bytes(item, f'"value".{field!a:.100}')
            for field, item in cast("dict[str, Any]", value).items()
        }
    raise ValueError('"type" is neither string nor list nor hash')


def write_of(key: str, value: Content, ttl: int) -> Write:
    """The write that makes an absent key hold this; only hashes have a time to live."""
    if isinstance(value, bytes):
        return PutText(key, value)
    if isinstance(value, list):
        return PutList(key, value)
    # A time to live of 0 is one that was rounded down.
    return PutHash(key, named(value), max(ttl, 1) if ttl >= 0 else None)


def named(fields: Mapping[bytes, bytes]) -> Mapping[str, Value]:
    """Fields with names in bytes, which every store takes: they need not be UTF-8."""
    return cast("Mapping[str, Value]", fields)


def _to_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _to_bytes(text: Any, what: str) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{what} is no text")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{what} has half of a surrogate pair in it") from None
