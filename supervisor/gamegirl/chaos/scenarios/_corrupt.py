"""Stored games are damaged in every way that comes to mind, and then played."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import anyio

from gamegirl.actors.session._keys import INDEX_KEY, channel_keys, game_key
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._gateway import Crowd
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.chaos.scenarios._faults import OURS
from gamegirl.chaos.scenarios._fuzz import (
    Held,
    damage,
    damage_bytes,
    other_type,
    read_keys,
    write_key,
)
from gamegirl.chaos.scenarios._shared_keys import DUE, QUARANTINE, damage_shared_key
from gamegirl.chaos.scenarios._victims import (
    CHANNEL,
    Victim,
    entries_of,
    judge_refused,
    judge_served,
)
from gamegirl.supervisor.stores import ActorKey

_LOUD = 6
_HANDS = 24
_SHARED_EVERY = 50
"""One of so many values is a key that all channels share."""

_PATIENCE_SECONDS = 15.0
_CLOSE_SECONDS = 0.25
_PLACES = (*CHANNEL, *CHANNEL, "game", "game", "save", "save", "index", "fence", "due", "aside")
_UNDER_OWNER = {"journal": "press", "turns": "close_window",
                "json": "save", "hash": "save", "meta": "save"}  # fmt: skip
_OLD_SHARE, _LIVE_SHARE = 0.25, 0.08
_OPERATIONS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("press", ("p1", "P1", "a choice after the damage")),
    ("join", ("p9", "Late")),
    ("history", (50,)),
    ("roster", ()),
    ("set_crown", ("p0",)),
    ("narrate", ("an interlude after the damage",)),
    ("close_window", ()),
    ("save", ()),
    ("exit", ()),
)


class _Corrupt:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._plan = bench.plan(
            settings={"window_seconds": 60.0},
            events=["ActorCrashed", "ActorFailed"],
            sabotage=f"{__name__}:careless" if bench.control else "",
        )
        bench.watchers.append(self._watch)
        self._victims: list[Victim] = []
        self._junk: dict[bytes, bytes] = {}

    def _watch(self, _: Worker, event: dict[str, Any]) -> None:
        if event["event"] in ("ActorCrashed", "ActorFailed"):
            self._bench.violation(f"{event['actor_id']}: {event['event']}: {event}"[:400])

    async def run(self, rounds: int) -> None:
        bench = self._bench
        shared = range(_SHARED_EVERY // 2, rounds, _SHARED_EVERY)
        self._victims = [self._victim(number) for number in range(rounds - len(shared))]
        makers = await bench.staff(2, self._plan)
        await self._each(self._make, self._victims)
        await self._dismiss(makers)
        await bench.in_thread(self._damage_all)
        users = await bench.staff(2, self._plan)
        crowd, channels = bench.crowd(), [f"loud-{number}" for number in range(_LOUD)]
        async with anyio.create_task_group() as load:
            for channel in channels:
                await crowd.boot(channel)
                load.start_soon(self._play, crowd, channel)
                load.start_soon(self._close, crowd, channel)
            await self._each(self._use, self._victims)
            await self._list()
            load.cancel_scope.cancel()
        await bench.settle(crowd, channels)
        for number in range(len(shared)):
            await damage_shared_key(bench, number)
        await self._dismiss(users)
        await bench.in_thread(self._judge_all)
        await bench.judge()

    async def _dismiss(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            if status := await worker.ended():
                self._bench.violation(f"{worker!r} ended with {status}: {self._bench.log_tail()}")

    async def _each(self, act: Any, victims: Sequence[Victim]) -> None:
        queue = iter(victims)

        async def hand() -> None:
            for victim in queue:
                await act(victim)

        async with anyio.create_task_group() as hands:
            for _ in range(_HANDS):
                hands.start_soon(hand)

    # --- Making them ----------------------------------------------------------------------------

    def _victim(self, number: int) -> Victim:
        bench, chance = self._bench, self._bench.random
        channel, game_id = f"v{bench.seed}-{number}", f"{chance.getrandbits(48):012x}"
        place = _PLACES[(number + bench.seed) % len(_PLACES)]
        live = place in _UNDER_OWNER and chance.random() < _LIVE_SHARE
        old = place not in (*OURS, "save", "fence") and not live and chance.random() < _OLD_SHARE
        keys = dict(zip(CHANNEL, channel_keys(channel), strict=True))
        keys |= {"game": game_key(game_id), "save": game_key(game_id), "index": INDEX_KEY}
        keys |= {"fence": ActorKey("session", channel).fence, "due": DUE, "aside": QUARANTINE}
        return Victim(channel, game_id, place, old, live, keys)

    async def _make(self, victim: Victim) -> None:
        """A game with all that a stored game can have, as far as it may."""
        ask, channel = self._bench.gateway.ask, victim.channel
        await ask(channel, "boot", f"Game of {channel}", game_id=victim.game_id)
        for user in range(3):
            await ask(channel, "press", f"p{user}", f"P{user}", f"first {user}")
        await ask(channel, "close_window")
        await ask(channel, "record", 1, "the first turn")
        await ask(channel, "narrate", "an interlude")
        await ask(channel, "set_crown", "p1")
        if victim.place != "due":
            await ask(channel, "press", "p0", "P0", "second", press_id="x1")
            await ask(channel, "close_window")
        await ask(channel, "press", "p0", "P0", "third \u00e4", press_id="x2")
        await ask(channel, "press", "p2", "P2", "third")
        if victim.old:
            await ask(channel, "save")  # Old data has no journal: all of it is in the forms.
        victim.truth = await ask(channel, "state")
        victim.history = await ask(channel, "history", 50)
        if victim.place == "save":
            await ask(channel, "exit")

    # --- Damaging them --------------------------------------------------------------------------

    def _damage_all(self) -> None:
        with self._bench.redis() as client:
            for victim in self._victims:
                if not victim.live:
                    self._damage(client, victim)

    def _damage(self, client: Any, victim: Victim) -> None:
        chance, key = self._bench.random, victim.key
        pipe = client.pipeline(transaction=True)
        if victim.old:
            pipe.delete(*(victim.keys[place] for place in OURS))
        if victim.place == "index":
            victim.kind, value = damage_bytes(client.hget(key, victim.game_id), chance)
            pipe.hset(key, victim.game_id, value)
        elif victim.place == "aside":
            victim.kind, value = damage_bytes(b'{"key":"k","type":"part","value":""}', chance)
            name = f"{victim.channel}#{value[:4]!r}".encode()
            pipe.hset(key, name, value)
            self._junk[name] = value
        elif victim.place == "due":
            member = ActorKey("session", victim.channel).member
            victim.kind = "strange moments"
            pipe.zadd(key, {member: chance.choice((-1e300, 0.0, 1e300, float("-inf"), 1e9))})
            pipe.zadd(key, {chance.randbytes(9): chance.uniform(-5.0, 5.0)})
        else:
            (held,) = read_keys(client, [key]).values()
            if victim.live:
                victim.kind, held = "wrong type under its owner", other_type(held, chance)
            elif victim.place == "fence":
                victim.kind, held = self._damaged_fence(held)
            else:
                victim.kind, held = damage(held, chance)
            write_key(pipe, key, held)
        pipe.execute()
        victim.before = self._look(client, victim)

    def _damaged_fence(self, held: Held) -> tuple[str, Held]:
        chance = self._bench.random
        if not isinstance(held, dict) or chance.random() < 0.3:
            return "wrong type", other_type(held, chance)
        name = chance.choice((b"owner", b"rev", b"cid"))
        values = (b"", b"-1", b"1e3", b"9" * 30, b"many", b"\xff\0", b":::", chance.randbytes(30))
        return f"fence's {name.decode()}", {**held, name: chance.choice(values)}

    def _look(self, client: Any, victim: Victim) -> dict[str, Held]:
        places = [*CHANNEL, "game", "fence"]
        found = read_keys(client, [victim.keys[place] for place in places])
        looked = {place: found[victim.keys[place]] for place in places}
        looked["save"] = looked["game"]
        return looked

    # --- Using them -----------------------------------------------------------------------------

    async def _use(self, victim: Victim) -> None:
        bench, chance = self._bench, self._bench.random
        if victim.live:
            await self._ask(victim, "state")
            worker = bench.gateway.home(victim.channel)

            def spoil() -> None:
                with bench.redis() as client:
                    self._damage(client, victim)

            await bench.in_thread(spoil)
            victim.answers.clear()
            operation = _UNDER_OWNER[victim.place]
            arguments = ("p1", "P1", "no more") if operation == "press" else ()
            await self._ask(victim, operation, *arguments)
            if worker is None:
                bench.violation(f"{victim.channel}: its worker is gone")
        elif victim.place == "save":
            await self._ask(victim, "load", victim.game_id)
        await self._ask(victim, "state")
        for operation, arguments in chance.sample(_OPERATIONS, 2):
            await self._ask(victim, operation, *arguments)
        bench.figures.count(f"damaged: {victim.place}")
        bench.round()

    async def _ask(self, victim: Victim, operation: str, *arguments: Any) -> None:
        bench = self._bench
        channel = victim.channel
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                answer: Any = await bench.gateway.ask(channel, operation, *arguments)
        except CallFailed as error:
            answer = error
        except (TimeoutError, WorkerGone):
            bench.violation(f"{victim.told}: {operation} was never answered")
            return
        victim.answers.append((operation, answer))

    async def _list(self) -> None:
        """The listing has every game whose entry was damaged, from the game itself."""
        bench = self._bench
        listed = await bench.gateway.ask("", "games")
        names = {game["game_id"]: game["game_name"] for game in listed}
        for victim in self._victims:
            if victim.place == "index" and not victim.old:
                name = names.get(victim.game_id)
                if name is None:
                    bench.violation(f"{victim.told}: games() doesn't list it")

    async def _play(self, crowd: Crowd, channel: str) -> None:
        try:
            await crowd.play(channel)
        except* CallFailed as errors:
            self._bench.violation(f"{channel}, whose keys nobody touched: {errors.exceptions[0]}")

    async def _close(self, crowd: Crowd, channel: str) -> None:
        while True:
            await anyio.sleep(self._bench.random.uniform(0.5, 1.5) * _CLOSE_SECONDS)
            try:
                await self._bench.gateway.ask(channel, "close_window")
            except CallFailed as error:
                self._bench.violation(f"{channel}, whose keys nobody touched: {error}")

    # --- Judging them ---------------------------------------------------------------------------

    def _judge_all(self) -> None:
        bench, figures = self._bench, self._bench.figures
        with bench.redis() as client:
            stored = client.hgetall(QUARANTINE)
            aside = entries_of(stored)
            for name, value in self._junk.items():
                if stored.get(name) != value:
                    bench.violation(f"the strange entry {name!r} of quarantine was changed")
            for victim in self._victims:
                if victim.refused:
                    figures.count("refused, and nothing touched")
                    faults = judge_refused(victim, self._look(client, victim), aside)
                else:
                    figures.count("served")
                    faults = judge_served(victim, aside)
                for fault in faults:
                    bench.violation(f"{victim.told}: {fault}")
        figures.count("entries in quarantine", sum(map(len, aside.values())))


def careless(store: Any) -> Any:
    """Sabotage: what can't be read counts as empty, and is written over."""
    from gamegirl.actors.session import _reading, _restore

    read = _reading.read_channel

    def careless_read(channel_id: str, stored: Any, now: float, rules: Any) -> Any:
        try:
            return read(channel_id, stored, now, rules)
        except _reading.UnusableError:
            return read(channel_id, [None] * len(stored), now, rules)

    cast(Any, _restore).read_channel = careless_read
    return store


async def _run(bench: Bench, rounds: int) -> None:
    await _Corrupt(bench).run(rounds)


CORRUPT = Scenario(
    name="corrupt",
    happens="Stored values of every kind are damaged, and their channels are used",
    promise=(
        "What can't be used is left as it is, byte for byte, and its callers are told where; "
        "malformed pieces are copied to quarantine and the rest is restored; quarantine lists "
        "each; no other channel notices"
    ),
    control="what can't be read counts as empty",
    unit="damaged values",
    rounds=5000,
    batch=500,
    small=60,
    run=_run,
    control_rounds=100,
)
