"""Whether a behaviour has decided as it must: what it breaks must cost its own actor a restart."""

from __future__ import annotations

import sys
from typing import Any, cast

from gamegirl.actors import (
    Answer,
    Cancel,
    Decided,
    Decision,
    Emit,
    Perform,
    Quarantined,
    Require,
    WakeWaiters,
)

LONGEST = sys.float_info.max
"""No time is longer, also if it is a whole number, of which there are larger ones."""

_PLAIN = frozenset((Emit, WakeWaiters))


def check_decided(decided: object) -> None:
    """Whether a handler has decided.

    Raises:
        TypeError: It hasn't.
    """
    if not isinstance(decided, (Decision, Answer)):
        raise TypeError(f"handle() returned {decided!r:.100}, expected a Decision or an Answer")


def are_plain(effects: object) -> bool:
    """Whether these are effects in which nothing can be wrong."""
    return effects.__class__ is tuple and _PLAIN.issuperset(map(type, cast("Any", effects)))


def check_contents(decision: Decided) -> None:
    """Whether there is in a decision what belongs there; of writes the store says what is wrong.

    Raises:
        TypeError, ValueError: Something else is in it.
    """
    if (
        decision.writes.__class__ is tuple
        and decision.error is None
        and not (decision.effects or decision.requires or decision.quarantined)
    ):
        return  # As most are.
    given: Any = decision
    for name in ("writes", "effects", "requires", "quarantined"):
        values: Any = getattr(given, name)
        if not isinstance(values, (tuple, list)):
            raise TypeError(f"a decision's {name} are a tuple or a list, not {values!r:.100}")
    if not isinstance(given.error, (Exception, type(None))):
        raise TypeError(f"a decision's error is an exception, not {given.error!r:.100}")
    for effect in given.effects:
        _check_effect(effect)
    for require in given.requires:
        if not isinstance(require, Require):
            raise TypeError(f"{require!r:.100} is no Require")
        error: Any = require.error
        if not isinstance(error, Exception):
            raise TypeError(f"the error of a Require is an exception, not {error!r:.100}")
    for one in given.quarantined:
        if not isinstance(one, Quarantined):
            raise TypeError(f"{one!r:.100} is not Quarantined")
        found: Any = one
        texts = (found.key, found.reason, found.type)
        if not isinstance(found.value, bytes) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{one!r:.100} has something else in it than bytes and texts")


def _check_effect(effect: Any) -> None:
    if isinstance(effect, (Perform, Cancel)):
        key: Any = effect.key
        if not isinstance(key, str):
            raise TypeError(f"the key of work is a text, not {key!r:.100}")
        if isinstance(effect, Perform):
            delay: Any = effect.delay_seconds
            if not isinstance(delay, (int, float)) or not 0 <= delay <= LONGEST:
                raise ValueError(f"work is delayed by seconds from 0, not by {delay!r:.100}")
    elif not isinstance(effect, (Emit, WakeWaiters)):
        raise TypeError(f"{effect!r:.100} is no effect")
