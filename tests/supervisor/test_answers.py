"""An `Answer` is a `Decision` of which nothing comes but an answer, wherever it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from tests.supervisor.hosts import hosted

from gamegirl.actors import (
    Answer,
    Behaviour,
    Decided,
    Decision,
    Later,
    Restored,
    WakeWaiters,
    Woken,
)
from gamegirl.codec import JsonCodec
from gamegirl.testing import eventually

pytestmark = pytest.mark.anyio


@attrs.define
class Bell:
    """Rings at a time, which nothing stores."""

    actor_id: str
    rings_at: float | None = None
    rung: int = 0


class Ringer(Behaviour[Bell]):
    """Says what it says by what it was given to say it with."""

    kind = "ringer"
    codec = JsonCodec(Bell)

    def __init__(self, said: Callable[[Any], Decided]) -> None:
        self.said = said

    def initial(self, actor_id: str) -> Bell:
        return Bell(actor_id)

    def wake_at(self, state: Bell) -> float | None:
        return state.rings_at

    def due_at(self, state: Bell) -> float | None:
        return None

    def handle(self, state: Bell, message: Any, now: float) -> Decided:
        match message:
            case float():
                state.rings_at = now + message
            case Woken():
                state.rings_at = None
                state.rung += 1
            case "let go":
                return Decision(effects=(WakeWaiters(),))
            case "write":
                return Decision(writes=self.stored(state))
            case "wait" if not state.rung:
                return self.said(Later("wait"))
            case _:
                pass
        return self.said(state.rung)


SAID = pytest.mark.parametrize("said", [Answer, Decision])


@SAID
async def test_an_answer_is_answered_by_an_idle_actor_and_by_one_that_has_to_write(
    said: Callable[[Any], Decided],
) -> None:
    """What is read behind a write comes after it, as of any decision."""
    async with hosted(behaviours=[Ringer(said)]) as supervisor:
        actor = supervisor.actor("ringer", "a")
        assert [await actor.ask("read") for _ in range(2)] == [0, 0]  # Cold, and live and idle.
        answers: list[Any] = []

        async def ask(message: str) -> None:
            answers.append((message, await actor.ask(message)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "write")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(ask, "read")
        assert sorted(answers) == [("read", 0), ("write", None)]


@SAID
async def test_an_answer_that_is_not_ready_is_waited_for(said: Callable[[Any], Decided]) -> None:
    """`Later` in it is asked again, and never handed to the caller."""
    async with hosted(behaviours=[Ringer(said)]) as supervisor:
        actor = supervisor.actor("ringer", "a")
        await actor.ask("read")
        answers: list[Any] = []

        async def wait() -> None:
            answers.append(await actor.ask("wait"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            actor.tell("let go")  # Too early: it has to wait once more.
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            await actor.ask(Woken())
            actor.tell("let go")
        assert answers == [1]


@SAID
async def test_an_answer_sets_and_ends_the_timer_that_its_state_asks_for(
    said: Callable[[Any], Decided],
) -> None:
    """A timer needs no write, whoever was asked: a caller or the timer itself."""
    async with hosted(behaviours=[Ringer(said)]) as supervisor:
        actor = supervisor.actor("ringer", "a")
        await actor.ask("read")
        for ring in range(1, 3):
            await actor.ask(0.01)

            def rung(times: int = ring) -> bool:
                bell: Any = supervisor.peek("ringer", "a")
                return bool(bell.rung == times)

            await eventually(rung)
        assert supervisor.statistics().timers == 0


async def test_a_restored_state_comes_with_a_decision() -> None:
    """An answer has nowhere for what could not be used: the actor crashes, saying so."""

    class Terse(Ringer):
        def restore(self, actor_id: str, stored: Any, now: float) -> Restored[Bell]:
            given: Any = Answer()
            return Restored(Bell(actor_id), decision=given)

    async with hosted(behaviours=[Terse(Answer)], restarts_max=0) as supervisor:
        with pytest.raises(Exception, match="restore"):
            await supervisor.actor("ringer", "a").ask("read")
        assert "restore() decided Answer" in str(supervisor.crashes()[0].error)


def test_an_answer_that_is_given_often_says_the_same_each_time() -> None:
    """Whoever was given it can't change what the next one gets."""
    answer, name = Answer(1), "reply"
    with pytest.raises(AttributeError):
        setattr(answer, name, 2)
    assert answer.reply == 1
