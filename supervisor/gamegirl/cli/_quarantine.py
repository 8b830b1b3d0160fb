"""The commands `gamegirl quarantine …`: look at copies, put them back, drop them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gamegirl.cli._console import output, reported, say, shown, write_json
from gamegirl.cli._copies import Copy, find, read_copies
from gamegirl.cli._drop import drop_copies
from gamegirl.cli._options import Backend, Json, On, Url, Yes, confirm, run_reading, run_work
from gamegirl.cli._putback import put_back
from gamegirl.cli._show import moment
from gamegirl.cli._target import Target
from gamegirl.codec import GameGirlError, check_id
from gamegirl.supervisor import Store, open_store

NAMED = 10
"""So many entries are named before somebody confirms, and afterwards."""

app = typer.Typer(
    name="quarantine",
    help="Look at copies of what could not be read, put them back, drop them.",
    no_args_is_help=True,
)

Entry = Annotated[
    str,
    typer.Argument(
        metavar="ENTRY", help="As `gamegirl quarantine list` shows it, or the part after the #."
    ),
]
OfChannel = Annotated[
    str | None, typer.Option("--channel", metavar="CHANNEL", help="Only this channel's.")
]


@app.command(name="list")
def list_(
    channel: OfChannel = None, store: Url = None, as_json: Json = False, on: On = Backend.ASYNCIO
) -> None:
    """List the copies in quarantine, the oldest first.

    Nothing is claimed or changed.

    **Examples**

    - `gamegirl quarantine list`
    - `gamegirl quarantine list --channel demo --json --store redis://localhost:6379/0`
    """
    copies = _copies(store, channel, on)
    if as_json:
        write_json([_plain(copy) for copy in copies])
    else:
        _show_list(output(), copies)


@app.command()
def show(
    entry: Entry,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the original bytes and nothing else.")
    ] = False,
    store: Url = None,
    as_json: Json = False,
    on: On = Backend.ASYNCIO,
) -> None:
    r"""Show one copy: where it was found, why it was put aside, and its content.

    Whatever could do something to a terminal is shown as an escape (`\x1b`). A hash or list is
    shown as JSON. With --json the content is `value`, base64.

    **Examples**

    - `gamegirl quarantine show game:session:demo#0f4c2a6b8d1e3f57`
    - `gamegirl quarantine show 0f4c2a6b8d1e3f57 --raw > demo.json`
    """
    if raw and as_json:
        raise typer.BadParameter("say --raw or --json, not both")
    (copy,) = _found(_copies(store, None, on), [entry])
    if raw:
        stream = typer.get_binary_stream("stdout")
        stream.write(copy.value)
        stream.flush()
    elif as_json:
        write_json({**_plain(copy), "value": base64.b64encode(copy.value).decode()})
    else:
        _show_copy(output(), copy)


@app.command()
def restore(
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY", help="All of one channel.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace what is there now; that is put into quarantine."),
    ] = False,
    store: Url = None,
    on: On = Backend.ASYNCIO,
) -> None:
    """Put copies back where they were found, byte for byte, as the type they had.

    The channel is claimed for it; if a living process owns it, nothing is changed and the process
    is named. Several copies of a channel go back in one piece, or none does. If something else is
    there now, nothing is changed unless --force says so. What is put back is believed as if the
    old system had written it: look at it first, and at the channel afterwards. The copies stay in
    quarantine until they are dropped. A part of a key (one damaged player of many) can't be put
    back; the message says what can be done.

    **Examples**

    - `gamegirl quarantine restore game:session:demo#0f4c2a6b8d1e3f57`
    - `gamegirl quarantine restore 0f4c2a6b8d1e3f57 97d1c3b5a7f9e0d2 --force`
    """
    copies = _found(_copies(store, None, on), entries)
    for done in run_work(lambda: put_back(_writable(store), copies, force=force), on):
        copy = done.copy
        if done.already:
            _tell(f"{copy.key} ({copy.owner}) holds just that already.")
            continue
        _tell(f"Put {copy.key} ({copy.owner}) back; the copy stays until you drop it.")
        if done.replaced is not None:
            _tell(f"What was there is now {done.replaced}.")


@app.command()
def drop(
    entries: Annotated[
        list[str] | None,
        typer.Argument(metavar="ENTRY", help="As `gamegirl quarantine list` shows them."),
    ] = None,
    channel: OfChannel = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop all copies.")] = False,
    store: Url = None,
    yes: Yes = False,
    on: On = Backend.ASYNCIO,
) -> None:
    """Drop copies from quarantine, for good.

    What a running bot puts there meanwhile is kept, also if it is one of these once more; then the
    exit status is 1. Entries that are gone already are no error.

    **Examples**

    - `gamegirl quarantine drop game:session:demo#0f4c2a6b8d1e3f57`
    - `gamegirl quarantine drop --channel demo --yes`
    - `gamegirl quarantine drop --all --store redis://localhost:6379/0`
    """
    if sum((bool(entries), channel is not None, everything)) != 1:
        raise typer.BadParameter("say which: entries, --channel CHANNEL or --all")
    copies = _copies(store, channel, on)
    if entries:
        copies = _found(copies, entries, all_=False)
    if not copies:
        _tell("Nothing to drop.")
        return
    if not yes:
        _say_some([f"{copy.name} ({copy.owner}): {copy.reason}" for copy in copies])
        confirm(f"Drop {_counted(len(copies))}, for good?")
    done = run_work(lambda: drop_copies(_writable(store), copies), on)
    _tell(f"Dropped {_counted(done.count)}.")
    _say_some([f"{name} was gone already." for name in done.gone])
    again = "was put there anew meanwhile: kept. Look at it again."
    _say_some([f"{name} {again}" for name in done.changed], "red")
    if done.changed:
        raise typer.Exit(1)


def _copies(url: str | None, channel: str | None, on: Backend) -> list[Copy]:
    async def work(source: Store) -> list[Copy]:
        if channel is not None:
            check_id(channel, "channel id")
        return await read_copies(source, channel)

    return run_reading(url, work, on)


def _writable(url: str | None) -> Store:
    """The store that has been read (and named on the screen) just before."""
    return open_store(Target.of(url).url)


def _found(copies: Sequence[Copy], names: Sequence[str], *, all_: bool = True) -> list[Copy]:
    """The copies of these names; one that isn't there is named, and ends the command if `all_`."""
    found: dict[str, Copy] = {}
    with reported():
        for name in names:
            copy = find(copies, name)
            if copy is not None:
                found[copy.name] = copy
            elif all_:
                raise GameGirlError(
                    f"there is no {name!r} in quarantine; `gamegirl quarantine list` lists what is"
                )
            else:
                say(f"{name} isn't in quarantine (any more).")
    return list(found.values())


