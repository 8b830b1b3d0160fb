"""The journal (what happened since the last full form or close) and the closed turns, small fields.

A press writes one to three fields of the journal, whatever the size of the roster. Hashes lose
their order in the store, so every entry is numbered. All entries say how things are, not how they
changed, so applying one twice, or to a form that has it already, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import msgspec

from gamegirl.actors._writes import PatchHash, Value, Write
from gamegirl.actors.session._data import ClosedTurn, Pressed
from gamegirl.actors.session._keys import journal_key, turns_key
from gamegirl.actors.session._parts import (
    answer_of,
    answer_to_plain,
    fault,
    kept_of,
    kept_to_bytes,
    list_of,
    moment_of,
    recorded_to_bytes,
    seconds_of,
    stamps_of,
    text_of,
    whole_of,
)
from gamegirl.actors.session._state import Choice, KeptTurn, OpenWindow, Seat, SessionState
from gamegirl.codec import decode_json, encode_json, escape_id, unescape_id

_WINDOW = "w"
_ENCODER = msgspec.json.Encoder()
_CHOICE_BYTES = 6
"""What a choice takes in a record beside its texts: quotes, colon, comma."""


def window_field(state: SessionState, window: OpenWindow) -> tuple[str, bytes]:
    """The open window, and of which turn it is."""
    opened_at, deadline = window.opened_at, window.deadline
    entry = (opened_at, deadline, state.turn_number + 1, state.game_id)
    return _WINDOW, _encoded(entry, deadline - opened_at)  # Finite only if both are.


def press_field(seat: Seat, choice: Choice) -> tuple[str, bytes]:
    """A player's latest choice, at the place of their first."""
    stamp = seat.last_active
    entry = _encoded((choice.sequence, choice.text, seat.user_name, stamp), stamp)
    return f"p:{escape_id(seat.user_id)}", entry


def _encoded(entry: tuple[int | str | float, ...], stamp: float) -> bytes:
    """A journal entry with its stamp as JSON; raises `CodecError` if it can't be one."""
    if stamp - stamp != 0:
        raise fault("", "not a finite number")  # The encoder would write null.
    try:
        return _ENCODER.encode(entry)
    except UnicodeEncodeError as error:
        raise fault("", "half of a surrogate pair") from error


def join_field(seat: Seat, sequence: int) -> tuple[str, bytes]:
    """A player's joining or coming back."""
    stamp = seat.last_active
    return f"j:{escape_id(seat.user_id)}", _encoded((sequence, seat.user_name, stamp), stamp)


def answer_field(user_id: str, press_id: str, answer: Pressed) -> tuple[str, bytes]:
    """What a press was answered."""
    return (
        f"i:{escape_id(user_id)}:{escape_id(press_id)}",
        encode_json(answer_to_plain(answer)),
    )


def choice_bytes(user_id: str, text: str) -> int:
    """What a choice takes in a record."""
    return text_bytes(user_id) + text_bytes(text) + _CHOICE_BYTES


def text_bytes(text: str) -> int:
    """What a text takes in JSON, without its quotes."""
    if text.isascii() and text.isprintable():
        return len(text) + text.count('"') + text.count("\\")
    return len(encode_json(text)) - 2


def whole_journal(state: SessionState) -> Write:
    """The whole journal of a state with an open window, for a key that holds none."""
    assert state.window is not None
    fields: dict[str, Value] = dict([window_field(state, state.window)])
    fields |= [
        press_field(state.players[user_id], choice) for user_id, choice in state.choices.items()
    ]
    fields |= [
        answer_field(user_id, press_id, answer)
        for user_id, by_press in state.answers.items()
        for press_id, answer in by_press.items()
    ]
    return PatchHash(journal_key(state.channel_id), fields)


def turn_field(kept: KeptTurn, stamps: Sequence[float] = ()) -> tuple[str, bytes]:
    """A closed turn.

    Args:
        kept: The turn.
        stamps: When each who chose in it was last active, if the full forms don't know of it.
    """
    return str(kept.turn.turn), kept_to_bytes(kept, stamps)


def recorded_field(state: SessionState, turn: int) -> tuple[str, bytes]:
    """A closed turn that is recorded."""
    return str(turn), recorded_to_bytes(state.recorded[turn], state.answered.get(turn))


def attempt_field(turn: int) -> str:
    """Where it is counted how often a turn was handed out."""
    return f"a:{turn}"


def whole_turns(state: SessionState) -> list[Write]:
    """All closed turns, for a key that holds none."""
    if not (state.turns or state.recorded):
        return []
    return [PatchHash(turns_key(state.channel_id), dict(turns_fields(state)))]


def turns_fields(state: SessionState) -> dict[str, Value]:
    """All closed turns, as fields."""
    fields: dict[str, Value] = dict([recorded_field(state, turn) for turn in state.recorded])
    for turn, kept in state.turns.items():
        name, value = turn_field(kept)
        fields[name] = value
        if kept.turn.attempt:
            fields[attempt_field(turn)] = str(kept.turn.attempt)
    return fields


