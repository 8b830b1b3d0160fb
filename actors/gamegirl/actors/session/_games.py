"""The rules of coming and going: boot, exit, swap, load, wipe.

Every game has one holder, written at the game's own key: a channel, or a save. Each of these rules
compares it in the commit that changes it, so that a game is never live twice, whoever else is at
it. A game that leaves its channel becomes a save; the channel remembers what it played last.
"""

from __future__ import annotations

from gamegirl.actors._behaviour import Cancel, Quarantined, Stored, WakeWaiters
from gamegirl.actors._errors import (
    GameActiveError,
    GameExistsError,
    SessionQuarantinedError,
    UnknownGameError,
)
from gamegirl.actors._writes import Drop, PatchHash, PutList, Require
from gamegirl.actors.session._changes import Changes
from gamegirl.actors.session._data import Booted, Ejected, Swapped
from gamegirl.actors.session._events import (
    GameBooted,
    GameExited,
    GameLoaded,
    GameSwapped,
    GameWiped,
)
from gamegirl.actors.session._journal import whole_turns
from gamegirl.actors.session._keys import (
    INDEX_KEY,
    channel_keys,
    channel_of,
    game_key,
    held_by,
    history_key,
    journal_key,
    saved_as,
    turns_key,
)
from gamegirl.actors.session._messages import Boot, Exit, Load, Swap, Wipe
from gamegirl.actors.session._parts import as_text, mapping_of, printable
from gamegirl.actors.session._reading import UnusableError, read_channel
from gamegirl.actors.session._records import WORK
from gamegirl.actors.session._restore import open_again
from gamegirl.actors.session._saves import hash_of, hold, holder_of, save, saved_state
from gamegirl.actors.session._state import SessionState
from gamegirl.actors.session._turns import require_active
from gamegirl.actors.session._writing import index_entry
from gamegirl.codec import CodecError, decode_json


class GameMovedError(GameActiveError):
    """A game that was to be deleted is elsewhere by now.

    Attributes:
        game_id: Which game.
    """

    def __init__(self, message: str, game_id: str) -> None:
        super().__init__(message)
        self.game_id = game_id


class GameGoneError(UnknownGameError):
    """A game that should be in this channel isn't here: it left just now, or was overwritten."""


_AGAIN = "changed hands in this moment: look at it and try again"


def boot(changes: Changes, message: Boot) -> Booted:
    """Start an empty game where none is active."""
    state = changes.state
    if state.active:
        raise GameActiveError(
            f"game {state.game_id} ({state.game_name!r}) is active in channel "
            f"{state.channel_id!r}: exit it first, or swap"
        )
    _require_new(state, message.game_id)
    return _boot(changes, message)


def exit_game(changes: Changes, message: Exit) -> Ejected:
    """Save the game and take it out of its channel."""
    state = changes.state
    require_active(state)
    ejected = _eject(changes, message.nonce)
    if state.turns or state.recorded:
        changes.write(Drop(turns_key(state.channel_id)))
    changes.turns.clear()
    changes.turns_gone = ()
    state.turns, state.recorded, state.answered = {}, {}, {}
    changes.full()
    changes.effect(WakeWaiters())
    return ejected


def swap(changes: Changes, message: Swap) -> Swapped:
    """Exit what runs and boot another game, in one commit."""
    state = changes.state
    _require_new(state, message.game_id)
    old = state.game_id if state.active else None
    ejected = _eject(changes, message.nonce) if state.active else None
    booted = _boot(
        changes, Boot(message.game_name, message.title_screen_url, message.game_id, message.nonce)
    )
    changes.effect(WakeWaiters())
    changes.emit(GameSwapped(state.channel_id, state.game_id, old))
    return Swapped(ejected, booted)


