"""What an operator wants to read later, as records of the logger `gamegirl`."""

from __future__ import annotations

import logging

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
    """Write the event to the log, if it is one for the log.

    All values are written with `repr`, so that an id or a name can't forge a line.
    """
    level = _LEVELS.get(type(event))
    if level is not None and _logger.isEnabledFor(level):
        _logger.log(level, "%r", event)
        if isinstance(event, events.ActorCrashed):
            _logger.log(level, "%s", event.traceback.encode("unicode_escape").decode())
