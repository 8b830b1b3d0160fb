"""What the commands share: options that several of them take, and how their work is run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, TypeVar

import anyio
import typer

from gamegirl.cli._console import reported
from gamegirl.cli._target import Target
from gamegirl.supervisor import Store

T = TypeVar("T")

CLOSE_SECONDS = 5.0

ANY_HISTORY = 1_000_000_000
"""How many records a channel keeps is its host's setting: no command shows or leaves fewer."""


class Backend(StrEnum):
    """What the runtime runs on."""

    ASYNCIO = "asyncio"
    TRIO = "trio"


Url = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where games are kept: redis://…, rediss://…, unix://…, sqlite:///path, memory://. "
        "Otherwise $GAMEGIRL_STORE, else a database in your data directory.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for a program.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Channel = Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's id.")]
On = Annotated[
    Backend, typer.Option("--backend", help="asyncio or trio.", hidden=True, case_sensitive=False)
]


def confirm(question: str) -> None:
    """Ask whether to go on; a no ends the command.

    Raises:
        BadParameter: There is nobody to ask.
    """
    if sys.stdin is None:  # It was closed before Python started.
        raise typer.BadParameter("the standard input is closed, so nobody can be asked: give --yes")
    typer.confirm(question, abort=True, err=True)


def run_work(work: Callable[[], Awaitable[T]], backend: Backend = Backend.ASYNCIO) -> T:
    """Run a command's work on a loop of its own; our errors become its exit status."""
    if backend is Backend.TRIO and importlib.util.find_spec("trio") is None:
        raise typer.BadParameter("trio is not installed: pip install trio")
    with reported():
        return anyio.run(work, backend=backend.value)


def run_reading(
    url: str | None, work: Callable[[Store], Awaitable[T]], backend: Backend = Backend.ASYNCIO
) -> T:
    """Run work that only reads; no database is made for it."""

    async def reading() -> T:
        store = Target.of(url).for_reading()
        async with closing(store):
            return await work(store)

    return run_work(reading, backend)


@asynccontextmanager
async def closing(store: Store) -> AsyncGenerator[None]:
    """Let go of the store in any case, within a bounded time."""
    try:
        yield
    finally:
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await store.aclose()
