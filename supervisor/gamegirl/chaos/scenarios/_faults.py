"""What of a stored game nobody could use: told by the table of keys alone, not by the runtime.

It says only what is beyond doubt. Whatever passes here may still be refused by the runtime, which
knows more; but what fails here must not be taken for something, nor for nothing.
"""

from __future__ import annotations

from typing import Any, cast

import attrs

from gamegirl.chaos.scenarios._fuzz import NOTHING, Held, Other, loaded

OURS = ("journal", "turns", "meta", "game")
"""The keys that the replaced system doesn't know."""


@attrs.frozen
class Faults:
    """What is beyond use.

    Attributes:
        whole: The key as it is.
        parts: Else these pieces of it: bytes of a list's items, ids of players.
    """

    whole: bool = False
    parts: tuple[Any, ...] = ()

    @property
    def any(self) -> bool:
        """Whether anything is."""
        return self.whole or bool(self.parts)


def faults_of(place: str, held: Held) -> Faults:
    """What of this key of a channel or of a game nobody could use."""
    if held is None:
        return Faults()
    if place == "json":
        return _json(held)
    if place == "history":
        return _history(held)
    if place == "hash":
        return _hash(held)
    return Faults(whole=_ours(place, held))


def _json(held: Held) -> Faults:
    if not isinstance(held, bytes):
        return Faults(whole=True)
    plain = loaded(held)
    if not isinstance(plain, dict):
        return Faults(whole=True)
    fields = cast("dict[str, Any]", plain)
    fine = (
        isinstance(fields.get("game_id"), str)
        and isinstance(fields.get("game_name", ""), str)
        and isinstance(fields.get("title_screen_url", ""), str)
        and isinstance(fields.get("active", True), bool)
        and _is_turn(fields.get("turn_number", 0))
        and isinstance(fields.get("crown_holder"), (str, type(None)))
    )
    return _players(fields.get("players", {})) if fine else Faults(whole=True)


def _is_turn(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _players(plain: Any) -> Faults:
    if not isinstance(plain, dict):
        return Faults(whole=True)
    players = cast("dict[str, Any]", plain)
    return Faults(parts=tuple(name for name in players if not _is_player(name, players[name])))


def _is_player(user_id: str, plain: Any) -> bool:
    if not isinstance(plain, dict):
        return False
    player = cast("dict[str, Any]", plain)
    return (
        player.get("user_id") == user_id
        and isinstance(player.get("user_name"), str)
        and all(_is_turn(player.get(name, 0)) for name in ("joined_turn", "consecutive_skips"))
    )


def _history(held: Held) -> Faults:
    if not isinstance(held, list):
        return Faults(whole=True)
    return Faults(parts=tuple(item for item in held if not _is_record(item)))


def _is_record(item: bytes) -> bool:
    plain = loaded(item)
    if not isinstance(plain, dict):
        return False
    record = cast("dict[str, Any]", plain)
    return (
        _is_turn(record.get("turn"))
        and _are_texts(record.get("choices"))
        and isinstance(record.get("narrative_summary", ""), str)
        and isinstance(record.get("timestamp", 0), (int, float))
    )


def _are_texts(plain: Any) -> bool:
    return isinstance(plain, dict) and all(
        isinstance(text, str) for text in cast("dict[str, Any]", plain).values()
    )


def _hash(held: Held) -> Faults:
    fields = _texts(held)
    if fields is None:
        return Faults(whole=True)
    players = loaded(fields.get("players", "{}").encode())
    pending = loaded(fields.get("pending_choices", "{}").encode())
    fine = (
        fields.get("game_id") != ""
        and fields.get("active", "1") in ("0", "1")
        and fields.get("turn_number", "0").isdecimal()
        and _are_texts(pending)
    )
    return _players(players) if fine else Faults(whole=True)


def _texts(held: Held) -> dict[str, str] | None:
    if not isinstance(held, dict):
        return None
    try:
        return {name.decode(): value.decode() for name, value in held.items()}
    except UnicodeDecodeError:
        return None


def _ours(place: str, held: Held) -> bool:
    fields = None if isinstance(held, Other) else _texts(held)
    if fields is None:
        return True
    if place == "meta":
        return fields.get("schema") != ("2" if "ahead" in fields else "1")
    if place == "game":
        holder = fields.get("holder", "")
        return fields.get("schema") != "1" or not holder.startswith(("channel:", "save:"))
    return any(
        not name.startswith("a:") and loaded(value.encode()) is NOTHING
        for name, value in fields.items()
    )
