"""What the engine works with: registered behaviours, and who does the waiting for it."""

from __future__ import annotations

from typing import Any, Protocol

from gamegirl.actors import Behaviour, InvalidInputError, Prefetch
from gamegirl.actors._mailbox import Envelope
from gamegirl.supervisor._cell import Backlog, Cell, Cohort

_ALARMS = frozenset(("wake_at", "due_at", "alarms"))


class Role:
    """A registered behaviour with its live actors.

    Attributes:
        prefetch: What a claim reads along.
        timed: It has timers or due times at all.
    """

    __slots__ = ("behaviour", "cells", "prefetch", "timed")

    def __init__(self, behaviour: Behaviour[Any]) -> None:
        prefetch: Any = behaviour.prefetch
        if prefetch is not None and not isinstance(prefetch, Prefetch):
            raise InvalidInputError(
                f"the prefetch of a behaviour ({behaviour.kind!r}) is a Prefetch or None, "
                f"not {prefetch!r:.100}"
            )
        self.behaviour = behaviour
        self.prefetch = prefetch
        self.cells: dict[str, Cell] = {}
        classes = type(behaviour).__mro__
        own = classes[: classes.index(Behaviour)]
        self.timed = any(not _ALARMS.isdisjoint(vars(cls)) for cls in own)


class Claims(Protocol):
    """Whoever claims and restores actors."""

    def trouble(self, cell: Cell) -> str:
        """Why the store did not claim the actor, or others, the last time; empty: it did."""
        ...

    def request(self, cell: Cell, delay: float = 0.0) -> None:
        """Claim the actor, after a while."""
        ...


class Commits(Protocol):
    """Whoever sends commits to the store.

    Attributes:
        trouble: Why the store did not do it the last time; empty: it did.
    """

    trouble: str

    def open(self, cell: Cell, backlog: Backlog) -> None:
        """The actor, which is not listed, has something urgent to commit."""
        ...

    def add(self, cell: Cell, *, urgent: bool) -> None:
        """The actor has something to commit."""
        ...


class Watch(Protocol):
    """Whoever notices that something takes too long."""

    def add(self, cell: Cell, message: Envelope) -> None:
        """Call `Settlement.expire` unless the message, which is new, is answered in time."""
        ...

    def renew(self, cell: Cell, message: Envelope) -> None:
        """The same, with the time beginning anew, for one that may be watched already."""
        ...

    def enter(self, cell: Cell) -> Cohort:
        """Call `Settlement.expire` unless a new commit is settled in time.

        Returns:
            What the commit counts in. It is looked for in the actor's backlog.
        """
        ...

    def prune(self) -> None:
        """Many messages have just been answered: let go of them."""
        ...
