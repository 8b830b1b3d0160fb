"""From plain data to objects and back: one function for a type, made once, by cattrs.

cattrs writes the functions for classes. What it calls for their fields is ours, because its own
hooks coerce: `bool("False")` is true, `int(5.9)` is 5, `list("ab")` has two items.

Structuring exists twice. The quick functions stop at the first fault; only if one of them raises,
the thorough ones go over the input again and collect every fault with its path. Two sets instead of
a retry at every level: that would double the work at each level of a deep input.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from enum import Enum
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, Union, cast

import attrs
from cattrs import ClassValidationError, Converter
from cattrs.errors import AttributeValidationNote
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from gamegirl.codec._plain import (
    LONE_SURROGATE,
    NOT_FINITE,
    Path,
    find_faults,
    has_surrogate,
    show_value,
)

StructureHook: TypeAlias = Callable[[Any, Any], Any]
UnstructureHook: TypeAlias = Callable[[Any], Any]

OBJECTS: Final = (dict, Mapping, MutableMapping)
LISTS: Final = (list, MutableSequence)
TUPLES: Final = (tuple, Sequence)

# cattrs' functions take overrides by the names of fields, between options of their own.
_make_structure: Any = make_dict_structure_fn
_make_unstructure: Any = make_dict_unstructure_fn


class FaultyError(Exception):
    """What a hook raises: the faults below the value that it was given."""

    def __init__(self, faults: Sequence[tuple[Path, str]]) -> None:
        super().__init__(faults)
        self.faults = faults


def bare(type_: Any) -> Any:
    """Take away what says nothing about the form: `Annotated`, `NewType`, alias names."""
    while True:
        if typing.get_origin(type_) is Annotated:
            type_ = typing.get_args(type_)[0]
        elif isinstance(type_, NewType):
            type_ = type_.__supertype__
        elif type(type_).__name__ == "TypeAliasType":  # `type X = …`, since Python 3.12
            type_ = type_.__value__
        else:
            return type_


def is_class_with_fields(type_: Any) -> bool:
    """Whether it is an attrs class or a dataclass."""
    if not isinstance(type_, type):
        return False
    return attrs.has(cast("type[Any]", type_)) or dataclasses.is_dataclass(type_)


def fields_of(cls: type[Any]) -> dict[str, Any]:
    """The fields that a constructor takes, and their types."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: Any = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
    return {field.name: hints.get(field.name, Any) for field in fields if field.init}


