"""The one place that turns what people write into a store."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import cast

from gamegirl.actors import InvalidInputError
from gamegirl.supervisor.stores._memory import MemoryStore
from gamegirl.supervisor.stores._protocol import Store
from gamegirl.supervisor.stores._redis import RedisStore
from gamegirl.supervisor.stores._redis_client import shown
from gamegirl.supervisor.stores._sqlite import SqliteStore

ENVIRONMENT_VARIABLE = "GAMEGIRL_STORE"

_POSSIBLE = (
    "Possible are redis://host:6379/0, rediss://… and unix:///path/to.sock (Redis or Valkey), "
    "sqlite:///relative/path.db, sqlite:////absolute/path.db, memory://, or a store object."
)


def open_store(target: str | Store | None, environ: Mapping[str, str] | None = None) -> Store:
    """The store that a URL names; it connects when it is opened.

    Args:
        target: A URL; a store, which is given back; None: the URL in `$GAMEGIRL_STORE`, else
            `memory://` with a warning.
        environ: Where to look for that variable; None: the process's environment.

    Raises:
        InvalidInputError: It names no store; the message lists what is possible.

    Example:
        >>> open_store("sqlite:///games.db")
        SqliteStore('games.db')
    """
    return opened(target, environ)


def opened(target: str | Store | None, environ: Mapping[str, str] | None = None) -> Store:
    """The same for what a host calls: the warning is about the host's own line."""
    if target is None:
        target = (os.environ if environ is None else environ).get(ENVIRONMENT_VARIABLE) or None
        if target is None:
            warnings.warn(
                "no store was named, so all games are gone when this process ends: give a URL, "
                f"or set ${ENVIRONMENT_VARIABLE} (memory:// says that you mean it)",
                stacklevel=3,
            )
            return MemoryStore()
    if not isinstance(target, str):
        return _checked(target)
    scheme, separator, rest = target.partition("://")
    if separator:
        scheme = scheme.lower()
        if scheme in ("redis", "rediss", "unix"):
            return RedisStore(scheme + separator + rest)
        if scheme == "sqlite":
            return SqliteStore(_path(rest))
        if scheme == "memory" and rest in ("", "/"):
            return MemoryStore()
    raise InvalidInputError(f"{shown(target)[:200]!r} names no store. {_POSSIBLE}")


def _path(rest: str) -> str:
    """The path after `sqlite://`: one slash ends the (empty) host, the path comes after it."""
    path = rest[1:]
    if not rest.startswith("/") or not path or path == ":memory:":
        raise InvalidInputError(
            f"{shown('sqlite://' + rest)} names no file: write sqlite:///relative/path.db or "
            "sqlite:////absolute/path.db (memory:// keeps nothing)"
        )
    return path


def _checked(target: object) -> Store:
    if isinstance(target, type) or not all(
        callable(getattr(target, name, None)) for name in ("open", "claim", "commit", "due")
    ):
        raise InvalidInputError(f"a {type(target).__name__} is no store. {_POSSIBLE}")
    return cast(Store, target)
