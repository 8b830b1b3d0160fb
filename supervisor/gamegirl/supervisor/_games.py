"""The listing of all games, and forgetting one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
import attrs

from gamegirl.actors import (
    CodecError,
    Drop,
    Fate,
    GameActiveError,
    PatchHash,
    Require,
    SessionQuarantinedError,
    StoreUnavailableError,
    UnknownGameError,
)
from gamegirl.actors import Stored as StoredValue
from gamegirl.actors.session._keys import (
    INDEX_KEY,
    channel_of,
    game_key,
    hash_key,
    held_by,
    json_key,
    meta_key,
)
from gamegirl.codec import HashCodec, InvalidIdError, JsonCodec, unescape_id
from gamegirl.supervisor.stores import (
    ActorKey,
    BadType,
    Broken,
    Claim,
    Claimed,
    Commit,
    Done,
    Fenced,
    Outcome,
    Store,
)

_GAME_PREFIX = game_key("")

_TRIES = 5
_RETRY_SECONDS = 0.05
"""A commit whose answer was lost is sent again so often, and so much later."""


@attrs.frozen
class SavedGame:
    """A game that is known: played somewhere, or saved.

    Attributes:
        game_id: Its id.
        game_name: Its title.
        channel_id: Where it is played, or was last.
        turn_number: How far it has come.
        active: Whether it is being played.
        title_screen_url: Empty for the default.
    """

    game_id: str
    game_name: str
    channel_id: str
    turn_number: int
    active: bool
    title_screen_url: str


@attrs.frozen
class _Entry:
    """What the listing, and every form of a game, says of it."""

    game_name: str = ""
    channel_id: str = ""
    turn_number: int = 0
    active: bool = False
    title_screen_url: str = ""
    game_id: str = ""

    def game(self, game_id: str) -> SavedGame:
        return SavedGame(
            game_id,
            self.game_name,
            self.channel_id,
            self.turn_number,
            self.active,
            self.title_screen_url,
        )


_ENTRY = JsonCodec(_Entry)
_HASH_ENTRY = HashCodec(_Entry)


class Games:
    """Reads the listing; where it is silent or damaged, the games themselves.

    Args:
        store: Where they are.
        nonce: Makes nonces for claims.
    """

    def __init__(self, store: Store, nonce: Callable[[], str]) -> None:
        self._store = store
        self._nonce = nonce
        # Actors to forget with, each for one call at a time.
        self._spare: list[ActorKey] = []

    async def all(self) -> tuple[SavedGame, ...]:
        """Every known game, sorted by name, then id."""
        games: dict[str, SavedGame] = {}
        unlisted: set[str] = set()
        (index,) = await self._store.read([INDEX_KEY])
        for field, text in _fields(index).items():
            game_id = field.decode("utf-8", "replace")
            try:
                games[game_id] = _ENTRY.decode(text).game(game_id)
            except CodecError:
                unlisted.add(game_id)
        async for keys in self._store.scan(_GAME_PREFIX):
            for key in keys:
                try:
                    game_id = unescape_id(key.removeprefix(_GAME_PREFIX))
                except InvalidIdError:
                    continue  # None of ours has such a key.
                if game_id not in games:
                    unlisted.add(game_id)
        for game_id in unlisted:
            game = await self._itself(game_id)
            if game is not None:
                games[game_id] = game
        return tuple(sorted(games.values(), key=lambda game: (game.game_name, game.game_id)))

    async def one(self, game_id: str) -> SavedGame | None:
        """One known game, or None."""
        (index,) = await self._store.read([INDEX_KEY])
        text = _fields(index).get(game_id.encode())
        if text is not None:
            try:
                return _ENTRY.decode(text).game(game_id)
            except CodecError:
                pass
        return await self._itself(game_id)

    async def _itself(self, game_id: str) -> SavedGame | None:
        """What the game says of itself: its save, or the forms of the channel that holds it."""
        (game,) = await self._store.read([game_key(game_id)])
        fields = _fields(game)
        save = fields.get(b"session")
        if save is not None:
            try:
                return attrs.evolve(_ENTRY.decode(save).game(game_id), active=False)
            except CodecError:
                return None
        channel_id = channel_of(holder_of(game))
        if channel_id is None:
            return None
        entry = await self._in_channel(channel_id, game_id)
        return entry.game(game_id) if entry is not None else None

    async def _in_channel(self, channel_id: str, game_id: str) -> _Entry | None:
        keys = (json_key(channel_id), hash_key(channel_id), meta_key(channel_id))
        text, fields, notes = await self._store.read(keys)
        entries: list[_Entry] = []
        try:
            if isinstance(text, bytes):
                entries.append(_ENTRY.decode(text))
        except CodecError:
            pass
        try:
            if isinstance(fields, dict):
                entries.append(_HASH_ENTRY.decode(fields))
        except CodecError:
            pass
        entry = next((entry for entry in entries if entry.game_id == game_id), None)
        ahead = _fields(notes).get(b"ahead", b"")
        if entry is not None and entry.active and ahead.isdigit():
            # Turns were closed since the forms were written.
            return attrs.evolve(entry, turn_number=max(entry.turn_number, int(ahead)))
        return entry

    async def forget(self, game_id: str) -> None:
        """Delete a game that isn't active."""
        for _ in range(_TRIES):
            outcome = await self._delete(game_id, await self._forgettable(game_id))
            if isinstance(outcome, Done):
                return
            if isinstance(outcome, BadType):
                outcome = Broken(f"{outcome.key} holds a {outcome.found}")
            if isinstance(outcome, Broken):
                raise SessionQuarantinedError(
                    f"game {game_id!r} can't be forgotten: {outcome.reason}; repair or move that "
                    "key, nothing was changed"
                )
            # Somebody was faster: they loaded it, or forgot it too. Look again which.
        raise GameActiveError(
            f"game {game_id!r} changes hands all the time: look where it is and try again"
        )

    async def _forgettable(self, game_id: str) -> tuple[Require, ...]:
        """What must still be so when a game is forgotten; raises if it can't be."""
        game, index = await self._store.read([game_key(game_id), INDEX_KEY])
        holder = holder_of(game)
        listed = _fields(index).get(game_id.encode())
        if holder is None and listed is None:
            raise UnknownGameError(
                f"there is no game {game_id!r}: the listing of games has all there are"
            )
        taken = _active(game_id, "a channel that took it just now")
        requires = (Require(game_key(game_id), "holder", holder, taken),)
        channel_id = channel_of(holder)
        if channel_id is not None:
            noted = await self._stray(game_id, channel_id)
            return (*requires, Require(meta_key(channel_id), "game", noted, taken))
        if holder is None and listed is not None:
            try:
                channel_id = _ENTRY.decode(listed).channel_id
            except CodecError:
                channel_id = ""
            entry = await self._in_channel(channel_id, game_id)
            if entry is not None and entry.active:
                raise _active(game_id, channel_id)
        return requires

    async def _stray(self, game_id: str, channel_id: str) -> str | None:
        """Which game the channel notes that holds this one but doesn't have it.

        Whoever takes a game into a channel writes its key, the forms and the notes in one commit:
        in one piece they agree. Where they don't (an import can have left them so), no channel can
        load the game, so nobody takes it in the meantime unless the notes change, too.

        Raises:
            GameActiveError: The channel has the game, or what it has can't be read.
        """
        keys = (
            game_key(game_id),
            json_key(channel_id),
            hash_key(channel_id),
            meta_key(channel_id),
        )
        game, text, fields, notes = [entry.value for entry in await self._store.entries(keys)]
        noted = _fields(notes).get(b"game")
        named = [None if noted is None else noted.decode("utf-8", "replace")]
        readable = text is None or isinstance(text, bytes)
        try:
            if isinstance(text, bytes):
                named.append(_ENTRY.decode(text).game_id)
            if fields is not None:
                named.append(_HASH_ENTRY.decode(_fields(fields)).game_id)
        except CodecError:
            readable = False
        if holder_of(game) != held_by(channel_id) or not readable or game_id in named:
            raise _active(game_id, channel_id)
        return named[0]

    async def _delete(self, game_id: str, requires: tuple[Require, ...]) -> Outcome:
        """Delete a game if this is still so.

        The commit needs a fence, but no game is fenced by it: what two processes do to one game is
        decided by its holder, and a fence of this game's would stay ours, for as long as this
        process lives, if the caller were cancelled or the store went away on the way.
        """
        actor = self._spare.pop() if self._spare else ActorKey("games", self._nonce())
        try:
            (claimed,) = await self._store.claim([Claim(actor, (), self._nonce())])
            if not isinstance(claimed, Claimed):
                return claimed if isinstance(claimed, Broken) else Fenced(claimed.owner)
            forget = Commit(
                actor,
                claimed.owner,
                claimed.revision + 1,
                self._nonce(),
                writes=(Drop(game_key(game_id)), PatchHash(INDEX_KEY, remove=(game_id,))),
                requires=requires,
                release=True,
            )
            return await self._settle(forget)
        finally:
            self._spare.append(actor)

    async def _settle(self, commit: Commit) -> Outcome:
        """Send a commit; again, unchanged, if the answer was lost."""
        doubtful, left = False, _TRIES
        while True:
            try:
                return (await self._store.commit([commit]))[0]
            except StoreUnavailableError as error:
                doubtful = doubtful or error.fate is Fate.IN_DOUBT
                left -= 1
                if not left:
                    # An earlier one may have happened, whatever became of the last.
                    fate = Fate.IN_DOUBT if doubtful else error.fate
                    raise StoreUnavailableError(str(error), fate=fate) from error
            await anyio.sleep(_RETRY_SECONDS)


def _active(game_id: str, channel_id: str) -> GameActiveError:
    return GameActiveError(
        f"game {game_id!r} is active in {channel_id!r}: exit it there before you forget it"
    )


def holder_of(game: StoredValue) -> str | None:
    """Who holds a game, by what its own key says, as it stands there; None: nobody."""
    holder = _fields(game).get(b"holder")
    return None if holder is None else holder.decode("utf-8", "replace")


def _fields(stored: StoredValue) -> Mapping[bytes, bytes]:
    return stored if isinstance(stored, dict) else {}
