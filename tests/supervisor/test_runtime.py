"""The runtime with a behaviour that knows no games: a counter that does as it is told."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint

from gamegirl.actors import (
    ActorCrashedError,
    Behaviour,
    Cancel,
    Decision,
    Drop,
    Emit,
    Fate,
    InvalidInputError,
    Later,
    MailboxFullError,
    OwnedElsewhereError,
    OwnershipLostError,
    Perform,
    PutText,
    Require,
    SessionFailedError,
    SessionQuarantinedError,
    StoreUnavailableError,
    SupervisorClosedError,
    UnknownGameError,
    WakeWaiters,
    Woken,
)
from gamegirl.codec import JsonCodec
from gamegirl.supervisor import (
    ActorCrashed,
    ActorFailed,
    ActorLost,
    ActorReleased,
    ActorRestored,
    ContentQuarantined,
    Durability,
    MemoryStore,
    Settings,
    StoreBack,
    StoreLost,
    StoreRegressed,
    Supervisor,
    SweepFailed,
)
from gamegirl.supervisor.stores import Broken, Claim, Claimed, Owned
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Alter = Callable[..., Awaitable[None]]


@attrs.define
class Count:
    actor_id: str
    total: int = 0
    alarm: float | None = None


@attrs.frozen
class Add:
    amount: int = 1
    user: str | None = None


@attrs.frozen
class Read:
    pass


@attrs.frozen
class Boom:
    pass


@attrs.frozen
class AwaitTotal:
    at_least: int


@attrs.frozen
class Alarm:
    after: float


@attrs.frozen
class Work:
    amount: int
    key: str = "work"


@attrs.frozen
class StopWork:
    pass


@attrs.frozen
class Guarded:
    amount: int


@attrs.frozen
class Told:
    total: int


class Counter(Behaviour[Count]):
    kind = "counter"
    codec = JsonCodec(Count)

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.performed: list[Work] = []

    def initial(self, actor_id: str) -> Count:
        return Count(actor_id)

    def wake_at(self, state: Count) -> float | None:
        return state.alarm

    def sender(self, message: Any) -> str | None:
        return message.user if isinstance(message, Add) else None

    def handle(self, state: Count, message: Any, now: float) -> Decision:
        match message:
            case Add(amount):
                state.total += amount
                return Decision(
                    state.total, self.stored(state), (Emit(Told(state.total)), WakeWaiters())
                )
            case Read():
                return Decision(state.total)
            case Boom():
                state.total = -1_000_000
                raise ZeroDivisionError("boom")
            case AwaitTotal(at_least):
                ready = state.total >= at_least
                return Decision(state.total if ready else Later(message))
            case Alarm(after):
                state.alarm = now + after
                return Decision(state.alarm, self.stored(state))
            case Woken():
                state.alarm = None
                state.total += 100
                return Decision(None, self.stored(state), (WakeWaiters(),))
            case Work():
                return Decision(effects=(Perform(message.key, message),))
            case StopWork():
                return Decision(effects=(Cancel("work"),))
            case Guarded(amount):
                state.total += amount
                return Decision(
                    state.total,
                    self.stored(state),
                    requires=(Require("gg:never", "x", "y", UnknownGameError("guarded")),),
                )
            case _:
                raise TypeError(message)

    async def perform(self, work: Work) -> object | None:
        self.performed.append(work)
        await self.gate.wait()
        if work.amount < 0:
            raise ValueError("no negative work")
        return Add(work.amount)


@asynccontextmanager
async def hosted(
    store: Any = None, behaviour: Counter | None = None, **settings: Any
) -> AsyncGenerator[Supervisor]:
    async with Supervisor(
        MemoryStore() if store is None else store,
        settings=Settings(**settings),
        behaviours=[behaviour or Counter()],
    ) as supervisor:
        yield supervisor


async def unsettled(supervisor: Supervisor, count: int) -> None:
    await eventually(lambda: supervisor.statistics().unsettled == count)


async def next_event(events: Any, kind: type) -> Any:
    with anyio.fail_after(10):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("the stream ended")


async def test_an_answer_waits_until_its_commit_is_through() -> None:
    """Nothing is acknowledged before it is stored; reads wait for what they could have seen."""
    store = FaultyStore(MemoryStore())
    answers: list[int] = []
    async with hosted(store) as supervisor, anyio.create_task_group() as tasks:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.hold()

        async def ask(message: object) -> None:
            answers.append(await actor.ask(message))

        tasks.start_soon(ask, Add())
        await unsettled(supervisor, 1)
        tasks.start_soon(ask, Read())
        await unsettled(supervisor, 2)
        assert answers == []
        store.let_go()
    assert answers == [2, 2]


async def test_what_was_committed_is_there_for_the_next_supervisor() -> None:
    """State outlives its supervisor."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        assert await supervisor.actor("counter", "a").ask(Add(5)) == 5
    async with hosted(store.sibling()) as supervisor:
        assert await supervisor.actor("counter", "a").ask(Read()) == 5


