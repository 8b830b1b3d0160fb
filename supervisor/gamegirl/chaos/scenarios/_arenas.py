"""What a worker does in `cancel`: begins whatever there is, and cancels who waits for it."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import anyio
import attrs
import psutil
from anyio.lowlevel import checkpoint

from gamegirl.actors import Behaviour, Decision, Emit
from gamegirl.actors.session import Session, SessionRef
from gamegirl.chaos._wire import plain
from gamegirl.codec import JsonCodec
from gamegirl.supervisor import Settings, Store, Supervisor, open_store
from gamegirl.supervisor._engine import Engine

ARENAS = 8
_ECHOES = 4
_TURNS = 16
"""Up to so many turns of the loop pass before a cancellation, or up to so many seconds."""

_SECONDS = 0.004
PATIENCE_SECONDS = 2.0
_HISTORY = 1_000_000
_USERS = 40

# --- A behaviour that gives back what it gets ----------------------------------------------------

_offered: Counter[str] = Counter()
_handled: Counter[str] = Counter()


@attrs.define
class Echoes:
    """How often an actor answered."""

    actor_id: str
    total: int = 0


@attrs.frozen
class Echoed:
    """A token was handled, and that is committed."""

    token: str


class Echo(Behaviour[Echoes]):
    """Answers each token with itself, half of them after a commit."""

    kind = "echo"
    codec = JsonCodec(Echoes)

    def initial(self, actor_id: str) -> Echoes:
        """Nothing yet."""
        return Echoes(actor_id)

    def sender(self, message: Any) -> str | None:
        """Is asked when a message with an envelope is about to be delivered."""
        _offered[message] += 1
        return None

    def handle(self, state: Echoes, message: Any, now: float) -> Decision:
        """Give it back."""
        _handled[message] += 1
        if message.startswith("quiet"):
            return Decision(message)
        state.total += 1
        return Decision(message, writes=self.stored(state), effects=(Emit(Echoed(message)),))


# --- Cancelling ----------------------------------------------------------------------------------


@attrs.define
class _Cut:
    """What came of a call that was cancelled, or had answered before."""

    answer: Any = None
    answered: bool = False
    error: str = ""


async def _cut(work: Callable[[], Awaitable[Any]], chance: random.Random, native: bool) -> _Cut:
    """Do it and cancel it on the way, if it takes long enough."""
    cut = _Cut()

    async def run() -> None:
        try:
            cut.answer = await work()
            cut.answered = True
        except Exception as error:  # noqa: BLE001 - it is the judge's
            cut.error = repr(error)

    async def pause() -> None:
        if chance.random() < 0.5:
            for _ in range(chance.randrange(_TURNS)):
                await checkpoint()
        else:
            await anyio.sleep(chance.uniform(0, _SECONDS))

    if native:
        task = asyncio.create_task(run())
        await pause()
        task.cancel()
        await asyncio.wait([task])
        return cut
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await pause()
        tasks.cancel_scope.cancel()
    return cut


class _Arena:
    """One channel, in which one thing after the other is begun and cancelled."""

    def __init__(self, job: _Job, number: int) -> None:
        self._job = job
        self._supervisor = job.supervisor
        self._chance = random.Random(f"{job.seed}-{number}")
        self._channel = f"arena-{job.seed}-{number}"
        self._session: SessionRef = job.supervisor.session(self._channel)
        self._saved: list[str] = []
        self._told = 0
        self._next = 0

    def _token(self, kind: str = "t") -> str:
        self._next += 1
        return f"{kind}-{self._channel}-{self._next}"

    async def _cut(self, name: str, work: Callable[[], Awaitable[Any]]) -> _Cut:
        native = self._job.native and self._chance.random() < 0.5
        cut = await _cut(work, self._chance, native)
        if cut.error:
            self._job.fault(f"{name} of {self._channel} raised {cut.error}")
        elif not cut.answered:
            self._job.cancelled[f"{name} (task)" if native else name] += 1
            self._job.left -= 1
        return cut

    def _expect(self, what: str, holds: bool) -> None:
        if not holds:
            self._job.fault(f"{self._channel}: {what}")

    async def run(self) -> None:
        """Go on until enough was cancelled."""
        await self._session.boot("First")
        while self._job.left > 0:
            state = await self._session.state()
            names = _ALWAYS + (_PLAYING if state.active else _BETWEEN)
            name = self._chance.choice(names)
            await getattr(self, f"_{name}")(state)
        final = await self._session.state()
        history = await self._session.history(_HISTORY)
        self._job.finals[self._channel] = [plain(final), plain(history)]

    async def _press(self, before: Session) -> None:
        token, user_id = self._token(), f"u{self._chance.randrange(_USERS)}"
        told = before.pending_choices.get(user_id)
        if len(before.closed_turns) >= 15:
            return

        async def press() -> Any:
            return await self._session.press(user_id, f"Name of {user_id}", token, press_id=token)

        cut = await self._cut("press", press)
        after = await self._session.state()
        allowed = (token,) if cut.answered else (token, told)
        self._expect(f"press {token} is lost", after.pending_choices.get(user_id) in allowed)
        answer = await press()
        now = await self._session.state()
        self._expect(f"press {token} is lost", now.pending_choices.get(user_id) == token)
        self._expect(f"press {token} got {answer}", answer.turn == before.turn_number + 1)
        opens = before.window is None
        self._expect(f"press {token} got {answer}", answer.opened == opens)
        self._expect(f"{token} got two answers", not cut.answered or cut.answer == answer)
        others = {k: v for k, v in before.pending_choices.items() if k != user_id}
        kept = {k: v for k, v in now.pending_choices.items() if k != user_id}
        self._expect(f"press {token} changed other choices", others == kept)

    async def _join(self, before: Session) -> None:
        user_id = f"u{self._chance.randrange(_USERS)}"
        name = f"Name of {user_id}"
        cut = await self._cut("join", lambda: self._session.join(user_id, name))
        if cut.answered:
            ours = (cut.answer.user_id, cut.answer.user_name) == (user_id, name)
            self._expect(f"{user_id} got the answer {cut.answer}", ours)
        after = await self._session.state()
        more = set(after.players) - set(before.players)
        self._expect(f"{more} joined for {user_id}", more <= {user_id})
        self._expect(f"{user_id} is lost", not cut.answered or user_id in after.players)

    async def _next_turn(self, before: Session) -> None:
        cut = await self._cut("next_turn", self._session.next_turn)
        if cut.answered:
            oldest = before.closed_turns[0] if before.closed_turns else None
            self._expect(f"next_turn gave {cut.answer}", cut.answer == oldest)

    async def _close(self, before: Session) -> None:
        if len(before.closed_turns) >= 15:
            return
        cut = await self._cut("close_window", lambda: self._session.close_window(empty=True))
        after = await self._session.state()
        closed = after.turn_number - before.turn_number
        self._expect(f"{closed} turns closed for one", closed in ((1,) if cut.answered else (0, 1)))
        if closed:
            choices = dict(after.closed_turns[-1].choices)
            self._expect("a closed turn lost choices", choices == dict(before.pending_choices))

    async def _record(self, before: Session) -> None:
        if not before.closed_turns:
            return
        turn, token = before.closed_turns[0], self._token()
        cut = await self._cut("record", lambda: self._session.record(turn, token))
        record = await self._session.record(turn, f"second {token}")
        allowed = (token,) if cut.answered else (token, f"second {token}")
        self._expect(f"the record is {record}", record.narrative_summary in allowed)
        self._expect("the record's turn", record.turn == turn.turn)
        last = await self._session.history(_HISTORY)
        times = sum(one.turn == turn.turn and bool(one.choices) for one in last)
        self._expect(f"turn {turn.turn} is recorded {times} times", times == bool(turn.choices))
        after = await self._session.state()
        self._expect("a recorded turn waits", turn not in after.closed_turns)

    async def _narrate(self, before: Session) -> None:
        token = self._token()
        cut = await self._cut("narrate", lambda: self._session.narrate(token))
        records = await self._session.history(_HISTORY)
        times = sum(one.narrative_summary == token for one in records)
        self._expect(f"{token} is told {times} times", times in ((1,) if cut.answered else (0, 1)))
        if cut.answered:
            self._expect(f"{token} got {cut.answer}", cut.answer.narrative_summary == token)

    async def _set_crown(self, before: Session) -> None:
        user_id = f"u{self._chance.randrange(_USERS)}"
        cut = await self._cut("set_crown", lambda: self._session.set_crown(user_id))
        after = await self._session.state()
        allowed = (user_id,) if cut.answered else (user_id, before.crown_holder)
        self._expect(f"{after.crown_holder} has the crown", after.crown_holder in allowed)
        if cut.answered:
            self._expect(f"the crown is {cut.answer}", cut.answer.user_id == user_id)

    async def _state(self, before: Session) -> None:
        cut = await self._cut("state", self._session.state)
        self._expect(f"the state is {cut.answer}", not cut.answered or cut.answer == before)

    async def _save(self, before: Session) -> None:
        await self._cut("save", self._session.save)
        self._expect("saving changed something", await self._session.state() == before)

    async def _release(self, before: Session) -> None:
        await self._cut("release", lambda: self._supervisor.release(self._channel))
        after = await self._session.state()
        self._expect(f"released {before}, restored {after}", _lasting(after) == _lasting(before))
        actor_id = self._job.echo(self._chance.randrange(_ECHOES))
        await self._cut("release", lambda: self._supervisor.release(actor_id, kind="echo"))

    async def _restore(self, before: Session) -> None:
        if self._chance.random() < 0.5:
            await self._supervisor.release(self._channel)
        cut = await self._cut("restore", lambda: self._supervisor.restore(self._channel))
        if cut.answered:
            self._expect("restore lied", (cut.answer is not None) == before.active)

    async def _exit(self, before: Session) -> None:
        cut = await self._cut("exit", self._session.exit)
        after = await self._session.state()
        if cut.answered:
            self._expect(f"exit gave {cut.answer}", cut.answer.game_id == before.game_id)
        self._expect("exit changed the game", after.game_id == before.game_id)
        self._expect("exit is lost", not (cut.answered and after.active))
        if not after.active:
            self._saved.append(before.game_id)

    async def _boot(self, before: Session) -> None:
        game_id = f"{self._chance.getrandbits(48):012x}"
        cut = await self._cut("boot", lambda: self._session.boot("Another", game_id=game_id))
        after = await self._session.state()
        self._moved("boot", before, after, cut, game_id)

    async def _load(self, before: Session) -> None:
        if not self._saved:
            return
        game_id = self._saved[-1]
        cut = await self._cut("load", lambda: self._session.load(game_id))
        after = await self._session.state()
        if after.active:
            self._saved.pop()
        self._moved("load", before, after, cut, game_id)

    def _moved(self, name: str, before: Session, after: Session, cut: _Cut, new: str) -> None:
        if cut.answered:
            self._expect(f"{name} gave {cut.answer}", cut.answer.game_id == new)
            self._expect(f"{name} is lost", after.active)
        if after.active:
            self._expect(f"{name} gave {after.game_id}", after.game_id == new)
        else:
            self._expect(f"half a {name}", after.game_id == before.game_id)

    async def _swap(self, before: Session) -> None:
        cut = await self._cut("swap", lambda: self._session.swap("Next"))
        after = await self._session.state()
        self._expect("a swap stopped the game", after.active)
        if cut.answered:
            self._expect("a swap is lost", after.game_id == cut.answer.booted.game_id)
            self._expect("a swap crossed", cut.answer.ejected.game_id == before.game_id)
        if after.game_id != before.game_id:
            self._saved.append(before.game_id)

    async def _game(self, before: Session) -> None:
        cut = await self._cut("game", lambda: self._supervisor.game(before.game_id))
        if cut.answered:
            self._expect(f"game gave {cut.answer}", cut.answer.game_id == before.game_id)

    async def _forget(self, before: Session) -> None:
        if before.active and self._saved:
            game_id = self._saved.pop(0)
            if game_id == before.game_id:
                return
            cut = await self._cut("forget", lambda: self._supervisor.forget(game_id))
            if cut.answered:
                left = await self._supervisor.game(game_id)
                self._expect(f"{left} is not forgotten", left is None)

    async def _watch(self, before: Session) -> None:
        watch = self._session.watch()
        first = await anext(watch)
        self._expect(f"watch gave {first}", first == before)
        self._told += 1
        user_id, token = f"u{self._told % _USERS}", self._token()

        async def press() -> None:
            with anyio.CancelScope(shield=True):
                await self._session.press(user_id, f"Name of {user_id}", token)

        cut = _Cut()
        async with anyio.create_task_group() as tasks:
            if len(before.closed_turns) < 15:
                tasks.start_soon(press)
            cut = await self._cut("watch", lambda: anext(watch))
        if cut.answered:
            seen = cut.answer.pending_choices.get(user_id)
            self._expect(f"watch gave {cut.answer}", seen == token)
        elif len(before.closed_turns) < 15:
            with anyio.move_on_after(PATIENCE_SECONDS) as scope:
                seen = (await anext(watch)).pending_choices.get(user_id)
                self._expect(f"watch gave {seen}", seen == token)
            self._expect("a watch missed a change", not scope.cancelled_caught)

    async def _echo(self, before: Session) -> None:
        for _ in range(4):
            quiet = self._chance.random() < 0.5
            token = self._token("quiet" if quiet else "loud")
            actor_id = self._job.echo(self._chance.randrange(_ECHOES))
            actor = self._supervisor.actor("echo", actor_id)
            cut = await self._cut("ask", lambda a=actor, t=token: a.ask(t))  # type: ignore[misc]
            if cut.answered:
                self._expect(f"{token} got {cut.answer}", cut.answer == token)

    async def _start(self, before: Session) -> None:
        other = Supervisor(open_store(self._job.url), settings=Settings(lease_seconds=0.5))
        cut = await self._cut("start", other.start)
        if cut.answered:
            await self._cut("aclose", other.aclose)
        await other.aclose()


_ALWAYS = ("state", "release", "restore", "game", "echo", "echo", "echo", "start")
_PLAYING = (
    *("press", "press", "press", "join", "next_turn", "close", "record", "record", "narrate"),
    *("set_crown", "save", "exit", "swap", "watch", "watch", "forget"),
)
_BETWEEN = ("boot", "load", "load")


def _lasting(session: Session) -> Any:
    """What a restoring keeps as it is: all but the stamps."""
    return attrs.evolve(
        session,
        window=None,
        closed_turns=tuple(attrs.evolve(turn, attempt=0) for turn in session.closed_turns),
    )


class _Job:
    """All arenas of a call, and what they find."""

    def __init__(
        self, supervisor: Supervisor, url: str, seed: int, count: int, native: bool
    ) -> None:
        self.supervisor = supervisor
        self.url = url
        self.seed = seed
        self.native = native
        self.left = count
        self.cancelled: Counter[str] = Counter()
        self.faults: list[str] = []
        self.finals: dict[str, Any] = {}
        self._events: Counter[str] = Counter()
        self._over = False

    def echo(self, number: int) -> str:
        """One of this job's echoes."""
        return f"echo-{self.seed}-{number % _ECHOES}"

    def fault(self, text: str) -> None:
        """Something is not as it must be."""
        self.faults.append(text)

    async def run(self) -> dict[str, Any]:
        """Play it all."""
        stream = self.supervisor.events()
        async with anyio.create_task_group() as around:
            around.start_soon(self._listen, stream)
            async with anyio.create_task_group() as bystanders:
                bystanders.start_soon(self._bystand)
                async with anyio.create_task_group() as arenas:
                    for number in range(ARENAS):
                        arenas.start_soon(_Arena(self, number).run)
                self._over = True  # The bystander's last call may still be on its way.
            await self._judge_echoes()
            around.cancel_scope.cancel()
        stream.close()
        return {
            "cancelled": dict(self.cancelled),
            "faults": self.faults,
            "finals": self.finals,
            "echoes": sum(_handled.values()),
        }

    async def _bystand(self) -> None:
        """Somebody whom nobody cancels must notice nothing."""
        number = 0
        while not self._over:
            number += 1
            token = f"loud-bystander-{self.seed}-{number}"
            answer = await self.supervisor.actor("echo", self.echo(number)).ask(token)
            if answer != token:
                self.fault(f"{token} got {answer}")

    async def _listen(self, stream: Any) -> None:
        """An observer who is cancelled again and again misses nothing and gets nothing twice."""
        chance = random.Random(self.seed)
        while True:
            with anyio.move_on_after(chance.uniform(0, _SECONDS)):
                event = await anext(stream)
                if isinstance(event, Echoed):
                    self._events[event.token] += 1

    async def _judge_echoes(self) -> None:
        loud = {token for token in _handled if token.startswith("loud")}
        with anyio.move_on_after(PATIENCE_SECONDS):
            while set(_offered) - set(_handled) or loud - set(self._events):
                await anyio.sleep(_SECONDS)
                loud = {token for token in _handled if token.startswith("loud")}
        for token in set(_offered) - set(_handled):
            self.fault(f"{token}, whose caller was cancelled, is lost")
        for token, times in _handled.items():
            if times != 1:
                self.fault(f"{token} was handled {times} times")
        for token in loud | set(self._events):
            if self._events[token] != 1:
                self.fault(f"the event of {token} came {self._events[token]} times")
        totals = 0
        for number in range(_ECHOES):
            await self.supervisor.release(self.echo(number), kind="echo")
        for number in range(_ECHOES):
            (text,) = await self.supervisor.read([f"gg:actor:echo:{self.echo(number)}"])
            totals += Echo.codec.decode(cast(bytes, text)).total if text else 0
        if totals != len(loud):
            self.fault(f"{len(loud)} tokens were handled, the store knows of {totals}")


