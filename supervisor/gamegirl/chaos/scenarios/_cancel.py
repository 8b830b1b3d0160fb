"""Callers are cancelled wherever they wait, in every operation there is."""

from __future__ import annotations

from typing import Any

import anyio

from gamegirl.chaos._bench import Bench
from gamegirl.chaos._scenario import REDIS, SQLITE, Scenario
from gamegirl.chaos.scenarios import _arenas

_POOL = 5
"""So many threads and connections a store may have."""

_WORK = _arenas.__name__


async def _run(bench: Bench, rounds: int) -> None:
    settings = {"window_seconds": 600.0, "idle_seconds": 600.0, "commit_timeout_seconds": 5.0}
    plan = bench.plan(
        settings=settings,
        behaviours=[f"{_WORK}:Echo"],
        sabotage=f"{_WORK}:dropping" if bench.control else "",
        events=["ActorCrashed", "ActorLost", "ActorFailed"],
    )
    bench.watchers.append(
        lambda worker, event: (
            bench.violation(f"an actor was harmed: {event}"[:400])
            if event["event"].startswith("Actor")
            else None
        )
    )
    (worker,) = await bench.staff(1, plan)
    native = plan.backend == "asyncio"

    async def play(count: int) -> Any:
        seed = bench.random.getrandbits(32)
        return await worker.call(
            f"{_WORK}:play", url=bench.url, seed=seed, count=count, native=native
        )

    await play(max(1, rounds // 20))  # So that pools have what they need.
    before = await worker.call(f"{_WORK}:look")
    seen = await play(rounds)
    after = await _leaks(bench, worker, before)
    for what, number in after.items():
        bench.figures.count(f"{what} afterwards", number)
    for name, times in sorted(seen["cancelled"].items()):
        bench.figures.count(f"cancelled in {name}", times)
    bench.figures.count("messages of the echo", seen["echoes"])
    for fault in seen["faults"]:
        bench.violation(fault)
    worker.terminate()
    await worker.ended()
    (other,) = await bench.staff(1, plan)
    found = await other.call(f"{_WORK}:read_back", list(seen["finals"]))
    for channel, (state, history) in seen["finals"].items():
        held_state, held_history = found[channel]
        if _timeless(held_state) != _timeless(state) or held_history != history:
            bench.violation(f"{channel}: another process finds {held_state}, not {state}"[:900])
    for _ in range(rounds):
        bench.round()


def _timeless(state: dict[str, Any]) -> dict[str, Any]:
    closed = [{**turn, "attempt": 0} for turn in state["closed_turns"]]
    return {**state, "window": None, "closed_turns": closed}


async def _leaks(bench: Bench, worker: Any, before: dict[str, int]) -> dict[str, int]:
    """Compare what there is with what there was, once all has come to rest."""
    room = {"threads": _POOL * (_arenas.ARENAS + 1), "descriptors": _POOL}
    leaked: dict[str, int] = {}
    now: dict[str, int] = {}
    with anyio.move_on_after(_arenas.PATIENCE_SECONDS):
        while True:
            now = await worker.call(f"{_WORK}:look")
            most = {name: max(before[name], room.get(name, 0)) for name in now}
            most["descriptors"] = before["descriptors"] + room["descriptors"]
            leaked = {name: now[name] for name in now if now[name] > most[name]}
            if not leaked:
                break
            await anyio.sleep(0.02)
    for name, number in leaked.items():
        bench.violation(f"{number} {name} are left where there were {before[name]}")
    if bench.is_redis:

        def connections() -> int:
            with bench.redis() as client:
                return len(client.client_list()) - 1

        held = await bench.in_thread(connections)
        bench.figures.count("connections afterwards", held)
        if held > _POOL:
            bench.violation(f"{held} connections are left, the store needs {_POOL} at most")
    return now


CANCEL = Scenario(
    name="cancel",
    happens="Callers are cancelled wherever they wait, by scope and by task, in all operations",
    promise=(
        "Nothing accepted is lost or happens twice, every answer is its caller's own, nothing "
        "leaks, no actor notices"
    ),
    control="a cancelled caller's message is dropped from the mailbox",
    unit="cancellations",
    rounds=10_000,
    batch=2500,
    small=150,
    run=_run,
    control_rounds=150,
    stores=frozenset((REDIS, SQLITE)),
)
