"""The parts that stored forms are made of: players, records, answers, closed turns.

Decoding is strict, because what comes from a store may be anything: a wrong type is a fault, never
a conversion. Every fault names its path.

Encoding is put together by hand, to the bytes that `encode_json` would give: every record writes
all of this, and a dict for the encoder to walk through costs three times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring as quoted
from operator import attrgetter
from typing import Any

import attrs
import msgspec

from gamegirl.actors.session._data import ClosedTurn, FrozenMapping, Player, Pressed, TurnRecord
from gamegirl.actors.session._state import Answers, KeptTurn, Seat
from gamegirl.codec import CodecError, Fault, JsonCodec, decode_json, encode_json

NUMBER_MAX = 10**15
"""No turn number reaches it; a stored one that does is a fault."""

SECONDS_MAX = 1e15
"""No moment, in epoch seconds, is further away; a stored one that is, or is NaN, is a fault."""

_encode = msgspec.json.Encoder().encode
_last_active = attrgetter("last_active")
_SEATS = {Seat}
_PLAYER = JsonCodec(Player)
_RECORD = JsonCodec(TurnRecord)
PLAYER_FIELDS = frozenset(field.name for field in attrs.fields(Player))


@attrs.frozen
class StoredRecord:
    """A history entry.

    Attributes:
        record: What callers see of it.
        game_id: Whose it is; None: the replaced system wrote it, and didn't say.
        narration: Whether it is an interlude, not a turn.
        dated: Whether it had a timestamp (else it got the moment of reading).
    """

    record: TurnRecord
    game_id: str | None
    narration: bool
    dated: bool


def printable(text: str) -> str:
    """The text without half surrogate pairs, which neither a store nor a log could take."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def fault(path: str, reason: str) -> CodecError:
    """An error with this one fault."""
    return CodecError("stored session", (Fault(printable(path), printable(reason)),))


def mapping_of(plain: Any, path: str) -> dict[str, Any]:
    """The plain value, which must be an object."""
    given: object = plain
    if not isinstance(given, dict):
        raise fault(path, f"expected an object, found {type(given).__name__}")
    fields: dict[str, Any] = plain
    return fields


def list_of(plain: Any, path: str, length: int | None = None) -> list[Any]:
    """The plain value, which must be an array, of this length if given."""
    given: object = plain
    if not isinstance(given, list):
        raise fault(path, f"expected an array, found {type(given).__name__}")
    items: list[Any] = plain
    if length is not None and len(items) != length:
        raise fault(path, f"expected {length} items, found {len(items)}")
    return items


def text_of(plain: Any, path: str) -> str:
    """The plain value, which must be a text that can be encoded."""
    if not isinstance(plain, str):
        raise fault(path, f"expected a text, found {type(plain).__name__}")
    if not plain.isascii():
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise fault(path, "half of a surrogate pair") from error
    return plain


def whole_of(plain: Any, path: str) -> int:
    """The plain value, which must be a whole number from 0."""
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise fault(path, f"expected a whole number, found {type(plain).__name__}")
    if not 0 <= plain < NUMBER_MAX:
        raise fault(path, "out of range")
    return plain


def seconds_of(plain: Any, path: str) -> float:
    """The plain value, which must be a finite number."""
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise fault(path, f"expected a number, found {type(plain).__name__}")
    if not -SECONDS_MAX <= plain <= SECONDS_MAX:
        raise fault(path, "out of range")
    return float(plain)


def moment_of(plain: Any, path: str) -> float:
    """The plain value, which must be a moment that timers can be set to, in epoch seconds."""
    moment = seconds_of(plain, path)
    if moment < 0:
        raise fault(path, "out of range")
    return moment


def flag_of(plain: Any, path: str) -> bool:
    """The plain value, which must be a truth value."""
    if not isinstance(plain, bool):
        raise fault(path, f"expected true or false, found {type(plain).__name__}")
    return plain


def texts_of(plain: Any, path: str) -> dict[str, str]:
    """The plain value, which must be an object of texts."""
    return {
        text_of(key, path): text_of(value, f"{path}.{key}")
        for key, value in mapping_of(plain, path).items()
    }


