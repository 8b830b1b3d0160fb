"""What to say when a command's own libraries are not installed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import typer

from gamegirl.cli._console import say


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """An import that fails for want of an extra is told as one sentence, with exit status 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("gamegirl"):
            raise
        say(
            f"Error: this command needs {error.name}, which comes with the extra `{extra}`: "
            f"pip install 'gamegirl[{extra}]'",
            "red",
        )
        raise typer.Exit(2) from None
