"""The replaced system writes into channels that the runtime has played in."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any, cast

import anyio
import attrs

from gamegirl.actors.session._keys import (
    hash_key,
    journal_key,
    json_key,
    meta_key,
    turns_key,
)
from gamegirl.chaos._bench import Bench
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos._workers import CallFailed, Worker
from gamegirl.chaos.scenarios import _old_bot as old
from gamegirl.chaos.scenarios._fuzz import Held, read_keys
from gamegirl.chaos.scenarios._victims import Aside, entries_of, listed

_GROUP = 25
_PATIENCE_SECONDS = 15.0
_DEEDS = ("plays", "plays", "presses", "stops half-way", "stops half-way", "stops half-way",
          "boots another", "wipes", "wipes half")  # fmt: skip


@attrs.define
class _Round:
    """A channel in which both systems play.

    Attributes:
        alive: Our owner lives while the old bot writes.
        overwrites: It makes a full write after that.
        deed: What the old bot does.
        truth: Our state, the last that was told.
        said: What the old bot's data say in the end; None: no game.
        ours: The forms are as we have written them.
        aside: Our keys in the end, which must be in quarantine if the forms aren't ours.
    """

    channel: str
    game_id: str
    alive: bool
    overwrites: bool
    deed: str
    truth: dict[str, Any] = attrs.Factory(dict[str, Any])
    before: dict[str, Held] = attrs.Factory(dict[str, "Held"])
    said: dict[str, Any] | None = None
    ours: bool = False
    aside: dict[str, Held] = attrs.Factory(dict[str, "Held"])

    @property
    def forms(self) -> tuple[str, str]:
        """The keys of both forms."""
        return json_key(self.channel), hash_key(self.channel)

    @property
    def told(self) -> str:
        """For people."""
        when = "under our owner" if self.alive else "while nobody plays"
        return f"{self.channel} (the old bot {self.deed} {when})"


class _OldBot:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._plan = bench.plan(
            settings={"window_seconds": 60.0},
            events=["ActorCrashed", "ActorFailed"],
            sabotage=f"{__name__}:trusting" if bench.control else "",
        )
        bench.watchers.append(self._watch)

    def _watch(self, _: Worker, event: dict[str, Any]) -> None:
        if event["event"] in ("ActorCrashed", "ActorFailed"):
            self._bench.violation(f"{event['event']}: {event}"[:300])

    async def run(self, rounds: int) -> None:
        size = min(_GROUP, math.ceil(rounds / 2))
        for number, start in enumerate(range(0, rounds, size)):
            count = min(size, rounds - start)
            await self._group(number, [self._round(number, start + at) for at in range(count)])

    def _round(self, group: int, number: int) -> _Round:
        bench = self._bench
        return _Round(
            channel=f"c{bench.seed}-{number}",
            game_id=f"{bench.random.getrandbits(48):012x}",
            alive=group % 2 == 1,
            overwrites=group % 2 == 1 and bench.random.random() < 0.3,
            deed=_DEEDS[(number + bench.seed) % len(_DEEDS)],
        )

    async def _group(self, number: int, rounds: list[_Round]) -> None:
        bench, alive = self._bench, rounds[0].alive
        (owner,) = await bench.staff(1, self._plan)
        await self._each(lambda one: self._play(owner, one), rounds)
        if not alive:
            await self._end(owner, softly=number % 4 == 0)
        await bench.in_thread(lambda: self._write_all(rounds))
        if alive:
            await self._each(lambda one: self._play_on(owner, one), rounds)
            await self._end(owner, softly=number % 4 == 1)
        await bench.in_thread(lambda: self._look_all(rounds))
        (heir,) = await bench.staff(1, self._plan)
        states: dict[str, Any] = {}
        await self._each(lambda one: self._restore(one, states), rounds)
        await bench.in_thread(lambda: self._judge_all(rounds, states))
        await self._each(self._no_revival, rounds)
        await self._end(heir, softly=True)
        for one in rounds:
            bench.figures.count(f"the old bot {one.deed}")
            bench.round()

    async def _each(
        self, act: Callable[[_Round], Coroutine[Any, Any, None]], rounds: list[_Round]
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for one in rounds:
                tasks.start_soon(act, one)

    async def _end(self, worker: Worker, *, softly: bool) -> None:
        """Drain or kill the worker."""
        if softly:
            worker.terminate()
        else:
            worker.kill()
        status = await worker.ended()
        if softly and status:
            self._bench.violation(f"{worker!r} ended with {status}: {self._bench.log_tail()}")

    # --- Ours -----------------------------------------------------------------------------------

    async def _play(self, worker: Worker, one: _Round) -> None:
        """A game with a record, an unrecorded turn and an open window."""

        async def ask(operation: str, *arguments: Any, **options: Any) -> Any:
            return await worker.call(operation, *arguments, channel=one.channel, **options)

        await ask("boot", "Ours", game_id=one.game_id)
        for user in ("p0", "p1"):
            await ask("press", user, user.title(), f"first of {user}")
        await ask("close_window")
        await ask("record", 1, "told by us")
        await ask("press", "p0", "P0", "second", press_id="x1")
        await ask("close_window")
        await ask("press", "p1", "P1", "third", press_id="x2")
        one.truth = await ask("state")

    async def _play_on(self, worker: Worker, one: _Round) -> None:
        """The owner doesn't know that somebody has written; what it acknowledges is ours."""
        for press in range(2):
            await worker.call(
                "press", "p2", "P2", f"more {press}", channel=one.channel, press_id=f"y{press}"
            )
        if self._bench.random.random() < 0.5:
            await worker.call("close_window", channel=one.channel)
        if one.overwrites:
            await worker.call("save", channel=one.channel)
        one.truth = await worker.call("state", channel=one.channel)

    # --- The old bot's --------------------------------------------------------------------------

    def _write_all(self, rounds: list[_Round]) -> None:
        with self._bench.redis() as client:
            for one in rounds:
                one.before = read_keys(client, one.forms)
                for command in self._commands(one):
                    command(client)

    def _commands(self, one: _Round) -> list[old.Command]:
        chance = self._bench.random
        if one.deed.startswith("wipes"):
            commands = old.wipe(one.channel, one.game_id)
            return commands[: chance.randint(1, 3)] if one.deed == "wipes half" else commands
        found = old.wins(*(one.before[key] for key in one.forms))
        assert found is not None
        found.pop("pending_choices")
        half = one.deed == "stops half-way"
        if one.deed == "boots another" or (half and chance.random() < 0.3):
            found = old.new_game(one.channel, f"{chance.getrandbits(48):012x}")
        else:
            found["players"]["old"] = old.player("old", found["turn_number"])
            found["crown_holder"] = chance.choice((None, "old", "p1"))
            if one.deed != "presses":
                found["turn_number"] += chance.randint(1, 3)
        pending = {"old": "an old choice"} if chance.random() < 0.5 else {}
        commands = old.commands(found, pending)
        if one.deed == "presses":
            return commands[:5]
        return commands[: chance.randint(1, 6)] if half else commands

    def _look_all(self, rounds: list[_Round]) -> None:
        with self._bench.redis() as client:
            for one in rounds:
                now = read_keys(client, one.forms)
                one.said = old.wins(*(now[key] for key in one.forms))
                there = [key for key in one.forms if now[key] is not None]
                one.ours = one.overwrites or (
                    bool(there) and all(now[key] == one.before[key] for key in there)
                )
                keys = (journal_key(one.channel), turns_key(one.channel), meta_key(one.channel))
                one.aside = read_keys(client, keys)

    # --- What comes of it -----------------------------------------------------------------------

    async def _restore(self, one: _Round, states: dict[str, Any]) -> None:
        bench = self._bench
        try:
            with anyio.fail_after(_PATIENCE_SECONDS):
                states[one.channel] = await bench.gateway.ask(one.channel, "state")
                if states[one.channel]["active"]:
                    await bench.gateway.ask(one.channel, "save")
        except (CallFailed, TimeoutError) as error:
            bench.violation(f"{one.told}: it can't be restored: {error!r}")

    def _judge_all(self, rounds: list[_Round], states: dict[str, Any]) -> None:
        with self._bench.redis() as client:
            aside = entries_of(client.hgetall("gg:quarantine"))
            for one in rounds:
                if one.channel in states:
                    forms = read_keys(client, one.forms)
                    for fault in self._judge(one, states[one.channel], forms, aside):
                        self._bench.violation(f"{one.told}: {fault}")

    def _judge(
        self, one: _Round, state: dict[str, Any], forms: dict[str, Held], aside: Aside
    ) -> list[str]:
        figures = self._bench.figures
        if one.ours:
            figures.count("the forms were ours all the same")
            found = [
                f"its {name} is {state[name]!r:.80}, was {one.truth[name]!r:.80}"
                for name in ("game_id", "turn_number", "pending_choices", "closed_turns", "players")
                if state[name] != one.truth[name]
            ]
        else:
            figures.count("the old bot's data won")
            found = [
                f"{key} is not in quarantine"
                for key, held in one.aside.items()
                if not listed(aside, key, held)
            ]
            if state["closed_turns"]:
                found.append(f"turns of ours are handed out again: {state['closed_turns']}")
            if one.said is None:
                if state["active"] or state["game_id"]:
                    found.append(f"it was wiped, and is back: {state['game_id']}")
            else:
                found += old.differences(one.said, state)
                if (state["window"] is not None) != bool(one.said["pending_choices"]):
                    found.append(f"its window is {state['window']}")
        said = old.of_json(forms[one.forms[0]]), old.of_hash(forms[one.forms[1]])
        if state["active"]:
            found += self._compare(said, state)
        elif one.said is None and any(said) and not one.ours:
            found.append("there are forms of a game that was wiped")
        return found

    def _compare(
        self, said: tuple[dict[str, Any] | None, dict[str, Any] | None], state: dict[str, Any]
    ) -> list[str]:
        """Both forms, once they are saved, say what the session says."""
        found: list[str] = []
        for name, form in zip(("JSON", "hash"), said, strict=True):
            if form is None:
                found.append(f"the {name} form is missing")
                continue
            found += [
                f"the {name} form's {field} is {form[field]!r:.80}"
                for field in ("game_id", "game_name", "turn_number", "crown_holder", "players")
                if form[field] != state[field]
            ]
        return found

    async def _no_revival(self, one: _Round) -> None:
        """Nothing that we had answered counts where the old bot's data have won."""
        bench = self._bench
        if one.ours:
            return
        if one.said is None or one.said["game_id"] != one.game_id:
            await self._expect_gone(one)
        if one.said is None:
            return
        before = one.truth["turn_number"] + 1
        turn = one.said["turn_number"] + 1
        try:
            answer = await bench.gateway.ask(
                one.channel, "press", "p1", "P1", "again", press_id="x2"
            )
        except CallFailed as error:
            bench.violation(f"{one.told}: it can't be played: {error}")
            return
        if answer["turn"] != turn:
            bench.violation(f"{one.told}: a press counts in turn {answer['turn']}, not in {turn}")
        if turn == before and not one.said["pending_choices"] and not answer["opened"]:
            bench.violation(f"{one.told}: the answer to a press of before was revived")

    async def _expect_gone(self, one: _Round) -> None:
        """A game that the old bot has deleted, or put another one in the place of."""
        try:
            loaded = await self._bench.gateway.ask(f"{one.channel}-x", "load", one.game_id)
        except CallFailed as error:
            if error.kind != "UnknownGameError":
                self._bench.violation(f"{one.told}: loading our game raised {error}")
        else:
            self._bench.violation(f"{one.told}: our game was revived: {loaded['game_id']}")


def trusting(store: Any) -> Any:
    """Sabotage: the digests are ignored, whatever the forms hold counts as ours."""
    from gamegirl.actors.session import _reading

    def fits(_meta: object, _found: object) -> bool:
        return True

    cast(Any, _reading)._fits = fits
    return store


async def _run(bench: Bench, rounds: int) -> None:
    await _OldBot(bench).run(rounds)


OLDBOT = Scenario(
    name="oldbot",
    happens=(
        "The old system's writer plays in between, wipes, or stops half-way through its seven "
        "commands, under a live owner and under none"
    ),
    promise=(
        "Its data win at the next restore; our window, journal and unrecorded turns are in "
        "quarantine; nothing is revived, and both forms say the same"
    ),
    control="the digests of the forms are ignored",
    unit="channels",
    rounds=200,
    batch=100,
    small=12,
    run=_run,
)