def load(changes: Changes, message: Load) -> Booted:
    """Load a save into the channel; what runs is saved and ejected in the same commit."""
    state, rules = changes.state, changes.rules
    loaded, holder = _find(changes, message)
    if state.active:
        _eject(changes, message.nonce)
    elif state.game_id != loaded.game_id:
        _keep_last_game(changes, message.nonce)
    changes.require_holder(loaded.game_id, holder, f"game {loaded.game_id} {_AGAIN}")
    _clear_channel(changes)
    loaded.active = True
    loaded.saved = ""
    loaded.window = None
    state.become(loaded)
    changes.write(hold(state))
    if state.records:
        state.cut_records(rules.history_max)
        changes.write(PutList(history_key(state.channel_id), state.records))
    changes.write(*whole_turns(state))
    if state.choices:
        for sequence, choice in enumerate(state.choices.values()):
            choice.sequence = sequence
        state.journal = len(state.choices)
        changes.write(open_again(state, changes.now, rules))
    changes.forms = True
    changes.effect(WakeWaiters())
    changes.emit(GameLoaded(state.channel_id, state.game_id, state.game_name, state.turn_number))
    return _booted(changes)


def wipe(changes: Changes, message: Wipe) -> None:
    """Delete what the channel stores, also if it can't be read."""
    state = changes.state
    game_id = state.game_id
    if game_id and (state.active or message.keep_game != game_id):
        holder = held_by(state.channel_id) if state.active else state.saved or None
        if holder is None or holder.startswith("save:") or holder == held_by(state.channel_id):
            moved = GameMovedError(f"game {game_id} {_AGAIN}", game_id)
            condition = Require(game_key(game_id), "holder", holder, moved)
            changes.requires = (*changes.requires, condition)
            changes.write(PatchHash(INDEX_KEY, {}, (game_id,)), Drop(game_key(game_id)))
    changes.write(*(Drop(key) for key in channel_keys(state.channel_id)))
    changes.turns.clear()
    changes.turns_gone = ()
    changes.forms = False
    state.become(SessionState(state.channel_id))
    changes.effect(Cancel(WORK))
    changes.effect(WakeWaiters())
    changes.emit(GameWiped(state.channel_id, game_id))


def _exists(state: SessionState, game_id: str) -> GameExistsError:
    return GameExistsError(
        f"there is a game {game_id} already: load it in channel {state.channel_id!r}, or boot "
        "with another id"
    )


def _require_new(state: SessionState, game_id: str) -> None:
    """Refuse the id of the game that the channel's own forms are of; others are seen on commit."""
    if game_id == state.game_id and (state.active or not state.saved):
        raise _exists(state, game_id)


def _boot(changes: Changes, message: Boot) -> Booted:
    state, game_id = changes.state, message.game_id
    exists = _exists(state, game_id)
    if state.game_id and not state.active:
        _keep_last_game(changes, message.nonce)
    changes.requires = (
        *changes.requires,
        Require(game_key(game_id), "holder", None, exists),
        Require(INDEX_KEY, game_id, None, exists),
    )
    _clear_channel(changes)
    state.become(
        SessionState(
            state.channel_id,
            game_id,
            message.game_name,
            active=True,
            title_screen_url=message.title_screen_url,
        )
    )
    changes.write(hold(state))
    changes.forms = True
    changes.emit(GameBooted(state.channel_id, game_id, state.game_name))
    return _booted(changes)


def _eject(changes: Changes, nonce: str) -> Ejected:
    """Make the running game a save and the state inactive; its choices and answers go along."""
    state = changes.state
    changes.require_holder(
        state.game_id, held_by(state.channel_id), f"game {state.game_id} {_AGAIN}"
    )
    state.active = False
    state.window = None
    state.saved = saved_as(nonce)
    changes.write(save(state, state.saved), index_entry(state))
    state.answers = {}
    state.performing = state.awaited = None
    changes.effect(Cancel(WORK))
    changes.emit(GameExited(state.channel_id, state.game_id, state.game_name, state.turn_number))
    return Ejected(
        state.channel_id,
        state.game_id,
        state.game_name,
        state.turn_number,
        len(state.players),
        changes.rules,
    )


def _keep_last_game(changes: Changes, nonce: str) -> None:
    """What was played last is only stored in the channel's forms: save it before they go."""
    state = changes.state
    if not state.game_id or state.saved:
        return
    changes.require_holder(state.game_id, None, f"game {state.game_id} {_AGAIN}")
    changes.write(save(state, saved_as(nonce)), index_entry(state))


