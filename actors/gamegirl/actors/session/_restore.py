"""From stored keys to a state: ours, the replaced system's, or both after it has played again.

The order of decisions:

1. A key that can't be read at all (wrong type, our own keys corrupt or of a newer schema, no form
   that could serve): nothing is touched, everything is refused.
2. Our notes fit the forms: the forms are ours, and the journal and the closed turns belong to them.
3. Else the forms are the replaced system's. Its content wins; our journal, closed turns and notes
   go to quarantine. Which channel holds its game is not written there, so the game's own key is
   read as well, and new notes are written before anything else, so that what is played from here on
   is ours again at the next restore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from gamegirl.actors._behaviour import Decision, NeedsMore, Quarantined, Restored, Stored, WrongType
from gamegirl.actors._errors import GameActiveError
from gamegirl.actors._writes import Drop, PatchHash, PutList, Require, Write
from gamegirl.actors.session._data import UNKNOWN, Player, Window
from gamegirl.actors.session._forms import (
    SCHEMA,
    Form,
    digest_of,
    digest_of_hash,
    encode_loosely,
    full_forms,
    hash_form,
    json_form,
    notes,
)
from gamegirl.actors.session._journal import apply_journal, apply_turns, whole_journal, window_field
from gamegirl.actors.session._keys import channel_keys, game_key, held_by, journal_key
from gamegirl.actors.session._parts import as_fields, fault, record_of, record_to_bytes
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._saves import adopt, hash_of, put_choice, state_of
from gamegirl.actors.session._state import SessionState
from gamegirl.codec import CodecError

_JSON, _HISTORY, _HASH, _JOURNAL, _TURNS, _META, _GAME = range(7)


@attrs.define
class Reading:
    """What a channel's keys say.

    Attributes:
        state: Its game.
        source: Which form it came from.
        ours: Whether our notes fit the forms.
        quarantined: What could not be used.
        repair: Whether the full forms must be written anew, lest it is found again.
        records: The history's entries if they must be written anew.
        noted: Digests of the forms as they are, for new notes.
        aside: Whether the journal, the closed turns and the notes are not to be used.
    """

    state: SessionState
    source: str = "new"
    ours: bool = False
    quarantined: list[Quarantined] = attrs.field(factory=list)
    repair: bool = False
    records: list[bytes] | None = None
    noted: dict[str, str] = attrs.field(factory=dict)
    aside: bool = False


@attrs.define
class _Forms:
    json: Form | None = None
    hash: Form | None = None
    digests: dict[str, str] = attrs.field(factory=dict)
    chosen: Form | None = None
    source: str = "new"


def restore(
    channel_id: str, stored: Sequence[Stored], now: float, rules: SessionRules
) -> Restored[SessionState] | NeedsMore:
    """Make the state from what the channel's keys hold (and the game's key, if asked for)."""
    keys = channel_keys(channel_id)
    try:
        reading = read_channel(channel_id, stored[: len(keys)], now, rules)
    except UnusableError as unusable:
        state = SessionState(channel_id, quarantine=unusable.where, game_id=unusable.game_id)
        return Restored(state, "quarantined", quarantined=unusable.copies)
    state = reading.state
    if reading.ours or not state.game_id:
        return _restored(reading, [], (), rules, now)
    if len(stored) == len(keys):
        return NeedsMore((game_key(state.game_id),))
    return _taken_over(reading, stored, now, rules)


def read_channel(
    channel_id: str, stored: Sequence[Stored], now: float, rules: SessionRules
) -> Reading:
    """Read a channel's six keys; nothing is decided about who holds the game.

    Raises:
        UnusableError: Nothing can be done with them.
    """
    keys = channel_keys(channel_id)
    found = _Forms()
    copies: list[Quarantined] = []
    try:
        _check_types(keys, stored)
        meta = as_fields(_hash(stored[_META]), "")
        if meta and meta.get("schema") != str(SCHEMA):
            raise _at(keys[_META], f"schema {meta.get('schema')!r}: a newer version wrote it")
        copies += _read_forms(found, keys, stored, meta, now)
        state = _state_of(found, channel_id, keys, copies, now)
        reading = Reading(state, found.source, quarantined=copies)
        reading.ours = bool(meta) and state.game_id != "" and _fits(meta, found, state)
        reading.repair = bool(copies) or any(
            form is not None and form.undated for form in (found.json, found.hash)
        )
        reading.noted = found.digests
        if reading.ours:
            _read_ours(reading, keys, stored, meta)
        else:
            _put_aside(reading, keys, stored)
            _read_pending(state, found)
        _read_history(reading, keys[_HISTORY], stored[_HISTORY], meta, now, rules)
    except _CorruptError as corrupt:
        raise UnusableError(corrupt, keys, stored, found) from corrupt
    except CodecError as error:
        raise UnusableError(_CorruptError(keys[_JSON], str(error)), keys, stored, found) from error
    return reading


class _CorruptError(Exception):
    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class UnusableError(Exception):
    """A channel's keys can't be used.

    Attributes:
        where: The key and what is wrong with it.
        copies: All of the channel's keys.
        game_id: The game that is stored there, as far as can be seen.
    """

    def __init__(
        self, corrupt: _CorruptError, keys: Sequence[str], stored: Sequence[Stored], found: _Forms
    ) -> None:
        super().__init__(str(corrupt))
        self.where = str(corrupt)
        self.copies = [
            Quarantined(key, raw_of(value), corrupt.reason if key == corrupt.key else str(corrupt))
            for key, value in zip(keys, stored, strict=True)
            if value is not None
        ]
        form = found.json or found.hash
        self.game_id = (form.game_id or "") if form else ""


def raw_of(value: Any) -> bytes:
    """What a key held, as bytes to keep."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, WrongType):
        return value.name.encode()
    if isinstance(value, Mapping):
        pairs: Mapping[Any, Any] = value
        return encode_loosely({_shown(name): _shown(item) for name, item in pairs.items()})
    return encode_loosely([_shown(item) for item in value])


