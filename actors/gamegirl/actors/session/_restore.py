"""Restoring a session: from what the keys say to a state, and what must be written for it.

Where a game is held is not written in the replaced system's forms, nor for sure in ours of a game
that has left, so the game's own key is read as well. New notes about the former are written before
anything else, so that what is played from here on is ours again at the next restore. What was
damaged is written anew once it is copied aside, so that it is reported once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gamegirl.actors._behaviour import Decision, NeedsMore, Quarantined, Restored, Stored
from gamegirl.actors._errors import GameActiveError
from gamegirl.actors._writes import Drop, PatchHash, PutList, Require, Write
from gamegirl.actors.session._data import UNKNOWN
from gamegirl.actors.session._digests import digest_of
from gamegirl.actors.session._forms import (
    SCHEMA,
)
from gamegirl.actors.session._journal import whole_journal, window_field
from gamegirl.actors.session._keys import (
    CHANNEL_GAME,
    CHANNEL_KEYS,
    channel_keys,
    game_key,
    held_by,
    history_key,
    journal_key,
    meta_key,
    saved_as,
    turns_key,
)
from gamegirl.actors.session._parts import printable
from gamegirl.actors.session._reading import Reading, UnusableError, read_channel
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._saves import adopt, holder_of, save
from gamegirl.actors.session._state import OpenWindow, Seat, SessionState
from gamegirl.actors.session._trusted import trusted_state
from gamegirl.actors.session._writing import full_forms, json_text, note_of_history, notes
from gamegirl.codec import CodecError

_SCHEMA = str(SCHEMA).encode()

UNREADABLE = "unreadable"
"""For the holder of a game whose key can't be read: nobody's, so that wiping leaves it alone."""


def restore(
    channel_id: str, stored: Sequence[Stored], now: float, rules: SessionRules
) -> Restored[SessionState] | NeedsMore:
    """Make the state from what the channel's keys hold, and perhaps `CHANNEL_GAME`.

    If more must be read, only `NeedsMore.then` goes on.
    """
    stored, prefetched = stored[:CHANNEL_KEYS], stored[CHANNEL_KEYS:]
    state = trusted_state(channel_id, stored, rules)
    if state is not None:
        source = "hash" if stored[2] else "json"
        held_here = {b"holder": held_by(channel_id).encode(), b"schema": _SCHEMA}
        key = game_key(state.game_id)
        # Of an id that is escaped in its key another key was read.
        if held_here in prefetched and key == CHANNEL_GAME.prefix + state.game_id:
            writes = () if state.window is None else _reopened(state, now, rules, ours=True)
            return Restored(state, source, Decision(writes=writes))
        # It is held elsewhere, or that isn't known: the whole key decides.
        reading = Reading(state, source, ours=True)
        return NeedsMore((key,), partial(_settled, reading, stored, now, rules))
    try:
        reading = read_channel(channel_id, stored, now, rules)
    except UnusableError as unusable:
        return _unusable(channel_id, unusable)
    wanted = [game_id for game_id in (reading.state.game_id, reading.lost) if game_id]
    if wanted:
        return NeedsMore(
            tuple(map(game_key, wanted)), partial(_settled, reading, stored, now, rules)
        )
    return _settled(reading, stored, now, rules, ())


def _unusable(channel_id: str, unusable: UnusableError) -> Restored[SessionState] | NeedsMore:
    if unusable.game_id:
        keys = (game_key(unusable.game_id),)
        return NeedsMore(keys, partial(_set_aside, channel_id, unusable))
    return _set_aside(channel_id, unusable, ())


def _set_aside(
    channel_id: str, unusable: UnusableError, games: Sequence[Stored]
) -> Restored[SessionState]:
    holder = _holder(games[0], UNREADABLE) if games else ""
    return _refused(channel_id, unusable.game_id, unusable.where, holder, unusable.copies)


def _settled(
    reading: Reading,
    stored: Sequence[Stored],
    now: float,
    rules: SessionRules,
    games: Sequence[Stored],
) -> Restored[SessionState]:
    """What the channel's keys say, and what the games' own keys say of who holds them."""
    state = reading.state
    own = held_by(state.channel_id)
    if reading.ours:
        holder = _holder(games[0])
        if not state.active:
            return _left(reading, holder, [], [], now, rules)
        if holder == own:
            return _restored(reading, [], now, rules)
        # Our own forms say that it runs here, and its key doesn't: the store went back in time.
        return _taken_over(reading, stored, games[0], [], [], now, rules)
    writes: list[Write] = []
    requires: list[Require] = []
    if reading.lost and _holder(games[-1]) == own:
        # The replaced system put another game in its place: nobody holds it, and nothing is left.
        requires.append(_require(state, reading.lost, own))
        writes.append(Drop(game_key(reading.lost)))
        reading.quarantined.append(
            Quarantined.whole(game_key(reading.lost), games[-1], "overwritten in its channel")
        )
    if not state.game_id:
        return _restored(reading, writes, now, rules, requires)
    return _taken_over(reading, stored, games[0], writes, requires, now, rules)


def _refused(
    channel_id: str, game_id: str, where: str, holder: str, copies: Sequence[Quarantined]
) -> Restored[SessionState]:
    state = SessionState(channel_id, game_id, quarantine=where, saved=holder)
    return Restored(state, "quarantined", quarantined=copies)


def _holder(game: Stored, unreadable: str = "") -> str:
    """Who holds a game, by its own key; empty: nobody."""
    try:
        return holder_of(game) or ""
    except CodecError:
        return unreadable


def _require(state: SessionState, game_id: str, holder: str | None) -> Require:
    changed = GameActiveError(
        f"game {game_id} of channel {state.channel_id!r} changed hands while it was restored: "
        "try again"
    )
    return Require(game_key(game_id), "holder", holder, changed)


def _taken_over(
    reading: Reading,
    stored: Sequence[Stored],
    game: Stored,
    writes: list[Write],
    requires: list[Require],
    now: float,
    rules: SessionRules,
) -> Restored[SessionState]:
    """The replaced system's data, and what the game's own key says."""
    state = reading.state
    keys = channel_keys(state.channel_id)
    key = game_key(state.game_id)
    try:
        holder = holder_of(game)
    except CodecError as error:
        where = printable(f"{key}: {error}")
        copies = [*reading.quarantined, Quarantined.whole(key, game, where)]
        return _refused(state.channel_id, state.game_id, where, UNREADABLE, copies)
    if not state.active:
        return _left(reading, holder or "", writes, requires, now, rules)
    if holder not in (None, held_by(state.channel_id), reading.exited):
        # It was loaded into another channel meanwhile (and may have left that again), which took it
        # further than this form does: it is never live twice.
        reading.quarantined += [
            Quarantined.whole(name, value, f"game {state.game_id} is held by {holder}")
            for name, value in zip(keys[: None if reading.ours else 3], stored, strict=False)
            if value
        ]
        if reading.ours:
            writes += [Drop(journal_key(state.channel_id)), Drop(turns_key(state.channel_id))]
        state.window = None
        state.choices, state.answers, state.joins = {}, {}, {}
        state.turns, state.recorded, state.answered = {}, {}, {}
        state.choices_bytes = 0
        state.active = False
        state.saved = holder or ""
        state.journal = 0
        reading.source = "held-elsewhere"
        reading.repair = True
    else:
        if holder is not None and holder.startswith("save:"):
            reason = "a save that the replaced system has played on from"
            reading.quarantined.append(Quarantined.whole(key, game, reason))
        requires.append(_require(state, state.game_id, holder))
        writes.append(adopt(state))
    return _restored(reading, writes, now, rules, requires)


def _left(
    reading: Reading,
    holder: str,
    writes: list[Write],
    requires: list[Require],
    now: float,
    rules: SessionRules,
) -> Restored[SessionState]:
    """A game that isn't active here, and who holds it by its own key.

    If that is this channel, the replaced system has exited it, or the store has lost our exit:
    these forms are all there is of it, so they become its save.
    """
    state = reading.state
    own = held_by(state.channel_id)
    if holder == own:
        if not state.saved.startswith("save:"):
            # From the content, so that the same forms always give the same decision.
            state.saved = saved_as(digest_of(json_text(state), *state.records))
        requires.append(_require(state, state.game_id, own))
        writes.append(save(state, state.saved))
        reading.repair = reading.saved = True
    elif not reading.ours or state.saved in ("", own):
        state.saved = holder
    return _restored(reading, writes, now, rules, requires)


def _restored(
    reading: Reading,
    writes: list[Write],
    now: float,
    rules: SessionRules,
    requires: Sequence[Require] = (),
) -> Restored[SessionState]:
    state, channel_id = reading.state, reading.state.channel_id
    if reading.aside:
        writes += [Drop(journal_key(channel_id)), Drop(turns_key(channel_id))]
    if reading.records is not None:
        writes.append(PutList(history_key(channel_id), reading.records))
    if state.active:
        writes += _reopened(state, now, rules, ours=reading.ours)
    if state.game_id and reading.repair:
        writes += full_forms(state, rules)
        if not state.active and state.saved and not reading.saved:
            writes.pop()  # The listing says where the game is: not here.
    elif state.game_id and ((state.active and not reading.ours) or reading.aside):
        writes.append(notes(state, **reading.noted))
    elif reading.aside:
        writes.append(Drop(meta_key(channel_id)))
    elif reading.records is not None and reading.ours:
        noted = {"history": note_of_history(state)}
        writes.append(PatchHash(meta_key(channel_id), noted))
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
        state.window = OpenWindow(min(window.opened_at, now), now + rules.window_seconds)
        field, value = window_field(state, state.window)
        return [PatchHash(journal_key(state.channel_id), {field: value})]
    if not state.choices:
        return []
    return [open_again(state, now, rules)]


def open_again(state: SessionState, now: float, rules: SessionRules) -> Write:
    """Open the window in full for choices that have none; the journal must be empty."""
    turn = state.turn_number
    for user_id in state.choices:
        seat = state.players.get(user_id)
        if seat is None:
            seat = state.players[user_id] = Seat(user_id, UNKNOWN, turn, now, turn)
        # As whoever pressed in this turn looks, and as the journal's entry will make them.
        seat.last_active_turn, seat.consecutive_skips = turn, 0
    state.window = OpenWindow(now, now + rules.window_seconds)
    return whole_journal(state)
