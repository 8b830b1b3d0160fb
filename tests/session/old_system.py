"""The replaced system's reader and writer, made from the table of its keys and nothing else.

It is as careless as what it stands for: it takes its own forms as they are, and falls over anything
else, which is what the tests of going back rely on.
"""

from __future__ import annotations

import json
from typing import Any

from tests.session.world import Store, as_bytes

PLAYER = (
    "user_id",
    "user_name",
    "joined_turn",
    "last_active",
    "last_active_turn",
    "consecutive_skips",
)
SESSION = ("game_id", "game_name", "channel_id", "active", "turn_number", "title_screen_url")


def new_game(channel_id: str, game_id: str, game_name: str = "Old") -> dict[str, Any]:
    return {
        "game_id": game_id,
        "game_name": game_name,
        "channel_id": channel_id,
        "active": True,
        "turn_number": 0,
        "title_screen_url": "",
        "crown_holder": None,
        "players": {},
    }


def player(user_id: str, **fields: Any) -> dict[str, Any]:
    return dict(zip(PLAYER, (user_id, user_id.title(), 0, 900.0, 0, 0), strict=True)) | fields


def write(
    store: Store,
    session: dict[str, Any],
    pending: dict[str, str] | None = None,
    *,
    steps: int = 3,
) -> None:
    """SET the JSON, HSET the index, HSET the hash; it may fail after any step."""
    channel_id = session["channel_id"]
    if steps > 0:
        store[f"game:session:{channel_id}"] = json.dumps(session).encode()
    if steps > 1:
        names = ("game_name", "channel_id", "turn_number", "active", "title_screen_url")
        entry = json.dumps({name: session[name] for name in names})
        store["game:index"] = store.hash("game:index") | {
            session["game_id"].encode(): entry.encode()
        }
    if steps > 2:
        fields = {
            **{name: str(session[name]) for name in SESSION},
            "active": "1" if session["active"] else "0",
            "crown_holder": session["crown_holder"] or "",
            "players": json.dumps(session["players"]),
            "pending_choices": json.dumps(pending or {}),
            "countdown_started": "1234.5" if pending else "0.0",
        }
        key = f"sg:game_session:{channel_id}"
        store[key] = store.hash(key) | {
            name.encode(): as_bytes(value) for name, value in fields.items()
        }


def record(store: Store, channel_id: str, turn: int, choices: dict[str, str]) -> None:
    """RPUSH and LTRIM."""
    key = f"game:session:{channel_id}:history"
    entry = {"turn": turn, "choices": choices, "narrative_summary": "old", "timestamp": 950.0}
    store[key] = [*store.list(key), json.dumps(entry).encode()][-50:]


def read_json(store: Store, channel_id: str) -> dict[str, Any]:
    """What its restart makes of the JSON form."""
    return _checked(json.loads(store.text(f"game:session:{channel_id}")))


def read_hash(store: Store, channel_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What its restart makes of the hash form, and the pending choices."""
    fields = {
        name.decode(): value.decode()
        for name, value in store.hash(f"sg:game_session:{channel_id}").items()
    }
    session: dict[str, Any] = {name: fields[name] for name in SESSION}
    session["active"] = {"1": True, "0": False}[fields["active"]]
    session["turn_number"] = int(fields["turn_number"])
    session["crown_holder"] = fields["crown_holder"] or None
    session["players"] = json.loads(fields["players"])
    assert float(fields["countdown_started"]) >= 0.0
    return _checked(session), json.loads(fields["pending_choices"])


def read_history(store: Store, channel_id: str) -> list[dict[str, Any]]:
    """Its history; what it doesn't know it drops."""
    names = ("turn", "choices", "narrative_summary", "timestamp")
    entries = [json.loads(entry) for entry in store.list(f"game:session:{channel_id}:history")]
    return [{name: entry[name] for name in names} for entry in entries]


def _checked(session: dict[str, Any]) -> dict[str, Any]:
    players = {
        user_id: {name: fields[name] for name in PLAYER}
        for user_id, fields in session["players"].items()
    }
    for user_id, fields in players.items():
        assert fields["user_id"] == user_id
        assert isinstance(fields["user_name"], str)
        assert isinstance(fields["last_active"], float)
    return {name: session[name] for name in (*SESSION, "crown_holder")} | {"players": players}
