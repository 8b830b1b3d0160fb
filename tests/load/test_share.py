"""One process's share, played in this process: open loop, verified, on both hosts."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import pytest

from gamegirl.load import Arrivals, Plan, Stall, Step
from gamegirl.load._ledger import Verdict
from gamegirl.load._schedule import arrivals
from gamegirl.load._share import Share, Tick, settings_of
from gamegirl.supervisor import Durability, MemoryStore, Supervisor

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


def offered(order: Plan) -> int:
    """What the schedule has, whatever is answered."""
    schedule = random.Random(f"{order.seed} 0 schedule")
    return sum(1 for _ in arrivals(order.steps, order.arrivals, 1.0, schedule))


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


async def test_the_history_has_room_for_every_turn() -> None:
    """Or the oldest presses could not be looked for any more."""
    assert settings_of(plan(seconds=100.0, window=0.5)).history_max > 200
    assert settings_of(plan()).history_max >= 50
