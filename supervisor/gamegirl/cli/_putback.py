"""Putting copies back where they came from, as their channel's owner would write them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

import attrs

from gamegirl.actors import (
    Drop,
    GameActiveError,
    InvalidInputError,
    OwnedElsewhereError,
    Quarantined,
    Require,
    Stored,
    Write,
    WrongType,
)
from gamegirl.cli._copies import Copy, as_text, called, kind_of, opened, refused, release
from gamegirl.cli._export import fields_of
from gamegirl.cli._lines import Content, Part, place_of, write_of
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import Settings, Store
from gamegirl.supervisor._quarantine import quarantine_writes
from gamegirl.supervisor.stores import (
    KEEP_DUE,
    ActorKey,
    Claim,
    Claimed,
    Commit,
    Done,
    Owned,
    Unmet,
)

_OURS = ("gg:", "game:", "sg:")
_HOLDER = "holder"
_AT_CHANNEL = b"channel:"
_HASH_FORM = "sg:game_session:"


@attrs.frozen
class PutBack:
    """What became of a copy that was to be put back.

    Attributes:
        copy: Which.
        already: The key holds just that already.
        replaced: The entry with what was there instead, if anything.
    """

    copy: Copy
    already: bool = False
    replaced: str | None = None


async def put_back(store: Store, copies: Sequence[Copy], *, force: bool) -> list[PutBack]:
    """Write what was copied at its key again, all of it or nothing.

    Args:
        store: Where it goes; it is opened and closed.
        copies: All of one channel or actor, each of another key.
        force: Whether what is there now gives way; it is put into quarantine.

    Raises:
        InvalidInputError: A copy can't be put back.
        GameActiveError: It is of a game that is being played.
        OwnedElsewhereError: A living process owns the channel.
        GameGirlError: Something else is there.
    """
    contents = [copy.content() for copy in copies]
    actor = _actor_of(copies)
    keys = [copy.key for copy in copies]
    async with opened(store):
        (claimed,) = await store.claim([Claim(actor, keys, secrets.token_hex(8))])
        if isinstance(claimed, Owned):
            raise OwnedElsewhereError(
                f"{called(actor)} is owned by {claimed.owner}, which is alive or was just now "
                f"(its lease runs for {claimed.lease_seconds:.1f} s): release the channel there or "
                "stop that process, then restore again; nothing was changed",
                owner=claimed.owner,
            )
        if not isinstance(claimed, Claimed):
            raise GameGirlError(f"{called(actor)} can't be claimed: {claimed.reason}")
        plan = _Plan(actor, claimed, force=force)
        try:
            for copy, content, present in zip(copies, contents, claimed.stored, strict=True):
                plan.add(copy, content, present)
        except GameGirlError:
            await release(store, claimed, actor, claimed.revision)
            raise
        commit = plan.commit()
        (outcome,) = await store.commit([commit])
        if isinstance(outcome, Done):
            return plan.done
        if isinstance(outcome, Unmet):
            await release(store, claimed, actor, claimed.revision)
            raise commit.requires[outcome.index].error
        raise refused(outcome, ", ".join(keys))


class _Plan:
    """What putting copies back writes, decided under the claim."""

    def __init__(self, actor: ActorKey, claimed: Claimed, *, force: bool) -> None:
        self._actor = actor
        self._claimed = claimed
        self._force = force
        self._writes: list[Write] = []
        self._requires: list[Require] = []
        self._due = KEEP_DUE
        self.done: list[PutBack] = []

    def add(self, copy: Copy, content: Content, present: Stored) -> None:
        """One more copy, with what its key holds now."""
        if present == content:
            self.done.append(PutBack(copy, already=True))
            return
        where = f"{copy.key} of {called(self._actor)}"
        if isinstance(present, WrongType):
            raise GameGirlError(
                f"{where} holds a {present.name}, of which no copy can be made: rename that key, "
                "then restore again; nothing was changed"
            )
        if present is not None and not self._force:
            raise GameGirlError(
                f"{where} holds something else now ({kind_of(present)}): nothing was changed. "
                "--force puts that into quarantine and replaces it"
            )
        place = place_of(copy.key)
        if place is not None and place.part is Part.GAME:
            self._hold(copy, content, present)
        else:
            # Whoever hosts the channels looks at what came back, although nobody speaks there.
            self._due = time.time()
        replaced = None
        if present is not None:
            item = Quarantined.whole(copy.key, present, f"replaced by restoring {copy.name}")
            writes, (replaced,) = quarantine_writes(self._actor, [item], time.time())
            self._writes += [*writes, Drop(copy.key)]
        ttl = int(Settings().hash_ttl_seconds) if copy.key.startswith(_HASH_FORM) else -1
        self._writes.append(write_of(copy.key, content, ttl))
        self.done.append(PutBack(copy, replaced=replaced))

    def _hold(self, copy: Copy, content: Content, present: Stored) -> None:
        """A game's key says who holds the game: it must stay held by one."""
        now, then = _holder(present), _holder(content)
        if now is not None and now.startswith(_AT_CHANNEL):
            raise GameActiveError(
                f"{copy.name} can't be put back: its game is active in channel {_channel(now)}: "
                "exit it there first"
            )
        if then is not None and then.startswith(_AT_CHANNEL):
            raise GameActiveError(
                f"{copy.name} can't be put back: it only says that its game was in channel "
                f"{_channel(then)}; what there is of the game is among that channel's keys"
            )
        if present is None or isinstance(present, Mapping):
            moved = GameActiveError(
                f"the game at {copy.key} changed hands in this moment: look at it, then restore "
                "again; nothing was changed"
            )
            held = None if now is None else as_text(now)
            self._requires.append(Require(copy.key, _HOLDER, held, moved))

    def commit(self) -> Commit:
        """All of it as one commit, which gives the channel up again."""
        return Commit(
            self._actor,
            self._claimed.owner,
            self._claimed.revision + 1,
            secrets.token_hex(8),
            self._writes,
            self._requires,
            due=self._due,
            release=True,
        )


def _actor_of(copies: Sequence[Copy]) -> ActorKey:
    """Whose the copies are.

    Raises:
        InvalidInputError: They aren't one's, or not of keys that may be written for it.
    """
    actors = {copy.actor for copy in copies}
    actor = copies[0].actor
    if len(actors) != 1 or actor is None:
        names = ", ".join(sorted(copy.owner for copy in copies))
        raise InvalidInputError(f"these are of several channels ({names}): restore one at a time")
    if len({copy.key for copy in copies}) != len(copies):
        raise InvalidInputError("two of these are copies of the same key: restore one of them")
    for copy in copies:
        place = place_of(copy.key)
        if place is None:
            fine = actor.kind != "session" and not copy.key.startswith(_OURS)
        elif place.part is Part.GAME:
            fine = actor.kind == "session"
        else:
            fine = place.actor == actor
        if not fine:
            raise InvalidInputError(
                f"{copy.name} can't be put back: {copy.key!r} is no key of {called(actor)}"
            )
    return actor


def _holder(value: Stored) -> bytes | None:
    return fields_of(value).get(_HOLDER.encode())


def _channel(holder: bytes) -> str:
    return repr(holder.removeprefix(_AT_CHANNEL).decode("utf-8", "replace"))
