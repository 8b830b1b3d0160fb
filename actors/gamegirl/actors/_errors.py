"""Every error that a call of an actor or a session raises."""

from __future__ import annotations

from gamegirl.codec import Fate, GameGirlError


class InvalidInputError(GameGirlError, ValueError):
    """An argument is of the wrong type or out of its limits."""

    fate = Fate.NOT_DELIVERED


class LimitError(GameGirlError):
    """The call would take something over a limit (a roster, a stored record)."""


class WrongThreadError(GameGirlError, RuntimeError):
    """A call from another thread or loop than the supervisor's."""

    fate = Fate.NOT_DELIVERED


class SupervisorClosedError(GameGirlError, RuntimeError):
    """The supervisor isn't running: not started, draining, closed or broken."""

    fate = Fate.NOT_DELIVERED


class MailboxFullError(GameGirlError):
    """The actor has as many unsettled messages as it may have, or as one sender may have."""

    fate = Fate.NOT_DELIVERED


class ActorCrashedError(GameGirlError):
    """The handler raised on this message; its cause is the exception. It is not replayed."""


class SessionFailedError(GameGirlError):
    """The actor crashed too often and is stopped until `supervisor.revive(channel_id)`."""


class SessionQuarantinedError(GameGirlError):
    """What is stored can't be read; it was copied to quarantine and nothing is overwritten."""


class StoreUnavailableError(GameGirlError):
    """The store did not answer in time; `fate` says whether the message may have happened."""


class OwnedElsewhereError(GameGirlError):
    """Another live process owns the channel.

    Attributes:
        owner: Its owner token.
    """

    fate = Fate.NOT_DELIVERED

    def __init__(self, message: str, *, owner: str) -> None:
        super().__init__(message)
        self.owner = owner


class OwnershipLostError(GameGirlError):
    """Another process has taken the channel over."""


class NoActiveGameError(GameGirlError):
    """No game runs in the channel."""


class GameActiveError(GameGirlError):
    """A game is active where it must not be."""


class GameExistsError(GameGirlError):
    """There is a game with this id already."""


class UnknownGameError(GameGirlError):
    """There is no game with this id (any more)."""


class StaleTurnError(GameGirlError):
    """The turn is over, or of a game that isn't running."""


class UnknownTurnError(GameGirlError):
    """The turn was never closed."""


class TurnBacklogError(GameGirlError):
    """Too many closed turns wait for their narrative: no new window opens."""