async def test_many_callers_of_a_cold_actor_make_one_claim() -> None:
    """However many callers arrive, an actor is claimed and restored once."""
    store = FaultyStore(MemoryStore())
    async with hosted(store) as supervisor:
        actor = supervisor.actor("counter", "a")
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(actor.ask, Add())
        assert await actor.ask(Read()) == 200
    assert sum(len(claims) for claims in store.claims) == 1


async def test_commits_gather_while_one_is_in_flight() -> None:
    """A hundred messages while a commit is in flight are one more commit."""
    store = FaultyStore(MemoryStore())
    async with hosted(store) as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.hold()
        before = len(store.commits)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(actor.ask, Add())
            await unsettled(supervisor, 100)
            store.let_go()
        assert len(store.commits) - before <= 2
        assert await actor.ask(Read()) == 101


async def test_a_crash_is_answered_kept_and_leaves_no_trace() -> None:
    """A handler that raises loses its half-change, not what came before or comes after."""
    async with hosted() as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        with pytest.raises(ActorCrashedError, match="counter 'a' crashed on Boom") as caught:
            await actor.ask(Boom())
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert caught.value.fate is Fate.NOT_EXECUTED
        assert await actor.ask(Add()) == 2
        (crash,) = supervisor.crashes()
        assert crash.message == Boom()
        assert "ZeroDivisionError" in crash.traceback
        assert (await next_event(events, ActorCrashed)).actor_id == "a"


async def test_messages_before_a_crash_are_committed_and_those_behind_it_handled() -> None:
    """What came before the crashed message keeps its effect; what comes after is handled."""
    store = FaultyStore(MemoryStore())
    answers: list[object] = []
    async with hosted(store) as supervisor, anyio.create_task_group() as tasks:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Read())
        store.hold()

        async def ask(message: object) -> None:
            try:
                answers.append(await actor.ask(message))
            except ActorCrashedError:
                answers.append("crashed")

        for number, message in enumerate((Add(1), Boom(), Add(10), Add(100))):
            tasks.start_soon(ask, message)
            await unsettled(supervisor, (1, 1, 2, 3)[number])
        store.let_go()
    assert answers[0] == "crashed"
    assert sorted(answers[1:], key=str) == [1, 11, 111]


async def test_an_actor_that_crashes_too_often_fails_alone_until_it_is_revived() -> None:
    """After restarts_max crashes the actor refuses everything; siblings never notice."""
    async with hosted(restarts_max=2, restart_backoff_seconds=0.001) as supervisor:
        events = supervisor.events()
        actor, sibling = supervisor.actor("counter", "a"), supervisor.actor("counter", "b")
        await sibling.ask(Add())
        for _ in range(3):
            with pytest.raises(ActorCrashedError):
                await actor.ask(Boom())
        assert (await next_event(events, ActorFailed)).restarts == 3
        with pytest.raises(SessionFailedError, match="revive"):
            await actor.ask(Read())
        assert await sibling.ask(Read()) == 1
        await supervisor.revive("a", kind="counter")
        assert await actor.ask(Add()) == 1


