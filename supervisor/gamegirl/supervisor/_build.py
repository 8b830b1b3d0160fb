"""How this installation was built."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version

from gamegirl.actors.session import _turns


def is_compiled() -> bool:
    """Whether the modules that decide and spell are compiled here; else they run as sources.

    Example:
        >>> is_compiled() in (True, False)
        True
    """
    return str(_turns.__file__).endswith(tuple(EXTENSION_SUFFIXES))


def release() -> str:
    """The version, for people, and whether it is compiled."""
    try:
        number = version("gamegirl")
    except PackageNotFoundError:
        return "not installed"
    return f"{number}, compiled" if is_compiled() else number
