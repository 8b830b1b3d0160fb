"""The root of every error that this package raises on purpose."""

from __future__ import annotations

from enum import Enum

import attrs


class Fate(Enum):
    """What became of a message whose call raised: may it be sent again?

    A call that was refused before it reached an actor, or that was handled without any effect, can
    be repeated freely. One that is in doubt may have happened: repeat it only where a repetition
    does no harm (a press with the same `press_id`, a record of the same turn).
    """

    NOT_DELIVERED = "not delivered"
    """It never entered a mailbox."""

    NOT_EXECUTED = "not executed"
    """It entered a mailbox and had no effect."""

    IN_DOUBT = "in doubt"
    """Nobody knows yet whether it took effect."""


class GameGirlError(Exception):
    """Something that a caller may want to know by its class: the root of all our errors.

    Args:
        message: What happened, to which channel, what to do.
        fate: What became of the message; the class says it where it is always the same.

    Attributes:
        fate: Whether the call can be repeated safely.
    """

    fate: Fate = Fate.NOT_EXECUTED

    def __init__(self, message: str, *, fate: Fate | None = None) -> None:
        super().__init__(message)
        if fate is not None:
            self.fate = fate


class InvalidIdError(GameGirlError, ValueError):
    """An id is not 1 to 200 characters, or has control characters or surrogates in it."""

    fate = Fate.NOT_DELIVERED


@attrs.frozen
class Fault:
    """One thing that is wrong with an input.

    Attributes:
        path: Where, as in `players.42.joined_turn` or `[3]`; empty for the input itself.
        reason: What is wrong there, for a person.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class CodecError(GameGirlError, ValueError):
    """Bytes that can't be decoded, or data that can't be encoded, with everything wrong with them.

    Attributes:
        faults: All faults that were found, with their paths.
    """

    def __init__(self, what: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{what}: " + "; ".join(str(fault) for fault in faults))
        self.faults = faults
