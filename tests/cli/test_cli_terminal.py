"""`gamegirl play` on a terminal: the live screen, and keys read one by one."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pexpect
import pytest
from anyio.from_thread import BlockingPortal
from rich.console import Console
from tests.cli.command import PATIENCE_SECONDS, Command, answer

from gamegirl.actors.session import ClosedTurn, Player, Session, Window
from gamegirl.cli._keyboard import TYPED_MAX, Editor, is_terminal, read_in_thread
from gamegirl.cli._play import Play
from gamegirl.cli._screen import status
from gamegirl.supervisor import open_store

COLUMNS, ROWS = 100, 30


@pytest.fixture
def terminal(sqlite_url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A game in a terminal of its own."""
    host: str = getattr(request, "param", "asyncio")
    arguments = ["play", "demo", "--window", "3000", "--store", sqlite_url, "--backend", host]
    spawn: Any = pexpect.spawn
    child = spawn(
        sys.executable,
        ["-m", "gamegirl", *arguments],
        encoding="utf-8",
        codec_errors="replace",
        dimensions=(ROWS, COLUMNS),
        timeout=PATIENCE_SECONDS,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
    )
    yield child
    child.close(force=True)


both_hosts = pytest.mark.parametrize("terminal", ["asyncio", "trio"], indirect=True)


@both_hosts
def test_a_game_is_played_on_a_terminal(terminal: Any, gamegirl: Command, sqlite_url: str) -> None:
    """Roster, tiers, crown and countdown are shown live; what is typed is shown as it is typed."""
    terminal.expect("waiting for a choice")
    terminal.send("Ana: Open the dor")
    terminal.expect("> .*Ana: Open the dor")
    terminal.send("\x7f\x7foor\r")
    terminal.expect("the window is open for")
    terminal.expect("Ana.*active.*Open the door")
    terminal.expect(r"29\d\d\.\d s . 1 of 1 have chosen")
    terminal.send("/crown ana\r")
    terminal.expect("👑 Ana wears the crown")
    terminal.expect("👑.*Ana.*active")
    terminal.send("/close\r")
    terminal.expect("── Turn 1 ")
    terminal.expect("👑 Ana: Open the door")
    terminal.expect("The Haunted Cartridge · turn 2")
    terminal.send("Ben: run\r")
    terminal.expect("1 of 2 have chosen")
    terminal.send("\x04")
    terminal.expect("The window stays open for another")
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0
    seen = answer(gamegirl("show", "demo", "--json", "--store", sqlite_url))
    assert (seen["turn_number"], seen["pending_choices"]) == (1, {"ben": "run"})


@both_hosts
def test_ctrl_c_leaves_the_terminal_as_it_was(terminal: Any) -> None:
    """While it plays, keys are not echoed; afterwards the terminal is as before."""
    terminal.expect("waiting for a choice")
    assert not termios.tcgetattr(terminal.child_fd)[3] & termios.ICANON
    terminal.send("Ana: half a li\x03")
    # The other end of a terminal is asked while the game still has it open.
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0
    assert "Traceback" not in terminal.before


def test_exiting_shows_what_can_be_done_next(terminal: Any) -> None:
    """When no game runs any more the screen says how to get one."""
    terminal.expect("waiting for a choice")
    terminal.send("/exit\r")
    terminal.expect("No game runs here. /swap NAME starts one")
    terminal.send("/quit\r")
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0


