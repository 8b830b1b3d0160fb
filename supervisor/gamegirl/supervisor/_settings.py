"""Every number and text that a host may choose, checked when it is chosen."""

from __future__ import annotations

from enum import Enum

import attrs

from gamegirl.actors import InvalidInputError
from gamegirl.actors.session import SessionRules
from gamegirl.actors.session._rules import check_count, check_seconds
from gamegirl.codec import InvalidIdError, check_id


class Durability(Enum):
    """What an answer promises."""

    COMMITTED = "committed"
    """Every answer waits until every change it could have seen is in the store."""

    TURN = "turn"
    """Presses are answered from memory and committed within `flush_seconds`; all else waits."""


def _durability(_: object, field: attrs.Attribute[Durability], value: object) -> None:
    if not isinstance(value, Durability):
        raise InvalidInputError(f"{field.name} is a Durability, not {value!r}")


def _instance(_: object, field: attrs.Attribute[str | None], value: object) -> None:
    if value is not None:
        try:
            check_id(value, field.name)
        except InvalidIdError as error:
            raise InvalidInputError(str(error)) from error


def _share(_: object, field: attrs.Attribute[float], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise InvalidInputError(f"{field.name} is a part, above 0 and up to 1, not {value!r}")


@attrs.frozen(kw_only=True)
class Settings(SessionRules):
    """What a supervisor is told when it is made: the rules of its sessions, and its own bounds.

    Times are seconds, as floats. `help(SessionRules)` says what those of the game mean:
    `window_seconds`, `history_max`, the banners and more.

    Example:
        Settings(window_seconds=30.0, durability=Durability.TURN)

    Attributes:
        durability: What an answer promises.
        flush_seconds: With `Durability.TURN`, how long a press may stay in memory alone.
        commit_timeout_seconds: After this a caller gets `StoreUnavailableError`.
        lease_seconds: A process that hasn't spoken to the store for so long may lose its channels.
        instance: A name that outlives restarts, so that a restarted process takes over at once. Two
            running processes must never share one. None: takeover waits for the lease.
        mailbox_max: Accepted, unsettled messages an actor may have.
        mailbox_share: The part of it that one user may fill.
        idle_seconds: A session without a message for so long leaves memory.
        restarts_max: More restarts in `restart_window_seconds` stop a session.
        restart_window_seconds: See `restarts_max`.
        restart_backoff_seconds: Before the second restart in the window; doubles from there.
        drain_seconds: How long leaving may take.
        turn_handlers_max: So many `on_turn` run side by side.
        sweep_seconds: How often orphaned channels are looked for; at least thrice a lease.
        events_max: So many events an observer may fall behind before it loses the oldest.
        crashes_max: So many crashed messages are kept for inspection.
    """

    durability: Durability = attrs.field(default=Durability.COMMITTED, validator=_durability)
    flush_seconds: float = attrs.field(default=0.05, validator=check_seconds)
    commit_timeout_seconds: float = attrs.field(default=2.0, validator=check_seconds)
    lease_seconds: float = attrs.field(default=3.0, validator=check_seconds)
    instance: str | None = attrs.field(default=None, validator=_instance)
    mailbox_max: int = attrs.field(default=1000, validator=check_count(1))
    mailbox_share: float = attrs.field(default=0.02, validator=_share)
    idle_seconds: float = attrs.field(default=900.0, validator=check_seconds)
    restarts_max: int = attrs.field(default=5, validator=check_count(0))
    restart_window_seconds: float = attrs.field(default=30.0, validator=check_seconds)
    restart_backoff_seconds: float = attrs.field(default=0.05, validator=check_seconds)
    drain_seconds: float = attrs.field(default=5.0, validator=check_seconds)
    turn_handlers_max: int = attrs.field(default=100, validator=check_count(1))
    sweep_seconds: float = attrs.field(default=1.0, validator=check_seconds)
    events_max: int = attrs.field(default=10_000, validator=check_count(1))
    crashes_max: int = attrs.field(default=100, validator=check_count(0))
