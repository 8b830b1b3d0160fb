"""What things cost, counted rather than timed: it can't depend on how busy the machine is.

The bounds lie a little above what is counted today. Who exceeds one has made presses dearer, and
either finds out why or has a reason that is worth it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import pairwise
from math import inf
from types import FrameType
from typing import Any, cast

import anyio
import attrs
import msgspec
import pytest
import redis
import trio

from gamegirl.actors import Restored
from gamegirl.actors.session import (
    ClosedTurn,
    SessionBehaviour,
    _messages,
    _parts,
    _state,
    _writing,
)
from gamegirl.supervisor import Clock, MemoryStore, RedisStore, Settings, Supervisor, is_compiled
from gamegirl.supervisor._keeper import Keeper
from gamegirl.supervisor.stores import Due
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

_CALLERS = 1000
_LONG = 1000.0
_SETTINGS = Settings(
    window_seconds=_LONG, commit_timeout_seconds=_LONG, lease_seconds=_LONG, sweep_seconds=_LONG
)
"""Nothing happens but what the test does: no lease is renewed and nobody looks around."""

_SCRIPTS_PER_PRESS = 0.02
_COMMANDS_PER_PRESS = 6
_BYTES_PER_PRESS = 410
_COMMANDS_PER_CLOSE = 16
_COMMANDS_PER_RECORD = 28
_BYTES_PER_CLOSE = 1120
_BYTES_PER_RECORD = 2950
_OBJECTS_PER_PRESS = 27.0
_OBJECTS_PER_ACTOR = 1.1
_WAKE_UPS_PER_TURN = 24
_SIDE_BY_SIDE = 64
_STEPS = {"press": 1200, "close": 1825, "record": 2165}
"""In bytecodes of CPython 3.11, and one in a hundred more: the runtime itself may look around."""

_SCRIPTS_PER_RESTORE = 0.02
_COMMANDS_PER_RESTORE = 11.1
_TRANSACTIONS_PER_RESTORE = 0.02
_DECODED_PER_RESTORE = 2
_CALLS_PER_RESTORE = 50


def channel_name(number: int) -> str:
    return f"{number:018d}"


async def press_everywhere(supervisor: Supervisor, channels: int) -> None:
    """One press in each channel, all at once."""
    async with anyio.create_task_group() as tasks:
        for number in range(channels):
            tasks.start_soon(supervisor.session(channel_name(number)).press, "42", "Ana", "Open it")


async def boot_everywhere(supervisor: Supervisor, channels: int, first: int = 0) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(first, channels):
            tasks.start_soon(supervisor.session(channel_name(number)).boot, "Neon")


def connect(url: str) -> Any:
    return cast("Any", redis.Redis).from_url(url)


async def test_a_thousand_callers_share_script_calls(redis_url: str) -> None:
    """Under a thousand callers at once, fifty presses and more go into one call of a script."""
    store = FaultyStore(RedisStore(redis_url))
    async with Supervisor(store, settings=_SETTINGS) as supervisor:
        await boot_everywhere(supervisor, _CALLERS)
        with connect(redis_url) as client:
            client.config_resetstat()
            store.hold()  # Or it would depend on the machine who comes in time for which call.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(press_everywhere, supervisor, _CALLERS)
                await eventually(lambda: supervisor.statistics().unsettled == _CALLERS)
                store.let_go()
            calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert 0 < calls / _CALLERS <= _SCRIPTS_PER_PRESS


async def play_everywhere(supervisor: Supervisor, channels: int) -> None:
    """A game of eight players and one recorded turn in each channel."""

    async def play(number: int) -> None:
        session = supervisor.session(channel_name(number))
        await session.boot("Neon")
        for user in range(8):
            await session.press(f"{user:018d}", f"Player {user}", "Open it")
        turn = await session.close_window()
        assert turn is not None
        await session.record(turn, "It opened.")

    async with anyio.create_task_group() as tasks:
        for number in range(channels):
            tasks.start_soon(play, number)


async def restore_everywhere(supervisor: Supervisor, channels: int) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(channels):
            tasks.start_soon(supervisor.restore, channel_name(number))


async def test_restores_share_script_calls_and_load_each_key_once(redis_url: str) -> None:
    """Nothing is asked twice, nothing is written but the fence, and each script claims many."""
    async with Supervisor(redis_url, settings=_SETTINGS) as supervisor:
        await play_everywhere(supervisor, 256)
    async with Supervisor(redis_url, settings=_SETTINGS) as supervisor:
        # The first ones are looked at twice: nobody knows yet what such keys hold.
        await supervisor.restore(channel_name(0))
        with connect(redis_url) as client:
            client.config_resetstat()
            await restore_everywhere(supervisor, 256)
            told = client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in told.items()}
        assert supervisor.statistics().commits == 0
        assert supervisor.statistics().live["session"] == 256
    assert 0 < calls["exec"] / 255 <= _TRANSACTIONS_PER_RESTORE
    assert 0 < calls.pop("evalsha") / 255 <= _SCRIPTS_PER_RESTORE
    assert sum(calls.values()) / 255 <= _COMMANDS_PER_RESTORE, calls


async def test_restoring_decodes_each_thing_once() -> None:
    """What was written by us is recognized by its digests; the players are read from one form."""
    store = MemoryStore()
    async with Supervisor(store, settings=_SETTINGS) as supervisor:
        await play_everywhere(supervisor, 1)
        behaviour = SessionBehaviour()
        keys = behaviour.keys(channel_name(0))
        stored = await store.read(keys)
        game_id = (await supervisor.session(channel_name(0)).state()).game_id
        (game,) = await store.read([f"gg:game:{game_id}"])
    decoded = calls = 0

    def count(_frame: object, event: str, called: Any) -> None:
        nonlocal decoded, calls
        calls += event in ("call", "c_call")
        if event == "c_call" and isinstance(
            getattr(called, "__self__", None), msgspec.json.Decoder | json.JSONDecoder
        ):
            decoded += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        restored = behaviour.restore(channel_name(0), [*stored, game], 1000.0)
    finally:
        sys.setprofile(before)
    assert isinstance(restored, Restored)
    assert restored.source == "hash"
    assert not restored.decision.writes
    assert 0 < decoded <= _DECODED_PER_RESTORE
    assert calls <= _CALLS_PER_RESTORE
    assert len(restored.state.players) == 8


async def grow(supervisor: Supervisor, channel_id: str, players: int, records: int) -> None:
    """A session with so many players and records, after always as many commits."""
    session = supervisor.session(channel_id)
    await session.boot("Neon", game_id=channel_id)
    for number in range(100):
        await session.join(f"{number % players:018d}", "Ana")
    for number in range(50):
        await (session.narrate("They went on.") if number < records else session.save())
    await session.save()
    await session.press(f"{0:018d}", "Ana", "Open it")


async def test_a_press_costs_the_store_the_same_whatever_there_is_around_it(redis_url: str) -> None:
    """Neither commands nor bytes of a press grow with the roster or the history."""
    clock = Clock(lambda: 1000.0, lambda: 2000.0)  # All times have as many digits.
    async with Supervisor(redis_url, settings=_SETTINGS, clock=clock) as supervisor:
        sizes = {"small": (2, 0), "large roster": (100, 0), "long history": (2, 50)}
        costs: list[tuple[int, int]] = []
        with connect(redis_url) as client:
            for number, (players, records) in enumerate(sizes.values()):
                await grow(supervisor, channel_name(number), players, records)
                client.config_resetstat()
                await supervisor.session(channel_name(number)).press(f"{1:018d}", "Ana", "Shut it")
                commands = client.info("commandstats")
                received = client.info("stats")["total_net_input_bytes"]
                costs.append((sum(one["calls"] for one in commands.values()), received))
    assert costs == costs[:1] * len(sizes), f"commands and bytes of {', '.join(sizes)}"
    assert costs[0][0] <= _COMMANDS_PER_PRESS
    assert costs[0][1] <= _BYTES_PER_PRESS


async def turn_costs(url: str, channel_id: str, records: int) -> list[tuple[int, int]]:
    """Commands and bytes of a close and of its record, four players having pressed."""
    clock = Clock(lambda: 1000.0, lambda: 2000.0)  # All times have as many digits.
    costs: list[tuple[int, int]] = []
    async with Supervisor(url, settings=_SETTINGS, clock=clock) as supervisor:
        session = supervisor.session(channel_id)
        await session.boot("Neon", game_id=channel_id)
        for _ in range(records):
            await session.narrate("They went on.")
        for player in range(4):
            await session.press(f"{player:018d}", f"Player {player}", "Open the door")
        with connect(url) as client:

            async def measured(act: Callable[[], Awaitable[Any]]) -> Any:
                client.config_resetstat()
                result = await act()
                commands = client.info("commandstats")
                received = client.info("stats")["total_net_input_bytes"]
                costs.append((sum(one["calls"] for one in commands.values()), received))
                return result

            turn = await measured(session.close_window)
            await measured(lambda: session.record(turn, "They went on."))
    return costs


async def test_what_a_close_and_a_record_send_to_the_store_is_bounded(redis_url: str) -> None:
    """Neither commands nor bytes of either grow with the history."""
    close, record = await turn_costs(redis_url, channel_name(0), 0)
    assert close[0] <= _COMMANDS_PER_CLOSE
    assert close[1] <= _BYTES_PER_CLOSE
    assert record[0] <= _COMMANDS_PER_RECORD
    assert record[1] <= _BYTES_PER_RECORD
    later = await turn_costs(redis_url, channel_name(1), 49)
    assert [commands for commands, _ in later] == [close[0], record[0]]
    # A revision has two digits by then, in three places.
    assert all(
        abs(after[1] - before[1]) <= 6 for after, before in zip(later, (close, record), strict=True)
    )


@pytest.mark.skipif(is_compiled(), reason="compiled modules can't have their functions replaced")
async def test_a_turn_spells_its_roster_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record does, for all forms, and the close nobody; of the history, its ends are hashed."""
    behaviour = SessionBehaviour()
    state = behaviour.initial("1234")
    spelled: list[int] = []
    hashed: list[int] = []

    def players_to_bytes(players: Any, extras: Any = None) -> bytes:
        spelled.append(len(players))
        return _parts.players_to_bytes(players, extras)

    def tally_of(records: Iterable[bytes]) -> int:
        given = list(records)
        hashed.append(len(given))
        return real_tally_of(given)

    real_tally_of = _state.tally_of
    monkeypatch.setattr(_writing, "players_to_bytes", players_to_bytes)
    monkeypatch.setattr(_writing, "tally_of", tally_of)
    monkeypatch.setattr(_state, "tally_of", tally_of)

    def send(message: object) -> Any:
        decision = behaviour.handle(state, message, 1000.0)
        assert decision.error is None
        return decision.reply

    send(_messages.Boot("Neon", "", "aaaaaaaaaaaa", "n"))
    for _ in range(60):
        send(_messages.Narrate("They went on."))
    for user_id in "abcd":
        send(_messages.Press(user_id, "Ana", "Open it"))
    spelled.clear()
    hashed.clear()
    turn = send(_messages.CloseWindow())
    assert spelled == []
    assert hashed == []
    send(_messages.Record(turn.turn, turn.game_id, "It opened."))
    assert spelled == [4]
    assert sum(hashed) == 2  # The record that came, and the one that went.