def _shown(value: bytes | str) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _at(key: str, reason: str) -> _CorruptError:
    return _CorruptError(key, reason)


def _check_types(keys: Sequence[str], stored: Sequence[Stored]) -> None:
    for place, value in enumerate(stored):
        if value is None:
            continue
        if place == _JSON:
            fine = isinstance(value, (bytes, str))
        elif place == _HISTORY:
            fine = isinstance(value, Sequence) and not isinstance(value, (bytes, str))
        else:
            fine = isinstance(value, Mapping)
        if not fine:
            name = value.name if isinstance(value, WrongType) else type(value).__name__
            raise _at(keys[place], f"has the wrong type: {name}")


def _hash(value: Stored) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _read_forms(
    found: _Forms, keys: Sequence[str], stored: Sequence[Stored], meta: dict[str, str], now: float
) -> list[Quarantined]:
    """Read both forms and take their digests; what is corrupt is returned."""
    copies: list[Quarantined] = []
    text: Any = stored[_JSON]
    if text is not None:
        try:
            found.json = json_form(text, keys[_JSON], now)
        except CodecError as error:
            copies.append(Quarantined(keys[_JSON], raw_of(text), str(error)))
        else:
            raw = digest_of(text.encode() if isinstance(text, str) else text)
            found.digests["json_raw"] = raw
            found.digests["json"] = (
                meta["json"]
                if meta.get("json_raw") == raw and "json" in meta
                else found.json.digest()
            )
            copies += found.json.malformed
    if stored[_HASH]:
        try:
            fields = as_fields(_hash(stored[_HASH]), "")
            raw = digest_of_hash(fields)
            known = meta.get("hash_raw") == raw and "hash" in meta
            found.hash = hash_form(fields, keys[_HASH], now)
        except CodecError as error:
            copies.append(Quarantined(keys[_HASH], raw_of(stored[_HASH]), str(error)))
        else:
            found.digests["hash_raw"] = raw
            found.digests["hash"] = meta["hash"] if known else found.hash.digest()
            copies += found.hash.malformed
    if copies and found.json is None and found.hash is None:
        raise _at(copies[0].key, copies[0].reason)
    return copies


