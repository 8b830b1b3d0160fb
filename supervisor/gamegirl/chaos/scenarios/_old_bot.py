"""The replaced system's writer, as small and as careless as it was, and what its data say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from gamegirl.actors.session._keys import INDEX_KEY, hash_key, history_key, json_key
from gamegirl.chaos.scenarios._fuzz import Held

TTL_SECONDS = 14_400
_LISTED = ("game_name", "channel_id", "turn_number", "active", "title_screen_url")
_SAID = ("game_id", *_LISTED, "crown_holder")

Command: TypeAlias = "Callable[[Any], object]"
"""One command of its, given a client."""


def new_game(channel: str, game_id: str) -> dict[str, Any]:
    """A game as it boots one."""
    return {
        "game_id": game_id,
        "game_name": "Another game",
        "channel_id": channel,
        "active": True,
        "turn_number": 0,
        "title_screen_url": "",
        "crown_holder": None,
        "players": {},
    }


def player(user_id: str, turn: int) -> dict[str, Any]:
    """A player who joins it."""
    return {
        "user_id": user_id,
        "user_name": f"Old {user_id}",
        "joined_turn": turn,
        "last_active": 1_700_000_000.5,
        "last_active_turn": turn,
        "consecutive_skips": 0,
    }


def commands(session: dict[str, Any], pending: dict[str, str]) -> list[Command]:
    """Its seven commands of a turn, in their order: save, save the presses, record."""
    channel = session["channel_id"]
    text = json.dumps(session)
    entry = json.dumps({name: session[name] for name in _LISTED})
    fields = {name: str(session[name]) for name in _SAID}
    fields["active"] = "1" if session["active"] else "0"
    fields["crown_holder"] = session["crown_holder"] or ""
    fields["players"] = json.dumps(session["players"])
    presses = {
        "pending_choices": json.dumps(pending),
        "countdown_started": "81234.5" if pending else "0.0",
    }
    record = json.dumps(
        {
            "turn": session["turn_number"],
            "choices": {"old": "as before"},
            "narrative_summary": "told by the old bot",
            "timestamp": 1_700_000_000.5,
        }
    )
    return [
        lambda client: client.set(json_key(channel), text),
        lambda client: client.hset(INDEX_KEY, session["game_id"], entry),
        lambda client: client.hset(hash_key(channel), mapping=fields),
        lambda client: client.hset(hash_key(channel), mapping=presses),
        lambda client: client.expire(hash_key(channel), TTL_SECONDS),
        lambda client: client.rpush(history_key(channel), record),
        lambda client: client.ltrim(history_key(channel), -50, -1),
    ]


def wipe(channel: str, game_id: str) -> list[Command]:
    """How it deletes a channel's game."""
    return [
        lambda client: client.delete(json_key(channel)),
        lambda client: client.delete(history_key(channel)),
        lambda client: client.delete(hash_key(channel)),
        lambda client: client.hdel(INDEX_KEY, game_id),
    ]


def of_json(held: Held) -> dict[str, Any] | None:
    """What the JSON form says."""
    return json.loads(held) if isinstance(held, bytes) else None


def of_hash(held: Held) -> dict[str, Any] | None:
    """What the hash form says; its pending choices too."""
    if not isinstance(held, dict):
        return None
    fields = {name.decode(): value.decode() for name, value in held.items()}
    said: dict[str, Any] = {name: fields[name] for name in _SAID}
    said["active"] = fields["active"] == "1"
    said["turn_number"] = int(fields["turn_number"])
    said["crown_holder"] = fields["crown_holder"] or None
    said["players"] = json.loads(fields["players"])
    said["pending_choices"] = json.loads(fields.get("pending_choices", "{}"))
    return said


def wins(text: Held, fields: Held) -> dict[str, Any] | None:
    """The game that both forms stand for, with its pending choices; None: there is none.

    They disagree if the writer stopped half-way: another game in the JSON is the later one, then
    the higher turn number wins, then the hash.
    """
    first, second = of_json(text), of_hash(fields)
    if first is None or second is None:
        found = first or second
        return None if found is None else {"pending_choices": {}, **found}
    if first["game_id"] != second["game_id"]:
        return {**first, "pending_choices": {}}
    pending = second["pending_choices"]
    if first["turn_number"] > second["turn_number"]:
        return {**first, "pending_choices": {}}
    return {**second, "pending_choices": pending}


def differences(said: dict[str, Any], state: dict[str, Any]) -> Sequence[str]:
    """How a session's state differs from what the forms say."""
    found = [
        f"its {name} is {state[name]!r:.60}, the old bot's {said[name]!r:.60}"
        for name in (*_SAID, "pending_choices")
        if state[name] != said[name]
    ]
    pressed = said["pending_choices"]
    players = {name: one for name, one in state["players"].items() if name not in pressed}
    if players != {name: one for name, one in said["players"].items() if name not in pressed}:
        found.append(f"its players are {players!r:.200}, the old bot's {said['players']!r:.200}")
    if set(said["players"]) | set(pressed) != set(state["players"]):
        found.append("players were lost or came from nowhere")
    return found
