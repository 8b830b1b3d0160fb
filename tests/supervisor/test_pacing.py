"""Messages that write wait for their turn while more commits gather than the store takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import anyio
import attrs
import pytest
from tests.supervisor.hosts import Adder, Total

from gamegirl.actors import Fate, GameGirlError, MailboxFullError, SessionRef, StoreUnavailableError
from gamegirl.supervisor import Clock, Durability, MemoryStore, Settings, Supervisor
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

_PORTION = 2
_IN_FLIGHT = 4
_DECIDED = _PORTION * (_IN_FLIGHT + 2)
"""So many at most are at the store, or have gathered for it."""

_CROWD = 40


@attrs.define
class Time:
    """A clock's, so many seconds ahead."""

    ahead: float = 0.0

    def read(self) -> float:
        return monotonic() + self.ahead


@attrs.define
class Crowd:
    """Sessions, each with a player who presses, before a store that is held.

    Attributes:
        supervisor: Theirs.
        store: Theirs.
        time: Theirs.
        tasks: Where callers run.
        sessions: One a player.
        late: One more, in which nobody has pressed.
        answers: What each was told, by the number of their session.
    """

    supervisor: Supervisor
    store: FaultyStore
    time: Time
    tasks: Any
    sessions: list[SessionRef]
    late: SessionRef
    answers: dict[int, object] = attrs.field(factory=dict[int, object])

    async def press(self, number: int, choice: str = "x") -> None:
        try:
            answer: object = await self.sessions[number].press("1", "Ana", choice)
        except GameGirlError as error:
            answer = error
        self.answers[number] = answer

    async def crowd(self) -> None:
        """Have one player of each session press, one by one, and the store take none of it."""
        self.store.hold()
        handled = self.supervisor.statistics().handled
        for number in range(_CROWD):
            self.tasks.start_soon(self.press, number)
            unsettled = number + 1
            await eventually(lambda: self.supervisor.statistics().unsettled == unsettled)  # noqa: B023
        assert _PORTION <= self.supervisor.statistics().handled - handled <= _DECIDED

    def decided(self, number: int) -> bool:
        """Whether a session's press was handled."""
        state: Any = self.supervisor.peek("session", self.sessions[number].channel_id)
        return "1" in state.choices

    def waiting(self) -> list[int]:
        """Whose press was not handled yet."""
        return [number for number in range(_CROWD) if not self.decided(number)]

    def committed(self) -> list[str]:
        """The channels whose commits were sent, in that order."""
        return [commit.actor.actor_id for call in self.store.commits for commit in call]


@asynccontextmanager
async def crowding(*behaviours: Adder, **settings: Any) -> AsyncGenerator[Crowd, None]:
    store = FaultyStore(MemoryStore())
    store.portion = _PORTION
    time = Time()
    clock = Clock(time.read, time.read)
    async with (
        anyio.create_task_group() as tasks,
        Supervisor(
            store, behaviours=behaviours, settings=Settings(**settings), clock=clock
        ) as supervisor,
    ):
        *sessions, late = [supervisor.session(f"c{number}") for number in range(_CROWD + 1)]
        for session in (*sessions, late):
            await session.boot("G")
        yield Crowd(supervisor, store, time, tasks, sessions, late)
        store.let_go()


async def test_no_more_is_decided_than_the_store_takes_and_a_portion() -> None:
    """What is decided meanwhile would only wait, out of reach of the processor's caches."""
    async with crowding() as crowd:
        await crowd.crowd()
        assert len(crowd.waiting()) >= _CROWD - _DECIDED


async def test_all_are_answered_in_the_order_in_which_they_came() -> None:
    """Once the store takes commits again."""
    async with crowding() as crowd:
        await crowd.crowd()
        crowd.store.let_go()
        await eventually(lambda: len(crowd.answers) == _CROWD)
        assert not [one for one in crowd.answers.values() if isinstance(one, Exception)]
        assert crowd.committed()[-_CROWD:] == [one.channel_id for one in crowd.sessions]


