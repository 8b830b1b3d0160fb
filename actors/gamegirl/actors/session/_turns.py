"""The rules of a turn: join, press, close, hand out, record.

A window opens with the first press of a turn and closes by itself. Closing it makes a turn, which
waits for its narrative until it is recorded; meanwhile the next window may open:

    no window --first press--> window --deadline, close_window--> closed turn --record--> history
                               |    ^                              |
                               press                               on_turn, next_turn

Each rule refuses before it changes anything.
"""

from __future__ import annotations

import attrs

from gamegirl.actors._behaviour import Later, Perform, WakeWaiters
from gamegirl.actors._errors import (
    LimitError,
    NoActiveGameError,
    StaleTurnError,
    TurnBacklogError,
    UnknownTurnError,
)
from gamegirl.actors._writes import AppendList
from gamegirl.actors.session._changes import Changes
from gamegirl.actors.session._data import (
    NOBODY,
    UNKNOWN,
    ActivityTier,
    ClosedTurn,
    Crown,
    Player,
    Pressed,
    TurnRecord,
    Window,
)
from gamegirl.actors.session._events import (
    ChoicePressed,
    CrownMoved,
    PlayerJoined,
    RecordUnreadable,
    TitleScreenSet,
    TurnAttemptFailed,
    TurnClosed,
    TurnGivenUp,
    TurnRecorded,
    WindowOpened,
)
from gamegirl.actors.session._journal import (
    answer_field,
    attempt_field,
    choice_bytes,
    join_field,
    press_field,
    refresh,
    turn_field,
    window_field,
)
from gamegirl.actors.session._keys import history_key
from gamegirl.actors.session._messages import (
    CloseWindow,
    HandOut,
    Join,
    Narrate,
    NextTurn,
    Press,
    ReadCrown,
    ReadHistory,
    ReadRoster,
    Record,
    Save,
    SetCrown,
    SetTitleScreen,
    TurnFailed,
    TurnNarrated,
)
from gamegirl.actors.session._parts import (
    StoredRecord,
    record_of,
    record_to_bytes,
    recorded_turn,
)
from gamegirl.actors.session._state import Choice, KeptTurn, SessionState
from gamegirl.codec import CodecError, GameGirlError

WORK = "turn"
"""The key under which `on_turn` runs."""

_ANSWERED_TURNS = 2
"""So many recorded turns still know what their presses were answered."""

_RETRY_SECONDS = 0.5
_RETRY_SECONDS_MAX = 30.0


def require_active(state: SessionState) -> None:
    """Refuse if no game runs."""
    if not state.active:
        raise NoActiveGameError(
            f"no game is active in channel {state.channel_id!r}: boot or load one first"
        )


def join(changes: Changes, message: Join) -> Player:
    """Put a player on the roster, or refresh them."""
    state, now = changes.state, changes.now
    require_active(state)
    player = state.players.get(message.user_id)
    if player is None:
        _require_room(changes)
        turn = state.turn_number
        player = Player(message.user_id, message.user_name, turn, now, turn)
        changes.emit(PlayerJoined(state.channel_id, state.game_id, *_who(player)))
    else:
        player = refresh(player, state.turn_number, now, pressed=False)
    state.players[message.user_id] = player
    sequence = state.joins.get(message.user_id)
    if sequence is None:
        sequence = state.joins[message.user_id] = _next_sequence(state)
    changes.journal(join_field(player, sequence))
    return player


