"""What an operator wants to read later, as records of the logger `gamegirl`."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
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


class EventLog:
    """Writes events to the log.

    A host's own filters and handlers run within it: what these raise must reach nobody who decides
    about a game.
    """

    def __init__(self) -> None:
        self._failed = False

    def write(self, event: object) -> None:
        """Write the event to the log, if it is one for the log: one record, on one line.

        Whatever an id, a name or an error has in it that isn't printable is escaped, so that none
        can forge a line or speak to a terminal.
        """
        level = _LEVELS.get(type(event))
        if level is None:
            return
        try:
            if _logger.isEnabledFor(level):
                names = cast(Any, type(event)).__struct_fields__
                shown = ", ".join(f"{name}={told(getattr(event, name))}" for name in names)
                _logger.log(level, "%s(%s)", type(event).__name__, shown)
        except Exception as error:  # noqa: BLE001 - it is told where the log can't be
            self._tell(type(event).__name__, error)

    def _tell(self, name: str, error: Exception) -> None:
        """Say once, where `logging` says it of handlers that notice, that records are lost."""
        if self._failed or not logging.raiseExceptions:
            return
        self._failed = True
        with suppress(Exception):  # There may be no standard error.
            sys.stderr.write(
                f"gamegirl: {name} was not logged: a filter or handler of the logger 'gamegirl' "
                "raises; repair it, until then its records are lost (this is said once)\n"
            )
            traceback.print_exception(error)


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