async def test_who_comes_later_doesn_t_overtake_those_who_wait() -> None:
    """Not even if nobody else wants anything of that session."""
    async with crowding() as crowd:
        await crowd.crowd()
        crowd.tasks.start_soon(crowd.late.press, "1", "Ana", "x")
        unsettled = _CROWD + 1
        await eventually(lambda: crowd.supervisor.statistics().unsettled == unsettled)
        crowd.store.let_go()
        await eventually(lambda: crowd.supervisor.statistics().unsettled == 0)
        assert crowd.committed()[-1] == crowd.late.channel_id


async def test_what_is_only_read_waits_for_no_turn() -> None:
    """The state of an idle actor is at hand."""
    async with crowding() as crowd:
        await crowd.crowd()
        with anyio.fail_after(5):
            assert await crowd.late.active()


async def test_a_press_counts_in_the_window_that_was_open_when_it_came() -> None:
    """Though the window's time is over when it is its turn."""
    async with crowding(window_seconds=10.0, commit_timeout_seconds=60.0) as crowd:
        for session in crowd.sessions:
            await session.press("2", "Ben", "first")
        await crowd.crowd()
        number = crowd.waiting()[-1]
        crowd.time.ahead += 20.0
        crowd.store.let_go()
        turn = await crowd.sessions[number].next_turn()
        assert dict(turn.choices) == {"2": "first", "1": "x"}


async def test_a_message_that_waits_counts_in_its_mailbox() -> None:
    """A full one says so at once."""
    async with crowding(mailbox_max=3, mailbox_share=1.0) as crowd:
        await crowd.crowd()
        session = crowd.sessions[crowd.waiting()[-1]]
        for player in ("2", "3"):
            crowd.tasks.start_soon(session.press, player, "Ben", "x")
        await eventually(lambda: crowd.supervisor.statistics().unsettled == _CROWD + 2)
        with pytest.raises(MailboxFullError):
            await session.press("4", "Cid", "x")


async def test_whoever_is_cancelled_while_waiting_has_pressed_all_the_same() -> None:
    """The message was accepted: it is neither lost nor doubled."""
    async with crowding() as crowd:
        await crowd.crowd()
        session = crowd.sessions[crowd.waiting()[-1]]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.press, "2", "Ben", "y")
            await eventually(lambda: crowd.supervisor.statistics().unsettled == _CROWD + 1)
            tasks.cancel_scope.cancel()
        crowd.store.let_go()
        await eventually(lambda: crowd.supervisor.statistics().unsettled == 0)
        assert (await session.state()).pending_choices == {"1": "x", "2": "y"}


async def test_those_who_wait_for_a_silent_store_are_told_that_nothing_happened() -> None:
    """When they have waited for as long as a commit may take; what was sent is in doubt."""
    async with crowding(commit_timeout_seconds=0.3) as crowd:
        await crowd.crowd()
        waiting = crowd.waiting()
        await eventually(lambda: len(crowd.answers) == _CROWD)
        fates = {number: getattr(answer, "fate", None) for number, answer in crowd.answers.items()}
        assert {fates[number] for number in waiting} == {Fate.NOT_EXECUTED}
        assert {fates[number] for number in range(_CROWD) if number not in waiting} == {
            Fate.IN_DOUBT
        }
        assert all(isinstance(answer, StoreUnavailableError) for answer in crowd.answers.values())
        crowd.store.let_go()
        await eventually(lambda: crowd.supervisor.statistics().unsettled == 0)
        assert crowd.waiting() == waiting


