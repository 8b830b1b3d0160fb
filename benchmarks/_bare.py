"""Sessions without a runtime: their states and their rules alone, which answer at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from gamegirl.actors import Decided, Stored
from gamegirl.actors.session import SessionBehaviour, SessionRef, SessionRules, SessionState


class BareSessions:
    """Hosts sessions as a dict of states: no mailbox, no store, no ownership.

    Attributes:
        behaviour: The rules.
        states: By channel.
    """

    def __init__(self, rules: SessionRules, now: Callable[[], float]) -> None:
        self.behaviour = SessionBehaviour(rules)
        self.states: dict[str, SessionState] = {}
        self._now = now
        self._minted = 0

    def session(self, channel_id: str) -> SessionRef:
        """A reference like the supervisor's."""
        return SessionRef(channel_id, self, self._new_id, self.behaviour.rules)

    def handle(self, channel_id: str, message: object) -> Decided:
        """Have the rules decide."""
        state = self.states.get(channel_id)
        if state is None:
            state = self.states[channel_id] = self.behaviour.initial(channel_id)
        return self.behaviour.handle(state, message, self._now())

    async def ask(self, kind: str, actor_id: str, message: object) -> Any:
        """See `Host`."""
        decision = self.handle(actor_id, message)
        if decision.error is not None:
            raise decision.error
        return decision.reply

    def tell(self, kind: str, actor_id: str, message: object) -> None:
        """See `Host`."""
        self.handle(actor_id, message)

    def peek(self, kind: str, actor_id: str) -> Any | None:
        """See `Host`."""
        return self.states.get(actor_id)

    def changes(self, kind: str, actor_id: str) -> AsyncIterator[None]:
        """See `Host`."""
        raise NotImplementedError("nobody watches a benchmark")

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """See `Host`."""
        return [None] * len(keys)

    def _new_id(self) -> str:
        self._minted += 1
        return f"{self._minted:012x}"
