"""The version of a stored form, and the way from an older one to ours."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from gamegirl.codec._errors import CodecError, Fault

FIELD: Final = "schema"
"""The field that holds the version; data without it is of version 1."""

Migration: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a form of one version (its own copy, at the top level) and gives that of the next."""


class NewerSchemaError(CodecError):
    """The data was written by a newer program: it can't be read, and must not be overwritten.

    Attributes:
        found: The version of the data.
        supported: The highest version that this program knows.
    """

    def __init__(self, what: str, found: int, supported: int) -> None:
        reason = f"is {found}, and this program knows at most {supported}: update it"
        super().__init__(what, (Fault(FIELD, reason),))
        self.found = found
        self.supported = supported


@attrs.frozen
class Schema:
    """Which version of a form we write, and how older ones become it.

    Args:
        version: Ours, at least 1.
        migrations: For every older version the step to the next.

    Raises:
        ValueError: There is no step for one of the older versions, or a step that nobody takes.

    Example:
        >>> def turns_are_counted(plain):
        ...     turns = plain.pop("turns")
        ...     return {**plain, "turn_number": len(turns)}
        >>> schema = Schema(2, {1: turns_are_counted})
        >>> schema.upgrade({"turns": ["a", "b"]})
        {'turn_number': 2, 'schema': 2}
    """

    version: int
    migrations: Mapping[int, Migration] = attrs.field(default=types.MappingProxyType({}))

    def __attrs_post_init__(self) -> None:
        if set(self.migrations) != set(range(1, self.version)) or self.version < 1:
            raise ValueError(
                f"schema version {self.version} needs one migration from each of the versions "
                f"1 to {self.version - 1}, and has them from {sorted(self.migrations)}"
            )

    def upgrade(self, plain: object, what: str = "data") -> dict[str, Any]:
        """Bring plain data of any older version to ours; the given object is not changed.

        Raises:
            NewerSchemaError: It is of a newer version.
            CodecError: It has no usable version, or a migration failed.
        """
        if not isinstance(plain, dict):
            raise CodecError(what, (Fault("", "must be an object"),))
        current: dict[str, Any] = dict(plain)  # pyright: ignore[reportUnknownArgumentType]
        found = current.get(FIELD, 1)
        if type(found) is not int or found < 1:
            raise CodecError(what, (Fault(FIELD, "must be a whole number from 1"),))
        if found > self.version:
            raise NewerSchemaError(what, found, self.version)
        for version in range(found, self.version):
            try:
                current = self.migrations[version](current)
            except Exception as error:
                reason = f"migration from version {version} failed: {error!r}"
                raise CodecError(what, (Fault("", reason),)) from error
        return self.stamp(current)

    def stamp(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of plain data that says that it is of our version."""
        return {**plain, FIELD: self.version}
