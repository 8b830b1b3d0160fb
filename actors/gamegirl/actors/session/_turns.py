"""The rules of a turn: join, press, close, wait for the next.

A window opens with the first press of a turn and closes by itself. Closing it makes a turn, which
waits for its narrative until it is recorded; meanwhile the next window may open:

    no window --first press--> window --deadline, close_window--> closed turn --record--> history
                               |    ^                              |
                               press                               on_turn, next_turn

Each rule refuses before it changes anything.
"""

from __future__ import annotations

from msgspec.structs import replace

from gamegirl.actors._behaviour import Later, WakeWaiters
from gamegirl.actors._errors import (
    LimitError,
    NoActiveGameError,
    StaleTurnError,
    TurnBacklogError,
    UnknownTurnError,
)
from gamegirl.actors._writes import Value
from gamegirl.actors.session._changes import Changes
from gamegirl.actors.session._data import (
    ClosedTurn,
    Player,
    Pressed,
)
from gamegirl.actors.session._events import (
    ChoicePressed,
    PlayerJoined,
    TurnClosed,
    WindowOpened,
)
from gamegirl.actors.session._journal import (
    answer_field,
    choice_bytes,
    join_field,
    press_field,
    turn_field,
    window_field,
)
from gamegirl.actors.session._messages import (
    CloseWindow,
    Join,
    NextTurn,
    Press,
)
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._state import Choice, KeptTurn, OpenWindow, Seat, SessionState
from gamegirl.actors.session._writing import index_entry, notes_ahead


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
    seat = state.players.get(message.user_id)
    if seat is None:
        _require_room(changes)
        seat = _seat(changes, message.user_id, message.user_name)
    else:
        seat.refresh(state.turn_number, now)
    sequence = state.joins.get(message.user_id)
    if sequence is None:
        sequence = state.joins[message.user_id] = _next_sequence(state)
    name, entry = join_field(seat, sequence)
    changes.journal({name: entry})
    return seat.player()


def press(changes: Changes, message: Press) -> Pressed:
    """Take a choice; open the window if it is the turn's first."""
    state, rules, now = changes.state, changes.rules, changes.now
    require_active(state)
    user_id, press_id, text = message.user_id, message.press_id, message.choice
    if press_id is not None:
        answer = state.answer(user_id, press_id)
        if answer is not None:
            return answer
    turn = state.turn_number + 1
    if message.turn is not None or message.game_id is not None:
        _require_turn(state, message, turn)
    window = state.window
    if window is None:
        _require_backlog_room(changes)
    seat = state.players.get(user_id)
    if seat is None:
        _require_room(changes)
    choice = state.choices.get(user_id)
    size = _size_with(state, rules, user_id, text, choice)
    if press_id is not None and len(state.answers.get(user_id, ())) >= rules.press_ids_max:
        raise LimitError(
            f"user {user_id!r} pressed with {rules.press_ids_max} different press ids in this "
            f"window of channel {state.channel_id!r}: wait for the next one"
        )

    if seat is None:
        seat = _seat(changes, user_id, message.user_name)
    else:
        seat.refresh(turn - 1, now)
        if seat.consecutive_skips:
            seat.consecutive_skips = 0
    if choice is None:
        choice = state.choices[user_id] = Choice(_next_sequence(state), text)
    else:
        choice.text = text
    state.choices_bytes = size
    name, entry = press_field(seat, choice)
    fields: dict[str, Value] = {name: entry}
    opened = window is None
    if window is None:
        window = state.window = OpenWindow(now, now + rules.window_seconds)
        name, entry = window_field(state, window)
        fields[name] = entry
        if changes.observed:
            changes.emit(WindowOpened(state.channel_id, state.game_id, turn, window.deadline))
    deadline = window.deadline
    remaining = deadline - now
    answer = Pressed(state.game_id, turn, opened, max(0.0, remaining), deadline)
    if press_id is not None:
        state.answers.setdefault(user_id, {})[press_id] = answer
        name, entry = answer_field(user_id, press_id, answer)
        fields[name] = entry
    changes.journal(fields)
    if changes.observed:
        changes.emit(ChoicePressed(state.channel_id, state.game_id, user_id, turn))
    return answer


def close_due(changes: Changes) -> None:
    """Close the window if its deadline is over: a press at the deadline itself still counts."""
    window = changes.state.window
    if window is not None and changes.now > window.deadline:
        changes.closed = _close(changes, window, window.deadline)


