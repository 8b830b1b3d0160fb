"""The commands, with what they take and say."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from gamegirl.actors import SessionQuarantinedError
from gamegirl.cli._chaos_command import chaos
from gamegirl.cli._console import clean, output, say, shown, write_json
from gamegirl.cli._export import Exported, export
from gamegirl.cli._import import Imported, Importer
from gamegirl.cli._lines import read_lines
from gamegirl.cli._load_command import load
from gamegirl.cli._options import (
    Backend,
    Channel,
    Json,
    On,
    Url,
    Yes,
    closing,
    confirm,
    run_reading,
    run_work,
)
from gamegirl.cli._peek import Reader
from gamegirl.cli._play import WINDOW_MAX, WINDOW_SECONDS, Play
from gamegirl.cli._quarantine import app as quarantine
from gamegirl.cli._show import (
    games_plain,
    history_plain,
    look_plain,
    show_games,
    show_history,
    show_look,
)
from gamegirl.cli._target import Target, only
from gamegirl.supervisor import SavedGame, Settings, Store, Supervisor
from gamegirl.supervisor._build import release
from gamegirl.supervisor._games import Games

DEFAULT_GAME = "The Haunted Cartridge"
HISTORY_COUNT = 10
LEASE_SECONDS = Settings().lease_seconds + 0.5

_STANDARD = Path("-")

app = typer.Typer(
    name="gamegirl",
    help="Play button-driven games in chat channels, look at them, move them between stores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(quarantine)
app.command()(chaos)
app.command()(load)


def _tell_version(wanted: bool) -> None:
    if wanted:
        python = ".".join(map(str, sys.version_info[:3]))
        output().print(f"gamegirl {release()} (Python {python})", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Take what stands before a command."""


def run() -> None:
    """Run the command with the process's arguments; ends the process."""
    # What an operator's log would get is told here as an error, or shown as it happens.
    logging.getLogger("gamegirl").addHandler(logging.NullHandler())
    app()


@app.command()
def play(
    channel: Channel,
    store: Url = None,
    game: Annotated[
        str, typer.Option("--game", metavar="NAME", help="What to start if nothing runs there.")
    ] = DEFAULT_GAME,
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            metavar="SECONDS",
            min=0.05,
            max=WINDOW_MAX,
            help="A turn's time, and the most that is left of an open window.",
            show_default=f"{WINDOW_SECONDS:g}, or that of a longer one that is open",
        ),
    ] = None,
    backend: On = Backend.ASYNCIO,
) -> None:
    r"""Play in this terminal: everybody types `name: choice`, a small narrator answers.

    A game that runs in the channel goes on where it was, with the choices and what is left of the
    time of an open window; no turn of its history is deleted. `/help` lists what else can be typed.
    Lines from a pipe are played too; at their end the open window is closed and its story told.

    **Examples**

    - `gamegirl play demo`
    - `gamegirl play demo --game "Neon Catacombs" --window 30`
    - `printf 'Ana: Open the door\n/wait\n' | gamegirl play demo`
    - `gamegirl play 1470000626959596028 --store redis://localhost:6379/0`
    """

    async def work() -> None:
        target = Target.of(store)
        # A database knows at once whether a process lives; elsewhere its lease has to run out.
        patience = 0.0 if target.path else LEASE_SECONDS
        await Play(target.for_writing(), channel, game, window, patience).run()

    run_work(work, backend)


@app.command()
def games(store: Url = None, as_json: Json = False) -> None:
    """List all games, played and saved.

    **Examples**

    - `gamegirl games`
    - `gamegirl games --store redis://localhost:6379/0 --json`
    """

    async def work(source: Store) -> tuple[SavedGame, ...]:
        return await Games(source, str).all()

    found = run_reading(store, work)
    if as_json:
        write_json(games_plain(found))
    else:
        show_games(output(), found)


@app.command()
def show(channel: Channel, store: Url = None, as_json: Json = False) -> None:
    """Show a channel's game: players, crown, window, and which process owns it.

    Nothing is claimed or changed, so this works while the game is being played elsewhere.

    **Examples**

    - `gamegirl show demo`
    - `gamegirl show 1470000626959596028 --json --store redis://localhost:6379/0`
    """
    look = run_reading(store, lambda source: Reader(source).look(channel))
    if as_json:
        write_json(look_plain(look))
    elif look.session.game_id:
        show_look(output(), look)
    if not look.session.game_id:
        say(f"No game was ever played in channel {channel!r}; `gamegirl games` lists all.", "red")
        raise typer.Exit(1)


@app.command()
def history(
    channel: Channel,
    count: Annotated[
        int, typer.Option("--count", "-n", min=0, metavar="N", help="So many of the latest turns.")
    ] = HISTORY_COUNT,
    store: Url = None,
    as_json: Json = False,
) -> None:
    """Show the latest turns of a channel's game, oldest first.

    **Examples**

    - `gamegirl history demo`
    - `gamegirl history demo --count 3 --json`
    """

    async def work(source: Store) -> tuple[Any, Any]:
        session = Reader(source).session(channel)
        return await session.history(count), await session.state()

    records, state = run_reading(store, work)
    if as_json:
        write_json(history_plain(records))
    else:
        names = {user_id: player.user_name for user_id, player in state.players.items()}
        show_history(output(), records, names)


