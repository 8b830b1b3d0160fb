"""The supervisor: what a host makes, starts, speaks to and closes."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from threading import get_ident
from types import TracebackType
from typing import Any

import anyio
import attrs
from anyio.lowlevel import checkpoint

from gamegirl.actors import (
    ActorRef,
    Answer,
    Behaviour,
    Decision,
    Fate,
    GameGirlError,
    InvalidInputError,
    Later,
    StoreUnavailableError,
    SupervisorClosedError,
    WrongThreadError,
)
from gamegirl.actors import Stored as StoredValue
from gamegirl.actors._mailbox import Envelope
from gamegirl.actors.session import ClosedTurn, Session, SessionBehaviour, SessionRef
from gamegirl.codec import check_id
from gamegirl.supervisor._activator import Activator
from gamegirl.supervisor._cell import Status
from gamegirl.supervisor._clock import Clock
from gamegirl.supervisor._contract import check_decided
from gamegirl.supervisor._courtesy import Courtesy
from gamegirl.supervisor._engine import Engine
from gamegirl.supervisor._events import EventHub, EventStream
from gamegirl.supervisor._flusher import Flusher
from gamegirl.supervisor._games import Games, SavedGame
from gamegirl.supervisor._hosting import spawn
from gamegirl.supervisor._keeper import Keeper
from gamegirl.supervisor._lifecycle import Crash
from gamegirl.supervisor._log import EventLog
from gamegirl.supervisor._performer import Performer, performing
from gamegirl.supervisor._settings import Durability, Settings
from gamegirl.supervisor._signal import signal_maker, yielder
from gamegirl.supervisor._timers import Timers
from gamegirl.supervisor._watchdog import Watchdog
from gamegirl.supervisor.stores import ActorKey, Process, Store
from gamegirl.supervisor.stores._open import opened

OnTurn = Callable[[ClosedTurn, Session], Awaitable["str | None"]]

_YIELD_MESSAGES = 64
_YIELD_SECONDS = 0.001
"""A caller whose asks are answered at once yields to the loop after so many, or so long."""

_LOOK_SECONDS = 0.005
"""How often draining looks whether it is done."""

_CLOSE_SECONDS = 5.0
"""Beyond draining, closing the store may take so long."""


@attrs.frozen
class Statistics:
    """What a supervisor has done since it started, and has to do now.

    Attributes:
        live: Actors in memory by kind.
        handled: Messages.
        unsettled: Accepted messages that are not settled.
        commits: Settled commits.
        batches: Store calls that took.
        claims: Claims that were granted.
        restarts: Crashes that were followed by a restart, or by failure.
        working: Pieces of slow work (`on_turn`) that run or wait for their turn.
        timers: Timers that are set, obsolete ones among them.
        observers: Event streams that somebody holds.
    """

    live: dict[str, int]
    handled: int
    unsettled: int
    commits: int
    batches: int
    claims: int
    restarts: int
    working: int
    timers: int
    observers: int


class Supervisor:
    """Hosts the session actors of a program: spawns, restores, commits and restarts them.

    Args:
        store: A store, or its URL: `redis://`, `rediss://`, `unix://`, `sqlite:///path`,
            `memory://`. None: `$GAMEGIRL_STORE`, else memory with one warning.
        settings: Bounds, times and texts.
        on_turn: Called for every closed turn, one at a time a channel; a text is recorded as the
            turn's narrative, None leaves the recording to the host.
        behaviours: Other kinds of actors that this supervisor hosts.
        clock: Tells the time; another one makes time simulated.
        randomness: Makes nonces and jitter; a seeded one makes runs repeat.

    Example:
        async with Supervisor("redis://localhost:6379/0", on_turn=narrate) as supervisor:
            session = supervisor.session("1234")
            await session.boot("Neon Catacombs")
            pressed = await session.press("42", "Ana", "Open the door")
    """

    def __init__(
        self,
        store: Store | str | None = None,
        *,
        settings: Settings | None = None,
        on_turn: OnTurn | None = None,
        behaviours: Iterable[Behaviour[Any]] = (),
        clock: Clock | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self.settings = Settings() if settings is None else settings
        if not isinstance(self.settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"settings is a Settings, not {settings!r}")
        if clock is not None and not isinstance(clock, Clock):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"clock is a Clock, not {clock!r}")
        if randomness is not None and not isinstance(randomness, random.Random):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"randomness is a random.Random, not {randomness!r}")
        if on_turn is not None and not callable(on_turn):
            raise InvalidInputError(f"on_turn is an async function, not {on_turn!r}")
        self._store = opened(store)
        self._clock = Clock() if clock is None else clock
        self._random = random.Random(secrets.randbits(128)) if randomness is None else randomness
        self._hub = EventHub(self.settings.events_max, EventLog().write)
        self._behaviour = SessionBehaviour(self.settings, on_turn, self._hub.audience)
        self._behaviours = (self._behaviour, *behaviours)
        self._games = Games(self._store, self._new_nonce)
        self._started: anyio.Event | None = None
        self._state = _State.NEW
        self._failure: BaseException | None = None
        self._thread = 0  # On which it was started; 0: it wasn't.
        self._open = 0  # The same while calls are taken, else 0.
        self._make_id = self._new_game_id  # Once for all references.
        self._yield_at = _YIELD_MESSAGES
        self._yield_by = 0.0
        self._make_engine()

    def _make_engine(self) -> None:
        settings, clock = self.settings, self._clock
        self._timers = Timers(clock)
        self._engine = engine = Engine(
            settings, self._behaviours, clock, self._random, self._hub, self._timers
        )
        self._sessions = engine.roles[SessionBehaviour.kind].cells
        patience = settings.flush_seconds if settings.durability is Durability.TURN else 0.0
        self._watchdog = Watchdog(engine, clock, settings.commit_timeout_seconds + patience)
        self._courtesy = Courtesy(self._store)
        self._flusher = Flusher(engine, self._store, clock, self._courtesy, settings.flush_seconds)
        self._activator = Activator(engine, self._store, clock, self._timers, self._courtesy)
        self._keeper = Keeper(settings, engine, self._store, clock, self._timers, self._flusher)
        engine.claims, engine.commits, engine.watch = self._activator, self._flusher, self._watchdog

    def __repr__(self) -> str:
        return f"<Supervisor {self._state} on {self._store!r}>"

    # --- Hosting --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store and start working, in a task of the supervisor's own.

        Raises:
            StoreUnavailableError: The store can't be reached.
            SupervisorClosedError: It was started before.
        """
        if self._state != _State.NEW:
            raise SupervisorClosedError(
                f"this supervisor is {self._state}: it can be started once, make another one"
            )
        self._state = _State.STARTING
        self._thread = get_ident()
        self._started = anyio.Event()
        self._new_signal, self._yield = signal_maker(), yielder()
        self._stop = anyio.Event()
        self._finished = anyio.Event()
        self._task = spawn(self._own, "gamegirl.supervisor")
        try:
            await self._started.wait()
        except BaseException:
            await self.aclose()
            raise
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def aclose(self) -> None:
        """Drain and stop: what was accepted is committed, ownership is given up.

        It is shielded from cancellation, takes `drain_seconds` and little more, and may be called
        again, also from another task.

        Raises:
            SupervisorClosedError: The supervisor had failed; its cause is what went wrong.
        """
        if self._started is None:
            self._state = _State.CLOSED
            return
        self._check_thread()
        self._stop.set()
        performer = getattr(self._engine, "performer", None)
        if performer is not None and performer.hosts(performing.get()):
            return  # It is called from on_turn, which ends before the supervisor does.
        bound = self.settings.drain_seconds + _CLOSE_SECONDS + self.settings.commit_timeout_seconds
        with anyio.move_on_after(bound, shield=True):
            await self._finished.wait()
        if self._failure is not None:
            raise self._broken() from self._failure

    async def __aenter__(self) -> Supervisor:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        except SupervisorClosedError:
            if error is None:
                raise

    async def _own(self) -> None:
        assert self._started is not None
        try:
            await self._serve()
            if not self._stop.is_set():
                raise RuntimeError("its tasks were cancelled, and nobody had asked for it")
        except Exception as error:  # noqa: BLE001 - raised by later calls and by aclose
            self._failure = error
        finally:
            self._open = 0
            self._state = _State.FAILED if self._failure is not None else _State.CLOSED
            self._engine.life.shut(self._closed_error)
            self._hub.close()
            self._started.set()
            self._finished.set()

    async def _serve(self) -> None:
        assert self._started is not None
        settings, engine = self.settings, self._engine
        # Events made outside of the loop belong to no backend yet; from here on there is one.
        self._keeper.process = name = f"{os.getpid():x}-{self._new_nonce()}"
        try:
            await self._store.open(Process(name, settings.instance or ""), settings.lease_seconds)
            async with anyio.create_task_group() as tasks:
                engine.performer = Performer(
                    tasks, settings.turn_handlers_max, engine.send, engine.life.crashed
                )
                for loop in (
                    self._flusher.run,
                    self._activator.run,
                    self._timers.run,
                    self._watchdog.run,
                    self._courtesy.run,
                    self._keeper.renew,
                    self._keeper.sweep,
                    self._keeper.tidy,
                    self._keeper.verify,
                ):
                    tasks.start_soon(loop)
                self._state = _State.RUNNING
                self._open = self._thread
                self._started.set()
                await self._stop.wait()
                self._open = 0
                self._state = _State.DRAINING
                await self._drain()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._store.aclose()

    async def _drain(self) -> None:
        engine = self._engine
        engine.closing = self._closed_error
        engine.performer.close()
        self._flusher.hurry()
        for cell in tuple(engine.cells()):
            engine.life.end_waiters(cell, lambda: self._closed_error(Fate.NOT_EXECUTED))
        with anyio.move_on_after(self.settings.drain_seconds):
            while True:
                began, left = self._clock.monotonic(), False
                for cell in tuple(engine.cells()):
                    left = True
                    engine.life.release(cell)
                if not left:
                    return
                # Of a hundred thousand actors a look takes longer than the pause between two.
                await anyio.sleep(max(_LOOK_SECONDS, 4 * (self._clock.monotonic() - began)))

    def _closed_error(self, fate: Fate) -> GameGirlError:
        return SupervisorClosedError(
            f"this supervisor is {self._state}; what was accepted and is not answered must be "
            "asked for again elsewhere",
            fate=fate,
        )

    def _broken(self) -> SupervisorClosedError:
        return SupervisorClosedError(
            f"this supervisor has failed: {self._failure!r}; nothing runs in it any more"
        )

    def _check_thread(self) -> None:
        if get_ident() != self._thread and self._thread:
            raise WrongThreadError(
                "a supervisor is used from the thread and loop that started it; from elsewhere go "
                "through a blocking portal (anyio.from_thread)"
            )

    def _check_open(self) -> None:
        self._check_thread()
        if self._state == _State.RUNNING:
            return
        if self._failure is not None:
            raise self._broken() from self._failure
        raise SupervisorClosedError(
            f"this supervisor is {self._state}; use `async with` or await start() first"
            if self._state == _State.NEW
            else f"this supervisor is {self._state}: it takes no more messages"
        )

    # --- References -----------------------------------------------------------------------------

    def session(self, channel_id: str) -> SessionRef:
        """The channel's session, live or not, at once and without I/O.

        Raises:
            InvalidIdError: The id can't be one.
        """
        if get_ident() != self._open:
            self._check_thread()
        if type(channel_id) is not str or channel_id not in self._sessions:
            channel_id = check_id(channel_id, "channel_id")  # A live one's was looked at before.
        return SessionRef(channel_id, self, self._make_id, self.settings)

    def actor(self, kind: str, actor_id: str) -> ActorRef:
        """An actor of a registered behaviour, live or not, at once and without I/O.

        Raises:
            InvalidIdError: The id can't be one.
            InvalidInputError: No behaviour of this kind is registered.
        """
        self._check_thread()
        self._engine.role(kind)
        return ActorRef(kind, check_id(actor_id, "actor_id"), self)

    def get(self, channel_id: str) -> SessionRef | None:
        """The channel's session if it is live in this process, else None; without I/O."""
        ref = self.session(channel_id)
        cell = self._engine.find(self._behaviour.kind, ref.channel_id)
        return ref if cell is not None and cell.status is Status.LIVE else None

    async def restore(self, channel_id: str) -> SessionRef | None:
        """The channel's session, live or restored; None when no active game is stored."""
        ref = self.session(channel_id)
        return ref if await ref.active() else None

    async def release(self, channel_id: str, *, kind: str = SessionBehaviour.kind) -> None:
        """Commit what the actor has, give up ownership and drop it from memory.

        A message that arrives meanwhile activates it again. Releasing what isn't live does nothing.

        Raises:
            StoreUnavailableError: The store is late; it is released when the store is back.
        """
        self._check_open()
        cell = self._engine.find(kind, check_id(channel_id, "channel_id"))
        if cell is None:
            return
        with anyio.move_on_after(self.settings.commit_timeout_seconds):
            while cell.status is not Status.GONE:
                envelope = self._engine.life.release(cell)
                if envelope is None:
                    # It is being claimed or released, or has messages to handle.
                    await anyio.sleep(_LOOK_SECONDS)
                elif not envelope.done:
                    signal = envelope.signal = self._new_signal()
                    await signal  # If it starts over, it is released again then.
            return
        raise StoreUnavailableError(
            f"{cell.name} could not be released within "
            f"{self.settings.commit_timeout_seconds:g} s; release it again later",
            fate=Fate.IN_DOUBT,
        )

    async def revive(self, channel_id: str, *, kind: str = SessionBehaviour.kind) -> None:
        """Start an actor again that had crashed too often."""
        self._check_open()
        cell = self._engine.find(kind, check_id(channel_id, "channel_id"))
        if cell is not None:
            self._engine.life.revive(cell)
        await checkpoint()

    # --- Games ----------------------------------------------------------------------------------

    async def games(self) -> tuple[SavedGame, ...]:
        """Every known game, sorted by name, then id."""
        self._check_open()
        return await self._games.all()

    async def game(self, game_id: str) -> SavedGame | None:
        """One known game, or None."""
        self._check_open()
        return await self._games.one(check_id(game_id, "game_id"))

    async def forget(self, game_id: str) -> None:
        """Delete a game that isn't active, with its save and its entry in the listing.

        Raises:
            UnknownGameError: There is no such game.
            GameActiveError: It is being played.
        """
        self._check_open()
        await self._games.forget(check_id(game_id, "game_id"))

    # --- Observation ----------------------------------------------------------------------------

    def events(self) -> EventStream:
        """A stream of what is done from now on, as data; `async for` over it, then `close` it.

        An observer that falls behind by more than `events_max` loses the oldest events and gets an
        `EventsLost` with their number.
        """
        self._check_thread()
        return self._hub.stream()

    def statistics(self) -> Statistics:
        """A snapshot of counts."""
        self._check_thread()
        engine = self._engine
        performer = getattr(engine, "performer", None)
        return Statistics(
            live={kind: len(role.cells) for kind, role in engine.roles.items()},
            handled=engine.handled,
            unsettled=sum(
                cell.backlog.unsettled for cell in engine.cells() if cell.backlog is not None
            ),
            commits=self._flusher.sent,
            batches=self._flusher.batches,
            claims=self._activator.claimed,
            restarts=engine.life.restarts,
            working=len(performer) if performer is not None else 0,
            timers=len(self._timers),
            observers=len(self._hub),
        )

    def crashes(self) -> tuple[Crash, ...]:
        """The latest messages that made a handler raise, oldest first."""
        return tuple(self._engine.life.crashes)

    # --- What references use (`gamegirl.actors.Host`) --------------------------------------------

    async def ask(self, kind: str, actor_id: str, message: object) -> Any:
        """Enqueue a message and wait for its answer; `ActorRef.ask` says more."""
        if get_ident() != self._open:
            self._check_open()
        engine, clock = self._engine, self._clock
        now = clock.read() + clock.offset
        if engine.handled >= self._yield_at or now >= self._yield_by:
            # Before the message is sent, so that cancelling here leaves no doubt about it.
            # One is enough for all who ask in this turn of the loop.
            self._yield_at, self._yield_by = engine.handled + _YIELD_MESSAGES, now + _YIELD_SECONDS
            await self._yield()
            self._check_open()
            now = clock.read() + clock.offset
            self._yield_by = now + _YIELD_SECONDS
        try:
            role = engine.roles[kind]
            cell = role.cells[actor_id]
        except KeyError:
            self._yield_at -= 1  # Also what is refused brings the next yield closer.
            role, cell = engine.role(kind), None
        if cell is not None and cell.backlog is None:
            # It is idle: what `Engine.handle` does, without a call in between (a tenth of an ask)
            # and, if nothing comes of it but an answer, without an envelope.
            engine.handled += 1
            cell.last_used = now
            try:
                decision = cell.behaviour.handle(cell.state, message, now)
                times = engine.times(cell) if role.timed else None
                if decision.__class__ is Answer:
                    reply = decision.reply
                    if times is None and reply.__class__ is not Later:
                        return reply
                elif decision.__class__ is not Decision:
                    check_decided(decision)
                reply = decision.reply
                # Here, since an object may refuse to say whether it is true.
                if (
                    not (decision.writes or decision.effects)
                    and not (decision.requires or decision.quarantined)
                    and decision.error is None
                    and times is None
                    and reply.__class__ is not Later
                ):
                    return reply
            except BaseException as error:  # noqa: BLE001 - it is reported as a crash
                envelope = Envelope(message, now, role.behaviour.sender(message))
                engine.raised(cell, envelope, error)
            else:
                if decision.error is not None and times is None and decision.quiet:
                    refusal: Any = decision.error
                    if isinstance(refusal, Exception):
                        raise refusal
                envelope = engine.decided(cell, message, now, decision, times)
                # While this waits thousands of others may: nothing is kept for it.
                del decision, reply, times
        else:
            self._yield_at -= 1
            envelope = Envelope(message, now, role.behaviour.sender(message))
            cell = engine.deliver(role, actor_id, envelope)
        if not envelope.done:
            del message
            signal = self._new_signal()
            envelope.signal = signal
            try:
                await signal
            except BaseException:
                self._engine.abandon(cell.key, envelope)
                raise
        if envelope.error is not None:
            raise envelope.error
        return envelope.reply

    def tell(self, kind: str, actor_id: str, message: object) -> None:
        """Enqueue a message; `ActorRef.tell` says more."""
        self._check_open()
        role = self._engine.role(kind)
        envelope = Envelope(message, self._clock.now(), role.behaviour.sender(message))
        self._engine.deliver(role, actor_id, envelope)

    def peek(self, kind: str, actor_id: str) -> Any | None:
        """The live actor's own state, not to be changed; None if it isn't live."""
        self._check_thread()
        cell = self._engine.find(kind, actor_id)
        return cell.state if cell is not None and cell.status is Status.LIVE else None

    def changes(self, kind: str, actor_id: str) -> AsyncIterator[None]:
        """An item at once and after each committed change; what a slow reader misses is one."""
        return _Changes(self, ActorKey(kind, actor_id))

    def next_change(self, key: ActorKey) -> anyio.Event:
        """Is set at the actor's next committed change, and when the supervisor goes."""
        self._check_open()
        return self._engine.change_signal(key)

    async def read(self, keys: Sequence[str]) -> Sequence[StoredValue]:
        """What the store holds in these keys now, whoever owns them."""
        self._check_open()
        return await self._store.read(keys)

    def _new_nonce(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def _new_game_id(self) -> str:
        return f"{self._random.getrandbits(48):012x}"


class _State:
    """Where a supervisor stands, in words for people."""

    NEW = "not started"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    CLOSED = "closed"
    FAILED = "broken"


class _Changes(AsyncIterator[None]):
    """An item at once and after each committed change of an actor."""

    def __init__(self, supervisor: Supervisor, key: ActorKey) -> None:
        self._supervisor = supervisor
        self._key = key
        self._signal: anyio.Event | None = None

    async def __anext__(self) -> None:
        if self._signal is not None:
            await self._signal.wait()
        self._signal = self._supervisor.next_change(self._key)
