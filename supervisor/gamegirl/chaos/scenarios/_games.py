"""The same games are booted, loaded, swapped, exited, wiped and forgotten by several at once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import attrs

from gamegirl.actors import TurnToken
from gamegirl.actors.session._keys import game_key, hash_key, json_key
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._deeds import DONE, DOUBTFUL, REFUSED, Deed, World, explained, name_by_others
from gamegirl.chaos._ledger import Press
from gamegirl.chaos._scenario import REDIS, SQLITE, Scenario
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone
from gamegirl.chaos.scenarios._arcade import (
    Heard,
    Known,
    Look,
    Shelf,
    differences,
    listed,
    listing,
    look,
    misplaced,
    narrative,
)
from gamegirl.supervisor import Store

_WORKERS = 2
_CHANNELS = 6
_GAMES = 20
_DEEDS = 14
_HOT = 3
"""So many games are what a storm is about."""

_MORE_MAX = 20
"""So many games of swaps are there at most, beside the others; then no more are swapped in."""

_SPREAD_SECONDS = 0.03
_KILLS = 0.3
"""In so large a part of the storms a worker is killed."""

_PATIENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.01
_TURN_PATIENCE_SECONDS = 60.0

_KINDS = {
    "load": 6,
    "boot": 4,
    "play": 5,
    "exit": 3,
    "forget": 2,
    "wipe": 2,
    "swap": 1,
    "release": 1,
}
"""What is done in a storm, and how often."""


class _Games:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        sabotage = "gamegirl.chaos._sabotage:unconditional" if bench.control else ""
        # No window closes by itself, so that between storms nothing changes.
        settings = {"window_seconds": 600.0}
        self._plan = bench.plan(settings=settings, sabotage=sabotage)
        self._channels = [f"room-{number}" for number in range(_CHANNELS)]
        self._ids = [f"{bench.random.getrandbits(48):012x}" for _ in range(_GAMES)]
        self._before = Look(World({}, {}), {}, ())
        self._shelf = Shelf()
        self._sent = 0
        self._deeds: list[Deed] = []
        self._heard: list[Heard] = []
        self._titles: dict[str, Deed] = {}
        self._store: Store

    async def run(self, rounds: int) -> None:
        bench = self._bench
        await bench.staff(_WORKERS, self._plan)
        self._store = bench.store()
        try:
            async with anyio.create_task_group() as tasks:
                for number, channel in enumerate(self._channels):
                    tasks.start_soon(self._fill, channel, self._ids[number::_CHANNELS])
            self._before = await look(self._store, self._channels)
            for _ in range(rounds):
                await self._storm()
                await self._settle()
                bench.round()
            await self._ask_the_command()
            await self._play_out()
        finally:
            await self._store.aclose()

    async def _fill(self, channel: str, games: Sequence[str]) -> None:
        """Boot games and put them away, so that there is something to load."""
        for game in games:
            title = self._title(game)
            await self._bench.gateway.ask(channel, "boot", title, game_id=game)
            await self._bench.gateway.ask(channel, "exit")

    # --- A storm --------------------------------------------------------------------------------

    async def _storm(self) -> None:
        random = self._bench.random
        self._deeds, self._heard, self._titles = [], [], {}
        hot = random.sample([*self._ids, *self._more()], _HOT)
        kinds = random.choices(list(_KINDS), list(_KINDS.values()), k=_DEEDS)
        async with anyio.create_task_group() as tasks:
            watching = anyio.CancelScope()
            tasks.start_soon(self._watch, watching)
            async with anyio.create_task_group() as storm:
                for slot, kind in enumerate(kinds):
                    storm.start_soon(self._do, kind, slot, random.choice(hot))
                if random.random() < _KILLS:
                    storm.start_soon(self._kill)
            watching.cancel()

    def _more(self) -> list[str]:
        return [game for game in self._before.games if game not in self._ids]

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """Look at all of it, in one atomic read, as often as can be."""
        with scope:
            games = [*self._ids, *self._more()]
            keys = [make(name) for name in self._channels for make in (json_key, hash_key)]
            while True:
                values = await self._store.read([*keys, *map(game_key, games)])
                pairs = iter(values[: len(keys)])
                forms = {name: (next(pairs), next(pairs)) for name in self._channels}
                holders = {
                    game: cast("dict[bytes, bytes]", value)[b"holder"].decode() if value else None
                    for game, value in zip(games, values[len(keys) :], strict=True)
                }
                for fault in misplaced(forms, holders):
                    self._bench.violation(f"in the middle of a storm: {fault}")
                self._bench.figures.count("looks in the middle of a storm")
                await anyio.sleep(_RETRY_SECONDS)

    async def _kill(self) -> None:
        bench = self._bench
        await anyio.sleep(bench.random.uniform(0, 2 * _SPREAD_SECONDS))
        bench.random.choice([worker for worker in bench.workers if worker.alive]).kill()
        bench.figures.count("kills")
        await bench.worker(attrs.evolve(self._plan, seed=bench.random.getrandbits(32)))

    async def _do(self, kind: str, slot: int, game: str) -> None:
        random = self._bench.random
        channel = random.choice(self._channels)
        await anyio.sleep(random.uniform(0, _SPREAD_SECONDS))
        if kind == "play":
            await self._play(channel, f"user {slot}")
        elif kind == "load":
            await self._deed(Deed(kind, channel, game), game)
        elif kind == "boot":
            title = self._title(game)
            await self._deed(Deed(kind, channel, game), title, game_id=game)
        elif kind == "swap" and len(self._more()) < _MORE_MAX:
            title = self._title("a game that was swapped in")
            deed = self._titles[title] = Deed(kind, channel, title)
            answer = await self._deed(deed, title)
            if answer is not None:
                deed.game = answer["booted"]["game_id"]
        elif kind == "forget":
            await self._deed(Deed(kind, "", game), game)
        elif kind == "release":
            await self._release(channel)
        else:
            await self._deed(Deed("wipe" if kind == "wipe" else "exit", channel))

    def _title(self, about: str) -> str:
        self._sent += 1
        return f"{about} for the {self._sent}th time"

    async def _play(self, channel: str, user_id: str) -> None:
        """A press, and perhaps the turn's end, and perhaps a record of the oldest turn."""
        random = self._bench.random
        self._sent += 1
        press = Press(user_id, f"choice {self._sent} of {user_id}", self._sent)
        deed = Deed("press", channel)
        pressed = await self._deed(
            deed, user_id, user_id.title(), press.choice, press_id=f"p{self._sent}"
        )
        if pressed is not None:
            deed.game = pressed["game_id"]
            press.turn, press.opened = pressed["turn"], pressed["opened"]
        if deed.outcome != REFUSED:
            self._heard.append(Heard(deed.game, press=press))
        if pressed is None or random.random() < 0.3:
            return
        deed = Deed("close", channel)
        turn = await self._deed(deed)
        if turn is not None:
            deed.game = turn["game_id"]
            self._heard.append(Heard(deed.game, closed=turn))
        if random.random() < 0.4:
            return
        state = await self._read(channel)
        if state is None or not state["closed_turns"]:
            return
        oldest = state["closed_turns"][0]
        game, number = oldest["game_id"], oldest["turn"]
        self._heard.append(Heard(game, closed=oldest))
        deed = Deed("record", channel, game)
        record = await self._deed(deed, narrative(game, number), token=(game, number))
        if record is not None:
            self._heard.append(Heard(game, record=record))

    async def _read(self, channel: str) -> Any | None:
        try:
            with anyio.move_on_after(_PATIENCE_SECONDS):
                return await self._bench.gateway.ask(channel, "state")
        except CallFailed as error:
            self._bench.violation(f"{channel}: its state can't be read: {error}")
        return None

    async def _release(self, channel: str) -> None:
        """Let another process have the channel."""
        home = self._bench.gateway.home(channel)
        if home is not None:
            try:
                await home.call("release", channel)
            except (CallFailed, WorkerGone):
                return
            self._bench.figures.count("releases")

    async def _deed(self, deed: Deed, *arguments: Any, **options: Any) -> Any | None:
        """Have it done, once; its answer, if there was one."""
        bench = self._bench
        self._deeds.append(deed)
        bench.figures.count(deed.kind)
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                answer = await self._once(deed, arguments, options)
        except TimeoutError:
            bench.violation(f"{deed}: no answer in {_PATIENCE_SECONDS:g} s")
            return None
        except WorkerGone:
            return None
        except CallFailed as error:
            deed.refusal, deed.text = error.kind, error.text
            if error.fate == "in doubt":
                return None
            deed.outcome, deed.ended = REFUSED, time.monotonic()
            return None
        deed.outcome, deed.ended = DONE, time.monotonic()
        bench.figures.count(f"{deed.kind}, done")
        return answer

    async def _once(self, deed: Deed, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        bench = self._bench
        while True:
            worker = bench.gateway.home(deed.channel) or self._any()
            if worker is None:
                await anyio.sleep(_RETRY_SECONDS)
                continue
            if deed.channel:
                bench.gateway.move(deed.channel, worker)
            deed.began = time.monotonic()
            try:
                return await self._call(worker, deed, arguments, options)
            except CallFailed as error:
                if error.kind == "OwnedElsewhereError":
                    self._reroute(deed.channel, worker, error.owner)
                elif error.kind not in ("StoreUnavailableError", "OwnershipLostError") or (
                    error.fate == "in doubt"
                ):
                    raise
                await anyio.sleep(_RETRY_SECONDS)

    async def _call(
        self, worker: Worker, deed: Deed, arguments: Sequence[Any], options: dict[str, Any]
    ) -> Any:
        if deed.kind == "forget":
            return await worker.call("forget", *arguments)
        if deed.kind == "record":
            job, token = f"{__name__}:{record_token.__name__}", options["token"]
            return await worker.call(job, deed.channel, *token, *arguments)
        op = "close_window" if deed.kind == "close" else deed.kind
        return await worker.call(op, *arguments, channel=deed.channel, **options)

    def _any(self) -> Worker | None:
        able = [worker for worker in self._bench.workers if worker.alive]
        return self._bench.random.choice(able) if able else None

    def _reroute(self, channel: str, worker: Worker, owner: str) -> None:
        for other in self._bench.workers:
            if other is not worker and other.alive and other.owns(owner):
                self._bench.gateway.move(channel, other)

    # --- A look ---------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Have everything settled that is in doubt, look at the store, and judge the storm."""
        bench = self._bench
        states: dict[str, Any] = {}

        async def read(channel: str) -> None:
            states[channel] = await self._read(channel)

        async with anyio.create_task_group() as tasks:
            for channel in self._channels:
                tasks.start_soon(read, channel)
        found = await look(self._store, self._channels)
        for fault in found.faults:
            bench.violation(fault)
        for channel, state in states.items():
            there = found.world.live(channel)
            told = state["game_id"] if state is not None and state["active"] else None
            if told != there:
                bench.violation(f"{channel}: its session has game {told}, the store {there}")
        for fault in differences(listing(found.games), listed(await self._listing())):
            bench.violation(fault)
        self._explain(found)
        boots = [deed.game for deed in self._deeds if deed.kind == "boot"]
        self._shelf.enter(self._heard, self._before.games, found.games, boots)
        self._before = found

    async def _listing(self) -> Any:
        while True:
            worker = self._any()
            if worker is not None:
                with suppress(WorkerGone):  # It was killed, and that wasn't noticed yet.
                    return await worker.call("games")
            await anyio.sleep(_RETRY_SECONDS)

    def _explain(self, found: Look) -> None:
        bench = self._bench
        names = {known.title: game for game, known in found.games.items()}
        for title, deed in self._titles.items():
            if deed.game == title and title in names:
                deed.game = names[title]
        unnamed = [deed for title, deed in self._titles.items() if deed.game == title]
        made = {deed.game for deed in self._titles.values()}
        known = {*self._ids, *self._before.world.games, *found.world.games, *made}
        name_by_others(unnamed, self._deeds, known)
        bench.figures.count("answers in doubt", sum(d.outcome == DOUBTFUL for d in self._deeds))
        if not explained(self._before.world, self._deeds, found.world):
            told = "; ".join(map(str, sorted(self._deeds, key=lambda deed: deed.began)))
            bench.violation(
                f"no order of these explains how they were answered: {told} (before: "
                f"{self._before.world}; after: {found.world})"
            )

    # --- The end --------------------------------------------------------------------------------

    async def _ask_the_command(self) -> None:
        """`gamegirl games` says the same."""
        command = [sys.executable, "-m", "gamegirl", "games", "--json", "--store", self._bench.url]
        done = await anyio.run_process(command)
        for fault in differences(listing(self._before.games), listed(json.loads(done.stdout))):
            self._bench.violation(f"`gamegirl games`: {fault}")

    async def _play_out(self) -> None:
        """Every game there is can be loaded, and has all that was acknowledged of it."""
        bench = self._bench
        ends: dict[str, str] = {}
        async with anyio.create_task_group() as tasks:
            for game, known in self._before.games.items():
                ends[known.title] = f"end-{game}"
                tasks.start_soon(self._play_one_out, game, known, ends[known.title])
        faults = await self._shelf.played_out(self._store, ends)
        for fault in (*self._shelf.contradictions, *faults):
            bench.violation(fault)
        presses, turns, records = self._shelf.counts()
        bench.figures.count("games loaded at the end", len(ends))
        bench.figures.count("acknowledged presses of them", presses)
        bench.figures.count("turns of them", turns)
        bench.figures.count("acknowledged records of them", records)

    async def _play_one_out(self, game: str, known: Known, channel: str) -> None:
        ask = self._bench.gateway.ask
        try:
            with anyio.fail_after(_TURN_PATIENCE_SECONDS):
                if known.active:
                    await ask(known.channel, "exit")
                await ask(channel, "load", game)
                await ask(channel, "close_window")
                state = await ask(channel, "state")
                for turn in state["closed_turns"]:
                    heard = Heard(game, closed=turn)
                    self._shelf.enter([heard], self._before.games, self._before.games, [])
                    await ask(channel, "record", turn["turn"], narrative(game, turn["turn"]))
        except (CallFailed, TimeoutError) as error:
            self._bench.violation(f"{known.title} ({game}) is lost: it can't be loaded: {error!r}")


async def record_token(supervisor: Any, channel: str, game: str, turn: int, text: str) -> Any:
    """A job: record a turn of a game, not merely of whichever runs."""
    return await supervisor.session(channel).record(TurnToken(game, turn), text)


async def _run(bench: Bench, rounds: int) -> None:
    await _Games(bench).run(rounds)


GAMES = Scenario(
    name="games",
    happens=(
        "boot, load, swap, exit, wipe and forget of the same 20 games at once, from two processes "
        "and in six channels, with workers killed among it"
    ),
    promise=(
        "No game is live twice at any moment, none is lost, every answer is explained by some "
        "order of the calls, and the listing is true"
    ),
    control="commits are made whoever holds the game (their conditions are left out)",
    unit="storms",
    rounds=1000,
    batch=100,
    small=8,
    run=_run,
    stores=frozenset((REDIS, SQLITE)),
)
