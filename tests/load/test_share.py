"""One process's share, played in this process: open loop, verified, on both hosts."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from math import inf

import anyio
import attrs
import pytest

from gamegirl.actors import StoreUnavailableError
from gamegirl.load import Arrivals, Plan, Stall, Step
from gamegirl.load._ledger import Verdict
from gamegirl.load._schedule import arrivals
from gamegirl.load._share import GRACE_SECONDS, Share, Tick, settings_of
from gamegirl.supervisor import Durability, MemoryStore, Settings, Supervisor
from gamegirl.supervisor.stores import Process
from gamegirl.testing import FaultyStore

pytestmark = pytest.mark.anyio

STALL_SECONDS = 0.6


def plan(*, rate: float = 150.0, seconds: float = 1.2, **changes: object) -> Plan:
    given: dict[str, object] = {
        "steps": (Step(rate, seconds),),
        "channels": 12,
        "players": 3,
        "window": 0.25,
        **changes,
    }
    return Plan(**given)  # type: ignore[arg-type]


async def played(
    order: Plan, *, spoil: Callable[[MemoryStore], Awaitable[None]] | None = None
) -> tuple[Share, Verdict, list[Tick]]:
    """A share that was played; `spoil` may change the store before it is looked into."""
    store, ticks = MemoryStore(), list[Tick]()
    share = Share(order, "t", 0, store)
    async with share.open():
        await share.boot(lambda _: None)
        await share.play(time.monotonic(), ticks.append)
    if spoil is not None:
        await spoil(store)
    return share, await share.verify(store.sibling(), lambda _: None), ticks


async def watched(order: Plan, watch: Callable[[Share, Tick], None]) -> Share:
    """A share that was played while somebody watched, who may meddle."""
    share = Share(order, "t", 0, MemoryStore())
    async with share.open():
        await share.boot(lambda _: None)
        await share.play(time.monotonic(), lambda tick: watch(share, tick))
    return share


def offered(order: Plan, until: float = inf) -> int:
    """What the schedule has until then, whatever is answered."""
    schedule = random.Random(f"{order.seed} 0 schedule")
    return sum(due < until for due in arrivals(order.steps, order.arrivals, 1.0, schedule))


def accounted(share: Share) -> int:
    return sum(total(share, name) for name in ("acknowledged", "dropped", "failed"))


def total(share: Share, name: str) -> int:
    return sum(getattr(interval, name) for interval in share.figures.intervals)


@pytest.mark.parametrize("durability", Durability)
async def test_every_acknowledged_press_is_in_the_store(durability: Durability) -> None:
    """In a record, a closed turn or the open window; windows turned over meanwhile."""
    order = plan(durability=durability)
    share, verdict, ticks = await played(order)
    assert verdict.holds, verdict.examples
    assert verdict.acknowledged == total(share, "acknowledged") == offered(order)
    assert verdict.records > 0
    assert share.figures.lateness.count > 0
    assert share.figures.counts["commits"] > 0
    assert (ticks[-1].offered, ticks[-1].sessions) == (offered(order), order.channels)


async def test_the_schedule_waits_for_nobody() -> None:
    """With a stalled store the same presses are offered; they wait from when they were due.

    A closed loop would have sent one press, waited, and measured one slow one.
    """
    stalled = plan(stall=Stall(STALL_SECONDS, 0.3))
    share, verdict, _ = await played(stalled)
    assert total(share, "offered") == offered(stalled) == offered(plan())
    waited = sum(count for value, count in share.figures.latency.recorded() if value > 100)
    assert waited > 0.2 * offered(stalled)
    figures = share.figures.latency.figures()
    assert figures["max"] > 900 * STALL_SECONDS
    assert figures["p99"] > 600 * STALL_SECONDS
    assert share.figures.lateness.longest > 100
    assert verdict.holds, verdict.examples


async def test_what_can_not_be_begun_is_dropped_and_counted() -> None:
    """The bound of presses in flight holds, and nothing disappears from the sum."""
    order = plan(stall=Stall(STALL_SECONDS, 0.3), in_flight_max=5, arrivals=Arrivals.CONSTANT)
    share, verdict, ticks = await played(order)
    dropped, failed = total(share, "dropped"), total(share, "failed")
    assert dropped > 0
    assert total(share, "offered") == dropped + failed + total(share, "acknowledged")
    assert max(tick.in_flight for tick in ticks) <= 5
    assert verdict.holds, verdict.examples


async def test_errors_are_counted_by_class_and_are_no_answers() -> None:
    """A store that is away for longer than the commit timeout refuses presses."""
    timeout = settings_of(plan()).commit_timeout_seconds
    order = plan(seconds=timeout + 1.5, rate=60.0, stall=Stall(timeout + 0.8, 0.3))
    share, verdict, _ = await played(order)
    assert share.figures.errors["StoreUnavailableError"] == total(share, "failed") > 0
    assert total(share, "offered") == total(share, "failed") + total(share, "acknowledged")
    assert verdict.holds, verdict.examples


async def test_presses_that_are_never_answered_are_failed_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run waits for answers for a bounded time; whether such presses count is in doubt."""
    monkeypatch.setattr("gamegirl.load._share.GRACE_SECONDS", 0.1)
    share, verdict, _ = await played(plan(seconds=0.8, stall=Stall(1.6, 0.3)))
    assert share.figures.errors["Unanswered"] == total(share, "failed") > 0
    assert total(share, "offered") == total(share, "failed") + total(share, "acknowledged")
    assert verdict.holds, verdict.examples