def close_window(changes: Changes, message: CloseWindow) -> ClosedTurn | None:
    """Close the open window now; without one, make a turn without choices if asked to."""
    state, now = changes.state, changes.now
    require_active(state)
    if changes.closed is not None:
        return changes.closed  # The window that the caller means has just closed by itself.
    if state.window is not None:
        return _close(changes, state.window, max(now, state.window.opened_at))
    if not message.empty:
        return None
    _require_backlog_room(changes)
    return _close(changes, OpenWindow(now, now), now)


def next_turn(changes: Changes, message: NextTurn) -> ClosedTurn | Later:
    """The oldest closed, unrecorded turn above a number, when there is one."""
    state = changes.state
    if message.game_id is not None and message.game_id != state.game_id:
        raise NoActiveGameError(
            f"game {message.game_id} has left channel {state.channel_id!r}: it has no next turn"
        )
    require_active(state)
    for kept in state.turns.values():
        if message.after is None or kept.turn.turn > message.after:
            return kept.turn
    return Later(replace(message, game_id=state.game_id))


def _seat(changes: Changes, user_id: str, user_name: str) -> Seat:
    """Give a new player a seat."""
    state, turn = changes.state, changes.state.turn_number
    seat = state.players[user_id] = Seat(user_id, user_name, turn, changes.now, turn)
    changes.emit(PlayerJoined(state.channel_id, state.game_id, user_id, user_name))
    return seat


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


def _require_backlog_room(changes: Changes) -> None:
    """Refuse if too many turns wait for one more to come."""
    most = changes.rules.closed_turns_max
    if len(changes.state.turns) >= most:
        raise TurnBacklogError(
            f"{most} closed turns of channel {changes.state.channel_id!r} wait for "
            "their narrative: record them before the next window opens"
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


def _size_with(
    state: SessionState, rules: SessionRules, user_id: str, text: str, before: Choice | None
) -> int:
    """What the choices take in a record with this one; refuses it if no record could hold them."""
    most = rules.record_bytes_max
    # No character takes more in JSON than `\u001f` does: nearly always there is room for that.
    size = state.choices_bytes + 6 * len(text)
    size += 6 * len(user_id) + 6 if before is None else -len(before.text)
    if size + size <= most:
        if state.choices_exact:
            state.choices_exact = False
        return size
    room = most - min(most // 2, 6 * rules.summary_max + 500)
    if not state.choices_exact:  # Once: from here on what is added is counted as it is.
        state.choices_bytes = sum(
            choice_bytes(other, choice.text) for other, choice in state.choices.items()
        )
        state.choices_exact = True
    size = state.choices_bytes + choice_bytes(user_id, text)
    if before is not None:
        size -= choice_bytes(user_id, before.text)
    if size > room:
        raise LimitError(
            f"the choices of this turn in channel {state.channel_id!r} would not fit into a record "
            f"of {most} bytes: shorten the choice"
        )
    return size


def _close(changes: Changes, window: OpenWindow, closed_at: float) -> ClosedTurn:
    state = changes.state
    choices: dict[str, str] = {}
    names: dict[str, str] = {}
    stamps: list[float] = []
    for user_id, choice in state.choices.items():
        seat = state.players[user_id]
        choices[user_id] = choice.text
        names[user_id] = seat.user_name
        stamps.append(seat.last_active)
    state.end_turn(choices)
    turn = ClosedTurn(
        state.channel_id,
        state.game_id,
        state.turn_number,
        choices,
        names,
        state.crown_holder,
        window.opened_at,
        closed_at,
    )
    kept = KeptTurn(turn, state.answers)
    state.turns[turn.turn] = kept
    state.window = None
    state.choices = {}
    state.choices_bytes = 0
    state.choices_exact = True
    state.answers = {}
    # The forms and the turn say it all together, unless somebody has joined without pressing.
    short = bool(choices) and not state.joins
    name, value = turn_field(kept, stamps if short else ())
    changes.turns[name] = value
    if short:
        changes.clear_journal()
        changes.write(notes_ahead(state), index_entry(state))
    else:
        changes.full()
    if changes.observed:
        changes.emit(TurnClosed(state.channel_id, state.game_id, turn.turn, len(choices)))
    changes.effect(WakeWaiters())
    return turn