def _plain(copy: Copy) -> dict[str, Any]:
    """A copy, for a program."""
    actor = copy.actor
    return {
        "entry": copy.name,
        "key": copy.key or None,
        "type": copy.type or None,
        "kind": None if actor is None else actor.kind,
        "actor_id": None if actor is None else actor.actor_id,
        "channel_id": actor.actor_id if actor is not None and actor.kind == "session" else None,
        "at": copy.at,
        "reason": copy.reason,
        "size": len(copy.value),
    }


def _show_list(console: Console, copies: Sequence[Copy]) -> None:
    if not copies:
        console.print("Nothing is in quarantine.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entry (key#digest)", "channel", "when", "bytes", "what", "reason"):
        table.add_column(name, justify="right" if name == "bytes" else "left", overflow="fold")
    for copy in copies:
        table.add_row(
            shown(copy.name, "cyan"),
            shown(copy.owner),
            _when(copy),
            str(len(copy.value)),
            shown(copy.type or "?"),
            shown(copy.reason),
        )
    console.print(table)


def _show_copy(console: Console, copy: Copy) -> None:
    facts = (
        ("entry", copy.name),
        ("key", copy.key or "?"),
        ("channel", copy.owner),
        ("when", _when(copy)),
        ("what", copy.type or "not noted"),
        ("bytes", str(len(copy.value))),
        ("reason", copy.reason),
    )
    for name, fact in facts:
        console.print(shown(f"{name:8} {_escaped(fact)}"), soft_wrap=True)
    console.print()
    console.print(shown(_escaped(copy.value.decode("utf-8", "backslashreplace"))), soft_wrap=True)


def _escaped(text: str) -> str:
    r"""The text on one line, with what could do something to a terminal written out.

    Example:
        >>> _escaped("a\x1b[2J\nb")
        'a\\x1b[2J\\nb'
    """
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text
    )


def _when(copy: Copy) -> str:
    return "?" if copy.at is None else moment(copy.at)


def _tell(text: str) -> None:
    output().print(shown(text), soft_wrap=True)


def _say_some(lines: Sequence[str], style: str = "") -> None:
    for line in lines[:NAMED]:
        say(line, style)
    if len(lines) > NAMED:
        say(f"… and {len(lines) - NAMED} more", style)


def _counted(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"
