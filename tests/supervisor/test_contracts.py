"""Behaviours that break their contract: their actor fails alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import (
    ActorCrashedError,
    Cancel,
    Decision,
    Emit,
    InvalidInputError,
    PatchHash,
    Perform,
    PutText,
    Quarantined,
    Require,
    SessionFailedError,
    SessionQuarantinedError,
)
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import MemoryStore, Supervisor
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Alter = Callable[..., Awaitable[None]]


def _error_of(supervisor: Supervisor) -> str:
    try:
        supervisor.actor("session", "c").tell(object())
    except SessionFailedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "wrong", ["keys", "restore", "wake raises", "wake text", "wake nan", "wake past"]
)
async def test_a_behaviour_that_breaks_its_contract_stops_alone(wrong: str) -> None:
    """Whatever a behaviour raises or returns, its callers are told and siblings never notice."""
    bad = Adder()
    async with hosted(
        behaviours=[bad], restarts_max=1, restart_backoff_seconds=0.001
    ) as supervisor:
        await supervisor.session("c").boot("G")
        bad.wrong = wrong
        with anyio.fail_after(5), pytest.raises((ActorCrashedError, SessionFailedError)):
            await supervisor.actor("adder", "a").ask(1)
        assert (await supervisor.session("c").state()).active


async def test_a_handler_that_returns_no_decision_is_a_crash() -> None:
    """The caller gets the type that was expected, and the actor goes on."""
    async with hosted(behaviours=[Adder()]) as supervisor:
        actor = supervisor.actor("adder", "a")
        for _ in range(2):  # Cold, and live and idle.
            with pytest.raises(ActorCrashedError, match="expected a Decision"):
                await actor.ask("nothing")
        assert await actor.ask(1) == 1


class Careless(Adder):
    """Decides as it is told, whatever comes of it."""

    kind = "careless"

    def handle(self, state: Any, message: Any, now: float) -> Decision:
        if not isinstance(message, Decision):
            decided: Decision = super().handle(state, message, now)
            return decided
        state.total += 100  # As an acknowledged state would have it.
        return message


_WRITES = (PutText("gg:actor:careless:other", "{}"),)
_REFUSAL = GameGirlError("no")


@pytest.mark.parametrize(
    "decision",
    [
        Decision(writes=_WRITES[0]),  # type: ignore[arg-type]
        Decision(writes=5),  # type: ignore[arg-type]
        Decision(effects=Emit("x")),  # type: ignore[arg-type]
        Decision(writes=_WRITES, effects=Emit("x")),  # type: ignore[arg-type]
        Decision(effects=("x",)),  # type: ignore[arg-type]
        Decision(effects=(Perform("k", 1, "5"),)),  # type: ignore[arg-type]
        Decision(effects=(Perform("k", 1, -1.0),)),
        Decision(effects=[Perform("k", 1, float("nan"))]),
        Decision(effects=(Perform([], 1),)),  # type: ignore[arg-type]
        Decision(effects=(Cancel([]),)),  # type: ignore[arg-type]
        Decision(writes=_WRITES, requires=Require("h", "f", None, _REFUSAL)),  # type: ignore[arg-type]
        Decision(writes=_WRITES, requires=("x",)),  # type: ignore[arg-type]
        Decision(writes=_WRITES, requires=(Require("h", "f", "v", "no"),)),  # type: ignore[arg-type]
        Decision(effects=(Perform("k", 1, 10**400),)),
        Decision(quarantined=("x",)),  # type: ignore[arg-type]
        Decision(quarantined=(Quarantined("k", "v", "r"),)),  # type: ignore[arg-type]
        Decision(quarantined=(Quarantined(1, b"v", "r"),)),  # type: ignore[arg-type]
        Decision(error="no"),  # type: ignore[arg-type]
        Decision(writes=_WRITES, error="no"),  # type: ignore[arg-type]
    ],
    ids=lambda decision: f"{decision!r:.60}",
)
@pytest.mark.parametrize("busy", [False, True])
async def test_a_decision_with_something_else_in_it_is_a_crash(
    decision: Decision, busy: bool
) -> None:
    """Idle or not, its actor throws away what it changed, and siblings never notice."""
    async with hosted(behaviours=[Careless()]) as supervisor:
        actor, sibling = supervisor.actor("careless", "a"), supervisor.actor("careless", "b")
        assert await actor.ask(1) == 1
        if busy:
            actor.tell(1)
        with anyio.fail_after(5):
            with pytest.raises(ActorCrashedError):
                await actor.ask(decision)
            assert await actor.ask(1) == 2 + busy
            assert await sibling.ask(1) == 1


class Undecided:
    """As some arrays are: neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("the truth of this is ambiguous")


@pytest.mark.parametrize("nothing", [None, [], {}], ids=repr)
async def test_nothing_is_nothing_whether_the_actor_is_busy_or_not(nothing: Any) -> None:
    """What is answered while little happens does not crash under load."""
    async with hosted(behaviours=[Careless()]) as supervisor:
        actor = supervisor.actor("careless", "a")
        for busy in (False, True):
            if busy:
                actor.tell(1)
            with anyio.fail_after(5):
                assert await actor.ask(Decision("read", nothing, nothing, None, nothing)) == "read"