def press(changes: Changes, message: Press) -> Pressed:
    """Take a choice; open the window if it is the turn's first."""
    state, rules, now = changes.state, changes.rules, changes.now
    require_active(state)
    user_id, press_id = message.user_id, message.press_id
    if press_id is not None:
        answer = state.answer(user_id, press_id)
        if answer is not None:
            return answer
    turn = state.turn_number + 1
    _require_turn(state, message, turn)
    window = state.window
    if window is None and len(state.unrecorded()) >= rules.closed_turns_max:
        raise TurnBacklogError(
            f"{rules.closed_turns_max} closed turns of channel {state.channel_id!r} wait for "
            "their narrative: record them before the next window opens"
        )
    player = state.players.get(user_id)
    if player is None:
        _require_room(changes)
    before = state.choices.get(user_id)
    size = state.choices_bytes + choice_bytes(user_id, message.choice)
    if before is not None:
        size -= choice_bytes(user_id, before.text)
    _require_record_room(changes, size)
    if press_id is not None and len(state.answers.get(user_id, ())) >= rules.press_ids_max:
        raise LimitError(
            f"user {user_id!r} pressed with {rules.press_ids_max} different press ids in this "
            f"window of channel {state.channel_id!r}: wait for the next one"
        )

    if player is None:
        player = Player(user_id, message.user_name, turn - 1, now, turn - 1)
        changes.emit(PlayerJoined(state.channel_id, state.game_id, *_who(player)))
    else:
        player = refresh(player, turn - 1, now, pressed=True)
    state.players[user_id] = player
    choice = Choice(before.sequence if before else _next_sequence(state), message.choice)
    state.choices[user_id] = choice
    state.choices_bytes = size
    fields = [press_field(player, choice)]
    opened = window is None
    if window is None:
        window = state.window = Window(now, now + rules.window_seconds)
        fields.append(window_field(state, window))
        changes.emit(WindowOpened(state.channel_id, state.game_id, turn, window.deadline))
    answer = Pressed(state.game_id, turn, opened, max(0.0, window.deadline - now), window.deadline)
    if press_id is not None:
        state.answers.setdefault(user_id, {})[press_id] = answer
        fields.append(answer_field(user_id, press_id, answer))
    changes.journal(*fields)
    changes.emit(ChoicePressed(state.channel_id, state.game_id, user_id, turn))
    return answer


def close_due(changes: Changes) -> None:
    """Close the window if its deadline is over: a press at the deadline itself still counts."""
    window = changes.state.window
    if window is not None and changes.now > window.deadline:
        _close(changes, window, window.deadline)


def close_window(changes: Changes, message: CloseWindow) -> ClosedTurn | None:
    """Close the open window now; without one, make a turn without choices if asked to."""
    state, now = changes.state, changes.now
    require_active(state)
    if state.window is not None:
        return _close(changes, state.window, max(now, state.window.opened_at))
    return _close(changes, Window(now, now), now) if message.empty else None


def next_turn(changes: Changes, message: NextTurn) -> ClosedTurn | Later:
    """The oldest closed, unrecorded turn above a number, when there is one."""
    state = changes.state
    if message.game_id is not None and message.game_id != state.game_id:
        raise NoActiveGameError(
            f"game {message.game_id} has left channel {state.channel_id!r}: it has no next turn"
        )
    require_active(state)
    for kept in state.unrecorded():
        if message.after is None or kept.turn.turn > message.after:
            return kept.turn
    return Later(attrs.evolve(message, game_id=state.game_id))


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
    if kept is not None and not kept.recorded:
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


def roster(
    changes: Changes, message: ReadRoster
) -> tuple[tuple[Player, ActivityTier], ...] | dict[str, Player]:
    """Everyone with their tier, in joining order; or those who aren't dormant."""
    state, now = changes.state, changes.now
    if message.active_only:
        require_active(state)
        return {
            player.user_id: player
            for player in state.players.values()
            if player.tier(state.turn_number, now) is not ActivityTier.DORMANT
        }
    return tuple((p, p.tier(state.turn_number, now)) for p in state.players.values())


def set_crown(changes: Changes, message: SetCrown) -> Crown:
    """Give the crown to a user, or to nobody."""
    state = changes.state
    require_active(state)
    if state.crown_holder != message.user_id:
        state.crown_holder = message.user_id
        changes.full()
        changes.emit(CrownMoved(state.channel_id, state.game_id, message.user_id))
    return crown(changes, ReadCrown())


def crown(changes: Changes, message: ReadCrown) -> Crown:
    """Who holds the crown."""
    user_id = changes.state.crown_holder
    if user_id is None:
        return Crown(None, NOBODY)
    player = changes.state.players.get(user_id)
    return Crown(user_id, UNKNOWN if player is None else player.user_name)


