"""How this installation was built."""

from __future__ import annotations

from importlib.metadata import version

from gamegirl.actors.session import _turns


def is_compiled() -> bool:
    """Whether the modules that decide and spell are compiled here; else they run as sources.

    Example:
        >>> is_compiled() in (True, False)
        True
    """
    return not str(_turns.__file__).endswith(".py")


def release() -> str:
    """The version, for people, and whether it is compiled."""
    return f"{version('gamegirl')}{', compiled' if is_compiled() else ''}"