async def test_a_lost_press_is_found() -> None:
    """What somebody deletes from the store behind our back is missed: the look is a real one."""

    async def wipe(store: MemoryStore) -> None:
        async with Supervisor(store.sibling()) as vandal:
            await vandal.session("load-t-0").wipe()

    share, verdict, _ = await played(plan(), spoil=wipe)
    assert 0 < verdict.lost < total(share, "acknowledged")
    assert not verdict.holds
    assert any("load-t-0" in example for example in verdict.examples)


async def test_a_press_that_nobody_made_is_found() -> None:
    """A choice that is in no ledger is reported, though nothing is lost."""

    async def press(store: MemoryStore) -> None:
        async with Supervisor(store.sibling()) as vandal:
            session = vandal.session("load-t-0")
            await session.close_window()
            await session.press("u1", "Player 1", "choice 1000000")

    _, verdict, _ = await played(plan(), spoil=press)
    assert (verdict.lost, verdict.foreign) == (0, 1)


async def test_other_games_of_the_store_are_left_alone() -> None:
    """A window that is due elsewhere is closed by its own bot, with its own narrator."""
    store = MemoryStore()
    async with Supervisor(store.sibling()) as bot:
        await bot.session("lobby").boot("Somebody's")
        await bot.session("lobby").press("42", "Ana", "Open the door")
    share = Share(plan(), "t", 0, store)
    async with share.open():
        await share.boot(lambda _: None)
        assert [due.actor.actor_id for due in await store.due(time.time() + 60)] == ["lobby"]
        await share.play(time.monotonic(), lambda _: None)
    await share.verify(store.sibling(), lambda _: None)
    async with Supervisor(store.sibling()) as bot:
        state = await bot.session("lobby").state()
        assert (state.turn_number, dict(state.pending_choices)) == (0, {"42": "Open the door"})


async def test_a_run_can_be_stopped_early() -> None:
    """What was offered until then is measured and looked for."""
    store = MemoryStore()
    order = plan(seconds=60.0)
    share = Share(order, "t", 0, store)

    def stop(tick: Tick) -> None:
        if tick.acknowledged > 20:
            share.stop()

    async with share.open():
        await share.boot(lambda _: None)
        await share.play(time.monotonic(), stop)
    verdict = await share.verify(store.sibling(), lambda _: None)
    assert verdict.acknowledged == total(share, "offered") > 20
    assert verdict.holds, verdict.examples
    assert share.figures.counts["seconds"] < 30


async def test_what_is_due_when_it_is_stopped_is_offered() -> None:
    """A loop that is too busy for its presses can't leave them out by being stopped."""
    order = plan(seconds=60.0)

    def stop(share: Share, tick: Tick) -> None:
        if share.figures.until == order.seconds:
            time.sleep(0.4)  # It is busy: all that is due meanwhile waits.
            share.stop()

    share = await watched(order, stop)
    until = share.figures.counts["seconds"]
    assert 0.9 < until < 30
    assert total(share, "offered") == accounted(share) == offered(order, until)
    # What was answered after that shows in no rate.
    assert 0 < total(share, "answered") < total(share, "acknowledged")


async def test_what_is_not_begun_in_overtime_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can't go on for much longer than was planned, and leaves no press out."""
    monkeypatch.setattr("gamegirl.load._share.OVERTIME_SECONDS", 0.0)
    order = plan()

    def block(_share: Share, tick: Tick) -> None:
        if tick.at < order.seconds:
            time.sleep(order.seconds - tick.at + 0.1)  # The loop is busy until after the end.

    share = await watched(order, block)
    assert total(share, "dropped") > 0
    assert total(share, "offered") == accounted(share) == offered(order)
    assert share.figures.counts["seconds"] == order.seconds < share.figures.counts["counted_after"]