async def steps_of(act: Callable[[int], Coroutine[Any, Any, None]]) -> float:
    """How many bytecodes of ours, without the store's, one of 64 that act side by side takes."""
    steps = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        file = frame.f_code.co_filename
        if "gamegirl" not in file or "stores" in file or "tests" in file:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps += event == "opcode"
        return trace

    traced_by = sys.gettrace()  # Whoever measures the coverage.
    try:
        async with anyio.create_task_group() as tasks:
            for number in range(_SIDE_BY_SIDE):
                tasks.start_soon(act, number)
            sys.settrace(trace)
    finally:
        sys.settrace(traced_by)
    return steps / _SIDE_BY_SIDE


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each version has its own bytecode")
async def test_a_press_a_close_and_a_record_take_so_many_steps_of_python() -> None:
    """Counted, not timed: what a turn takes of the processor is mostly this."""
    async with Supervisor("memory://", settings=_SETTINGS) as supervisor:
        sessions = [supervisor.session(channel_name(number)) for number in range(_SIDE_BY_SIDE)]
        turns: dict[int, ClosedTurn | None] = {}

        async def press(number: int) -> None:
            await sessions[number].press("1", "Ana", "Open the door")

        async def close(number: int) -> None:
            turns[number] = await sessions[number].close_window()

        async def record(number: int) -> None:
            turn = turns[number]
            assert turn is not None
            await sessions[number].record(turn, "It opened.")

        for session in sessions:
            await session.boot("G")
            for user_id in ("1", "2", "3", "4"):
                await session.press(user_id, f"Player {user_id}", "Wait")
        steps = {act.__name__: await steps_of(act) for act in (press, close, record)}
    assert {name: 0 < count <= _STEPS[name] for name, count in steps.items()} == {
        "press": True,
        "close": True,
        "record": True,
    }, steps


