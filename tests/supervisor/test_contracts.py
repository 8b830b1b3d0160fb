"""Behaviours that break their contract: their actor fails alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from tests.supervisor.hosts import Adder, hosted

from gamegirl.actors import (
    ActorCrashedError,
    InvalidInputError,
    PutText,
    SessionFailedError,
    SessionQuarantinedError,
)
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
