"""References: what a caller holds to speak to an actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Protocol

import attrs

from gamegirl.actors._behaviour import Stored


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