def _clear_channel(changes: Changes) -> None:
    """Empty what another game's forms don't replace."""
    state = changes.state
    if state.records:
        changes.write(Drop(history_key(state.channel_id)))
    if state.turns or state.recorded or changes.turns:
        changes.write(Drop(turns_key(state.channel_id)))
    changes.turns.clear()
    changes.turns_gone = ()
    changes.write(Drop(journal_key(state.channel_id)))


def _booted(changes: Changes) -> Booted:
    state = changes.state
    return Booted(
        state.channel_id, state.game_id, state.game_name, state.title_screen_url, changes.rules
    )


def _find(changes: Changes, message: Load) -> tuple[SessionState, str | None]:
    """The game to be loaded, and who must still hold it when that is committed."""
    state, game_id = changes.state, message.game_id
    if state.active and state.game_id == game_id:
        raise GameActiveError(f"game {game_id} runs in channel {state.channel_id!r} already")
    try:
        holder = holder_of(message.game)
        if holder is None:
            return _find_old(changes, message), None
        where = channel_of(holder)
        if where is not None:
            if where == state.channel_id:
                if state.game_id == game_id:
                    if state.saved and not message.last:
                        raise GameGoneError(f"game {game_id} {_AGAIN}")  # It has just left.
                    # The store has lost the exit: what is left of the game is here.
                    own = SessionState(state.channel_id)
                    own.become(state)
                    return own, holder
                raise GameGoneError(str(_overwritten(state, game_id, where)))
            raise GameActiveError(
                f"game {game_id} is active in channel {where!r}: exit it there before channel "
                f"{state.channel_id!r} loads it"
            )
        fields = hash_of(message.game, "")
        return saved_state(fields, state.channel_id, game_id, changes.now), holder
    except CodecError as error:
        copy = Quarantined.whole(game_key(game_id), message.game, printable(str(error)))
        changes.quarantined = (*changes.quarantined, copy)
        raise SessionQuarantinedError(
            f"the save of game {game_id} at {game_key(game_id)!r} can't be read, so channel "
            f"{state.channel_id!r} can't load it: {error}"
        ) from error


def _find_old(changes: Changes, message: Load) -> SessionState:
    """A game that is only stored in a channel's forms, by the replaced system."""
    state, game_id = changes.state, message.game_id
    if state.game_id == game_id and (message.entry is not None or not state.saved):
        own = SessionState(state.channel_id)
        own.become(state)
        return own
    if message.entry is None:
        raise UnknownGameError(
            f"there is no game {game_id} that channel {state.channel_id!r} could load"
        )
    entry = mapping_of(decode_json(as_text(message.entry, "")), "")
    channel_id = entry.get("channel_id")
    if message.channel_id is None or channel_id != message.channel_id:
        raise UnknownGameError(f"game {game_id} moved while it was looked up: try again")
    try:
        found = read_channel(message.channel_id, message.channel, changes.now, changes.rules)
    except UnusableError as error:
        changes.quarantined = (*changes.quarantined, *error.copies)
        raise SessionQuarantinedError(
            f"channel {channel_id!r}, where game {game_id} was played, can't be read: {error}"
        ) from error
    old = found.state
    if old.game_id != game_id:
        raise _overwritten(old, game_id, message.channel_id)
    if found.ours and old.active:
        raise GameActiveError(f"game {game_id} is active in channel {channel_id!r}")
    changes.quarantined = (*changes.quarantined, *found.quarantined)
    old.channel_id = state.channel_id
    return old


def _overwritten(there: SessionState, game_id: str, channel_id: str) -> UnknownGameError:
    later = f", {there.game_id} ({there.game_name!r})" if there.game_id else ""
    return UnknownGameError(
        f"game {game_id} was overwritten by a later game of its channel {channel_id!r}{later}: it "
        "can't be loaded any more, only forgotten"
    )


def entry_channel(entry: Stored | str) -> str | None:
    """The channel that an index entry names, if it can be read."""
    try:
        channel_id = mapping_of(decode_json(as_text(entry, "")), "").get("channel_id")
    except CodecError:
        return None
    return channel_id if isinstance(channel_id, str) and channel_id else None
