"""Objects as hashes of texts: one field each, so that one of them can be written alone."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeVar

import attrs

from gamegirl.codec._errors import CodecError, Fault
from gamegirl.codec._hooks import bare, fields_of, is_class_with_fields, members_of
from gamegirl.codec._json import JsonCodec
from gamegirl.codec._plain import (
    decode_json,
    encode_json,
    plain_text,
    show_value,
)
from gamegirl.codec._schema import FIELD, Schema

T = TypeVar("T")

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_TRUTHS: Final = types.MappingProxyType({"1": True, "0": False})


class HashCodec(Generic[T]):
    """Turns objects of one class into hashes and back, as strictly as `JsonCodec`.

    Booleans are `1` and `0`, numbers their text, None is the empty text, a text is itself, and all
    else is JSON inside its field. An empty text in a `str | None` field comes back as None.

    Args:
        cls: An attrs class.
        schema: As in `JsonCodec`; its migrations get a dict of texts.

    Raises:
        TypeError: It is no attrs class, or has a field that could not be read back strictly.

    Example:
        >>> @attrs.frozen
        ... class Game:
        ...     name: str
        ...     active: bool
        ...     crown: str | None = None
        ...     players: dict[str, int] = attrs.field(factory=dict)
        >>> codec = HashCodec(Game)
        >>> codec.encode(Game("Chess", True, players={"42": 1}))
        {'name': 'Chess', 'active': '1', 'crown': '', 'players': '{"42":1}'}
        >>> codec.decode({b"name": b"Chess", b"active": b"0"})
        Game(name='Chess', active=False, crown=None, players={})
    """

    def __init__(self, cls: type[T], *, schema: Schema | None = None) -> None:
        if not is_class_with_fields(cls):
            raise TypeError(f"a hash holds the fields of an attrs class, and {cls!r} is none")
        self._name = cls.__name__
        self._schema = schema
        self._json = JsonCodec(cls)
        self._forms = {name: _Form.of(type_) for name, type_ in fields_of(cls).items()}

    def __repr__(self) -> str:
        return f"HashCodec({self._name})"

    def encode(self, obj: T) -> dict[str, str]:
        """Write an object as the fields of a hash, all of them.

        Raises:
            CodecError: There is a lone surrogate, a NaN or an infinity in it, or a value that is
                not what its class says.
        """
        plain = self._json.unstructure(obj)
        fields: dict[str, str] = {}
        faults: list[Fault] = []
        for name, form in self._forms.items():
            try:
                fields[name] = form.write(plain[name])
            except _UnfitError as error:
                faults.append(Fault(name, str(error)))
            except CodecError as error:
                faults += _below(name, error)
        if faults:
            raise CodecError(self._name, tuple(faults))
        if self._schema is not None:
            fields[FIELD] = str(self._schema.version)
        return fields

    def decode(self, fields: Mapping[Any, bytes | str]) -> T:
        """Read an object.

        Args:
            fields: Names and values, either of them bytes or str. Unknown ones are ignored.

        Raises:
            CodecError: It is not such an object; the faults are all there are.
        """
        texts, faults = self._texts(fields)
        if self._schema is not None:
            texts = self._upgrade(texts, self._schema)
        plain: dict[str, Any] = {}
        for name, form in self._forms.items():
            if name in texts:
                try:
                    plain[name] = form.read(texts[name])
                except _UnfitError as error:
                    faults.append(Fault(name, str(error)))
                except CodecError as error:
                    faults += _below(name, error)
        try:
            obj = self._json.structure(plain)
        except CodecError as error:
            unread = {fault.path for fault in faults}
            faults += (fault for fault in error.faults if fault.path not in unread)
            raise CodecError(self._name, tuple(faults)) from error
        if faults:
            raise CodecError(self._name, tuple(faults))
        return obj

    def _texts(self, fields: Mapping[Any, bytes | str]) -> tuple[dict[str, str], list[Fault]]:
        texts: dict[str, str] = {}
        faults: list[Fault] = []
        for key, value in fields.items():
            name = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
            try:
                texts[name] = value.decode("utf-8") if isinstance(value, bytes) else value
            except UnicodeDecodeError as error:
                if name in self._forms:
                    reason = f"is not UTF-8: {error.reason} at byte {error.start}"
                    faults.append(Fault(name, reason))
        return texts, faults

    def _upgrade(self, texts: dict[str, str], schema: Schema) -> dict[str, str]:
        version = texts.get(FIELD, "1")
        if not _VERSION.fullmatch(version):
            reason = f"must be a whole number from 1, not {show_value(version)}"
            raise CodecError(self._name, (Fault(FIELD, reason),))
        return schema.upgrade({**texts, FIELD: int(version)}, self._name)


class _UnfitError(Exception):
    """A text or a value that doesn't fit its field, and why."""


@attrs.frozen
class _Form:
    """How one field is written: as a scalar's text, or as JSON."""

    scalar: type[Any] | None
    optional: bool

    @classmethod
    def of(cls, type_: Any) -> _Form:
        members = members_of(bare(type_))
        others = [member for member in members if member is not types.NoneType]
        scalar = _scalar_of(others[0]) if len(others) == 1 else None
        return cls(scalar, len(others) < len(members))

    def write(self, value: Any) -> str:
        """The text of a value that can be read back."""
        if value is None and self.optional:
            return ""
        if self.scalar is None:
            return encode_json(value).decode("utf-8")
        if self.scalar is bool:
            return "1" if value else "0"
        if self.scalar is str:
            return plain_text(typing.cast("str", value))
        text: str = _convert(repr, value)
        return text

    def read(self, text: str) -> Any:
        if not text and self.optional:
            return None
        if self.scalar is None:
            return decode_json(text, lenient=True)
        if self.scalar is bool:
            if (truth := _TRUTHS.get(text)) is None:
                raise _UnfitError(f"must be 1 or 0, not {show_value(text)}")
            return truth
        if self.scalar is int:
            if not _WHOLE.fullmatch(text):
                raise _UnfitError(f"must be a whole number, not {show_value(text)}")
            return _convert(int, text)
        if self.scalar is float:
            if not _NUMBER.fullmatch(text):
                raise _UnfitError(f"must be a number, not {show_value(text)}")
            return _convert(float, text)
        return text


def _convert(make: Callable[[Any], Any], value: Any) -> Any:
    try:
        return make(value)
    except ValueError as error:  # a whole number with more digits than Python converts
        raise _UnfitError(f"is not usable: {error}") from error


def _scalar_of(type_: Any) -> type[Any] | None:
    """As which scalar a type is written, or None for JSON."""
    if type_ in (str, int, float, bool):
        return typing.cast("type[Any]", type_)
    values: list[Any] = []
    if isinstance(type_, type) and issubclass(type_, Enum):
        values = [member.value for member in type_]
    elif typing.get_origin(type_) is Literal:
        values = list(typing.get_args(type_))
    kinds: set[type[Any]] = {type(value) for value in values}
    return kinds.pop() if kinds in ({str}, {int}) else None


def _below(name: str, error: CodecError) -> list[Fault]:
    """The faults of the JSON inside a field."""
    return [
        Fault(
            name + ("." if fault.path and fault.path[0] != "[" else "") + fault.path, fault.reason
        )
        for fault in error.faults
    ]
