"""Plain JSON data: dicts, lists, texts, numbers, booleans and None, and the bytes they are sent as.

Whatever is wrong with an input, and wherever, comes out as one `CodecError` with all its faults.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any, Final, NoReturn, TypeAlias, cast

import msgspec

from gamegirl.codec._errors import CodecError, Fault

Path: TypeAlias = "tuple[str | int, ...]"

TOO_DEEP: Final = "is nested too deeply"
LONE_SURROGATE: Final = "has a lone surrogate, which UTF-8 can't express"
NOT_FINITE: Final = "must be a finite number"

_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_SIMPLE_NAME: Final = re.compile(r"[^\s.\[\]\"\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
_SHOWN_MAX: Final = 40


def plain_text(text: str) -> str:
    """The text as a `str`, if it is of a subclass, which encoders refuse: an enum's, a template's.

    Example:
        >>> from enum import StrEnum
        >>> plain_text(StrEnum("Door", {"LEFT": "left"}).LEFT)
        'left'
    """
    return text if type(text) is str else str.__str__(text)


def has_surrogate(text: str) -> bool:
    """Whether there is a code point in the text that UTF-8 can't express."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def show_path(path: Path, prefix: str = "") -> str:
    """Write a path as in `players.42.joined_turn` or `[3].turn`."""
    shown = prefix
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _SIMPLE_NAME.fullmatch(step):
            shown += f".{step}" if shown else step
        else:
            shown += f"[{json.dumps(step[:200])}]"
    return shown


def show_value(value: object) -> str:
    """Write a value for a message: short, and printable whatever it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case int() | float():
            # A huge int has no decimal text at all: Python refuses to make one.
            return f"{value!r}" if abs(value) < 1e40 else "a huge number"
        case str():
            return repr(value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "…")
        case _:
            return f"a {type(value).__name__}"


def find_faults(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Find everything in plain data that JSON can't express or that we refuse to."""
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        if has_surrogate(value):
            yield path, LONE_SURROGATE
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, NOT_FINITE
    elif isinstance(value, dict):
        for name, item in cast("dict[object, object]", value).items():
            if not isinstance(name, str):
                yield (*path, str(name)), f"its name must be a text, not {show_value(name)}"
                continue
            if has_surrogate(name):
                yield (*path, name), f"its name {LONE_SURROGATE}"
            yield from find_faults(item, (*path, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(cast("list[object]", value)):
            yield from find_faults(item, (*path, index))
    else:
        yield path, f"is {show_value(value)}, for which JSON has no form"


def decode_json(data: bytes | str, *, lenient: bool = False) -> Any:
    r"""Read JSON as plain data, or raise one `CodecError` that says everything that is wrong.

    A name that comes twice in an object has its last value, as with every reader of old data.

    Args:
        data: UTF-8 bytes, or text.
        lenient: Leave `NaN`, `Infinity` and lone surrogates where they are. For those who go on to
            `JsonCodec.structure`, which finds them where they do harm, and salvage the rest.

    Raises:
        CodecError: It is not UTF-8, not JSON, nested too deeply, or not finite.

    Example:
        >>> decode_json(b'{"turn": 3}')
        {'turn': 3}
        >>> decode_json(b'{"turn": [NaN, "\\ud800"]}')
        Traceback (most recent call last):
        gamegirl.codec._errors.CodecError: JSON: turn[0]: must be a finite number; turn[1]: has ...
    """
    if type(data) is bytes or type(data) is str:
        try:
            return _QUICK.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass  # It takes nothing that the slow reader refuses, and that one says what is wrong.
    text = _text_of(data)
    try:
        if lenient:
            return _LENIENT.decode(text)
        try:
            value = _STRICT.decode(text)
            suspicious = "\\ud" in text or "\\uD" in text or (data is text and has_surrogate(text))
        except _NotFiniteError:
            value, suspicious = _LENIENT.decode(text), True
        if suspicious:
            faults = tuple(Fault(show_path(path), why) for path, why in find_faults(value))
            if faults:
                raise CodecError("JSON", faults)
    except RecursionError as error:
        raise CodecError("JSON", (Fault("", TOO_DEEP),)) from error
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}"
        raise CodecError("JSON", (Fault("", f"is not JSON: {error.msg} {where}"),)) from error
    except CodecError:
        raise
    except ValueError as error:  # a whole number with more digits than Python converts
        raise CodecError("JSON", (Fault("", f"is not usable: {error}"),)) from error
    return value


def encode_json(value: object) -> bytes:
    """Write plain data as compact UTF-8 JSON.

    Raises:
        CodecError: There is something in it that JSON can't express; it says where.

    Example:
        >>> encode_json({"name": "Zoë", "turn": 3}).decode()
        '{"name":"Zoë","turn":3}'
        >>> encode_json({"stamp": float("nan")})
        Traceback (most recent call last):
        gamegirl.codec._errors.CodecError: JSON: stamp: must be a finite number
    """
    try:
        if type(value) is str:
            return encode_basestring(value).encode("utf-8")  # As the encoder does, in one step.
        return _ENCODER.encode(value).encode("utf-8")
    except RecursionError as error:
        raise CodecError("JSON", (Fault("", TOO_DEEP),)) from error
    except (ValueError, TypeError) as error:  # a UnicodeEncodeError is a ValueError
        try:
            found = [Fault(show_path(path), why) for path, why in find_faults(value)]
        except RecursionError:
            found = []
        raise CodecError("JSON", tuple(found) or (Fault("", str(error)),)) from error


class _NotFiniteError(Exception):
    """There is a number that is not finite; a second, slower reading finds out where."""


def _text_of(data: object) -> str:
    if isinstance(data, str):
        return data
    if not isinstance(data, bytes):
        reason = f"must be bytes or str, not {type(data).__name__}"
        raise CodecError("JSON", (Fault("", reason),))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8: {error.reason} at byte {error.start}"
        raise CodecError("JSON", (Fault("", reason),)) from error


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _NotFiniteError
    return number


def _refuse(name: str) -> NoReturn:
    raise _NotFiniteError(name)


_QUICK: Final = msgspec.json.Decoder()
"""Three times as fast as the standard library's, and stricter: it refuses lone surrogates."""

_STRICT: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_LENIENT: Final = json.JSONDecoder()
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
