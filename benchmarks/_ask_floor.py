"""The floor of W1: references, a coroutine an ask, the clock, the behaviour, and the yields.

What is left out is what makes an actor: the check of the thread, the lookup among kinds, whether it
is live, idle and in time, and what else than an answer may come of a decision.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic, time
from typing import Any

import attrs

from benchmarks._contest import Measure, Site
from benchmarks._echo import Echo, EchoState, ask
from benchmarks._pace import asking
from gamegirl.actors import ActorRef
from gamegirl.supervisor._signal import yielder

_YIELD_MESSAGES = 64
"""As in the runtime."""


@attrs.define
class _Host:
    """All that is needed to answer."""

    _states: Mapping[str, EchoState]
    _behaviour: Echo = attrs.field(factory=Echo)
    _handled: int = 0
    _yield_at: int = _YIELD_MESSAGES
    _offset: float = attrs.field(factory=lambda: time() - monotonic())
    _checkpoint: Any = attrs.field(factory=yielder)

    async def ask(self, kind: str, actor_id: str, message: int) -> Any:
        self._handled += 1
        if self._handled >= self._yield_at:
            self._yield_at = self._handled + _YIELD_MESSAGES
            await self._checkpoint()
        now = monotonic() + self._offset
        return self._behaviour.handle(self._states[actor_id], message, now).reply


@asynccontextmanager
async def ask_floor(site: Site, actors: int) -> AsyncGenerator[Measure, None]:
    """Asks that are answered with nothing checked."""
    names = [str(index) for index in range(actors)]
    host: Any = _Host({name: EchoState(name) for name in names})
    callers = [partial(ask, ActorRef(Echo.kind, name, host)) for name in names]
    yield asking(callers, site.round_seconds)
