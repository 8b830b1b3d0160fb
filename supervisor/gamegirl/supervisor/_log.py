"""What an operator wants to read later, as records of the logger `gamegirl`."""

from __future__ import annotations

import logging
from typing import Any, cast

from gamegirl.actors import session
from gamegirl.supervisor import _events as events

_logger = logging.getLogger("gamegirl")

_LEVELS: dict[type, int] = {
    events.ActorRestored: logging.INFO,
    events.ActorCrashed: logging.ERROR,
    events.ActorFailed: logging.ERROR,
    events.ActorLost: logging.WARNING,
    events.CommitFailed: logging.WARNING,
    events.StoreRegressed: logging.ERROR,
    events.ContentQuarantined: logging.WARNING,
    events.StoreLost: logging.ERROR,
    events.SweepFailed: logging.ERROR,
    events.StoreBack: logging.INFO,
    events.ClockMoved: logging.WARNING,
    session.GameBooted: logging.INFO,
    session.GameLoaded: logging.INFO,
    session.GameExited: logging.INFO,
    session.GameSwapped: logging.INFO,
    session.GameWiped: logging.INFO,
    session.PlayerJoined: logging.INFO,
    session.CrownMoved: logging.INFO,
    session.TurnAttemptFailed: logging.WARNING,
    session.TurnGivenUp: logging.ERROR,
}


def log_event(event: object) -> None:
    """Write the event to the log, if it is one for the log: one record, on one line.

    Whatever an id, a name or an error has in it that isn't printable is escaped, so that none can
    forge a line or speak to a terminal.
    """
    level = _LEVELS.get(type(event))
    if level is not None and _logger.isEnabledFor(level):
        names = cast(Any, type(event)).__struct_fields__
        shown = ", ".join(f"{name}={told(getattr(event, name))}" for name in names)
        _logger.log(level, "%s(%s)", type(event).__name__, shown)


def told(thing: object) -> str:
    r"""What `repr` says of anything, on one line; also of what a host made carelessly.

    Example:
        >>> told("Ana\nBo")
        "'Ana\\nBo'"
    """
    try:
        text = repr(thing)
    except Exception as error:  # noqa: BLE001 - it is told instead
        text = f"<{type(thing).__name__}, whose repr raises {type(error).__name__}>"
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text
    )