@pytest.mark.parametrize("host", ["asyncio", "trio"])
def test_the_terminal_is_given_back_as_it_was(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Played in this process on a terminal's other end: modes and cursor are restored."""
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    monkeypatch.setenv("TERM", "xterm-256color")
    seen = bytearray()
    script = [
        ("waiting for a choice", b"Ana: kno"),
        ("> \x1b[0mAna: kno", b"ck\r"),
        ("1 of 1 have chosen", b"/games\r"),
        ("playing", b"/close\r"),
        ("── Turn 1 ", b"x" * 300),
        ("x" * 60, b"\x15/exit\r"),
        ("No game runs here", b"\x04"),
    ]

    def play_along() -> None:
        for shown, keys in script:
            start = len(seen)
            while shown not in seen[start:].decode(errors="replace"):
                seen.extend(os.read(ours, 4096))
            os.write(ours, keys)
        with contextlib.suppress(OSError):  # The other end is closed.
            while chunk := os.read(ours, 4096):
                seen.extend(chunk)

    other = threading.Thread(target=play_along, daemon=True)
    other.start()
    with (
        open(theirs, "w", encoding="utf-8", closefd=False) as stdout,
        open(theirs, encoding="utf-8", closefd=False) as stdin,
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        play = Play(open_store(sqlite_url), "demo", "The Loop", 300.0, 0.0)
        anyio.run(play.run, backend=host)
        assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    other.join(PATIENCE_SECONDS)
    os.close(ours)
    said = seen.decode()
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")


def feed(*keys: str) -> tuple[list[str | None], str]:
    """The lines that keys make, and what is left in the editor."""
    editor = Editor()
    lines = [line for piece in keys for line in editor.feed(piece)]
    return lines, editor.text


@pytest.mark.parametrize(
    ("keys", "lines", "left"),
    [
        (["ab", "c\rd"], ["abc"], "d"),
        (["ab\x7fc\n"], ["ac"], ""),
        (["\x7f\x08"], [], ""),
        (["a b  c\x17\x17d"], [], "a d"),
        (["abc\x15d"], [], "d"),
        (["a\x1b[Ab\x1b[1;5Cc\x1bOPd\x1bxe"], [], "abcde"),
        (["a\x1b", "[", "A", "b"], [], "ab"),
        (["a\x04"], [], "a"),
        (["\x04"], [None], ""),
        (["a\x07\tb"], [], "ab"),
        (["李雷\x7f👑"], [], "李👑"),
    ],
)
def test_keys_make_lines(keys: list[str], lines: list[str], left: str) -> None:
    """Letters, Backspace, Ctrl-U, Ctrl-W, Enter and Ctrl-D do what they do in a shell."""
    assert feed(*keys) == (lines, left)


def test_a_line_has_a_bound() -> None:
    """Whoever leans on a key fills no memory."""
    assert len(feed("x" * (TYPED_MAX + 1))[1]) == TYPED_MAX


def test_what_is_no_terminal_is_read_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys to be read one by one there is no live screen."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not is_terminal()

    def nothing(name: str) -> None:
        """As on a system without terminals."""

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    assert not is_terminal()


def failing() -> Iterator[str]:
    """An input that gives a line, then fails in a way that nobody knew of."""
    yield "Ana: knock\n"
    raise LookupError("no further line")


def closed() -> io.StringIO:
    """An input that somebody has closed."""
    stream = io.StringIO("unread")
    stream.close()
    return stream


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("stdin", "pieces"),
    [
        (None, [None]),
        (closed(), [None]),
        (failing(), ["Ana: knock\n", None]),
    ],
    ids=["none", "closed", "failing"],
)
def test_the_end_of_the_input_is_always_told(
    monkeypatch: pytest.MonkeyPatch, stdin: Iterator[str] | None, pieces: list[str | None]
) -> None:
    """However reading ends, whoever waits for a line is told that none comes."""
    monkeypatch.setattr(sys, "stdin", stdin)
    got: list[str | None] = []
    before = set(threading.enumerate())

    async def read() -> None:
        ended = anyio.Event()

        def put(piece: str | None) -> None:
            got.append(piece)
            if piece is None:
                ended.set()

        async with BlockingPortal() as portal:
            read_in_thread(portal, put)
            with anyio.fail_after(PATIENCE_SECONDS):
                await ended.wait()

    anyio.run(read)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_SECONDS)
    assert got == pieces


def drawn(session: Session, rows: int = 10) -> str:
    """What the screen shows of a session at 1,000 s, with windows of ten."""
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(status(session, 1000.0, 10.0, rows))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def session(**fields: Any) -> Session:
    """A game's snapshot."""
    plain: dict[str, Any] = {
        "game_id": "g",
        "game_name": "Neon [bold]Catacombs",
        "channel_id": "demo",
        "active": True,
        "turn_number": 8,
        "title_screen_url": "",
        "crown_holder": None,
        "players": {},
        "pending_choices": {},
        "window": None,
        "closed_turns": (),
    }
    return Session(**(plain | fields))


def player(number: int, turn: int, stamp: float) -> Player:
    """A player who was last active then."""
    return Player(str(number), f"P{number}", 0, stamp, turn, 8 - turn)


def test_the_roster_shows_tiers_and_skips() -> None:
    """Each player has their tier; those who skipped turns are counted."""
    players = {
        "1": player(1, 8, 999.0),
        "2": player(2, 5, -1000.0),
        "3": player(3, 0, -9000.0),
    }
    seen = drawn(session(players=players, crown_holder="3", pending_choices={"1": "[red]go"}))
    assert "Neon [bold]Catacombs · turn 9" in seen
    assert "P1  active   [red]go" in seen
    assert "P2  idle     skipped 3" in seen
    assert "👑  P3  dormant  skipped 8" in seen
    assert "waiting for a choice" in seen


def test_a_long_roster_shows_those_who_were_active_last() -> None:
    """The screen is never filled by the roster alone; the others are counted."""
    players = {str(number): player(number, 8, 900.0 + number) for number in range(20)}
    seen = drawn(session(players=players), rows=4)
    assert [f"P{number} " in seen for number in (15, 16, 19)] == [False, True, True]
    assert "… and 16 more" in seen


def test_the_countdown_runs_down() -> None:
    """The bar is as long as what is left of the window; never negative."""
    players = {"1": player(1, 8, 999.0)}
    whole = drawn(session(players=players, window=Window(1000.0, 1010.0)))
    assert "█" * 20 + " 10.0 s · 0 of 1 have chosen" in whole
    late = drawn(session(players=players, window=Window(980.0, 990.0)))
    assert "░" * 20 + "  0.0 s" in late


def test_a_turn_that_waits_for_its_story_is_said_to() -> None:
    """Between a window and its story the narrator is at work."""
    turn = ClosedTurn("demo", "g", 8, {}, {}, None, 1.0, 2.0)
    assert "the narrator speaks…" in drawn(session(closed_turns=(turn,)))
    assert "Nobody has joined yet." in drawn(session())
    assert "No game runs here." in drawn(session(active=False))
