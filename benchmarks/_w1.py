"""W1: ask an idle actor with a trivial behaviour, yielding to the loop included."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

from benchmarks import _mailboxes
from benchmarks._ask_floor import actor_floor, ask_floor, checking_floor
from benchmarks._contest import (
    ASYNCIO,
    OWN,
    TRIO,
    UVLOOP,
    Contestant,
    Goal,
    Measure,
    Site,
    Variant,
    Workload,
    uninstalled,
)
from benchmarks._echo import Echo, ask
from benchmarks._pace import asking
from gamegirl.supervisor import Supervisor

_ONE = "1 caller on 1 actor"
_MANY = "1,000 callers on 1,000 actors"
_ACTORS = {_ONE: 1, _MANY: 1000}

_FLOOR = "floor: the coroutine, the clock and the behaviour alone"
_CHECKING_FLOOR = "floor: that, with the thread and the answer looked at"
_ACTOR_FLOOR = "floor: that, for actors of kinds, seen to be idle"

_Enter: TypeAlias = Callable[[Site, int], AbstractAsyncContextManager[Measure]]


@asynccontextmanager
async def _gamegirl(site: Site, actors: int) -> AsyncGenerator[Measure, None]:
    async with Supervisor("memory://", behaviours=[Echo()]) as supervisor:
        references = [supervisor.actor(Echo.kind, str(index)) for index in range(actors)]
        for reference in references:
            await reference.ask(1)

        callers = [partial(ask, reference) for reference in references]
        yield asking(callers, site.round_seconds)


def _sized(enter: _Enter) -> Callable[[Site], AbstractAsyncContextManager[Measure]]:
    return lambda site: enter(site, _ACTORS[site.variant])


_LOOPS = (ASYNCIO, UVLOOP, TRIO)

W1 = Workload(
    name="W1",
    promise="ask on an idle actor",
    figure="per_second",
    unit="asks/s",
    variants=(Variant(_ONE), Variant(_MANY)),
    contestants=(
        Contestant("gamegirl", _LOOPS, _sized(_gamegirl)),
        Contestant(
            "Erlang gen_server:call, 1 scheduler",
            (OWN,),
            _sized(_mailboxes.erlang),
            _mailboxes.no_erlang,
        ),
        Contestant("task and queue", _LOOPS, _sized(_mailboxes.task_and_queue)),
        Contestant("Pykka", (OWN,), _sized(_mailboxes.pykka), uninstalled("pykka")),
        Contestant("xoscar", (ASYNCIO,), _sized(_mailboxes.xoscar), uninstalled("xoscar")),
        Contestant(_FLOOR, (ASYNCIO,), _sized(ask_floor)),
        Contestant(_CHECKING_FLOOR, (ASYNCIO,), _sized(checking_floor)),
        Contestant(_ACTOR_FLOOR, (ASYNCIO,), _sized(actor_floor)),
    ),
    goals=(
        Goal("Erlang gen_server:call, 1 scheduler", 1.0),
        Goal("task and queue", 10.0),
        Goal("Pykka", 50.0),
        Goal("xoscar", 50.0),
        Goal(_FLOOR),
        Goal(_CHECKING_FLOOR),
        Goal(_ACTOR_FLOOR),
    ),
    round_seconds=0.3,
    laps=3,
)