async def test_commits_are_counted_when_offers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of presses that are begun in overtime are not, nor are their answers."""

    async def slowly() -> None:
        await anyio.sleep(0.05)

    monkeypatch.setattr("gamegirl.load._share.checkpoint", slowly)  # As if so much were to do.
    order = plan(rate=2000.0, seconds=0.5)
    share = await watched(order, lambda _share, _tick: None)
    counts = share.figures.counts
    assert total(share, "offered") == accounted(share) == offered(order)
    assert counts["seconds"] == order.seconds <= counts["counted_after"]
    assert 0 < counts["answers"] < total(share, "acknowledged")
    assert counts["commits"] > 0


async def test_a_run_whose_next_press_is_far_away_can_be_stopped() -> None:
    """It does not sleep until then first."""
    order = plan(rate=0.05, seconds=600.0, seed=1)
    assert offered(order, 14.0) == 0
    with anyio.fail_after(10):
        share = await watched(order, lambda share, _tick: share.stop())
    assert total(share, "offered") == 0


async def test_a_run_can_be_stopped_before_it_begins() -> None:
    """Then nothing is offered."""
    share = Share(plan(), "t", 0, MemoryStore())
    async with share.open():
        await share.boot(lambda _: None)
        share.stop()
        await share.play(time.monotonic(), lambda _: None)
    assert total(share, "offered") == share.figures.counts["seconds"] == 0


async def test_windows_that_are_overdue_in_the_end_are_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store that is stalled to the end closes none: what counts is how late they are by then."""
    monkeypatch.setattr("gamegirl.load._share.GRACE_SECONDS", 0.1)
    share, verdict, _ = await played(plan(seconds=0.8, stall=Stall(1.6, 0.3)))
    assert share.figures.lateness.longest > 200
    assert verdict.holds, verdict.examples


async def test_events_that_are_lost_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the lateness must know that windows are missing in it."""

    def forgetful(order: Plan) -> Settings:
        return attrs.evolve(settings_of(order), events_max=1)

    monkeypatch.setattr("gamegirl.load._share.settings_of", forgetful)
    share, verdict, _ = await played(plan())
    assert share.figures.counts["events_lost"] > 0
    assert verdict.holds, verdict.examples


class Hesitant(FaultyStore):
    """Is away the first times it is opened, and when it is closed."""

    def __init__(self, store: MemoryStore, times: int) -> None:
        super().__init__(store)
        self._times = times

    async def open(self, process: Process, lease_seconds: float) -> None:
        if self._times:
            self._times -= 1
            raise StoreUnavailableError("it is not there yet")
        await super().open(process, lease_seconds)

    async def aclose(self) -> None:
        await super().aclose()
        raise StoreUnavailableError("it is not there any more")


async def verified(spoil: Callable[[MemoryStore], FaultyStore]) -> Verdict:
    """What is said of a share that was played, by way of a spoilt store."""
    store = MemoryStore()
    share = Share(plan(), "t", 0, store)
    async with share.open():
        await share.boot(lambda _: None)
        await share.play(time.monotonic(), lambda _: None)
    return await share.verify(spoil(store.sibling()), lambda _: None)


async def test_a_store_that_is_away_for_a_moment_is_waited_for() -> None:
    """It is opened again; and what was seen is no less true if it is away when it is closed."""
    verdict = await verified(lambda store: Hesitant(store, 2))
    assert verdict.holds, (verdict.unverified, verdict.examples)
    assert verdict.acknowledged > 0


@pytest.mark.parametrize("what", ["down", "claims_down"])
async def test_a_store_that_stays_away_makes_a_verdict_that_says_so(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """When it is opened, or when it is read: nobody says that all is there, nor that it is lost."""
    monkeypatch.setattr("gamegirl.load._share._PATIENCE_SECONDS", 0.2)

    def spoilt(store: MemoryStore) -> FaultyStore:
        faulty = FaultyStore(store)
        setattr(faulty, what, True)
        return faulty

    verdict = await verified(spoilt)
    assert verdict.unverified
    assert (verdict.holds, verdict.lost, verdict.foreign) == (False, 0, 0)


async def test_one_seed_splits_all_runs_alike() -> None:
    """Whatever their names are: which channels share a process is no chance."""
    order = plan(processes=2)
    first, other = (
        [Share(order, run, process, MemoryStore()).crowd.numbers for process in (0, 1)]
        for run in ("a1", "b2")
    )
    assert first == other
    assert all(first)


async def test_the_history_has_room_for_every_turn() -> None:
    """Or the oldest presses could not be looked for any more; they come beyond the end, too."""
    turns = (100.0 + 3 * GRACE_SECONDS) / 0.5
    assert settings_of(plan(seconds=100.0, window=0.5)).history_max > turns
    assert settings_of(plan()).history_max >= 50
