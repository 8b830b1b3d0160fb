"""The rules of the history: record, narrate, and handing turns out to whoever narrates them.

A turn is handed out at least once and recorded exactly once: whoever records it first, the record
stands. Turns are handed out in order, one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from gamegirl.actors._behaviour import Perform
from gamegirl.actors._errors import (
    LimitError,
    StaleTurnError,
    UnknownTurnError,
)
from gamegirl.actors._writes import AppendList
from gamegirl.actors.session._changes import Changes
from gamegirl.actors.session._data import (
    TurnRecord,
)
from gamegirl.actors.session._events import (
    RecordUnreadable,
    TurnAttemptFailed,
    TurnGivenUp,
    TurnRecorded,
)
from gamegirl.actors.session._journal import (
    attempt_field,
    recorded_field,
)
from gamegirl.actors.session._keys import history_key
from gamegirl.actors.session._messages import (
    HandOut,
    Narrate,
    ReadHistory,
    Record,
    TurnFailed,
    TurnNarrated,
)
from gamegirl.actors.session._parts import (
    StoredRecord,
    printable,
    record_of,
    record_to_bytes,
)
from gamegirl.actors.session._state import KeptTurn
from gamegirl.actors.session._turns import require_active
from gamegirl.codec import CodecError, GameGirlError

WORK = "turn"
"""The key under which `on_turn` runs."""

_ANSWERED_TURNS = 2
"""So many recorded turns still know what their presses were answered."""

_RETRY_SECONDS = 0.5
_RETRY_SECONDS_MAX = 30.0


def record(changes: Changes, message: Record) -> TurnRecord:
    """Put a closed turn into the history, once."""
    state = changes.state
    require_active(state)
    turn = message.turn
    if message.game_id is not None and message.game_id != state.game_id:
        raise StaleTurnError(
            f"turn {turn} is of game {message.game_id}, but channel {state.channel_id!r} runs "
            f"game {state.game_id}"
        )
    kept = state.turns.get(turn)
    if kept is not None:
        return _record(changes, kept, message.narrative)
    for stored in _records(changes):
        if stored.record.turn == turn and stored.game_id == state.game_id and not stored.narration:
            return stored.record
    if not 0 < turn <= state.turn_number:
        raise UnknownTurnError(
            f"turn {turn} of game {state.game_id} in channel {state.channel_id!r} was never "
            f"closed: the last closed one is {state.turn_number}"
        )
    raise StaleTurnError(
        f"turn {turn} of game {state.game_id} in channel {state.channel_id!r} is over, and its "
        "record is no longer in the history"
    )


def narrate(changes: Changes, message: Narrate) -> TurnRecord:
    """Put a narrative without a turn into the history."""
    state = changes.state
    require_active(state)
    entry = TurnRecord(
        state.turn_number, {}, message.narrative[: changes.rules.summary_max], changes.now
    )
    _append(changes, entry, narration=True)
    return entry


def history(changes: Changes, message: ReadHistory) -> tuple[TurnRecord, ...]:
    """The latest records, oldest first."""
    return tuple(stored.record for stored in _records(changes, message.count))


def hand_out(changes: Changes, delay: float = 0.0) -> None:
    """Give the oldest unrecorded turn to `on_turn`, if it has none in hand.

    A turn that `on_turn` left to the host is waited for: turns are narrated in order.
    """
    state = changes.state
    if not state.active or state.performing is not None:
        return
    kept = next(iter(state.turns.values()), None)
    if kept is None or kept.turn.turn == state.awaited:
        return
    kept.turn = attrs.evolve(kept.turn, attempt=kept.turn.attempt + 1)
    state.performing = kept.turn.turn
    changes.turns[attempt_field(kept.turn.turn)] = str(kept.turn.attempt)
    changes.effect(Perform(WORK, HandOut(kept.turn, state.snapshot()), delay))


def narrated(changes: Changes, message: TurnNarrated) -> float:
    """`on_turn` has returned; returns after how many seconds to hand out again."""
    kept = _in_hand(changes, message)
    if kept is None:
        return 0.0
    if message.narrative is None:
        changes.state.awaited = kept.turn.turn
        return 0.0
    try:
        _record(changes, kept, message.narrative)
    except LimitError as error:
        _give_up(changes, kept, message.attempt, str(error))
    except GameGirlError as error:
        return _failed(changes, kept, message.attempt, str(error))
    return 0.0


def failed(changes: Changes, message: TurnFailed) -> float:
    """`on_turn` has failed; returns after how many seconds to hand out again."""
    kept = _in_hand(changes, message)
    return 0.0 if kept is None else _failed(changes, kept, message.attempt, message.reason)


def _failed(changes: Changes, kept: KeptTurn, attempt: int, reason: str) -> float:
    state = changes.state
    kept.failures += 1
    if kept.failures > changes.rules.turn_retries_max:
        _give_up(changes, kept, attempt, reason)
        return 0.0
    changes.emit(
        TurnAttemptFailed(state.channel_id, state.game_id, kept.turn.turn, attempt, reason)
    )
    return min(_RETRY_SECONDS_MAX, _RETRY_SECONDS * 2.0 ** min(kept.failures - 1, 10))


def _record(changes: Changes, kept: KeptTurn, narrative: str) -> TurnRecord:
    state, turn = changes.state, kept.turn
    entry = TurnRecord(turn.turn, turn.choices, narrative[: changes.rules.summary_max], changes.now)
    _append(changes, entry, narration=False)
    recorded, number = state.recorded, turn.turn
    del state.turns[number]
    recorded[number] = next(reversed(recorded.values()), 0) + 1
    if kept.answers:
        state.answered[number] = kept.answers
    name, value = recorded_field(state, number)
    changes.turns[name] = value
    changes.turns.pop(attempt_field(number), None)
    gone = [attempt_field(number)] if turn.attempt else []
    while len(recorded) > _ANSWERED_TURNS:
        oldest = next(iter(recorded))
        del recorded[oldest]
        state.answered.pop(oldest, None)
        gone.append(str(oldest))
    changes.turns_gone = (*changes.turns_gone, *gone)
    if state.awaited == turn.turn:
        state.awaited = None
    return entry


def _append(changes: Changes, entry: TurnRecord, *, narration: bool) -> None:
    state, rules = changes.state, changes.rules
    data = record_to_bytes(entry, state.game_id, narration=narration)
    # The limit binds what a call brings: a turn with too many choices (of the replaced system's, or
    # of larger limits) still gets its record without a narrative, lest it holds up all others.
    if len(data) > rules.record_bytes_max and entry.narrative_summary:
        raise LimitError(
            f"the record of turn {entry.turn} in channel {state.channel_id!r} takes {len(data)} "
            f"bytes: {rules.record_bytes_max} are the limit; shorten the narrative"
        )
    state.append_record(data, rules.history_max)
    changes.write(AppendList(history_key(state.channel_id), (data,), rules.history_max))
    changes.full(relisted=False)
    if changes.observed:
        changes.emit(TurnRecorded(state.channel_id, state.game_id, entry.turn, narration))


def _records(changes: Changes, count: int | None = None) -> list[StoredRecord]:
    """The latest records; one that can't be read is told of and left out."""
    state = changes.state
    stored: Sequence[Any] = state.records  # As a store gave them: bytes of some kind.
    first = 0 if count is None else max(0, len(stored) - count)
    records: list[StoredRecord] = []
    for position in range(first, len(stored)):
        try:
            records.append(record_of(stored[position], changes.now))
        except CodecError as error:
            event = RecordUnreadable(
                state.channel_id, state.game_id, position, printable(str(error))
            )
            changes.emit(event)
    return records


def _in_hand(changes: Changes, message: TurnNarrated | TurnFailed) -> KeptTurn | None:
    """The turn that `on_turn` is done with, if it is still to be recorded."""
    state, token = changes.state, message.token
    if not state.active or token.game_id != state.game_id or token.turn != state.performing:
        return None
    kept = state.turns.get(token.turn)
    if kept is None or kept.turn.attempt != message.attempt:
        state.performing = None if kept is None else state.performing
        return None
    state.performing = None
    return kept


def _give_up(changes: Changes, kept: KeptTurn, attempt: int, reason: str) -> None:
    state, turn = changes.state, kept.turn.turn
    _record(changes, kept, "")
    changes.emit(TurnGivenUp(state.channel_id, state.game_id, turn, attempt, reason))