async def play(
    supervisor: Supervisor, *, url: str, seed: int, count: int, native: bool
) -> dict[str, Any]:
    """A job: begin and cancel until so many were cancelled."""
    _offered.clear()
    _handled.clear()
    return await _Job(supervisor, url, seed, count, native).run()


async def look(supervisor: Supervisor) -> dict[str, int]:
    """A job: what there is of whatever could leak."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        tasks: int = trio.lowlevel.current_statistics().tasks_living
    else:
        tasks = len(asyncio.all_tasks())
    statistics = supervisor.statistics()
    return {
        "tasks": tasks,
        "threads": threading.active_count(),
        "descriptors": int(psutil.Process().num_fds()),
        "unsettled messages": statistics.unsettled,
        "event streams": statistics.observers,
    }


async def read_back(supervisor: Supervisor, channels: Sequence[str]) -> dict[str, Any]:
    """A job: what another process finds of each channel."""
    found: dict[str, Any] = {}
    for channel in channels:
        session = supervisor.session(channel)
        state, history = await session.state(), await session.history(_HISTORY)
        found[channel] = [plain(state), plain(history)]
    return found


def dropping(store: Store) -> Store:
    """Whoever is cancelled takes the message along, if it is not handled yet."""

    def abandon(_: Engine, _key: object, envelope: Any) -> None:
        envelope.abandoned = envelope.done = True

    cast(Any, Engine).abandon = abandon
    return store