def _state_of(
    found: _Forms, channel_id: str, keys: Sequence[str], copies: list[Quarantined], now: float
) -> SessionState:
    """Choose between the forms and make the state of the chosen one."""
    json, hash_ = found.json, found.hash
    if json is None and hash_ is None:
        return SessionState(channel_id)
    if json is None or hash_ is None:
        found.chosen, found.source = (json, "json") if json else (hash_, "hash")
    elif json.game_id and hash_.game_id and json.game_id != hash_.game_id:
        # The replaced system writes the JSON first: if the hash is of another game, it is older.
        copies.append(Quarantined(keys[_HASH], hash_.digest().encode(), "an older game's form"))
        found.chosen, found.source, found.hash = json, "json", None
    elif (json.active and hash_.active is False) or (
        hash_.turn_number is not None and (json.turn_number or 0) > hash_.turn_number
    ):
        found.chosen, found.source = json, "json"
    else:
        found.chosen, found.source = hash_, "hash"
        _complete(hash_, json)
    assert found.chosen is not None
    if json and hash_ and found.hash:
        other = hash_ if found.chosen is json else json
        for user_id, extras in other.player_extras.items():
            found.chosen.player_extras[user_id] = extras | found.chosen.player_extras.get(
                user_id, {}
            )
    state = state_of(
        attrs.evolve(found.chosen, extras=dict(json.extras) if json else {}),
        dict(found.hash.extras) if found.hash else None,
        channel_id,
    )
    if not found.chosen.game_id:
        raise fault("game_id", "missing")
    return state


def _complete(form: Form, other: Form) -> None:
    """What the form doesn't say, the other one says."""
    for name in (
        "game_id",
        "game_name",
        "active",
        "turn_number",
        "title_screen_url",
        "crown_holder",
        "players",
    ):
        if getattr(form, name) is None:
            setattr(form, name, getattr(other, name))


def _fits(meta: dict[str, str], found: _Forms, state: SessionState) -> bool:
    return all(
        meta.get(name) == found.digests[name] for name in ("json", "hash") if name in found.digests
    )


def _read_ours(
    reading: Reading, keys: Sequence[str], stored: Sequence[Stored], meta: dict[str, str]
) -> None:
    state = reading.state
    state.saved = meta.get("saved", "")
    for place, apply in ((_TURNS, apply_turns), (_JOURNAL, apply_journal)):
        try:
            apply(state, as_fields(_hash(stored[place]), ""))
        except (CodecError, ValueError) as error:
            raise _at(keys[place], str(error)) from error
    if not state.active:
        _read_pending_of_ours(state, stored, keys)


def _read_pending_of_ours(
    state: SessionState, stored: Sequence[Stored], keys: Sequence[str]
) -> None:
    form = hash_form(as_fields(_hash(stored[_HASH]), ""), keys[_HASH], 0.0)
    for user_id, text in (form.pending or {}).items():
        put_choice(state, user_id, text)
    state.journal = 0


def _read_pending(state: SessionState, found: _Forms) -> None:
    """Take over the hash's pending choices, if they are of the turn that is being played."""
    form = found.hash
    if form is None or form.pending is None:
        return
    if form is not found.chosen and form.turn_number != state.turn_number:
        return
    for user_id, text in form.pending.items():
        put_choice(state, user_id, text)
    if not state.active:
        state.journal = 0


def _put_aside(reading: Reading, keys: Sequence[str], stored: Sequence[Stored]) -> None:
    for place in (_JOURNAL, _TURNS, _META):
        value = stored[place]
        if value:
            reason = "the replaced system has played since: its content wins"
            reading.quarantined.append(Quarantined(keys[place], raw_of(value), reason))
            reading.aside = True


def _read_history(
    reading: Reading,
    key: str,
    stored: Stored,
    meta: dict[str, str],
    now: float,
    rules: SessionRules,
) -> None:
    items: Any = stored or ()
    raw: list[bytes] = [
        item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item for item in items
    ]
    if raw and meta.get("history") != digest_of(*raw):
        good: list[bytes] = []
        for item in raw:
            try:
                record = record_of(item, now)
            except CodecError as error:
                reading.quarantined.append(Quarantined(key, item, str(error)))
                continue
            good.append(
                item
                if record.dated
                else record_to_bytes(record.record, record.game_id, narration=record.narration)
            )
        if good != raw:
            reading.records = good[-rules.history_max :]
        raw = good
    reading.state.records = raw[-rules.history_max :]


