"""`gamegirl play`: a supervisor, a screen and a keyboard around one channel."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress

import anyio
import attrs
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.from_thread import BlockingPortal

from gamegirl.actors import GameGirlError, OwnershipLostError
from gamegirl.actors.session import ClosedTurn, Session, SessionBehaviour, TurnRecorded
from gamegirl.cli._console import output
from gamegirl.cli._keyboard import Editor, is_terminal, read_in_thread
from gamegirl.cli._options import ANY_HISTORY
from gamegirl.cli._peek import Reader
from gamegirl.cli._screen import PlainScreen, Screen, live_screen
from gamegirl.cli._table import Table
from gamegirl.cli._target import only
from gamegirl.supervisor import (
    ActorLost,
    EventStream,
    Settings,
    Store,
    StoreBack,
    StoreLost,
    Supervisor,
)
from gamegirl.supervisor.stores import ActorKey

LINES = 100
"""So many lines may wait; a pipe that brings more is read later."""

TICK_SECONDS = 0.1

WINDOW_SECONDS = 10.0
WINDOW_MAX = 86_400.0

STAY_SECONDS = 10.0 * 365 * 86_400
"""While somebody sits at the terminal the channel is theirs, however long they think."""


@attrs.frozen
class Play:
    """A game in a terminal.

    Attributes:
        store: Where games are kept.
        channel_id: Which channel is played.
        game_name: What to boot if no game runs there.
        window_seconds: How long a turn's window is open; None: `WINDOW_SECONDS`, or as long as one
            that is open already, if that is longer.
        patience_seconds: A process that died may seem to own the channel for so long.
    """

    store: Store
    channel_id: str
    game_name: str
    window_seconds: float | None
    patience_seconds: float

    async def run(self) -> None:
        """Play until the input ends, somebody leaves or the channel is lost.

        Raises:
            OwnedElsewhereError: Another live process owns the channel.
            OwnershipLostError: Another one has taken it over.
        """
        async with anyio.create_task_group() as tasks:
            if threading.current_thread() is threading.main_thread():
                tasks.start_soon(_cancel_on_signal, tasks.cancel_scope)
            await self._host()
            tasks.cancel_scope.cancel()

    async def _host(self) -> None:
        window_seconds = self.window_seconds or await self._usual_seconds()
        settings = Settings(
            window_seconds=window_seconds,
            history_max=ANY_HISTORY,
            idle_seconds=STAY_SECONDS,
        )
        store = only(ActorKey(SessionBehaviour.kind, self.channel_id), self.store)
        tables: list[Table] = []

        async def on_turn(turn: ClosedTurn, session: Session) -> str:
            return await tables[0].narrate(turn, session)

        supervisor = Supervisor(store, settings=settings, on_turn=on_turn)
        with self._screen(window_seconds) as (screen, keys):
            table = Table(supervisor, self.channel_id, screen)
            tables.append(table)
            # Listening ends with the supervisor, so that what it still tells is shown.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(show_events, supervisor.events(), table, screen)
                async with supervisor:
                    await self._play(supervisor, table, screen, keys=keys)

    async def _play(
        self, supervisor: Supervisor, table: Table, screen: Screen, *, keys: bool
    ) -> None:
        await table.sit_down(self.game_name, self.patience_seconds)
        send, receive = anyio.create_memory_object_stream[str](LINES)
        async with (
            send,
            receive,
            BlockingPortal() as portal,
            anyio.create_task_group() as tasks,
        ):
            pump = _Keys(screen, send) if keys else _Pipe(send)
            read_in_thread(portal, pump.put)
            if keys:
                tasks.start_soon(_tick, supervisor, self.channel_id, screen)
            ended = await _handle(receive, table)
            if ended:
                await (table.line("/quit") if keys else table.get_up())
            tasks.cancel_scope.cancel()
            await portal.stop(cancel_remaining=True)

    async def _usual_seconds(self) -> float:
        """As long as a host's window lasts: restoring it lets no more of it than this."""
        # What can't be read is refused, with what can be done, when the channel is claimed.
        with suppress(GameGirlError):
            look = await Reader(self.store).look(self.channel_id)
            window = look.session.window
            if window is not None and not look.reopens:
                return min(max(window.deadline - window.opened_at, WINDOW_SECONDS), WINDOW_MAX)
        return WINDOW_SECONDS

    def _screen(self, window_seconds: float) -> AbstractContextManager[tuple[Screen, bool]]:
        console = output()
        if console.is_terminal and not console.is_dumb_terminal and is_terminal():
            return _Paired(live_screen(console, window_seconds))
        return nullcontext((PlainScreen(console), False))


@attrs.define
class _Paired(AbstractContextManager[tuple[Screen, bool]]):
    screen: AbstractContextManager[Screen]

    def __enter__(self) -> tuple[Screen, bool]:
        return self.screen.__enter__(), True

    def __exit__(self, *details: object) -> bool | None:
        return self.screen.__exit__(*details)  # type: ignore[arg-type]


class _Pipe:
    """Makes lines of what comes in."""

    def __init__(self, lines: ObjectSendStream[str]) -> None:
        self._lines = lines
        self._rest = ""

    async def put(self, piece: str | None) -> None:
        """Take a piece; None: the input is over."""
        if piece is None:
            if self._rest:
                await self._lines.send(self._rest)
            await self._lines.aclose()
            return
        *lines, self._rest = (self._rest + piece).split("\n")
        for line in lines:
            await self._lines.send(line)


class _Keys:
    """Makes lines of keys, and shows them while they are typed."""

    def __init__(self, screen: Screen, lines: ObjectSendStream[str]) -> None:
        self._screen = screen
        self._lines = lines
        self._editor = Editor()

    async def put(self, piece: str | None) -> None:
        """Take keys; None: the terminal is gone."""
        lines = [None] if piece is None else self._editor.feed(piece)
        self._screen.typed(self._editor.text)
        for line in lines:
            if line is None:
                await self._lines.aclose()
                return
            await self._lines.send(line)


async def _handle(lines: ObjectReceiveStream[str], table: Table) -> bool:
    """Do what the lines say; returns whether they came to an end (nobody left before)."""
    async for line in lines:
        if not await table.line(line):
            return False
    return True


async def _tick(supervisor: Supervisor, channel_id: str, screen: Screen) -> None:
    session = supervisor.session(channel_id)
    while True:
        screen.draw(session.peek(), time.time())
        await anyio.sleep(TICK_SECONDS)


async def show_events(events: EventStream, table: Table, screen: Screen) -> None:
    """Say what happens, until the events end.

    Raises:
        OwnershipLostError: The channel is another process's now.
    """
    async for event in events:
        match event:
            case TurnRecorded(game_id=game_id, turn=turn, narration=False):
                table.recorded(game_id, turn)
            case StoreLost(reason=reason):
                screen.line(f"The store is gone, play waits for it: {reason}", "red")
            case StoreBack():
                screen.line("The store is back.", "green")
            case ActorLost(actor_id=channel_id, owner=owner):
                raise OwnershipLostError(
                    f"channel {channel_id!r} is owned by {owner or 'nobody'} now: the game goes "
                    "on there"
                )
            case _:
                pass


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