async def test_waiting_messages_survive_a_restart() -> None:
    """A message that waits for `Later` is answered by the actor's next life."""
    got: list[int] = []
    async with hosted() as supervisor, anyio.create_task_group() as tasks:
        actor = supervisor.actor("counter", "a")

        async def wait() -> None:
            got.append(await actor.ask(AwaitTotal(3)))

        for _ in range(5):
            tasks.start_soon(wait)
        await unsettled(supervisor, 5)
        with pytest.raises(ActorCrashedError):
            await actor.ask(Boom())
        await actor.ask(Add(3))
    assert got == [3] * 5


async def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    """Whoever stops waiting takes no room in the mailbox any more."""
    async with hosted() as supervisor:
        actor = supervisor.actor("counter", "a")
        with anyio.move_on_after(0.01):
            await actor.ask(AwaitTotal(3))
        assert supervisor.statistics().unsettled == 0
        assert await actor.ask(Add()) == 1


async def test_a_cancelled_callers_message_is_neither_lost_nor_doubled() -> None:
    """Cancelling a caller hits its waiting, not its message."""
    store = FaultyStore(MemoryStore())
    async with hosted(store) as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.hold()
        with anyio.move_on_after(0.01):
            await actor.ask(Add())
        store.let_go()
        assert await actor.ask(Read()) == 2


async def test_timers_fire_and_survive_a_crash() -> None:
    """A timer wakes its actor once, also when the actor restarted in between."""
    async with hosted() as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Alarm(0.05))
        with pytest.raises(ActorCrashedError):
            await actor.ask(Boom())
        with anyio.fail_after(5):
            assert await actor.ask(AwaitTotal(1)) == 100


async def test_a_full_mailbox_refuses_at_once() -> None:
    """mailbox_max unsettled messages, and one sender's share of them, are the bound."""
    store = FaultyStore(MemoryStore())
    async with (
        hosted(store, mailbox_max=8, mailbox_share=0.5) as supervisor,
        anyio.create_task_group() as tasks,
    ):
        actor = supervisor.actor("counter", "a")
        await actor.ask(Read())
        store.hold()
        for _ in range(4):
            tasks.start_soon(actor.ask, Add(user="hostile"))
        await unsettled(supervisor, 4)
        with pytest.raises(MailboxFullError, match="'hostile' alone") as caught:
            await actor.ask(Add(user="hostile"))
        assert caught.value.fate is Fate.NOT_DELIVERED
        for _ in range(4):
            tasks.start_soon(actor.ask, Add(user="other"))
        await unsettled(supervisor, 8)
        with pytest.raises(MailboxFullError, match="mailbox_max"):
            await actor.ask(Add(user="third"))
        store.let_go()
        await unsettled(supervisor, 0)
        assert await actor.ask(Add(user="hostile")) == 9


async def test_work_is_done_outside_and_comes_back_as_a_message() -> None:
    """`Perform` runs beside the actor; replaced or cancelled work has no result."""
    behaviour = Counter()
    async with hosted(behaviour=behaviour) as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Work(1))
        await eventually(lambda: len(behaviour.performed) == 1)
        await actor.ask(Work(2))
        await actor.ask(Work(4, key="other"))
        await eventually(lambda: len(behaviour.performed) == 3)
        assert supervisor.statistics().working == 2
        behaviour.gate.set()
        assert await actor.ask(AwaitTotal(6)) == 6
        behaviour.gate = anyio.Event()
        await actor.ask(Work(10))
        await actor.ask(StopWork())
        await eventually(lambda: supervisor.statistics().working == 0)
        assert await actor.ask(Read()) == 6


async def test_work_that_raises_restarts_its_actor() -> None:
    """An error in work is not swallowed: it counts as a crash and is kept."""
    behaviour = Counter()
    behaviour.gate.set()
    async with hosted(behaviour=behaviour) as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        await actor.ask(Work(-1))
        await eventually(lambda: supervisor.crashes())
        assert isinstance(supervisor.crashes()[0].error, ValueError)
        assert await actor.ask(Read()) == 1