def _taken_over(
    reading: Reading, stored: Sequence[Stored], now: float, rules: SessionRules
) -> Restored[SessionState]:
    """The replaced system's data, and what the game's own key says."""
    state, game = reading.state, stored[_GAME]
    key = game_key(state.game_id)
    try:
        fields = hash_of(game, "")
    except CodecError as error:
        where = f"{key}: {error}"
        copies = [*reading.quarantined, Quarantined(key, raw_of(game), where)]
        broken = SessionState(state.channel_id, state.game_id, quarantine=where)
        return Restored(broken, "quarantined", quarantined=copies)
    holder = fields.get("holder")
    if not state.active:
        state.saved = holder or ""
        return _restored(reading, [], (), rules, now)
    if holder is not None and holder.startswith("channel:") and holder != held_by(state.channel_id):
        # It was loaded into another channel meanwhile, and is never live twice.
        reading.quarantined += [
            Quarantined(name, raw_of(value), f"game {state.game_id} is held by {holder}")
            for name, value in zip(channel_keys(state.channel_id)[:3], stored, strict=False)
            if value
        ]
        state.active = False
        state.saved = holder
        state.journal = 0
        reading.source = "held-elsewhere"
        reading.repair = True
        return _restored(reading, [], (), rules, now)
    if holder is not None and holder.startswith("save:"):
        reading.quarantined.append(
            Quarantined(key, raw_of(game), "a save that the replaced system has played on from")
        )
    changed = GameActiveError(
        f"game {state.game_id} of channel {state.channel_id!r} changed hands while it was "
        "restored: try again"
    )
    require = Require(key, "holder", holder, changed)
    return _restored(reading, [adopt(state)], (require,), rules, now)


def _restored(
    reading: Reading,
    writes: list[Write],
    requires: Sequence[Require],
    rules: SessionRules,
    now: float,
) -> Restored[SessionState]:
    state, keys = reading.state, channel_keys(reading.state.channel_id)
    writes = list(writes)
    if reading.aside:
        writes += [Drop(keys[_JOURNAL]), Drop(keys[_TURNS])]
    if reading.records is not None:
        writes.append(PutList(keys[_HISTORY], reading.records))
    if state.active:
        writes += _reopened(state, now, rules, ours=reading.ours)
    if state.game_id and reading.repair:
        writes += full_forms(state, rules)
        if reading.source == "held-elsewhere":
            writes.pop()  # The listing says where the game is: not here.
    elif state.game_id and ((state.active and not reading.ours) or reading.aside):
        writes.append(notes(state, **reading.noted))
    elif reading.aside:
        writes.append(Drop(keys[_META]))
    elif reading.records is not None and reading.ours:
        digest = digest_of(*state.records)
        writes.append(PatchHash(keys[_META], {"history": digest}))
    return Restored(
        state,
        reading.source,
        Decision(writes=writes, requires=requires),
        reading.quarantined,
    )


def _reopened(state: SessionState, now: float, rules: SessionRules, *, ours: bool) -> list[Write]:
    """Let the window go on: ours for what is left of it, another's in full."""
    window = state.window
    if ours:
        if window is None or window.deadline <= now + rules.window_seconds:
            return []
        # The clock was set back: without this the channel would wait until it has caught up.
        state.window = Window(min(window.opened_at, now), now + rules.window_seconds)
        field, value = window_field(state, state.window)
        return [PatchHash(journal_key(state.channel_id), {field: value})]
    if not state.choices:
        return []
    return [open_again(state, now, rules)]


def open_again(state: SessionState, now: float, rules: SessionRules) -> Write:
    """Open the window in full for choices that have none; the journal must be empty."""
    for user_id in state.choices:
        if user_id not in state.players:
            turn = state.turn_number
            state.players[user_id] = Player(user_id, UNKNOWN, turn, now, turn)
    state.window = Window(now, now + rules.window_seconds)
    return whole_journal(state)
