"""A behaviour that can do everything wrong, and supervisors that host it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from gamegirl.actors import Behaviour, Decision, Later, Require, UnknownGameError
from gamegirl.codec import JsonCodec
from gamegirl.supervisor import MemoryStore, Settings, Supervisor


@attrs.define
class Total:
    actor_id: str
    total: int = 0


class Adder(Behaviour[Total]):
    """Adds numbers; a text is what it does wrong."""

    kind = "adder"
    codec = JsonCodec(Total)
    wrong = ""

    def initial(self, actor_id: str) -> Total:
        return Total(actor_id)

    def keys(self, actor_id: str) -> Any:
        if self.wrong == "keys":
            raise KeyError("keys")
        return super().keys(actor_id)

    def restore(self, actor_id: str, stored: Any, now: float) -> Any:
        return None if self.wrong == "restore" else super().restore(actor_id, stored, now)

    def wake_at(self, state: Total) -> Any:
        if self.wrong == "wake raises":
            raise KeyError("wake")
        wrong = {"wake text": "soon", "wake nan": float("nan"), "wake past": -1.0}
        return {**wrong, "wake huge": 10**400}.get(self.wrong)

    def may_release(self, state: Total) -> bool:
        if self.wrong == "may_release":
            raise KeyError("release")
        return super().may_release(state)

    def handle(self, state: Total, message: Any, now: float) -> Any:
        if message == "nothing":
            return None
        if message == "wait":
            return Decision(Later("wait"))
        if message == "guarded":
            refused = UnknownGameError("guarded")
            guard = Require("gg:never", "x", "y", refused)
            return Decision(None, self.stored(state), requires=(guard,))
        state.total += message
        return Decision(state.total, self.stored(state))


@asynccontextmanager
async def hosted(
    store: Any = None, behaviours: Any = (), on_turn: Any = None, **settings: Any
) -> AsyncGenerator[Supervisor]:
    async with Supervisor(
        MemoryStore() if store is None else store,
        settings=Settings(**settings),
        behaviours=behaviours,
        on_turn=on_turn,
    ) as supervisor:
        yield supervisor
        check_cohorts(supervisor)


def check_cohorts(supervisor: Any) -> None:
    """Whatever has happened, what isn't settled is counted by those that watch it, and no more."""
    watchdog = supervisor._watchdog
    unsettled = Counter(
        id(commit.cohort)
        for cell in supervisor._engine.cells()
        if cell.backlog is not None
        for commit in cell.backlog.commits()
    )
    cohorts = [cohort for _, cohort, _ in watchdog._cohorts] + [watchdog._cohort]
    assert [one.left for one in cohorts] == [unsettled[id(one)] for one in cohorts]
