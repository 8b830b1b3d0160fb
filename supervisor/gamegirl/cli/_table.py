"""What a typed line does to the game."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

from gamegirl.actors import GameGirlError, InvalidInputError, OwnedElsewhereError
from gamegirl.actors.session import ClosedTurn, Ejected, Session, SessionRef
from gamegirl.cli._narrator import narrate
from gamegirl.cli._screen import Screen
from gamegirl.cli._show import CROWN, show_games, show_history
from gamegirl.supervisor import Supervisor

PRINT_SECONDS = 5.0
"""A narrative that is recorded is on the screen within this."""

AGAIN_SECONDS = 0.1
"""So often a channel is asked for that seems to be owned."""

HISTORY_COUNT = 5

HELP = """\
name: choice      that player chooses; the first choice of a turn opens its window
/crown NAME | -   that player, or nobody, wears the crown
/close            close the window now, and hear what happens
/wait             wait until the window has closed by itself and its turn is told
/history [N]      the latest turns
/games            all games, with their ids
/swap GAME        save and eject this game, start another
/load ID          save and eject this game, load a saved one
/exit             save the game and take it out of the channel
/quit             leave; the game stays in the channel, with its open window
/help             this"""


class Table:
    """The players' side of a channel: takes lines, says what came of them.

    Args:
        supervisor: Hosts the channel.
        channel_id: The channel.
        screen: Where things are said.
    """

    def __init__(self, supervisor: Supervisor, channel_id: str, screen: Screen) -> None:
        self._supervisor = supervisor
        self._session: SessionRef = supervisor.session(channel_id)
        self._screen = screen
        self._told: dict[tuple[str, int], tuple[ClosedTurn, str]] = {}
        self._printed = anyio.Event()
        self._commands: dict[str, Callable[[str], Awaitable[bool | None]]] = {
            "/crown": self._crown,
            "/close": self._close,
            "/wait": self._wait,
            "/history": self._history,
            "/games": self._games,
            "/swap": self._swap,
            "/load": self._load,
            "/exit": self._exit,
            "/quit": self._quit,
            "/help": self._help,
        }

    async def narrate(self, turn: ClosedTurn, session: Session) -> str:
        """The supervisor's `on_turn`: the built-in narrator, whose words are kept until shown."""
        text = await narrate(turn, session)
        self._told[turn.game_id, turn.turn] = (turn, text)
        return text

    def recorded(self, game_id: str, turn_number: int) -> None:
        """A turn is in the history: now its story may be seen."""
        found = self._told.pop((game_id, turn_number), None)
        if found is not None:
            turn, text = found
            self._screen.line(f"── Turn {turn.turn} " + "─" * 30, "bold cyan")
            if turn.choices:
                self._screen.line(turn.format_choices())
            self._screen.line(text, "italic")
        self._printed.set()
        self._printed = anyio.Event()

    async def sit_down(self, game_name: str, patience_seconds: float) -> None:
        """Go on with the channel's game, or start one.

        Args:
            game_name: What to start.
            patience_seconds: A process that died may seem to own the channel for so long.

        Raises:
            OwnedElsewhereError: A process does, and lives.
        """
        state = await self._claimed(patience_seconds)
        if not state.active:
            booted = await self._session.boot(game_name)
            self._screen.line(booted.banner())
            self._screen.line("Type `name: choice` to play, /help for more.", "dim")
            return
        self._screen.line(
            f"“{state.game_name}” goes on (game {state.game_id}, turn {state.turn_number + 1}, "
            f"{_players(len(state.players))}).",
            "bold",
        )
        if state.window is not None:
            left = max(0.0, state.window.deadline - time.time())
            self._screen.line(f"Its window is open for another {left:.1f} s:")
        for user_id, choice in state.pending_choices.items():
            crown = f"{CROWN} " if user_id == state.crown_holder else ""
            self._screen.line(f"  {crown}{_name(state, user_id)}: {choice}")
        for turn in state.closed_turns:
            self._screen.line(f"Turn {turn.turn} is closed and waits for its story.")

    async def _claimed(self, patience_seconds: float) -> Session:
        end = time.monotonic() + patience_seconds
        waiting = False
        while True:
            try:
                return await self._session.state()
            except OwnedElsewhereError as error:
                if time.monotonic() >= end:
                    raise
                if not waiting:
                    self._screen.line(
                        f"Owned by {error.owner}: waiting {patience_seconds:g} s, in case that "
                        "process is gone.",
                        "yellow",
                    )
                waiting = True
            await anyio.sleep(AGAIN_SECONDS)

    async def get_up(self) -> None:
        """The input is over: close what is open, and hear what happens."""
        state = await self._session.state()
        if state.active:
            await self._session.close_window()
            await self._settled()

    async def line(self, text: str) -> bool:
        """Do what a line says.

        Returns:
            Whether to go on.
        """
        text = text.strip()
        if not text:
            return True
        try:
            if text.startswith("/"):
                name, _, rest = text.partition(" ")
                command = self._commands.get(name.lower())
                if command is None:
                    raise InvalidInputError(f"{name} is no command: /help lists them")
                return await command(rest.strip()) is not False
            await self._press(text)
        except GameGirlError as error:
            self._screen.line(f"Refused: {error}", "red")
        return True

    async def _press(self, text: str) -> None:
        name, colon, choice = (part.strip() for part in text.partition(":"))
        if not (name and colon and choice):
            raise InvalidInputError("write `name: choice`, or /help")
        state = await self._session.state()
        user_id, name = _user(state, name)
        pressed = await self._session.press(user_id, name, choice)
        if user_id not in state.players:
            self._screen.line(f"{name} joins the game.", "dim")
        opened = f"; the window is open for {pressed.remaining:.1f} s" if pressed.opened else ""
        self._screen.line(f"{name} chooses for turn {pressed.turn}: {choice}{opened}", "dim")

    async def _crown(self, rest: str) -> None:
        if not rest:
            raise InvalidInputError("write /crown NAME, or /crown - for nobody")
        state = await self._session.state()
        user_id = None if rest == "-" else _user(state, rest)[0]
        if user_id is not None and user_id not in state.players:
            raise InvalidInputError(f"{rest!r} has not joined the game: nobody moves the crown")
        crown = await self._session.set_crown(user_id)
        if crown.user_id is None:
            self._screen.line(f"Nobody wears the crown: {crown.name} tells the story alone.")
        else:
            self._screen.line(f"{CROWN} {crown.name} wears the crown.")

    async def _close(self, rest: str) -> None:
        if await self._session.close_window() is None:
            raise InvalidInputError("no window is open: nothing to close")
        await self._settled()

    async def _wait(self, rest: str) -> None:
        await self._settled()

    async def _history(self, rest: str) -> None:
        if rest and not (rest.isascii() and rest.isdigit() and len(rest) < 10):
            raise InvalidInputError("write /history, or /history N")
        records = await self._session.history(int(rest) if rest else HISTORY_COUNT)
        state = await self._session.state()
        names = {user_id: player.user_name for user_id, player in state.players.items()}
        show_history(self._screen.console, records, names)

    async def _games(self, rest: str) -> None:
        show_games(self._screen.console, await self._supervisor.games())

    async def _swap(self, rest: str) -> None:
        swapped = await self._session.swap(rest)
        self._forget()
        if swapped.ejected is not None:
            self._say_ejected(swapped.ejected)
        self._screen.line(swapped.booted.banner())

    async def _load(self, rest: str) -> None:
        booted = await self._session.load(rest)
        self._forget()
        self._screen.line(booted.banner())

    async def _exit(self, rest: str) -> None:
        ejected = await self._session.exit()
        self._forget()
        self._say_ejected(ejected)
        self._screen.line("/swap NAME starts another game, /quit leaves.", "dim")

    async def _quit(self, rest: str) -> bool:
        state = await self._session.state()
        if state.window is not None:
            left = max(0.0, state.window.deadline - time.time())
            self._screen.line(f"The window stays open for another {left:.1f} s.")
        return False

    async def _help(self, rest: str) -> None:
        self._screen.line(HELP)

    def _say_ejected(self, ejected: Ejected) -> None:
        self._screen.line(ejected.banner())
        self._screen.line(f"/load {ejected.game_id} brings it back.", "dim")

    def _forget(self) -> None:
        """The game has left: what was told of it and isn't recorded is told again when it loads."""
        self._told.clear()

    async def _settled(self) -> None:
        """Wait until no window is open, every turn is recorded and its story on the screen."""
        async for state in self._session.watch():
            if not state.active or (state.window is None and not state.closed_turns):
                break
        with anyio.move_on_after(PRINT_SECONDS):
            while self._told:
                await self._printed.wait()


def _user(state: Session, name: str) -> tuple[str, str]:
    """The id and name of whoever is called so: a player on the roster, else somebody new."""
    wanted = name.casefold()
    for user_id, player in state.players.items():
        if player.user_name.casefold() == wanted:
            return user_id, player.user_name
    return wanted, name


def _name(state: Session, user_id: str) -> str:
    player = state.players.get(user_id)
    return user_id if player is None else player.user_name


def _players(count: int) -> str:
    return "1 player" if count == 1 else f"{count} players"