@app.command(name="export")
def export_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to; - is the standard output.")
    ] = _STANDARD,
    channels: Annotated[
        list[str] | None,
        typer.Option("--channel", metavar="CHANNEL", help="Only this one; may be repeated."),
    ] = None,
    store: Url = None,
    as_json: Json = False,
) -> None:
    """Write games to a file, one stored key a line (JSON), for `gamegirl import`.

    Nothing is claimed. A channel that is played meanwhile is written as it is at one moment. Who
    owns what is not exported. A file that exists is replaced once all is written; into a pipe or a
    device it is written. With --json, what was written is told as JSON (on the standard error if
    the games go to the standard output).

    **Examples**

    - `gamegirl export games.jsonl`
    - `gamegirl export --channel demo > demo.jsonl`
    - `gamegirl export - --store redis://localhost:6379/0 | gzip > games.jsonl.gz`
    """
    wanted = channels or []

    async def work(source: Store) -> Exported:
        with _written(file) as stream:
            return await export(source, wanted, stream.write)

    done = run_reading(store, work)
    counts = {"channels": done.channels, "games": done.games, "keys": done.lines}
    if as_json and file != _STANDARD:
        write_json(counts)
    elif as_json:
        say(str(counts).replace("'", '"'))
    else:
        say(f"Exported {_counted(done.channels, done.games, done.lines)}.")


@contextmanager
def _written(file: Path) -> Generator[TextIO]:
    """What is written comes to the file, in place of what it held, once all of it is there."""
    if file == _STANDARD:
        yield sys.stdout
        sys.stdout.flush()
        return
    target = Path(os.path.realpath(file))  # A link stays; what it leads to is replaced.
    if file.exists() and not target.is_file():
        # Whoever reads from a pipe or a device would wait for ever at a file in its place.
        with file.open("w", encoding="ascii") as stream:
            yield stream
        return
    part = target.with_name(target.name + ".part")
    try:
        with part.open("w", encoding="ascii") as stream:
            yield stream
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@app.command(name="import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="What `gamegirl export` wrote; - is the standard input.",
        ),
    ],
    store: Url = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite channels and saves that are there.")
    ] = False,
    as_json: Json = False,
    backend: On = Backend.ASYNCIO,
) -> None:
    """Bring games from a file into a store.

    The whole file is checked before anything is written. If a channel or save of it exists already,
    nothing is imported, unless --replace says otherwise. A channel that a live process owns is left
    alone and named, and the exit status is 1.

    **Examples**

    - `gamegirl import games.jsonl`
    - `gamegirl import redis.jsonl --store redis://localhost:6379/0`
    - `gamegirl export - --store sqlite:///old.db | gamegirl import - --store sqlite:///new.db`
    """
    if file != _STANDARD and not file.is_file() and not file.is_fifo():
        raise typer.BadParameter(f"there is no file {str(file)!r}", param_hint="FILE")
    if file == _STANDARD and sys.stdin is None:  # It was closed before Python started.
        raise typer.BadParameter("the standard input is closed: name a file", param_hint="FILE")

    async def work() -> Imported:
        if file == _STANDARD:
            lines = read_lines(sys.stdin.buffer)
        else:
            with file.open("rb") as stream:
                lines = read_lines(stream)
        return await Importer(Target.of(store).for_writing(), lines, replace=replace).run()

    done = run_work(work, backend)
    if as_json:
        write_json(
            {
                "channels": done.channels,
                "games": done.games,
                "keys": done.lines,
                "skipped": [{"what": what, "why": why} for what, why in done.skipped],
            }
        )
    else:
        say(f"Imported {_counted(done.channels, done.games, done.lines)}.")
    if done.endless:
        say(f"{done.endless} texts or lists had a time to live, which only hashes keep here.")
    for what, why in done.skipped:
        say(f"Skipped {what}: {why}", "red")
    if done.skipped:
        raise typer.Exit(1)


@app.command()
def forget(
    game_id: Annotated[str, typer.Argument(metavar="GAME_ID", help="As `gamegirl games` shows.")],
    store: Url = None,
) -> None:
    """Delete a saved game for good; one that is being played is refused.

    **Examples**

    - `gamegirl forget 3cea8142c8ea`
    """

    async def work() -> SavedGame | None:
        async with Supervisor(only(None, Target.of(store).for_writing())) as supervisor:
            game = await supervisor.game(game_id)
            await supervisor.forget(game_id)
            return game

    game = run_work(work)
    name = f"“{game.game_name}”" if game is not None else "an unlisted game"
    output().print(shown(f"Forgot {name} ({game_id})."), soft_wrap=True)


@app.command()
def wipe(
    channel: Channel,
    store: Url = None,
    yes: Yes = False,
) -> None:
    """Delete a channel's game with its history and its open window, for good.

    Games that were saved and left the channel before stay.

    **Examples**

    - `gamegirl wipe demo`
    - `gamegirl wipe demo --yes --store redis://localhost:6379/0`
    """
    target = Target.of(store)
    if not yes:
        what = run_work(lambda: _what_is_there(target.for_writing(), channel))
        confirm(f"Wipe {what} from channel {channel!r}, for good?")

    async def work() -> None:
        async with Supervisor(only(None, target.for_writing())) as supervisor:
            await supervisor.session(channel).wipe()

    run_work(work)
    output().print(shown(f"Channel {channel} is empty."), soft_wrap=True)


async def _what_is_there(store: Store, channel: str) -> str:
    """What would be wiped, in words."""
    async with closing(store):
        reader = Reader(store)
        try:
            session = (await reader.look(channel)).session
        except SessionQuarantinedError:
            return "what can't be read"
        if not session.game_id:
            return "nothing"
        return (
            f"“{clean(session.game_name)}” (turn {session.turn_number}, "
            f"players: {len(session.players)})"
        )


def _counted(channels: int, games: int, keys: int) -> str:
    return f"{channels} channels and {games} games, {keys} keys in all"
