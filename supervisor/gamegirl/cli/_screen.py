"""What the players see: lines that stay, and on a terminal the roster, the countdown and a prompt.

On a terminal the lower part is drawn anew in place. Keys are read one by one and what is typed is
drawn with it, so that neither a new line nor the countdown ever lands in the middle of a word.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from gamegirl.actors.session import Session
from gamegirl.cli._console import clean, shown
from gamegirl.cli._keyboard import single_keys
from gamegirl.cli._show import roster

_BAR = 20
"""Characters of the countdown's bar."""

_OTHER_LINES = 8
"""Lines of the screen that the roster leaves to everything else."""

_ROWS_MIN = 3


class Screen(Protocol):
    """Where a game is shown."""

    console: Console

    def line(self, text: str, style: str = "") -> None:
        """Say something that stays."""
        ...

    def draw(self, session: Session | None, now: float) -> None:
        """Show how the game stands."""
        ...

    def typed(self, text: str) -> None:
        """Show what is being typed."""
        ...


class PlainScreen:
    """Only lines: for pipes and files."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str, style: str = "") -> None:
        """Say something that stays."""
        for part in text.split("\n"):
            self.console.print(shown(part, style), soft_wrap=True)
        self.console.file.flush()

    def draw(self, session: Session | None, now: float) -> None:
        """Nothing is drawn here."""

    def typed(self, text: str) -> None:
        """Nothing is typed here."""


class LiveScreen:
    """Lines, and below them the game as it is now.

    Args:
        console: A terminal.
        live: What draws on it.
        window_seconds: How long a whole window is.
    """

    def __init__(self, console: Console, live: Live, window_seconds: float) -> None:
        self.console = console
        self._live = live
        self._window_seconds = window_seconds
        self._status: RenderableType = Text("…", "dim")
        self._typed = ""

    def line(self, text: str, style: str = "") -> None:
        """Say something that stays."""
        for part in text.split("\n"):
            self.console.print(shown(part, style))

    def draw(self, session: Session | None, now: float) -> None:
        """Show how the game stands."""
        if session is not None:
            rows = max(_ROWS_MIN, self.console.height - _OTHER_LINES)
            self._status = status(session, now, self._window_seconds, rows)
        self._refresh()

    def typed(self, text: str) -> None:
        """Show what is being typed."""
        self._typed = text
        self._refresh()

    def _refresh(self) -> None:
        # A line that is longer than the screen shows its end, where the typing happens.
        room = max(self.console.width - 4, 1)
        prompt = Text.assemble(("> ", "bold cyan"), clean(self._typed)[-room:])
        prompt.no_wrap = True
        self._live.update(Group(self._status, prompt), refresh=True)


def status(session: Session, now: float, window_seconds: float, rows: int) -> RenderableType:
    """The game's name, roster and countdown."""
    if not session.active:
        return Panel(
            Text("No game runs here. /swap NAME starts one, /load ID brings one back."),
            title=shown(session.channel_id),
            title_align="left",
            border_style="dim",
        )
    title = Text(f"{clean(session.game_name)} · turn {session.turn_number + 1}")
    body: RenderableType = (
        roster(session, now, rows)
        if session.players
        else Text("Nobody has joined yet. Type a name, a colon and a choice.", "dim")
    )
    window = session.window
    if window is None:
        waiting = "the narrator speaks…" if session.closed_turns else "waiting for a choice"
        foot = Text(waiting, "dim")
    else:
        left = max(0.0, window.deadline - now)
        full = round(_BAR * min(left / window_seconds, 1.0))
        count = f"{len(session.pending_choices)} of {len(session.players)} have chosen"
        foot = Text.assemble(
            ("█" * full, "green" if left > window_seconds / 3 else "red"),
            ("░" * (_BAR - full), "dim"),
            f" {left:4.1f} s · {count}",
        )
    return Panel(
        body,
        title=title,
        title_align="left",
        subtitle=foot,
        subtitle_align="left",
        border_style="cyan",
    )


@contextmanager
def live_screen(console: Console, window_seconds: float) -> Generator[LiveScreen]:
    """A screen on a terminal, until the block ends; the terminal is then as it was."""
    live = Live(console=console, auto_refresh=False, transient=True)
    with single_keys(), live:
        # Hidden, it would stay so if the process is killed; and it stands where the typing is.
        console.show_cursor(True)
        yield LiveScreen(console, live, window_seconds)