def set_title_screen(changes: Changes, message: SetTitleScreen) -> None:
    """Replace the title screen."""
    state = changes.state
    require_active(state)
    if state.title_screen_url != message.url:
        state.title_screen_url = message.url
        changes.full()
        changes.emit(TitleScreenSet(state.channel_id, state.game_id, message.url))


def save(changes: Changes, message: Save) -> None:
    """Write the full forms now."""
    require_active(changes.state)
    changes.full()


def hand_out(changes: Changes, delay: float = 0.0) -> None:
    """Give the oldest unrecorded turn to `on_turn`, if it has none in hand.

    A turn that `on_turn` left to the host is waited for: turns are narrated in order.
    """
    state = changes.state
    if not state.active or state.performing is not None:
        return
    waiting = state.unrecorded()
    if not waiting or waiting[0].turn.turn == state.awaited:
        return
    kept = waiting[0]
    kept.turn = attrs.evolve(kept.turn, attempt=kept.turn.attempt + 1)
    state.performing = kept.turn.turn
    changes.turns[attempt_field(kept.turn.turn)] = str(kept.turn.attempt)
    changes.effect(Perform(WORK, HandOut(kept.turn, state.snapshot(), delay)))


def narrated(changes: Changes, message: TurnNarrated) -> None:
    """`on_turn` has returned."""
    kept = _in_hand(changes, message)
    if kept is None:
        return
    if message.narrative is None:
        changes.state.awaited = kept.turn.turn
        return
    try:
        _record(changes, kept, message.narrative)
    except LimitError as error:
        _give_up(changes, kept, message.attempt, str(error))


def failed(changes: Changes, message: TurnFailed) -> float:
    """`on_turn` has failed; returns after how many seconds to hand out again."""
    state = changes.state
    kept = _in_hand(changes, message)
    if kept is None:
        return 0.0
    place = (state.channel_id, state.game_id, kept.turn.turn, message.attempt, message.reason)
    if message.attempt > changes.rules.turn_retries_max:
        _give_up(changes, kept, message.attempt, message.reason)
        return 0.0
    changes.emit(TurnAttemptFailed(*place))
    return min(_RETRY_SECONDS_MAX, _RETRY_SECONDS * 2.0 ** min(message.attempt - 1, 10))


def _who(player: Player) -> tuple[str, str]:
    return player.user_id, player.user_name


def _next_sequence(state: SessionState) -> int:
    sequence = state.journal
    state.journal += 1
    return sequence


def _require_room(changes: Changes) -> None:
    if len(changes.state.players) >= changes.rules.players_max:
        raise LimitError(
            f"the roster of channel {changes.state.channel_id!r} is full: it has "
            f"{changes.rules.players_max} players"
        )


def _require_turn(state: SessionState, message: Press, turn: int) -> None:
    if message.game_id is not None and message.game_id != state.game_id:
        raise StaleTurnError(
            f"the press is for game {message.game_id}, but channel {state.channel_id!r} runs "
            f"game {state.game_id}"
        )
    if message.turn is None or message.turn == turn:
        return
    if message.turn < turn:
        raise StaleTurnError(
            f"the press is for turn {message.turn} of channel {state.channel_id!r}, which is "
            f"over: turn {turn} is being played"
        )
    raise UnknownTurnError(
        f"the press is for turn {message.turn} of channel {state.channel_id!r}, which hasn't "
        f"begun: turn {turn} is being played"
    )


