"""Objects as JSON texts."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any, Generic, TypeVar

from gamegirl.codec._errors import CodecError, Fault
from gamegirl.codec._hooks import FaultyError, StructureHook, Structuring, Unstructuring
from gamegirl.codec._plain import TOO_DEEP, decode_json, encode_json, show_path
from gamegirl.codec._schema import Schema

T = TypeVar("T")


class JsonCodec(Generic[T]):
    """Turns objects of one class into JSON and back, strictly.

    Nothing is coerced: `"False"` is no boolean, `5.9` and `true` are no whole numbers; a whole
    number will do where a float is wanted. Unknown fields are ignored, missing ones take their
    defaults. Everything that is wrong with an input is in one `CodecError`, with its path.

    A codec is made once and kept: making it writes functions for the class. It can be shared.

    Args:
        cls: An attrs class, or another type made of attrs classes, `dict[str, X]`, `list[X]`,
            tuples, enums (by value), `str`, `int`, `float`, `bool`, `X | None` and `Any`.
        schema: The version that is written into each object, and how older ones are read.

    Raises:
        TypeError: There is a type in it that could not be read back strictly.

    Example:
        >>> import attrs
        >>> @attrs.frozen
        ... class Player:
        ...     name: str
        ...     skips: int = 0
        >>> codec = JsonCodec(Player)
        >>> codec.encode(Player("Ana"))
        b'{"name":"Ana","skips":0}'
        >>> codec.decode('{"name": "Ana", "shoes": 2}')
        Player(name='Ana', skips=0)
        >>> codec.decode('{"skips": true}')
        Traceback (most recent call last):
        gamegirl.codec._errors.CodecError: Player: name: is missing; skips: must be a whole ...
    """

    def __init__(self, cls: type[T], *, schema: Schema | None = None) -> None:
        self._cls = cls
        self._name: str = getattr(cls, "__name__", repr(cls))
        self._schema = schema
        self._structure = Structuring(thorough=False).hook(cls)
        self._unstructure = Unstructuring().hook(cls)

    def __repr__(self) -> str:
        return f"JsonCodec({self._name})"

    def encode(self, obj: T) -> bytes:
        """Write an object as compact UTF-8 JSON.

        Raises:
            CodecError: There is a lone surrogate, a NaN or an infinity in it, or a value that is
                not what its class says.
        """
        return encode_json(self.unstructure(obj))

    def decode(self, data: bytes | str) -> T:
        """Read an object.

        Raises:
            CodecError: It is not UTF-8, not JSON, nested too deeply, or not such an object.
        """
        return self.structure(decode_json(data, lenient=True))

    def unstructure(self, obj: T) -> Any:
        """Turn an object into plain data: what `encode` writes, before it is bytes.

        Raises:
            CodecError: It could not be turned back.
        """
        try:
            plain = self._unstructure(obj)
        except RecursionError as error:
            raise CodecError(self._name, (Fault("", TOO_DEEP),)) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise CodecError(self._name, (Fault("", f"is not encodable: {error}"),)) from error
        # What can't be read again must not be stored: it would be found out when it is needed.
        self._structured(plain, "")
        return plain if self._schema is None else self._schema.stamp(plain)

    def structure(self, plain: Any, path: str = "") -> T:
        """Turn plain data into an object: what `decode` does, once the bytes are read.

        Args:
            plain: What `decode_json` returned, or a part of it.
            path: Where the part was, to be put before the paths of its faults.

        Raises:
            CodecError: It is not such an object.
        """
        if self._schema is not None:
            plain = self._schema.upgrade(plain, self._name)
        return self._structured(plain, path)

    def _structured(self, plain: Any, path: str) -> T:
        # Whatever the quick functions stumbled over: the thorough ones say it better.
        with suppress(Exception):
            return self._structure(plain, self._cls)  # type: ignore[no-any-return]
        try:
            return self._thorough(plain, self._cls)  # type: ignore[no-any-return]
        except FaultyError as faulty:
            faults = tuple(Fault(show_path(at, path), why) for at, why in faulty.faults)
            raise CodecError(self._name, faults) from faulty
        except RecursionError as error:
            raise CodecError(self._name, (Fault(path, TOO_DEEP),)) from error

    @cached_property
    def _thorough(self) -> StructureHook:
        return Structuring(thorough=True).hook(self._cls)
