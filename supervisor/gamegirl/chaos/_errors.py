"""What goes wrong with the bench itself, which is no verdict on the runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast


class BenchError(Exception):
    """The scenario can't be run here: what is missing, and what to do."""


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            yield error
