"""What a channel's keys say: ours, the replaced system's, or both after it has played again.

1. A key that can't be read at all (wrong type, our own keys corrupt or of a newer schema, no form
   that could serve) makes the channel unusable.
2. If our notes fit the forms, the forms are ours, and the journal and the closed turns belong to
   them.
3. Else the forms are the replaced system's and its content wins; our journal, closed turns and
   notes are put aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from gamegirl.actors._behaviour import Quarantined, Stored, WrongType
from gamegirl.actors.session._digests import digest_of, digest_of_hash, fits_history
from gamegirl.actors.session._forms import (
    AHEAD,
    SCHEMA,
    WHOLE,
    Form,
    hash_form,
    json_form,
    trusted_forms,
)
from gamegirl.actors.session._journal import apply_journal, apply_turns
from gamegirl.actors.session._keys import channel_keys
from gamegirl.actors.session._parts import (
    as_fields,
    dated_bytes,
    mapping_of,
    printable,
    record_of,
)
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._saves import put_choice, state_of
from gamegirl.actors.session._state import SessionState
from gamegirl.codec import CodecError, decode_json

_JSON, _HISTORY, _HASH, _JOURNAL, _TURNS, _META = range(6)


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
        lost: The game that our notes say the channel holds, where the forms say otherwise.
        exited: The holder of the save that our notes say the channel made last.
        saved: Whether the game is saved by restoring it.
    """

    state: SessionState
    source: str = "new"
    ours: bool = False
    quarantined: list[Quarantined] = attrs.field(factory=list[Quarantined])
    repair: bool = False
    records: list[bytes] | None = None
    noted: dict[str, str] = attrs.field(factory=dict[str, str])
    aside: bool = False
    lost: str = ""
    exited: str = ""
    saved: bool = False


@attrs.define
class _Forms:
    json: Form | None = None
    hash: Form | None = None
    digests: dict[str, str] = attrs.field(factory=dict[str, str])
    chosen: Form | None = None
    source: str = "new"


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
        meta = _notes(keys[_META], stored[_META])
        copies += _read_forms(found, keys, stored, meta, now)
        state = _state_of(found, channel_id, keys, stored, copies)
        reading = Reading(state, found.source, quarantined=copies)
        reading.ours = bool(meta) and state.game_id != "" and _fits(meta, found)
        # What only the hash says goes with the hash's TTL: both forms must say it from now on.
        reading.repair = (
            bool(copies)
            or (found.hash is not None and (found.json is None or _differ(found.json, found.hash)))
            or any(form is not None and form.undated for form in (found.json, found.hash))
        )
        reading.noted = found.digests
        if reading.ours:
            _read_ours(reading, found, keys, stored, meta)
        else:
            _put_aside(reading, keys, stored)
            _read_pending(state, found)
            if meta.get("game") != state.game_id and not meta.get("saved"):
                reading.lost = meta.get("game", "")
            if meta.get("saved", "").startswith("save:"):
                reading.exited = meta["saved"]
        _read_history(reading, keys[_HISTORY], stored[_HISTORY], meta, now, rules)
    except _CorruptError as corrupt:
        raise UnusableError(corrupt, keys, stored) from corrupt
    except CodecError as error:
        raise UnusableError(_CorruptError(keys[_JSON], str(error)), keys, stored) from error
    return reading


class _CorruptError(Exception):
    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {printable(reason)}")
        self.key = key
        self.reason = printable(reason)


class UnusableError(Exception):
    """A channel's keys can't be used.

    Attributes:
        where: The key and what is wrong with it.
        copies: All of the channel's keys.
        game_id: The game that is stored there, as far as can be seen.
    """

    def __init__(
        self, corrupt: _CorruptError, keys: Sequence[str], stored: Sequence[Stored]
    ) -> None:
        super().__init__(str(corrupt))
        self.where = str(corrupt)
        self.copies = [
            Quarantined.whole(key, value, corrupt.reason if key == corrupt.key else str(corrupt))
            for key, value in zip(keys, stored, strict=True)
            if value is not None
        ]
        self.game_id = _game_of(stored)


def _game_of(stored: Sequence[Stored]) -> str:
    """The game that unusable keys are about, as far as any of them says it."""
    for place, name in ((_JSON, "game_id"), (_HASH, "game_id"), (_META, "game")):
        value: Any = stored[place]
        with suppress(CodecError):
            if place == _JSON and isinstance(value, (bytes, str)):
                game_id = mapping_of(decode_json(value), "").get(name)
            else:
                game_id = as_fields(_hash(value), "").get(name)
            if isinstance(game_id, str) and game_id:
                return game_id
    return ""


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


def _notes(key: str, stored: Stored) -> dict[str, str]:
    try:
        meta = as_fields(_hash(stored), "")
    except CodecError as error:
        raise _at(key, str(error)) from error
    if meta and meta.get("schema") != str(AHEAD if "ahead" in meta else SCHEMA):
        raise _at(key, f"schema {meta.get('schema')!r}: a newer version wrote it")
    if not WHOLE.fullmatch(meta.get("ahead", "0")):
        raise _at(key, "ahead: expected a whole number")
    return meta