async def test_a_press_in_flight_is_few_objects() -> None:
    """What the collector must go through stays small, caller's task included."""
    store = FaultyStore(MemoryStore())
    async with Supervisor(store, settings=_SETTINGS) as supervisor:
        await boot_everywhere(supervisor, _CALLERS)
        await press_everywhere(supervisor, _CALLERS)  # Opens the windows.
        store.commits.clear()
        store.hold()
        gc.collect()
        gc.disable()
        in_flight = 0
        try:
            before = len(gc.get_objects())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(press_everywhere, supervisor, _CALLERS)
                await eventually(lambda: supervisor.statistics().unsettled == _CALLERS)
                in_flight = len(gc.get_objects()) - before
                store.let_go()
        finally:
            gc.enable()
    assert _CALLERS < in_flight <= _OBJECTS_PER_PRESS * _CALLERS


def tasks_there_are() -> int:
    """All tasks of the loop that runs."""
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


async def test_an_idle_session_has_no_task_and_few_objects() -> None:
    """Neither a live session nor its open window is a task; idle ones have no mailbox."""
    async with Supervisor(MemoryStore(), settings=_SETTINGS) as supervisor:
        await boot_everywhere(supervisor, 1)
        await press_everywhere(supervisor, 1)
        gc.collect()
        tasks, objects = tasks_there_are(), len(gc.get_objects())

        def few() -> bool:
            gc.collect()
            return len(gc.get_objects()) - objects <= _OBJECTS_PER_ACTOR * _CALLERS

        await boot_everywhere(supervisor, _CALLERS, first=1)
        await eventually(few)  # What was watched is let go of at the next look.
        assert tasks_there_are() == tasks
        await press_everywhere(supervisor, _CALLERS)
        assert tasks_there_are() == tasks