async def test_nothing_happens_of_all_that_has_waited_for_a_silent_store() -> None:
    """Not even what another player of the same session has sent after it."""
    async with crowding(commit_timeout_seconds=0.3) as crowd:
        await crowd.crowd()
        session = crowd.sessions[crowd.waiting()[-1]]
        with pytest.raises(StoreUnavailableError) as refused:
            await session.press("2", "Ben", "y")
        assert refused.value.fate is Fate.NOT_EXECUTED
        await eventually(lambda: len(crowd.answers) == _CROWD)
        crowd.store.let_go()
        assert not (await session.state()).pending_choices


async def test_a_press_that_was_answered_before_is_answered_at_once() -> None:
    """It changes nothing."""
    async with crowding() as crowd:
        before = await crowd.late.press("1", "Ana", "x", press_id="p")
        await crowd.crowd()
        with anyio.fail_after(5):
            assert await crowd.late.press("1", "Ana", "x", press_id="p") == before


async def test_presses_that_are_answered_from_memory_wait_for_nobody() -> None:
    """With `Durability.TURN`, while closed windows crowd at the store."""
    async with crowding(durability=Durability.TURN) as crowd:
        for session in crowd.sessions:
            await session.press("1", "Ana", "x")
        crowd.store.hold()
        for session in crowd.sessions:
            crowd.tasks.start_soon(session.close_window)
        await eventually(lambda: all(not crowd.decided(number) for number in range(_CROWD)))
        with anyio.fail_after(5):
            await crowd.late.press("1", "Ana", "x")


async def test_nothing_waits_for_a_store_that_is_known_not_to_answer() -> None:
    """All is decided then, as it comes, and committed when the store is back."""
    async with crowding(commit_timeout_seconds=60.0) as crowd:
        await crowd.crowd()
        crowd.store.down = True
        crowd.store.let_go()
        await eventually(lambda: not crowd.waiting())
        crowd.store.down = False
        await eventually(lambda: len(crowd.answers) == _CROWD)
        assert not [one for one in crowd.answers.values() if isinstance(one, Exception)]


class _Hasty(Adder):
    """Says nothing about its messages."""


class _Wrong(Adder):
    kind = "wrong"

    def paced(self, state: Total, message: Any) -> bool:
        raise KeyError("paced")


async def test_messages_of_other_kinds_are_handled_at_once() -> None:
    """Unless their behaviour says that they wait."""
    async with crowding(_Hasty()) as crowd:
        actor = crowd.supervisor.actor(_Hasty.kind, "a")
        await actor.ask(1)
        await crowd.crowd()
        crowd.tasks.start_soon(actor.ask, 1)
        await eventually(lambda: crowd.supervisor.peek(_Hasty.kind, "a").total == 2)  # type: ignore[union-attr]


async def test_who_asks_what_can_t_say_whether_it_waits_is_told_and_nothing_happens() -> None:
    """It is a fault of that behaviour, and nobody else's matter."""
    async with crowding(_Wrong()) as crowd:
        actor = crowd.supervisor.actor(_Wrong.kind, "a")
        await actor.ask(1)
        await crowd.crowd()
        with pytest.raises(KeyError, match="paced"):
            await actor.ask(1)
        crowd.store.let_go()
        await eventually(lambda: len(crowd.answers) == _CROWD)
        assert await actor.ask(1) == 2


async def test_those_who_don_t_wait_leave_room_for_those_who_do() -> None:
    """However much they always have to commit."""
    async with crowding(_Hasty(), commit_timeout_seconds=60.0) as crowd:

        async def ask_on(number: int) -> None:
            actor = crowd.supervisor.actor(_Hasty.kind, str(number))
            while True:
                await actor.ask(1)

        await crowd.crowd()
        async with anyio.create_task_group() as askers:
            for number in range(_CROWD):
                askers.start_soon(ask_on, number)
            unsettled = 2 * _CROWD
            await eventually(lambda: crowd.supervisor.statistics().unsettled == unsettled)
            crowd.store.let_go()
            await eventually(lambda: len(crowd.answers) == _CROWD)
            askers.cancel_scope.cancel()
