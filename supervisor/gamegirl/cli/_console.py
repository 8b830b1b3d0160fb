"""Where the commands write: results to the standard output, everything else beside it."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import typer
from rich.console import Console
from rich.text import Text

from gamegirl.codec import GameGirlError

_PLAIN_WIDTH = 200
"""How wide a table may be when nobody looks at it: not 80, which would cut it."""

_JOINER = "\u200d"
"""Invisible, but a part of many emoji."""


def clean(text: str) -> str:
    r"""The text without anything that could move a cursor or turn a line around.

    Example:
        >>> clean("a\x1b[2Jb")
        'a\ufffd[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(
        mark
        if mark.isprintable() or mark == _JOINER
        else (" " if unicodedata.category(mark) == "Zs" or mark in "\t\n\r" else "\ufffd")
        for mark in text
    )


def shown(text: str, style: str = "") -> Text:
    """Somebody's text, for a screen: no markup, no control characters."""
    return Text(clean(text), style=style)


def output() -> Console:
    """The standard output."""
    return _console(stderr=False)


def errors() -> Console:
    """The standard error."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream: Any = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # A terminal without emoji still gets its lines.
    console = Console(file=stream, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


def say(message: str, style: str = "") -> None:
    """Tell the person something that isn't the result."""
    errors().print(shown(message, style), soft_wrap=True)


def write_json(plain: Any) -> None:
    """Give the result to a program."""
    typer.echo(json.dumps(plain, indent=2))


@contextmanager
def reported() -> Generator[None]:
    """Turn our errors into one sentence and the exit status 1."""
    try:
        yield
    except GameGirlError as error:
        _report(error)
        raise typer.Exit(1) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        _report(error)
        raise typer.Exit(1) from None
    except BaseExceptionGroup as group:
        ours, others = group.split(GameGirlError)
        if ours is None or others is not None:
            raise
        for leaf in _leaves(ours):
            _report(leaf)
        raise typer.Exit(1) from None


def _report(error: BaseException) -> None:
    say(f"Error: {error}", "red")


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return [leaf for one in inner for leaf in _leaves(one)]