def members_of(type_: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else itself."""
    if typing.get_origin(type_) in (Union, types.UnionType):
        return tuple(bare(member) for member in typing.get_args(type_))
    return (type_,)


def unsupported(type_: Any) -> TypeError:
    """The error for a type that has no form."""
    return TypeError(
        f"{type_!r} has no form in JSON that can be read back strictly: use attrs classes, "
        "dict[str, X], list, tuple, Enum, str, int, float, bool, None, X | None, or Any"
    )


class Structuring:
    """Makes the functions that turn plain data into objects of a type.

    Args:
        thorough: Collect all faults with their paths, instead of stopping at the first.
    """

    def __init__(self, *, thorough: bool) -> None:
        self._thorough = thorough
        self._converter = Converter(detailed_validation=thorough)
        self._hooks: dict[Any, StructureHook] = dict(_SCALARS)
        self._building: set[Any] = set()

    def hook(self, type_: Any) -> StructureHook:
        """The function for a type, made at the first call.

        Raises:
            TypeError: The type has no form in JSON that could be read back strictly.
        """
        type_ = bare(type_)
        if (known := self._hooks.get(type_)) is not None:
            return known
        if type_ in self._building:  # a type that contains itself
            return lambda value, _: self._hooks[type_](value, type_)
        self._building.add(type_)
        try:
            made = self._hooks[type_] = self._make(type_)
        finally:
            self._building.discard(type_)
        return made

    def _make(self, type_: Any) -> StructureHook:
        origin, arguments = typing.get_origin(type_) or type_, typing.get_args(type_)
        if len(members := members_of(type_)) > 1:
            return self._make_union(type_, members)
        if origin is Literal:
            return _one_of({(type(value), value): value for value in arguments})
        if isinstance(type_, type) and issubclass(type_, Enum):
            return _one_of({(type(member.value), member.value): member for member in type_})
        if is_class_with_fields(type_):
            return self._make_class(cast("type[Any]", type_))
        if origin in OBJECTS:
            key, item = arguments or (str, Any)
            if bare(key) is not str:
                raise unsupported(type_)
            return self._make_object(item)
        if origin in LISTS:
            return self._make_list(arguments[0] if arguments else Any, list)
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return self._make_row(arguments)
        if origin in TUPLES:
            return self._make_list(arguments[0] if arguments else Any, tuple)
        raise unsupported(type_)

    def _make_union(self, type_: Any, members: tuple[Any, ...]) -> StructureHook:
        others = tuple(member for member in members if member is not types.NoneType)
        if len(others) == 1 and len(members) == 2:
            (other,) = others
            hook = self.hook(other)
            return lambda value, _: None if value is None else hook(value, other)
        if not _EXACT.issuperset(members):
            raise unsupported(type_)
        hooks = {member: self.hook(member) for member in members}
        if float in hooks and int not in hooks:
            hooks[int] = hooks[float]
        expected = " or ".join(_EXPECTED[member] for member in members)

        def structure(value: Any, _: Any) -> Any:
            if (hook := hooks.get(type(value))) is None:
                raise _wrong(expected, value)
            return hook(value, None)

        return structure

    def _make_class(self, cls: type[Any]) -> StructureHook:
        overrides = {
            name: override(struct_hook=self.hook(type_)) for name, type_ in fields_of(cls).items()
        }
        generated: StructureHook = _make_structure(
            cls, self._converter, _cattrs_forbid_extra_keys=False, **overrides
        )

        def quick(value: Any, _: Any) -> Any:
            return generated(_object(value), cls)

        def thorough(value: Any, _: Any) -> Any:
            try:
                return quick(value, _)
            except ClassValidationError as group:
                raise FaultyError(_faults_of(group, value)) from group

        return thorough if self._thorough else quick

    def _make_object(self, item_type: Any) -> StructureHook:
        hook = self.hook(item_type)

        def quick(value: Any, _: Any) -> Any:
            items = _object(value)
            if not all(map(str.isascii, items)):
                for name in items:
                    _text(name, str)
            return {name: hook(item, item_type) for name, item in items.items()}

        def thorough(value: Any, _: Any) -> Any:
            items = _object(value)
            result: dict[str, Any] = {}
            faults: list[tuple[Path, str]] = []
            for name, item in items.items():
                try:
                    result[_text(name, str)] = None
                except FaultyError as faulty:
                    faults += (((str(name),), f"its name {why}") for _, why in faulty.faults)
                try:
                    result[name] = hook(item, item_type)
                except FaultyError as faulty:
                    faults += (((str(name), *path), why) for path, why in faulty.faults)
            if faults:
                raise FaultyError(faults)
            return result

        return thorough if self._thorough else quick

    def _make_list(self, item_type: Any, make: Callable[[list[Any]], Any]) -> StructureHook:
        hook = self.hook(item_type)

        def quick(value: Any, _: Any) -> Any:
            return make([hook(item, item_type) for item in _list(value)])

        def thorough(value: Any, _: Any) -> Any:
            return make(_all_of((hook, item_type, item) for item in _list(value)))

        return thorough if self._thorough else quick

    def _make_row(self, item_types: tuple[Any, ...]) -> StructureHook:
        hooks = [(self.hook(type_), type_) for type_ in item_types]

        def structure(value: Any, _: Any) -> Any:
            items = _list(value)
            if len(items) != len(hooks):
                reason = f"must be a list of {len(hooks)}, not of {len(items)}"
                raise FaultyError([((), reason)])
            return tuple(
                _all_of(
                    (hook, type_, item) for (hook, type_), item in zip(hooks, items, strict=True)
                )
            )

        return structure


class Unstructuring:
    """Makes the functions that turn objects of a type into plain data."""

    def __init__(self) -> None:
        self._converter = Converter()
        self._hooks: dict[Any, UnstructureHook] = {}
        self._building: set[Any] = set()

    def hook(self, type_: Any) -> UnstructureHook:
        """The function for a type that `Structuring` supports, made at the first call."""
        type_ = bare(type_)
        if (known := self._hooks.get(type_)) is not None:
            return known
        if type_ in self._building:
            return lambda value: self._hooks[type_](value)
        self._building.add(type_)
        try:
            made = self._hooks[type_] = self._make(type_)
        finally:
            self._building.discard(type_)
        return made

    def _make(self, type_: Any) -> UnstructureHook:
        origin, arguments = typing.get_origin(type_) or type_, typing.get_args(type_)
        if len(members := members_of(type_)) > 1:
            hooks = {self.hook(member) for member in members if member is not types.NoneType}
            hook = hooks.pop()
            return (
                hook if hook is identity else lambda value: None if value is None else hook(value)
            )
        if isinstance(type_, type) and issubclass(type_, Enum):
            return attrgetter("value")
        if is_class_with_fields(type_):
            overrides = {
                name: override(unstruct_hook=self.hook(field_type))
                for name, field_type in fields_of(cast("type[Any]", type_)).items()
            }
            made: UnstructureHook = _make_unstructure(type_, self._converter, **overrides)
            return made
        if origin in OBJECTS:
            hook = self.hook(arguments[1] if arguments else Any)
            if hook is identity:
                return dict
            return lambda value: {name: hook(item) for name, item in value.items()}
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            row = [self.hook(argument) for argument in arguments]
            return lambda value: [hook(item) for hook, item in zip(row, value, strict=True)]
        if origin in LISTS or origin in TUPLES:
            hook = self.hook(arguments[0] if arguments else Any)
            return list if hook is identity else lambda value: [hook(item) for item in value]
        return identity


def _wrong(expected: str, value: object) -> FaultyError:
    return FaultyError([((), f"must be {expected}, not {show_value(value)}")])


def _object(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _wrong("an object", value)
    return value  # pyright: ignore[reportUnknownVariableType]


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise _wrong("a list", value)
    return cast("Sequence[Any]", value)


def _all_of(parts: typing.Iterable[tuple[StructureHook, Any, Any]]) -> list[Any]:
    result: list[Any] = []
    faults: list[tuple[Path, str]] = []
    for index, (hook, type_, item) in enumerate(parts):
        try:
            result.append(hook(item, type_))
        except FaultyError as faulty:
            faults += (((index, *path), why) for path, why in faulty.faults)
    if faults:
        raise FaultyError(faults)
    return result


def _faults_of(group: ClassValidationError, value: dict[str, Any]) -> list[tuple[Path, str]]:
    """Everything that cattrs collected about one object."""
    faults: list[tuple[Path, str]] = []
    for error in group.exceptions:
        notes: list[object] = getattr(error, "__notes__", [])
        name = next(
            (note.name for note in notes if isinstance(note, AttributeValidationNote)), None
        )
        if name is None:  # a validator, or the constructor
            faults.append(((), str(error) or type(error).__name__))
        elif isinstance(error, FaultyError):
            faults += (((name, *path), why) for path, why in error.faults)
        elif name not in value:
            faults.append(((name,), "is missing"))
        else:
            faults.append(((name,), str(error) or type(error).__name__))
    return faults


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("a text", value)
    if has_surrogate(value):
        raise FaultyError([((), LONE_SURROGATE)])
    return value


def _whole(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise _wrong("a whole number", value)
    return value


def _number(value: Any, _: Any) -> float:
    if type(value) is not float:
        if type(value) is not int:
            raise _wrong("a number", value)
        try:
            return float(value)
        except OverflowError:
            raise FaultyError([((), NOT_FINITE)]) from None
    if not math.isfinite(value):
        raise FaultyError([((), NOT_FINITE)])
    return value


def _truth(value: Any, _: Any) -> bool:
    if value is True or value is False:
        return value
    raise _wrong("true or false", value)


def _nothing(value: Any, _: Any) -> None:
    if value is not None:
        raise _wrong("null", value)


def _anything(value: Any, _: Any) -> Any:
    if faults := list(find_faults(value)):
        raise FaultyError(faults)
    return value


def _one_of(members: Mapping[tuple[type, Any], Any]) -> StructureHook:
    expected = "one of " + ", ".join(show_value(value) for _, value in members)

    def structure(value: Any, _: Any) -> Any:
        try:
            return members[type(value), value]  # with its type: 1 == True == 1.0
        except (KeyError, TypeError):
            raise _wrong(expected, value) from None

    return structure


_SCALARS: Final[Mapping[Any, StructureHook]] = types.MappingProxyType(
    {
        str: _text,
        int: _whole,
        float: _number,
        bool: _truth,
        None: _nothing,
        types.NoneType: _nothing,
        Any: _anything,
        object: _anything,
    }
)
_EXPECTED: Final[Mapping[Any, str]] = types.MappingProxyType(
    {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        types.NoneType: "null",
    }
)
_EXACT: Final = frozenset(_EXPECTED)