async def test_a_lost_request_and_a_lost_reply_are_sent_again_and_happen_once() -> None:
    """A commit is resent until it is settled; a resend has no second effect."""
    store = FaultyStore(MemoryStore())
    async with hosted(store) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.drop_requests = 1
        assert await actor.ask(Add()) == 2
        store.drop_replies = 3
        assert await actor.ask(Add()) == 3
        await next_event(events, StoreLost)
        await next_event(events, StoreBack)
        commits = [commit for call in store.commits for commit in call]
        assert len({commit.commit_id for commit in commits}) == 3


async def test_a_store_that_is_down_is_an_error_in_time_and_work_resumes_by_itself() -> None:
    """In doubt for what was sent, not executed for the rest; nothing is lost or doubled."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, commit_timeout_seconds=0.1) as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.down = True
        with pytest.raises(StoreUnavailableError) as caught:
            await actor.ask(Add())
        assert caught.value.fate is Fate.IN_DOUBT
        with pytest.raises(StoreUnavailableError) as caught:
            await actor.ask(Add())
        assert caught.value.fate is Fate.NOT_EXECUTED
        with pytest.raises(StoreUnavailableError) as caught:
            await supervisor.actor("counter", "cold").ask(Add())
        assert caught.value.fate is Fate.NOT_EXECUTED
        store.down = False
        await unsettled(supervisor, 0)
        assert await actor.ask(Read()) == 2
        assert await supervisor.actor("counter", "cold").ask(Read()) == 0


async def test_time_in_which_the_process_stood_still_is_not_the_stores() -> None:
    """Who was stopped past the commit timeout hears what the store said, not that it is late."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, commit_timeout_seconds=0.2) as supervisor:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.hold()
        answers: list[int] = []

        async def add() -> None:
            answers.append(await actor.ask(Add()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(add)
            await eventually(lambda: len(store.commits) == 2)
            time.sleep(0.5)  # noqa: ASYNC251 - nothing in this process goes on
            for _ in range(20):  # Whoever looks at the time now sees how late it is.
                await checkpoint()
            store.let_go()
        assert answers == [2]


async def test_a_sweep_that_fails_is_told_once() -> None:
    """Nobody believes that orphans are looked after while they aren't."""

    class Blind(FaultyStore):
        looked = 0

        async def due(self, until: float, since: float = -inf) -> Any:
            self.looked += 1
            raise StoreUnavailableError("not allowed")

    store = Blind(MemoryStore())
    supervisor = Supervisor(store, settings=Settings(sweep_seconds=0.005))
    events = supervisor.events()
    async with supervisor:
        await eventually(lambda: store.looked > 5)
    assert len([event async for event in events if isinstance(event, SweepFailed)]) == 1


async def test_a_condition_that_fails_refuses_its_message_alone() -> None:
    """An unmet `Require` gives its error; what came before and comes after keeps its effect."""
    store = FaultyStore(MemoryStore())
    async with hosted(store) as supervisor:
        actor = supervisor.actor("counter", "a")
        answers: list[object] = []

        async def ask(message: object) -> None:
            try:
                answers.append(await actor.ask(message))
            except UnknownGameError as error:
                answers.append(str(error))

        await actor.ask(Read())
        store.hold()
        async with anyio.create_task_group() as tasks:
            for count, message in enumerate((Add(1), Guarded(5), Add(10)), start=1):
                tasks.start_soon(ask, message)
                await unsettled(supervisor, count)
            store.let_go()
        assert sorted(answers, key=str) == [1, 11, "guarded"]


async def test_a_channel_of_a_live_process_is_owned_elsewhere() -> None:
    """The second supervisor is told who owns the actor, until that one lets go."""
    store = MemoryStore()
    async with hosted(store) as first, hosted(store.sibling()) as second:
        await first.actor("counter", "a").ask(Add())
        with pytest.raises(OwnedElsewhereError) as caught:
            await second.actor("counter", "a").ask(Add())
        assert caught.value.owner.count(":") == 2
        await first.release("a", kind="counter")
        assert await second.actor("counter", "a").ask(Add()) == 2


async def test_a_stale_owner_writes_nothing_more() -> None:
    """After a takeover the old owner's commits are refused and its callers told."""
    store = MemoryStore()
    async with (
        hosted(store, instance="bot") as stale,
        hosted(store.sibling(), instance="bot") as fresh,
    ):
        events = stale.events()
        await stale.actor("counter", "a").ask(Add())
        assert await fresh.actor("counter", "a").ask(Add()) == 2
        with pytest.raises(OwnershipLostError) as caught:
            await stale.actor("counter", "a").ask(Add())
        assert caught.value.fate is Fate.NOT_EXECUTED
        assert (await next_event(events, ActorLost)).actor_id == "a"
        assert await fresh.actor("counter", "a").ask(Read()) == 2


async def test_a_dead_processes_timer_fires_elsewhere_although_nobody_speaks() -> None:
    """What is due and has no live owner is claimed by whoever looks."""
    store = MemoryStore()
    dead = store.sibling()
    faulty = FaultyStore(dead)
    settings: dict[str, Any] = {"lease_seconds": 0.2, "sweep_seconds": 0.05}
    async with hosted(faulty, drain_seconds=0.01, **settings) as first:
        await first.actor("counter", "a").ask(Alarm(0.1))
        faulty.down = True  # It can't renew its lease, nor hear its own timer's commit.
        async with hosted(store, **settings) as second:
            events = second.events()
            restored = await next_event(events, ActorRestored)
            assert (restored.actor_id, restored.source) == ("a", "json")
            with anyio.fail_after(5):
                assert await second.actor("counter", "a").ask(AwaitTotal(1)) == 100


async def test_an_orphan_whose_claim_lost_its_answer_is_adopted_all_the_same() -> None:
    """It is this process's, which lives: no other one may see to it, so this one must."""

    class LosesAnAnswer(FaultyStore):
        lost = 0

        async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
            claimed = await super().claim(claims)
            if not self.lost:
                self.lost += 1
                raise StoreUnavailableError("the reply was lost, as told", fate=Fate.IN_DOUBT)
            return claimed

    store = MemoryStore()
    faulty = FaultyStore(store.sibling())
    settings: dict[str, Any] = {"lease_seconds": 0.3, "sweep_seconds": 0.05}
    async with hosted(faulty, drain_seconds=0.01, **settings) as first:
        await first.actor("counter", "a").ask(Alarm(0.1))
        faulty.down = True  # As good as dead.
        async with hosted(LosesAnAnswer(store), **settings) as second:
            restored = await next_event(second.events(), ActorRestored)
            assert restored.actor_id == "a"


async def test_idle_actors_leave_memory_and_come_back() -> None:
    """After idle_seconds an actor is released; the next message restores it."""
    async with hosted(idle_seconds=0.05, sweep_seconds=0.02) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        await next_event(events, ActorReleased)
        await eventually(lambda: supervisor.statistics().live["counter"] == 0)
        assert await actor.ask(Read()) == 1


async def test_messages_that_arrive_during_a_release_are_handled_by_the_next_life() -> None:
    """A release loses nothing."""
    store = FaultyStore(MemoryStore())
    async with hosted(store) as supervisor, anyio.create_task_group() as tasks:
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add())
        store.hold()
        tasks.start_soon(lambda: supervisor.release("a", kind="counter"))
        await eventually(lambda: len(store.commits) == 2)
        tasks.start_soon(actor.ask, Add())
        await unsettled(supervisor, 1)
        store.let_go()
    assert sum(len(claims) for claims in store.claims) == 2


async def test_a_store_that_went_back_in_time_is_written_anew_from_memory(alter: Alter) -> None:
    """Losing the fence, or a revision, is reported and repaired; nothing acknowledged is lost."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        events = supervisor.events()
        actor = supervisor.actor("counter", "a")
        await actor.ask(Add(7))
        await alter(store, Drop("gg:fence:counter:a"), Drop("gg:actor:counter:a"))
        assert await actor.ask(Add()) == 8
        regressed = await next_event(events, StoreRegressed)
        assert (regressed.expected, regressed.found) == (1, None)
        assert await store.read(["gg:actor:counter:a"]) != [None]
        assert await actor.ask(Read()) == 8


async def test_a_store_that_lost_everything_unnoticed_is_noticed_at_the_next_renewal(
    alter: Alter,
) -> None:
    """Idle actors too are compared with the store when it no longer knows the lease."""

    class Replaced(FaultyStore):
        async def renew(self) -> bool:
            await super().renew()
            return False

    store = MemoryStore()
    async with hosted(Replaced(store), lease_seconds=0.1) as supervisor:
        events = supervisor.events()
        await supervisor.actor("counter", "a").ask(Add(7))
        await alter(store, Drop("gg:fence:counter:a"), Drop("gg:actor:counter:a"))
        await next_event(events, StoreRegressed)
        assert await supervisor.actor("counter", "a").ask(Read()) == 7
        (text,) = await store.read(["gg:actor:counter:a"])
        assert isinstance(text, bytes)
        assert Counter.codec.decode(text).total == 7


async def test_unreadable_state_is_quarantined_and_never_overwritten(alter: Alter) -> None:
    """What can't be decoded stays as it is, a copy is put aside, callers are told where."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        await supervisor.actor("counter", "a").ask(Add())
    store = store.sibling()
    async with hosted(store) as supervisor:
        await alter(store, PutText("gg:actor:counter:a", b'{"actor_id":"a","total":"x"}'))
        events = supervisor.events()
        for _ in range(2):
            with pytest.raises(SessionQuarantinedError, match="total"):
                await supervisor.actor("counter", "a").ask(Add())
        event = await next_event(events, ContentQuarantined)
        assert event.key == "gg:actor:counter:a"
        assert await supervisor.actor("counter", "b").ask(Add()) == 1
        text, quarantine = await store.read(["gg:actor:counter:a", "gg:quarantine"])
        assert text == b'{"actor_id":"a","total":"x"}'
        assert isinstance(quarantine, dict)
        assert event.entry.encode() in quarantine


async def test_presses_may_be_answered_from_memory() -> None:
    """With Durability.TURN full forms still wait for their commit."""
    store = FaultyStore(MemoryStore())
    async with hosted(store, durability=Durability.TURN) as supervisor:
        actor = supervisor.actor("counter", "a")
        assert await actor.ask(Add()) == 1
        assert sum(len(call) for call in store.commits) == 1


async def test_draining_commits_what_was_accepted_and_gives_up_ownership() -> None:
    """After aclose another supervisor owns everything at once; calls are refused."""
    store = MemoryStore()
    supervisor = Supervisor(FaultyStore(store), behaviours=[Counter()])
    await supervisor.start()
    actor = supervisor.actor("counter", "a")
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(actor.ask, Add())
        await eventually(lambda: supervisor.statistics().handled == 20)
    await supervisor.aclose()
    await supervisor.aclose()
    with pytest.raises(SupervisorClosedError) as caught:
        await actor.ask(Read())
    assert caught.value.fate is Fate.NOT_DELIVERED
    async with hosted(store.sibling()) as second:
        assert await second.actor("counter", "a").ask(Read()) == 20


async def test_a_supervisor_that_is_not_running_says_so() -> None:
    """Before start and for unknown kinds there is a clear error."""
    supervisor = Supervisor("memory://", behaviours=[Counter()])
    with pytest.raises(SupervisorClosedError, match="start"):
        await supervisor.actor("counter", "a").ask(Read())
    with pytest.raises(InvalidInputError, match="no behaviour of the kind 'poll'"):
        supervisor.actor("poll", "a")
    await supervisor.aclose()