def _require_record_room(changes: Changes, choices: int) -> None:
    """Refuse a press that would make a turn which no record can hold."""
    most = changes.rules.record_bytes_max
    rest = min(most // 2, 6 * changes.rules.summary_max + 500)
    if choices > most - rest:
        raise LimitError(
            f"the choices of this turn in channel {changes.state.channel_id!r} would not fit "
            f"into a record of {most} bytes: shorten the choice"
        )


def _close(changes: Changes, window: Window, closed_at: float) -> ClosedTurn:
    state = changes.state
    state.turn_number += 1
    choices = state.pending()
    turn = ClosedTurn(
        state.channel_id,
        state.game_id,
        state.turn_number,
        choices,
        {user_id: state.players[user_id].user_name for user_id in choices},
        state.crown_holder,
        window.opened_at,
        closed_at,
    )
    for user_id, player in state.players.items():
        if user_id not in choices:
            skips = player.consecutive_skips + 1
            state.players[user_id] = attrs.evolve(player, consecutive_skips=skips)
    kept = KeptTurn(turn, state.answers)
    state.turns[turn.turn] = kept
    state.window = None
    state.choices = {}
    state.choices_bytes = 0
    state.answers = {}
    name, value = turn_field(kept)
    changes.turns[name] = value
    changes.full()
    changes.emit(TurnClosed(state.channel_id, state.game_id, turn.turn, len(choices)))
    changes.effect(WakeWaiters())
    return turn


def _record(changes: Changes, kept: KeptTurn, narrative: str) -> TurnRecord:
    state, turn = changes.state, kept.turn
    entry = TurnRecord(turn.turn, turn.choices, narrative[: changes.rules.summary_max], changes.now)
    _append(changes, entry, narration=False)
    done = [other for other in state.turns.values() if other.recorded]
    done.sort(key=lambda other: other.recorded)
    kept.recorded = done[-1].recorded + 1 if done else 1
    kept.turn = recorded_turn(state.channel_id, state.game_id, turn.turn)
    name, value = turn_field(kept)
    changes.turns[name] = value
    changes.turns.pop(attempt_field(turn.turn), None)
    gone = [attempt_field(turn.turn)] if turn.attempt else []
    for other in done[: len(done) + 1 - _ANSWERED_TURNS]:
        del state.turns[other.turn.turn]
        gone.append(str(other.turn.turn))
    changes.turns_gone += gone
    if state.awaited == turn.turn:
        state.awaited = None
    return entry


def _append(changes: Changes, entry: TurnRecord, *, narration: bool) -> None:
    state, rules = changes.state, changes.rules
    data = record_to_bytes(entry, state.game_id, narration=narration)
    if len(data) > rules.record_bytes_max:
        raise LimitError(
            f"the record of turn {entry.turn} in channel {state.channel_id!r} takes {len(data)} "
            f"bytes: {rules.record_bytes_max} are the limit"
        )
    state.records.append(data)
    del state.records[: -rules.history_max]
    changes.write(AppendList(history_key(state.channel_id), (data,), rules.history_max))
    changes.full()
    changes.emit(TurnRecorded(state.channel_id, state.game_id, entry.turn, narration))


def _records(changes: Changes, count: int | None = None) -> list[StoredRecord]:
    """The latest records; one that can't be read is told of and left out."""
    state = changes.state
    first = 0 if count is None else max(0, len(state.records) - count)
    records: list[StoredRecord] = []
    for position in range(first, len(state.records)):
        try:
            records.append(record_of(state.records[position], changes.now))
        except CodecError as error:
            event = RecordUnreadable(state.channel_id, state.game_id, position, str(error))
            changes.emit(event)
    return records


def _in_hand(changes: Changes, message: TurnNarrated | TurnFailed) -> KeptTurn | None:
    """The turn that `on_turn` is done with, if it is still to be recorded."""
    state, token = changes.state, message.token
    if not state.active or token.game_id != state.game_id or token.turn != state.performing:
        return None
    kept = state.turns.get(token.turn)
    if kept is None or kept.turn.attempt != message.attempt:
        state.performing = None if kept is None or kept.recorded else state.performing
        return None
    state.performing = None
    return None if kept.recorded else kept


def _give_up(changes: Changes, kept: KeptTurn, attempt: int, reason: str) -> None:
    state, turn = changes.state, kept.turn.turn
    try:
        _record(changes, kept, "")
    except GameGirlError as error:
        state.awaited = turn
        reason = f"{reason}; {error}"
    changes.emit(TurnGivenUp(state.channel_id, state.game_id, turn, attempt, reason))
