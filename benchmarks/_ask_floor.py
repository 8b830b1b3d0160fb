"""The floors of W1: references, a coroutine an ask, the clock, the behaviour, and the yields.

What is left out is what makes an actor: the check of the thread, the lookup among kinds, whether it
is live, idle and in time, and what else than an answer may come of a decision. The second floor
has the two of these without which nothing could be trusted: a call from another thread is noticed,
and what writes, performs, postpones or refuses isn't taken for an answer. The third also
has what an actor can't be without: it is looked up by kind and id, seen to be idle, and noted to
have been used. It has no timers, no bound of time between yields, and no crashes. Each is written
out in one function, much of it the same: a call more is a tenth of what is measured.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from threading import get_ident
from time import monotonic, time
from typing import Any

import attrs

from benchmarks._contest import Measure, Site
from benchmarks._echo import Echo, EchoState, ask
from benchmarks._pace import asking
from gamegirl.actors import ActorRef, Answer, Later
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


@attrs.define
class _CheckingHost(_Host):
    """The same, and nothing happens unnoticed."""

    _thread: int = attrs.field(factory=get_ident)

    async def ask(self, kind: str, actor_id: str, message: int) -> Any:
        if get_ident() != self._thread:
            raise RuntimeError("asked from another thread")
        self._handled += 1
        if self._handled >= self._yield_at:
            self._yield_at = self._handled + _YIELD_MESSAGES
            await self._checkpoint()
        now = monotonic() + self._offset
        decision = self._behaviour.handle(self._states[actor_id], message, now)
        reply = decision.reply
        if decision.__class__ is Answer and reply.__class__ is not Later:
            return reply
        raise NotImplementedError("more comes of it than an answer")


class _Cell:
    """An actor, as far as it is needed to answer while it is idle."""

    __slots__ = ("backlog", "last_used", "state")

    def __init__(self, state: EchoState) -> None:
        self.state = state
        self.backlog: object = None
        self.last_used = 0.0


@attrs.define
class _ActorHost(_CheckingHost):
    """The same, for actors."""

    _kinds: dict[str, dict[str, _Cell]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._kinds = {Echo.kind: {name: _Cell(state) for name, state in self._states.items()}}

    async def ask(self, kind: str, actor_id: str, message: int) -> Any:
        if get_ident() != self._thread:
            raise RuntimeError("asked from another thread")
        self._handled += 1
        if self._handled >= self._yield_at:
            self._yield_at = self._handled + _YIELD_MESSAGES
            await self._checkpoint()
        now = monotonic() + self._offset
        cell = self._kinds[kind][actor_id]
        if cell.backlog is not None:
            raise NotImplementedError("it has to wait")
        cell.last_used = now
        decision = self._behaviour.handle(cell.state, message, now)
        reply = decision.reply
        if decision.__class__ is Answer and reply.__class__ is not Later:
            return reply
        raise NotImplementedError("more comes of it than an answer")


def ask_floor(site: Site, actors: int) -> AbstractAsyncContextManager[Measure]:
    """Asks that are answered with nothing checked."""
    return _asked(site, actors, _Host)


def checking_floor(site: Site, actors: int) -> AbstractAsyncContextManager[Measure]:
    """Asks that look at their thread and at what was decided."""
    return _asked(site, actors, _CheckingHost)


def actor_floor(site: Site, actors: int) -> AbstractAsyncContextManager[Measure]:
    """Asks of actors that are looked up, seen to be idle and noted to be used."""
    return _asked(site, actors, _ActorHost)


@asynccontextmanager
async def _asked(site: Site, actors: int, kind: type[_Host]) -> AsyncGenerator[Measure, None]:
    names = [str(index) for index in range(actors)]
    host: Any = kind({name: EchoState(name) for name in names})
    callers = [partial(ask, ActorRef(Echo.kind, name, host)) for name in names]
    yield asking(callers, site.round_seconds)