def apply_turns(state: SessionState, fields: Mapping[str, str]) -> None:
    """Put stored closed turns into the state; do again those that the full forms don't know of."""
    numbers = [int(name) for name in fields if name.isdecimal() and name.isascii()]
    places: list[tuple[int, int]] = []
    for turn in sorted(numbers):
        if str(turn) not in fields:
            raise fault(f"turns.{turn}", "its number is written in another way")
        attempt = fields.get(attempt_field(turn), "0")
        if not attempt.isdecimal():
            raise fault(f"turns.{attempt_field(turn)}", "expected a whole number")
        plain = decode_json(fields[str(turn)])
        kept = kept_of(plain, state.channel_id, state.game_id, turn, int(attempt))
        if isinstance(kept, KeptTurn):
            state.turns[turn] = kept
            if turn > state.turn_number:
                _play(state, kept.turn, stamps_of(plain, turn))
        else:
            place, answers = kept
            places.append((place, turn))
            if answers:
                state.answered[turn] = answers
    state.recorded = {turn: place for place, turn in sorted(places)}
    if len(numbers) == len(fields):
        return
    for name in fields:
        number = name.removeprefix("a:")
        if not (number.isdecimal() and int(number) in numbers):
            raise fault(f"turns.{name!a}", "unknown field")


def _play(state: SessionState, turn: ClosedTurn, stamps: Sequence[float]) -> None:
    """Do a closed turn again to a state that is as it was when its window opened."""
    before = state.turn_number
    if turn.turn != before + 1 or len(stamps) != len(turn.choices):
        raise fault(f"turns.{turn.turn}", f"can't follow turn {before}")
    for user_id, stamp in zip(turn.choices, stamps, strict=True):
        seat = state.players.get(user_id)
        if seat is None:
            name = turn.names.get(user_id)
            if name is None:
                raise fault(f"turns.{turn.turn}.names", f"{user_id!a} is missing")
            seat = state.players[user_id] = Seat(user_id, name, before, stamp, before)
        seat.refresh(before, stamp)
        seat.consecutive_skips = 0
    state.end_turn(turn.choices)


@attrs.define
class _Entry:
    sequence: int
    user_id: str
    name: str
    stamp: float
    choice: str | None


def apply_journal(state: SessionState, fields: Mapping[str, str]) -> None:
    """Do again what the journal says to a state that is as the last full form says."""
    entries: list[_Entry] = []
    answers: list[tuple[str, str, str]] = []
    for name, value in fields.items():
        match name.split(":"):
            case ["w"]:
                _open(state, value)
            case ["p", user]:
                sequence, choice, user_name, stamp = list_of(decode_json(value), name, 4)
                entry = _entry(name, user, sequence, user_name, stamp)
                entry.choice = text_of(choice, name)
                entries.append(entry)
            case ["j", user]:
                entries.append(_entry(name, user, *list_of(decode_json(value), name, 3)))
            case ["i", user, press]:
                answers.append((unescape_id(user), unescape_id(press), value))
            case _:
                raise fault(ascii(name), "unknown journal entry")
    entries.sort(key=lambda entry: entry.sequence)
    for entry in entries:
        _apply(state, entry)
    if state.window is None and (state.choices or answers):
        raise fault(_WINDOW, "presses without a window")
    for user_id, press_id, value in answers:
        answer = answer_of(decode_json(value), f"i:{user_id}", state.game_id, state.turn_number + 1)
        state.answers.setdefault(user_id, {})[press_id] = answer
    if entries:
        state.journal = entries[-1].sequence + 1


def _open(state: SessionState, value: str) -> None:
    opened_at, deadline, turn, game_id = list_of(decode_json(value), _WINDOW, 4)
    if game_id != state.game_id or turn != state.turn_number + 1:
        raise fault(_WINDOW, "the window of another turn")
    state.window = OpenWindow(moment_of(opened_at, _WINDOW), moment_of(deadline, _WINDOW))


def _entry(path: str, user: str, sequence: object, name: object, stamp: object) -> _Entry:
    return _Entry(
        whole_of(sequence, path),
        unescape_id(user),
        text_of(name, path),
        seconds_of(stamp, path),
        None,
    )


def _apply(state: SessionState, entry: _Entry) -> None:
    turn, user_id = state.turn_number, entry.user_id
    seat = state.players.get(user_id)
    if seat is None:
        seat = state.players[user_id] = Seat(user_id, entry.name, turn, entry.stamp, turn)
    seat.refresh(turn, entry.stamp)
    if entry.choice is None:
        state.joins[user_id] = entry.sequence
    else:
        seat.consecutive_skips = 0
        state.choices[user_id] = Choice(entry.sequence, entry.choice)
        state.choices_bytes += choice_bytes(user_id, entry.choice)