def utf8(text: str) -> bytes:
    """The text as it is stored; raises `CodecError` if half a surrogate pair is in it."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise fault("", "half of a surrogate pair") from error


def flag_to_json(flag: bool) -> str:
    """A truth value in JSON."""
    return "true" if flag else "false"


def seconds_to_json(seconds: float) -> str:
    """A moment in JSON; raises `CodecError` if it is none."""
    if 1e-3 < seconds < 1e15:
        return _encode(seconds).decode()  # As `repr` has it, in a quarter of the time.
    if seconds - seconds != 0:
        raise fault("", "not a finite number")
    return repr(seconds)


def texts_to_json(texts: Mapping[str, str]) -> str:
    """An object of texts in JSON; raises `CodecError` if half a surrogate pair is in it."""
    try:
        return _encode(
            texts.items_as_dict() if isinstance(texts, FrozenMapping) else texts
        ).decode()
    except UnicodeEncodeError as error:
        raise fault("", "half of a surrogate pair") from error


def fields_to_json(fields: Mapping[str, Any] | None) -> str:
    """Unknown fields, to be put after the known ones of an object in JSON."""
    return f",{encode_json(fields)[1:-1].decode()}" if fields else ""


def players_to_bytes(
    players: Mapping[str, Player | Seat], extras: Mapping[str, Mapping[str, Any]] | None = None
) -> bytes:
    """All players by user id, in JSON, each with the unknown fields of theirs."""
    if not extras and _alike(players):
        try:
            return _encode(players)
        except UnicodeEncodeError as error:
            raise fault("", "half of a surrogate pair") from error
    texts: list[str] = []
    for user_id, player in players.items():
        texts.append(
            f'{quoted(user_id)}:{{"user_id":{quoted(player.user_id)}'
            f',"user_name":{quoted(player.user_name)}'
            f',"joined_turn":{player.joined_turn}'
            f',"last_active":{seconds_to_json(player.last_active)}'
            f',"last_active_turn":{player.last_active_turn}'
            f',"consecutive_skips":{player.consecutive_skips}'
            f"{fields_to_json(extras.get(user_id)) if extras else ''}}}"
        )
    return utf8(f"{{{','.join(texts)}}}")


def _alike(players: Mapping[str, Player | Seat]) -> bool:
    """Whether the encoder spells all that is said of them as we do: seats, and usual moments."""
    if set(map(type, players.values())) != _SEATS:
        return False
    stamps: list[float] = list(map(_last_active, players.values()))
    total = sum(stamps)  # One that is no number makes this none.
    return min(stamps) > 1e-3 and max(stamps) < 1e15 and total == total


def player_of(user_id: str, plain: Any, path: str, now: float) -> tuple[Player, dict[str, Any]]:
    """A player and the fields of theirs that we don't know."""
    player = _PLAYER.structure(plain, path)
    if player.user_id != user_id:
        raise fault(f"{path}.user_id", "isn't the key that it is stored under")
    for name in ("joined_turn", "last_active_turn", "consecutive_skips"):
        if not 0 <= plain.get(name, 0) < NUMBER_MAX:
            raise fault(f"{path}.{name}", "out of range")
    if "last_active" in plain:
        seconds_of(plain["last_active"], f"{path}.last_active")
    else:
        player = attrs.evolve(player, last_active=now)
    if len(plain) == len(PLAYER_FIELDS) and plain.keys() == PLAYER_FIELDS:
        return player, {}
    return player, {name: plain[name] for name in plain if name not in PLAYER_FIELDS}


def record_to_bytes(record: TurnRecord, game_id: str | None, *, narration: bool) -> bytes:
    """A history entry: the replaced system's four fields, and whose it is."""
    kind = "narration" if narration else "turn"
    return utf8(
        f'{{"turn":{record.turn},"choices":{texts_to_json(record.choices)}'
        f',"narrative_summary":{quoted(record.narrative_summary)}'
        f',"timestamp":{seconds_to_json(record.timestamp)}'
        + ("}" if game_id is None else f',"game_id":{quoted(game_id)},"kind":"{kind}"}}')
    )


def record_of(data: Any, now: float) -> StoredRecord:
    """A history entry, read."""
    fields = mapping_of(decode_json(data), "")
    record = _RECORD.structure(fields)
    whole_of(record.turn, "turn")
    dated = "timestamp" in fields
    if not dated:
        record = attrs.evolve(record, timestamp=now)
    game_id = fields.get("game_id")
    return StoredRecord(
        record,
        game_id if isinstance(game_id, str) else None,
        fields.get("kind") == "narration",
        dated,
    )


def dated_bytes(data: Any, now: float) -> bytes:
    """A history entry with a timestamp, and all else that it says."""
    return encode_json(mapping_of(decode_json(data), "") | {"timestamp": now})


def answer_to_plain(answer: Pressed) -> list[Any]:
    """An answer without what its turn says already."""
    return [answer.opened, answer.remaining, answer.deadline]