async def test_what_is_neither_true_nor_false_costs_only_its_actor_a_restart() -> None:
    """Also where it waits behind a claim, whose other messages are answered all the same."""
    async with hosted(behaviours=[Careless()]) as supervisor:
        actor = supervisor.actor("careless", "a")
        decision = Decision(writes=Undecided())  # type: ignore[arg-type]
        with anyio.fail_after(5):
            with pytest.raises(ActorCrashedError):  # Cold.
                await actor.ask(decision)
            assert await actor.ask(1) == 1
            with pytest.raises(ActorCrashedError):  # Idle.
                await actor.ask(decision)
            actor.tell(1)
            with pytest.raises(ActorCrashedError):  # Behind another's commit.
                await actor.ask(decision)
            assert await actor.ask(1) == 3


@pytest.mark.parametrize(
    "decision",
    [
        Decision(writes=_WRITES, effects=(Perform("k", 1, "z"),)),  # type: ignore[arg-type]
        Decision(writes=_WRITES, effects=5),  # type: ignore[arg-type]
        Decision(writes=_WRITES, effects=(Perform("k", 1, -5.0),)),
        "no decision",
    ],
    ids=lambda decision: f"{decision!r:.60}",
)
async def test_a_restore_that_decides_something_else_stops_alone(decision: Any) -> None:
    """What it would do once it is committed can't break the one who commits."""

    class Restoring(Adder):
        def restore(self, actor_id: str, stored: Any, now: float) -> Any:
            return replace(super().restore(actor_id, stored, now), decision=decision)

    async with hosted(
        behaviours=[Restoring()], restarts_max=1, restart_backoff_seconds=0.001
    ) as supervisor:
        await supervisor.session("c").boot("G")
        with anyio.fail_after(5), pytest.raises((ActorCrashedError, SessionFailedError)):
            await supervisor.actor("adder", "a").ask(1)
        await eventually(lambda: len(supervisor.crashes()) == 2)
        assert (await supervisor.session("c").state()).active


async def test_a_wrong_write_that_joins_others_stops_its_actor_alone() -> None:
    """Writes of several messages are merged before the store sees what is wrong with one."""

    class Patching(Careless):
        kind = "patching"

    def patch(fields: Any) -> Decision:
        return Decision(writes=(PatchHash("gg:patched", fields),))

    store = FaultyStore(MemoryStore())
    async with hosted(store, behaviours=[Patching()], restart_backoff_seconds=0.001) as supervisor:
        actor = supervisor.actor("patching", "a")
        await actor.ask(1)
        store.hold()
        refused = list[Exception]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(actor.ask, 1)
            await eventually(lambda: len(store.commits) == 2)

            async def ask(fields: Any) -> None:
                try:
                    await actor.ask(patch(fields))
                except SessionQuarantinedError as error:
                    refused.append(error)

            for fields in ({"a": "1"}, {"b": "2"}, None):
                tasks.start_soon(ask, fields)
            await eventually(lambda: supervisor.statistics().unsettled == 4)
            store.let_go()
        assert len(refused) == 3
        assert await supervisor.actor("patching", "b").ask(1) == 1


async def test_a_time_that_no_clock_can_show_is_a_crash() -> None:
    """Also as a whole number, of which there are larger ones than any float."""
    bad = Adder()
    async with hosted(behaviours=[bad], restart_backoff_seconds=0.001) as supervisor:
        actor = supervisor.actor("adder", "a")
        await actor.ask(1)
        bad.wrong = "wake huge"
        with pytest.raises(ActorCrashedError):
            await actor.ask(1)
        bad.wrong = ""
        assert await actor.ask(1) == 2


async def test_an_idle_check_that_raises_is_a_crash_of_its_actor() -> None:
    """Tidying up can't be broken by one actor."""
    bad = Adder()
    async with hosted(behaviours=[bad], idle_seconds=0.02, sweep_seconds=0.01) as supervisor:
        await supervisor.actor("adder", "a").ask(1)
        bad.wrong = "may_release"
        await eventually(lambda: supervisor.crashes())
        bad.wrong = ""
        assert await supervisor.actor("adder", "a").ask(1) == 2


async def test_a_kind_is_a_plain_name() -> None:
    """What names keys can't hold what separates them."""

    class Colon(Adder):
        kind = "my:poll"

    with pytest.raises(InvalidInputError, match="my:poll"):
        Supervisor("memory://", behaviours=[Colon()])


async def test_a_restore_whose_own_commit_is_refused_stops_after_some_tries(alter: Alter) -> None:
    """No endless claiming: it counts as restarts, and then the channel alone is stopped."""
    store = MemoryStore()
    wrong = b'{"game_id":"aaaaaaaaaaaa","game_name":"G","channel_id":"c","players":{"u":"broken"}}'
    faulty = FaultyStore(store)
    async with hosted(faulty, restarts_max=2, restart_backoff_seconds=0.001) as supervisor:
        await alter(store, PutText("gg:quarantine", "in the way"), PutText("game:session:c", wrong))
        session = supervisor.session("c")
        with anyio.fail_after(5):
            with pytest.raises((SessionFailedError, SessionQuarantinedError)):
                await session.state()
            await eventually(lambda: "stopped" in _error_of(supervisor))
        assert sum(map(len, faulty.claims)) <= 4
