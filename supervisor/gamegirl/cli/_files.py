"""Files that are written once a command has done its work: refused before it, if they can't be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import typer

from gamegirl.cli._console import say

STANDARD = Path("-")
"""What names the standard output, where an option takes that."""


def writable(file: Path | None) -> Path | None:
    """The file of an option; one that can't be written, as far as can be seen, is refused."""
    if file is not None:
        _check(file, file.parent)
    return file


def streamable(file: Path | None) -> Path | None:
    """As `writable`, for an option that takes - as the standard output."""
    return file if file == STANDARD else writable(file)


def makeable(file: Path | None) -> Path | None:
    """As `writable`, for a file whose missing directories are made when it is written."""
    if file is not None:
        _check(file, next(one for one in file.absolute().parents if os.access(one, os.F_OK)))
    return file


def _check(file: Path, directory: Path) -> None:
    # Nothing is opened: a pipe's reader would take that for all there is.
    try:
        if file.is_dir():
            raise typer.BadParameter(f"{str(file)!r} is a directory: name a file in it")
        if not directory.is_dir():
            raise typer.BadParameter(f"there is no directory {str(directory)!r}: make it first")
        may = os.access(file if file.exists() else directory, os.W_OK)
    except OSError:  # Not even this may be looked at, or it can't be a name.
        may = False
    if not may:
        raise typer.BadParameter(f"{str(file)!r} can't be written: name another file")


def written(name: str, write: Callable[[], object]) -> bool:
    """Whether what came of a command could be written; if not, why is told in one sentence."""
    try:
        write()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        reason = error.strerror or error
        say(f"Error: {name} could not be written: {reason}; the figures are shown above", "red")
        return False
    return True