async def test_a_window_is_one_timer() -> None:
    """However many press in it; none is left of it once its turn is closed and recorded."""
    async with Supervisor(MemoryStore(), settings=_SETTINGS) as supervisor:
        await boot_everywhere(supervisor, _CALLERS)
        assert supervisor.statistics().timers == 0
        for _ in range(3):
            await press_everywhere(supervisor, _CALLERS)
            assert supervisor.statistics().timers == _CALLERS


class _CountedCell:
    """An actor at rest, as far as whoever looks whether it is idle can tell."""

    looks = 0

    @property
    def last_used(self) -> float:
        _CountedCell.looks += 1
        return float("inf")


async def test_an_idle_session_is_looked_at_eight_times_in_its_idle_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a supervisor does at rest doesn't go through all live channels each second."""
    monkeypatch.setattr(_CountedCell, "looks", 0)
    cells = [_CountedCell() for _ in range(10_000)]
    looks: list[int] = []

    class Engine:
        obsolete = None

        def cells(self) -> list[_CountedCell]:
            return cells

    class Watched(Clock):
        def drift(self) -> float:
            looks.append(_CountedCell.looks)
            return 0.0

    class NoTimers:
        def prune(self, _: object) -> None:
            pass

    settings = Settings(sweep_seconds=0.002, idle_seconds=1.6)
    parts: list[Any] = [settings, Engine(), None, Watched(), NoTimers(), None]
    keeper = Keeper(*parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.tidy)
        await eventually(lambda: len(looks) > 101)
        tasks.cancel_scope.cancel()
    assert {after - before for before, after in pairwise(looks)} == {100}


