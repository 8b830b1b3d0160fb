"""Keys that all channels share are damaged for a moment."""

from __future__ import annotations

import anyio

from gamegirl.actors.session._keys import INDEX_KEY, history_key
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._gateway import Crowd
from gamegirl.chaos._workers import CallFailed
from gamegirl.chaos.scenarios._fuzz import Held, read_keys, write_key

QUARANTINE = "gg:quarantine"
DUE = "gg:due"
_EPOCH = "gg:epoch"

_SPOILT_SECONDS = 1.3
_PATIENCE_SECONDS = 15.0
_LOOK_SECONDS = 0.02

_SHARED: tuple[tuple[str, Held], ...] = (
    (_EPOCH, b"many"),
    (DUE, b"a text"),
    (_EPOCH, str(2**63 - 1).encode()),
    (QUARANTINE, [b"a list"]),
    (INDEX_KEY, b"a text"),
    (_EPOCH, {b"a": b"hash"}),
    (DUE, {b"a": b"hash"}),
    (INDEX_KEY, [b"a list"]),
    (_EPOCH, b""),
    (QUARANTINE, b""),
)


async def damage_shared_key(bench: Bench, number: int) -> None:
    """It is named, not written over; what it stops goes on by itself once it is repaired."""
    key, held = _SHARED[(number + bench.seed) % len(_SHARED)]
    live, cold = f"live-{bench.seed}-{number}", f"cold-{bench.seed}-{number}"
    crowd = bench.crowd()
    for channel in (live, cold):
        await crowd.boot(channel)
        await crowd.press(channel, "before")
    home = bench.gateway.home(cold)
    if home is not None:
        await home.call("release", cold)

    def spoil() -> tuple[bytes | None, Held]:
        with bench.redis() as client:
            pipe = client.pipeline(transaction=True)
            pipe.dump(key)
            write_key(pipe, key, held)
            dump: bytes | None = pipe.execute()[0]
            if key == QUARANTINE:  # Something that wants to be put aside.
                client.rpush(history_key(cold), b"\xff no record")
            return dump, held

    def repair(dump: bytes | None) -> Held:
        with bench.redis() as client:
            (found,) = read_keys(client, [key]).values()
            pipe = client.pipeline(transaction=True)
            pipe.delete(key)
            if dump:
                pipe.restore(key, 0, dump)
            pipe.execute()
            return found

    dump, spoilt = await bench.in_thread(spoil)
    told: list[str] = []
    async with anyio.create_task_group() as asking:
        for channel, operation in ((live, "close_window"), (cold, "state")):
            asking.start_soon(_ask_spoilt, bench, key, channel, operation, told)
    found = await bench.in_thread(lambda: repair(dump))
    if found != spoilt:
        bench.violation(f"{key}: what somebody had put there was written over")
    if not told:
        bench.violation(f"{key}: nobody was told that it is {spoilt!r:.40}")
    for channel in (live, cold):
        with anyio.move_on_after(_PATIENCE_SECONDS) as scope:
            await _until_served(bench, crowd, channel)
        if scope.cancelled_caught:
            bench.violation(f"{channel} does not go on after {key} was repaired")
    await bench.settle(crowd, [live, cold])
    bench.figures.count("damaged: keys that all channels share")
    bench.round()


async def _ask_spoilt(
    bench: Bench, key: str, channel: str, operation: str, told: list[str]
) -> None:
    worker = bench.gateway.home(channel)
    if worker is None:
        bench.violation(f"{channel} has no worker")
        return
    with anyio.move_on_after(_SPOILT_SECONDS):
        try:
            await worker.call(operation, channel=channel)
        except CallFailed as error:
            if error.kind not in ("SessionQuarantinedError", "StoreUnavailableError"):
                bench.violation(f"{channel}: {key} made {operation} raise {error}")
            elif key in error.text:
                told.append(error.text)
            else:
                bench.violation(f"{channel}: {operation} doesn't name {key}: {error}")


async def _until_served(bench: Bench, crowd: Crowd, channel: str) -> None:
    """Its restarts while it could not write have a backoff."""
    while True:
        try:
            await bench.gateway.ask(channel, "state")
        except CallFailed:
            await anyio.sleep(_LOOK_SECONDS)
        else:
            break
    await crowd.press(channel, "after")