def _hash(value: Stored) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _read_forms(
    found: _Forms, keys: Sequence[str], stored: Sequence[Stored], meta: dict[str, str], now: float
) -> list[Quarantined]:
    """Read both forms and take their digests; what is corrupt is returned."""
    copies: list[Quarantined] = []
    text: Any = stored[_JSON]
    fields: dict[str, str] | None = None
    if text is not None:
        found.digests["json_raw"] = digest_of(
            text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        )
    if stored[_HASH]:
        try:
            fields = as_fields(_hash(stored[_HASH]), "")
        except CodecError as error:
            copies.append(Quarantined.whole(keys[_HASH], stored[_HASH], printable(str(error))))
        else:
            found.digests["hash_raw"] = digest_of_hash(fields)
    known = {name for name, raw in found.digests.items() if meta.get(name) == raw}
    if "same" in meta and known == found.digests.keys() and text is not None and not copies:
        found.json, found.hash = trusted_forms(text, fields)
    else:
        if text is not None:
            try:
                found.json = json_form(text, keys[_JSON], now)
                copies += found.json.malformed
            except CodecError as error:
                copies.append(Quarantined.whole(keys[_JSON], text, printable(str(error))))
        if fields is not None:
            try:
                found.hash = hash_form(fields, keys[_HASH], now)
                copies += found.hash.malformed
            except CodecError as error:
                copies.append(Quarantined.whole(keys[_HASH], stored[_HASH], printable(str(error))))
    if found.json and found.hash:
        # A form that doesn't say whose it is can't serve. (The hash may lack any field.)
        if not found.json.game_id and found.hash.game_id:
            copies.append(Quarantined.whole(keys[_JSON], text, "game_id: missing"))
            found.json = None
        elif found.json.game_id and found.hash.game_id == "":
            copies.append(Quarantined.whole(keys[_HASH], stored[_HASH], "game_id: missing"))
            found.hash = None
    for name, form in (("json", found.json), ("hash", found.hash)):
        if form is None:
            found.digests.pop(f"{name}_raw", None)
        else:
            noted = meta.get(name) if f"{name}_raw" in known else None
            found.digests[name] = noted or form.digest()
    if copies and found.json is None and found.hash is None:
        raise _at(copies[0].key, copies[0].reason)
    return copies


def _state_of(
    found: _Forms,
    channel_id: str,
    keys: Sequence[str],
    stored: Sequence[Stored],
    copies: list[Quarantined],
) -> SessionState:
    """Choose between the forms and make the state of the chosen one."""
    json, hash_ = found.json, found.hash
    if json is None and hash_ is None:
        return SessionState(channel_id)
    if json is None or hash_ is None:
        found.chosen, found.source = (json, "json") if json else (hash_, "hash")
    elif json.game_id and hash_.game_id and json.game_id != hash_.game_id:
        # The replaced system writes the JSON first: if the hash is of another game, it is older.
        copies.append(Quarantined.whole(keys[_HASH], stored[_HASH], "an older game's form"))
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
        if found.chosen.listed:
            found.chosen.complete(other)
        for user_id, extras in other.player_extras.items():
            found.chosen.player_extras[user_id] = extras | found.chosen.player_extras.get(
                user_id, {}
            )
    return state_of(
        found.chosen,
        json.extras if json else {},
        found.hash.extras if found.hash else {},
        channel_id,
    )


_SAID = (
    "game_id",
    "game_name",
    "active",
    "turn_number",
    "title_screen_url",
    "crown_holder",
    "players",
)


def _complete(form: Form, other: Form) -> None:
    """What the form doesn't say, the other one says."""
    for name in _SAID:
        if getattr(form, name) is None:
            setattr(form, name, getattr(other, name))


def _differ(json: Form, hash_: Form) -> bool:
    """Whether the hash says anything of the game that the JSON doesn't say."""
    for name in _SAID:
        said = getattr(hash_, name)
        other = getattr(json, name)
        if said is not None and said is not other and said != other:
            return True
    return False


def _fits(meta: dict[str, str], found: _Forms) -> bool:
    return all(
        meta.get(name) == found.digests[name] for name in ("json", "hash") if name in found.digests
    )


def _read_ours(
    reading: Reading,
    found: _Forms,
    keys: Sequence[str],
    stored: Sequence[Stored],
    meta: dict[str, str],
) -> None:
    state = reading.state
    state.saved = meta.get("saved", "")
    last = int(meta.get("ahead", state.turn_number))
    for place, apply in ((_TURNS, apply_turns), (_JOURNAL, apply_journal)):
        try:
            apply(state, as_fields(_hash(stored[place]), ""))
        except (CodecError, ValueError) as error:
            raise _at(keys[place], str(error)) from error
        if state.turn_number != last:
            raise _at(
                keys[_TURNS],
                f"ends with turn {state.turn_number}, and by {keys[_META]} turn {last} is the last",
            )
    if not state.active:
        _read_pending_of_ours(state, found)


def _read_pending_of_ours(state: SessionState, found: _Forms) -> None:
    """What was pending when the game was exited."""
    pending = found.hash.pending if found.hash else None
    for user_id, text in (pending or {}).items():
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
            reading.quarantined.append(Quarantined.whole(keys[place], value, reason))
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
    if raw and not fits_history(meta.get("history", ""), raw):
        good: list[bytes] = []
        for item in raw:
            try:
                good.append(item if record_of(item, now).dated else dated_bytes(item, now))
            except CodecError as error:
                reading.quarantined.append(Quarantined(key, item, printable(str(error))))
        if good != raw:
            reading.records = good[-rules.history_max :]
        raw = good
    reading.state.records = tuple(raw[-rules.history_max :])
