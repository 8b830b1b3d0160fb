"""Looking at a channel without claiming it, whoever owns it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs

from gamegirl.actors import (
    GameActiveError,
    NeedsMore,
    Restored,
    SessionQuarantinedError,
    Stored,
)
from gamegirl.actors.session import (
    Session,
    SessionBehaviour,
    SessionRef,
    SessionRules,
    SessionState,
)
from gamegirl.cli._options import ANY_HISTORY
from gamegirl.codec import check_id
from gamegirl.supervisor import SqliteStore, Store
from gamegirl.supervisor.stores import ActorKey
from gamegirl.supervisor.stores._locks import ProcessLocks

LEASE_PREFIX = "gg:lease:"

_TRIES = 5

ANY_WINDOW_SECONDS = 10.0 * 365 * 86_400
"""An owner opens windows as long as its own settings say; here all are seen as they are."""


@attrs.frozen
class Owner:
    """The process that may change a channel.

    Attributes:
        token: Its owner token: epoch, nonce and process.
        process: The process's name.
        alive: Whether it lives; None: this store can't tell.
    """

    token: str
    process: str
    alive: bool | None

    def __str__(self) -> str:
        state = {True: "which is alive", False: "which is gone", None: "alive or not"}[self.alive]
        return f"process {self.process} (token {self.token}), {state}"


@attrs.frozen
class Look:
    """What a channel holds.

    Attributes:
        session: Its game.
        source: Which stored form it was read from; "new": nothing is stored.
        owner: Who may change it; None: nobody does.
        now: When this was read, in epoch seconds.
        reopens: Whether there are choices without a window: the next owner opens it in full.
        damaged: Parts that could not be read and were left out.
    """

    session: Session
    source: str
    owner: Owner | None
    now: float
    reopens: bool
    damaged: Sequence[str]


class Reader:
    """Asks a session's rules about what is stored, and stores nothing.

    It stands where a supervisor stands for a `SessionRef`, so that arguments are checked and
    answers made just as there.

    Args:
        store: Where the channel is kept; it need not be open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        rules = SessionRules(window_seconds=ANY_WINDOW_SECONDS, history_max=ANY_HISTORY)
        self._behaviour = SessionBehaviour(rules)

    def session(self, channel_id: str) -> SessionRef:
        """The channel's session, for reading."""
        return SessionRef(check_id(channel_id, "channel id"), self, _no_id, self._behaviour.rules)

    async def look(self, channel_id: str) -> Look:
        """All there is to see of a channel.

        Raises:
            SessionQuarantinedError: What is stored can't be read.
            GameActiveError: The channel changes games whenever it is read.
        """
        check_id(channel_id, "channel id")
        now = time.time()
        restored = await self._restore(channel_id, now)
        session = restored.state.snapshot()
        return Look(
            session,
            restored.source,
            await self._owner(channel_id),
            now,
            session.window is not None and session.window.opened_at == now,
            [f"{item.key}: {item.reason}" for item in restored.quarantined],
        )

    async def _owner(self, channel_id: str) -> Owner | None:
        (fence,) = await self._store.read([ActorKey(self._behaviour.kind, channel_id).fence])
        if not isinstance(fence, dict):
            return None
        token = fence.get(b"owner", b"").decode("utf-8", "replace")
        if not token:
            return None
        process = token.split(":", 2)[-1]
        return Owner(token, process, await self._lives(process))

    async def _lives(self, process: str) -> bool | None:
        store = self._store
        if isinstance(store, SqliteStore):
            # There a process lives as long as it holds its file lock.
            path = store._path  # pyright: ignore[reportPrivateUsage]
            locks = ProcessLocks(path.with_name(path.name + ".locks"))
            return locks.instance_of_living(process) is not None
        (lease,) = await store.read([LEASE_PREFIX + process])
        return lease is not None

    async def _restore(self, channel_id: str, now: float) -> Restored[SessionState]:
        restored = await self._at_one_moment(channel_id, now)
        if restored.state.quarantine:
            raise SessionQuarantinedError(
                f"channel {channel_id!r} can't be read: {restored.state.quarantine}; "
                "`gamegirl export` shows what is stored, `gamegirl wipe` deletes it"
            )
        return restored

    async def _at_one_moment(self, channel_id: str, now: float) -> Restored[SessionState]:
        """What is stored, read in one piece: between two reads a game may leave its channel."""
        keys = self._behaviour.keys(channel_id)
        further: tuple[str, ...] = ()  # Which ones these are is seen in what the others hold.
        for _ in range(_TRIES):
            stored = await self._store.read([*keys, *further])
            restored = self._behaviour.restore(channel_id, stored[: len(keys)], now)
            if not isinstance(restored, NeedsMore):
                return restored
            if further == tuple(restored.keys):
                assert restored.then is not None
                return restored.then(stored[len(keys) :])
            further = tuple(restored.keys)
        raise GameActiveError(
            f"channel {channel_id!r} changes games all the time: look at it once more"
        )

    # What a reference uses (`gamegirl.actors.Host`).

    async def ask(self, kind: str, actor_id: str, message: object) -> Any:
        """The rules' answer, as far as the stored state gives one."""
        now = time.time()
        restored = await self._restore(actor_id, now)
        decision = self._behaviour.handle(restored.state, message, now)
        if decision.error is not None:
            raise decision.error
        return decision.reply

    def tell(self, kind: str, actor_id: str, message: object) -> None:
        """Nobody is told anything here."""
        raise NotImplementedError

    def peek(self, kind: str, actor_id: str) -> None:
        """Nothing is live here."""
        return

    def changes(self, kind: str, actor_id: str) -> AsyncIterator[None]:
        """Nothing changes here."""
        raise NotImplementedError

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        """What the store holds in these keys now."""
        return await self._store.read(keys)


def _no_id() -> str:
    raise NotImplementedError
