"""Which store a command works on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any, cast

import attrs

from gamegirl.actors import InvalidInputError
from gamegirl.cli._console import say
from gamegirl.supervisor import MemoryStore, Store, open_store
from gamegirl.supervisor.stores import ActorKey, Due

VARIABLE = "GAMEGIRL_STORE"

_SQLITE = "sqlite:///"


@attrs.frozen
class Target:
    """A store, before anything is opened.

    Attributes:
        url: What names it.
        named: Whether somebody named it; else it is the one in the data directory.
    """

    url: str
    named: bool

    @classmethod
    def of(cls, url: str | None) -> Target:
        """The store of `--store`, else of `$GAMEGIRL_STORE`, else in the data directory."""
        if url is not None:
            return cls(url, named=True)
        named = os.environ.get(VARIABLE)
        return cls(named, named=True) if named else cls(_SQLITE + str(default_path()), named=False)

    def for_writing(self) -> Store:
        """The store; a database that isn't there is made when it is opened."""
        self._announce()
        return open_store(self.url)

    def for_reading(self) -> Store:
        """The store; looking for games makes no database.

        Raises:
            InvalidInputError: Somebody named a database that isn't there.
        """
        self._announce()
        store = open_store(self.url)
        path = self.path
        if path is None or path.exists():
            return store
        if self.named:
            raise InvalidInputError(f"there is no database at {path}: look at --store")
        return MemoryStore()

    @property
    def path(self) -> Path | None:
        """The database, if it is one in a file."""
        scheme, _, rest = self.url.partition(":///")
        return Path(rest) if scheme.lower() == "sqlite" else None

    def _announce(self) -> None:
        if not self.named:
            say(f"Games are kept in {self.path} (--store, or ${VARIABLE}, names another place)")


def default_path() -> Path:
    """The database in the person's data directory."""
    root = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not root.is_absolute():
        root = Path.home() / ".local" / "share"
    return root / "gamegirl" / "games.db"


class OneChannel:
    """A store in which only one actor is ever due; all else is as in the store itself.

    A supervisor takes over whatever nobody alive owns and is due. One that a command runs must not:
    the other channels of the store are somebody else's games, with somebody else's narrator.
    """

    def __init__(self, store: Store, actor: ActorKey | None) -> None:
        self._store = store
        self._actor = actor

    def __repr__(self) -> str:
        return repr(self._store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def due(self, until: float, since: float = -inf) -> Sequence[Due]:
        """The one actor, if it is due."""
        return [due for due in await self._store.due(until, since) if due.actor == self._actor]


def only(actor: ActorKey | None, store: Store) -> Store:
    """The store for a supervisor that hosts this actor alone; None: that takes over nothing."""
    return cast(Store, OneChannel(store, actor))
