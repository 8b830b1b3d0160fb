"""Data that only the runtime makes and passes on: frozen by the type checkers, quick to make.

`attrs.frozen` sets every field through `object.__setattr__`, so that making an object takes three
times as long. A press makes half a dozen of them that no caller ever sees; for those the checkers'
word is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from attrs import frozen as record
else:
    import attrs

    ClassT = TypeVar("ClassT", bound=type)

    def record(cls: ClassT) -> ClassT:
        """A class of immutable data, with slots, compared and hashed by its fields."""
        return attrs.define(cls, unsafe_hash=True)


__all__ = ["record"]
