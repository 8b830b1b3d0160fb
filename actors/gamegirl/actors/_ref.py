"""References: what a caller holds to speak to an actor."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from gamegirl.actors._behaviour import Stored
from gamegirl.codec import GameGirlError

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


class Host(Protocol):
    """What a reference needs of the supervisor that hosts its actor."""

    def ask(self, kind: str, actor_id: str, message: object) -> Coroutine[Any, Any, Any]:
        """Enqueue the message; wait for its answer."""
        ...

    def tell(self, kind: str, actor_id: str, message: object) -> None:
        """Enqueue the message; wait for nothing."""
        ...

    def peek(self, kind: str, actor_id: str) -> Any | None:
        """The live actor's own state, not to be changed; None if it isn't live."""
        ...

    def changes(self, kind: str, actor_id: str) -> AsyncIterator[None]:
        """An item at once and after each committed change; what a slow reader misses is one."""
        ...

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the store holds in these keys now, whoever owns them."""
        ...


@attrs.frozen
class ActorRef:
    """A reference to an actor, live or not: sending to it activates it.

    Attributes:
        kind: The kind of its behaviour.
        actor_id: Its id within the kind.
    """

    kind: str
    actor_id: str
    _host: Host = attrs.field(repr=False, eq=False)

    def ask(self, message: object) -> Coroutine[Any, Any, Any]:
        """Send a message and wait for its answer, when this is awaited.

        Raises:
            GameGirlError: What the behaviour refused with, or what kept the message from being
                handled; its `fate` says whether to send it again.
        """
        return self._host.ask(self.kind, self.actor_id, message)  # One coroutine is enough.

    def tell(self, message: object) -> None:
        """Send a message without waiting; only what happens before the mailbox is raised."""
        self._host.tell(self.kind, self.actor_id, message)


async def refused(error: GameGirlError) -> Any:
    """What a call gives whose arguments were refused: raises it when it is awaited."""
    try:
        raise error
    finally:
        del error  # Or the error would keep its own frame until the collector comes.


def returns_coroutine(function: F) -> F:
    """Have whoever asks for coroutine functions, as `mock.create_autospec` does, take it for one.

    Python 3.11 asks `asyncio` only, which looks for a mark of its own.
    """
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        vars(function)["_is_coroutine"] = vars(asyncio.coroutines)["_is_coroutine"]
    return function