class _CountingStore(MemoryStore):
    sweeps = 0

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        self.sweeps += 1
        return await super().due(until, since)


async def test_own_windows_that_close_are_no_reason_to_look_for_orphans() -> None:
    """A process looks once a period, however many windows of its own close meanwhile."""
    store, period = _CountingStore(), 0.25
    settings = attrs.evolve(_SETTINGS, window_seconds=0.6, sweep_seconds=period)
    async with Supervisor(store, settings=settings) as supervisor:
        began, sweeps = anyio.current_time(), store.sweeps
        for number in range(10):
            session = supervisor.session(channel_name(number))
            await session.boot("Neon")
            await session.press("42", "Ana", "Open it")
        looks = 6
        await eventually(lambda: store.sweeps - sweeps >= looks)
        assert looks <= (anyio.current_time() - began) / period + 1


class _ListingStore(MemoryStore):
    """Counts what is listed.

    Attributes:
        everything: So often it was all that was due.
        listed: So much of it was listed by all other calls.
    """

    everything = 0
    listed = 0

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        found = await super().due(until, since)
        if since == -inf:
            self.everything += 1
        else:
            self.listed += len(found)
        return found


async def test_windows_of_others_that_close_have_all_that_is_due_listed_once_a_period() -> None:
    """Between that a process looks only at those that should have closed lately."""
    store, period, channels = _ListingStore(), 0.1, 40
    settings = attrs.evolve(_SETTINGS, window_seconds=0.12, sweep_seconds=period)
    async with (
        Supervisor(MemoryStore.sibling(store), settings=settings) as busy,
        Supervisor(store, settings=settings),
    ):
        for number in range(channels):  # Each leaves a turn that waits for its narrative.
            session = busy.session(channel_name(number))
            await session.boot("Neon")
            await session.press("42", "Ana", "Open it")
        began, everything = anyio.current_time(), store.everything
        looks = 6
        await eventually(lambda: store.everything - everything >= looks)
        assert looks <= (anyio.current_time() - began) / period + 1
    assert 0 < store.listed < 10 * channels


class _TrioTurns(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


async def wake_ups(act: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the loop looked for something to do while this was done."""
    if trio.lowlevel.in_trio_task():
        turns = _TrioTurns()
        trio.lowlevel.add_instrument(turns)
        await act()
        trio.lowlevel.remove_instrument(turns)
        return turns.count
    loop: Any = asyncio.get_running_loop()
    run_once, count = loop._run_once, 0

    def counted() -> None:
        nonlocal count
        count += 1
        run_once()

    monkeypatch.setattr(loop, "_run_once", counted)
    await act()
    monkeypatch.undo()
    return count


async def test_a_turn_wakes_the_loop_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four presses, the close and the record take a bounded number of the loop's turns."""
    async with Supervisor(MemoryStore(), settings=_SETTINGS) as supervisor:
        session = supervisor.session("1234")
        await session.boot("Neon")

        async def play() -> None:
            async with anyio.create_task_group() as tasks:
                for user_id in "abcd":
                    tasks.start_soon(session.press, user_id, "Ana", "Open it")
            turn = await session.close_window()
            assert turn is not None
            await session.record(turn, "It opened.")

        await play()
        count = await wake_ups(play, monkeypatch)
    assert 0 < count <= _WAKE_UPS_PER_TURN
