"""A game's own key: who holds it, and while nobody does, its save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gamegirl.actors._writes import Drop, PatchHash, PutHash, PutList, Value, Write
from gamegirl.actors.session._forms import SCHEMA, Form, json_form
from gamegirl.actors.session._journal import (
    apply_turns,
    choice_bytes,
    turns_fields,
    whole_journal,
    whole_turns,
)
from gamegirl.actors.session._keys import (
    game_key,
    hash_key,
    held_by,
    history_key,
    journal_key,
    json_key,
    meta_key,
    saved_as,
    turns_key,
)
from gamegirl.actors.session._parts import (
    answers_of,
    answers_to_plain,
    as_fields,
    fault,
    list_of,
    text_of,
    texts_of,
)
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._state import Choice, Extras, Seat, SessionState
from gamegirl.actors.session._writing import full_forms, json_text
from gamegirl.codec import decode_json, encode_json

_SAVE_FIELDS = ("session", "hash_extras", "history", "turns", "window")
_HOLDERS = (held_by(""), saved_as(""))


def hold(state: SessionState) -> Write:
    """The channel holds the game from now on; a save of it is gone."""
    fields = {"holder": held_by(state.channel_id), "schema": str(SCHEMA)}
    return PutHash(game_key(state.game_id), fields)


def everything(state: SessionState, rules: SessionRules) -> list[Write]:
    """Writes of the whole channel, whatever its keys hold; of no other game's key."""
    channel_id = state.channel_id
    writes: list[Write] = [
        PutList(history_key(channel_id), state.records),
        Drop(journal_key(channel_id)),
        Drop(turns_key(channel_id)),
        *whole_turns(state),
    ]
    if not state.game_id:
        keys = (json_key(channel_id), hash_key(channel_id), meta_key(channel_id))
        return [*writes, *map(Drop, keys)]
    if state.window is not None:
        writes.append(whole_journal(state))
    if state.active:
        writes.append(hold(state))
    return [*writes, *full_forms(state, rules)]


def adopt(state: SessionState) -> Write:
    """As `hold`, for a game that the replaced system brought in."""
    fields = {"holder": held_by(state.channel_id), "schema": str(SCHEMA)}
    return PatchHash(game_key(state.game_id), fields, _SAVE_FIELDS)


def save(state: SessionState, holder: str) -> Write:
    """The whole game, for whoever loads it; its state must be inactive by now."""
    fields: dict[str, Value] = {
        "holder": holder,
        "schema": str(SCHEMA),
        "session": json_text(state),
        "history": encode_json([record.decode("utf-8", "replace") for record in state.records]),
    }
    if state.extras and state.extras.hash:
        fields["hash_extras"] = encode_json(state.extras.hash)
    if state.turns or state.recorded:
        turns = {
            name: value if isinstance(value, str) else value.decode()
            for name, value in turns_fields(state).items()
        }
        fields["turns"] = encode_json(turns)
    if state.choices:
        choices = [[user_id, choice.text] for user_id, choice in state.choices.items()]
        fields["window"] = encode_json([choices, answers_to_plain(state.answers)])
    return PutHash(game_key(state.game_id), fields)


def saved_state(fields: dict[str, str], channel_id: str, game_id: str, now: float) -> SessionState:
    """The state of a save, inactive, in the channel that loads it; raises `CodecError`."""
    _check_schema(fields)
    if "session" not in fields:
        raise fault("session", "missing")
    form = json_form(fields["session"], game_key(game_id), now)
    state = state_of(form, form.extras, {}, channel_id)
    if state.game_id != game_id:
        raise fault("session.game_id", "another game's")
    hash_extras = texts_of(_inner(fields, "hash_extras", {}), "hash_extras")
    if hash_extras:
        state.extras = state.extras or Extras()
        state.extras.hash = hash_extras
    state.records = tuple(
        text_of(record, "history").encode()
        for record in list_of(_inner(fields, "history", []), "history")
    )
    apply_turns(state, texts_of(_inner(fields, "turns", {}), "turns"))
    choices, answers = list_of(_inner(fields, "window", [[], []]), "window", 2)
    for row in list_of(choices, "window"):
        user_id, text = list_of(row, "window", 2)
        put_choice(state, text_of(user_id, "window"), text_of(text, "window"))
    state.answers = answers_of(answers, "window", game_id, state.turn_number + 1)
    return state


def state_of(
    form: Form,
    json_extras: dict[str, Any],
    hash_extras: dict[str, str],
    channel_id: str,
) -> SessionState:
    """The state that a form stands for, without choices; what it doesn't say is as when booted."""
    if not form.game_id:
        raise fault("game_id", "missing")
    state = SessionState(
        channel_id,
        form.game_id,
        form.game_name or "",
        True if form.active is None else form.active,
        form.turn_number or 0,
        form.title_screen_url or "",
        form.crown_holder or None,
        {user_id: Seat.of(player) for user_id, player in (form.players or {}).items()},
    )
    if json_extras or form.player_extras or hash_extras:
        state.extras = Extras(json_extras, hash_extras, form.player_extras)
    return state


def put_choice(state: SessionState, user_id: str, text: str) -> None:
    """Put a choice that no journal has yet into the state, after those that are there."""
    state.choices[user_id] = Choice(state.journal, text)
    state.choices_bytes += choice_bytes(user_id, text)
    state.journal += 1


def hash_of(stored: Any, path: str) -> dict[str, str]:
    """A stored hash with texts for bytes; nothing stored: an empty one."""
    if stored is None:
        return {}
    given: object = stored
    if not isinstance(given, Mapping):
        raise fault("", "isn't a hash")
    return as_fields(stored, path)


def holder_of(game: Any) -> str | None:
    """Who holds a game, by its own key; None: there is no such key.

    Raises:
        CodecError: The key can't be used, or a newer version wrote it.
    """
    fields = hash_of(game, "")
    if not fields:
        return None
    _check_schema(fields)
    holder = fields.get("holder", "")
    if not holder.startswith(_HOLDERS):
        raise fault("holder", f"expected one of {', '.join(_HOLDERS)}")
    return holder


def _check_schema(fields: dict[str, str]) -> None:
    if fields.get("schema") != str(SCHEMA):
        raise fault("schema", f"expected {SCHEMA}: a newer version wrote it")


def _inner(fields: dict[str, str], name: str, default: Any) -> Any:
    return decode_json(fields[name]) if name in fields else default