def answer_of(plain: Any, path: str, game_id: str, turn: int) -> Pressed:
    """An answer to a press of this turn."""
    opened, remaining, deadline = list_of(plain, path, 3)
    return Pressed(
        game_id,
        turn,
        flag_of(opened, f"{path}[0]"),
        seconds_of(remaining, f"{path}[1]"),
        seconds_of(deadline, f"{path}[2]"),
    )


def answers_to_plain(answers: Answers) -> list[Any]:
    """Answers as rows of user id, press id and answer."""
    return [
        [user_id, press_id, *answer_to_plain(answer)]
        for user_id, by_press in answers.items()
        for press_id, answer in by_press.items()
    ]


def answers_of(plain: Any, path: str, game_id: str, turn: int) -> Answers:
    """Answers, read from such rows."""
    answers: Answers = {}
    for number, row in enumerate(list_of(plain, path)):
        where = f"{path}[{number}]"
        user_id, press_id, *answer = list_of(row, where, 5)
        by_press = answers.setdefault(text_of(user_id, where), {})
        by_press[text_of(press_id, where)] = answer_of(answer, where, game_id, turn)
    return answers


def _answers_to_json(answers: Answers | None) -> str:
    return encode_json(answers_to_plain(answers)).decode() if answers else "[]"


def recorded_to_bytes(place: int, answers: Answers | None) -> bytes:
    """A turn that is recorded: its place in that order, and what its presses were answered."""
    return f'{{"recorded":{place},"answers":{_answers_to_json(answers)}}}'.encode()


def kept_to_bytes(kept: KeptTurn, stamps: Sequence[float] = ()) -> bytes:
    """A closed turn, and when those who chose in it were last active."""
    turn = kept.turn
    crown_holder = "null" if turn.crown_holder is None else quoted(turn.crown_holder)
    return utf8(
        f'{{"choices":{texts_to_json(turn.choices)},"names":{texts_to_json(turn.names)}'
        f',"crown_holder":{crown_holder}'
        f',"opened_at":{seconds_to_json(turn.opened_at)}'
        f',"closed_at":{seconds_to_json(turn.closed_at)}'
        f',"answers":{_answers_to_json(kept.answers)}'
        + (f',"stamps":{_stamps_to_json(stamps)}}}' if stamps else "}")
    )


def _stamps_to_json(stamps: Sequence[float]) -> str:
    total = sum(stamps)
    if total - total != 0:
        raise fault("stamps", "not finite numbers")  # The encoder would write null.
    return _encode(stamps).decode()


def stamps_of(plain: Any, turn: int) -> list[float]:
    """When those who chose in a closed turn were last active, in their order."""
    path = f"turns.{turn}.stamps"
    stamps = list_of(mapping_of(plain, path).get("stamps", []), path)
    return [seconds_of(stamp, f"{path}[{number}]") for number, stamp in enumerate(stamps)]


def kept_of(
    plain: Any, channel_id: str, game_id: str, turn: int, attempt: int
) -> KeptTurn | tuple[int, Answers]:
    """A closed turn, read; or the place and the answers of one that is recorded."""
    path = f"turns.{turn}"
    fields = mapping_of(plain, path)
    answers = answers_of(fields.get("answers"), f"{path}.answers", game_id, turn)
    recorded = whole_of(fields.get("recorded", 0), f"{path}.recorded")
    if recorded:
        return recorded, answers
    crown_holder = fields.get("crown_holder")
    closed = ClosedTurn(
        channel_id,
        game_id,
        turn,
        texts_of(fields.get("choices"), f"{path}.choices"),
        texts_of(fields.get("names"), f"{path}.names"),
        None if crown_holder is None else text_of(crown_holder, f"{path}.crown_holder"),
        moment_of(fields.get("opened_at"), f"{path}.opened_at"),
        moment_of(fields.get("closed_at"), f"{path}.closed_at"),
        attempt,
    )
    return KeptTurn(closed, answers)


def as_text(data: Any, path: str) -> str:
    """Stored bytes as a text."""
    if isinstance(data, str):
        return text_of(data, path)
    try:
        text: str = data.decode()
    except UnicodeDecodeError as error:
        raise fault(path, "not UTF-8") from error
    return text


def as_fields(stored: Mapping[Any, Any], path: str) -> dict[str, str]:
    """A stored hash with texts for bytes."""
    try:
        return {key.decode(): value.decode() for key, value in stored.items()}
    except (AttributeError, UnicodeDecodeError):
        return {as_text(key, path): as_text(value, path) for key, value in stored.items()}
