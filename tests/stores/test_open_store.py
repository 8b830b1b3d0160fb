"""Which store a URL opens."""

from __future__ import annotations

import warnings

import pytest

from gamegirl.actors import InvalidInputError
from gamegirl.supervisor import Supervisor
from gamegirl.supervisor.stores import MemoryStore, RedisStore, SqliteStore, open_store


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "RedisStore('redis://localhost:6379/0')"),
        ("REDIS://localhost", "RedisStore('redis://localhost')"),
        ("rediss://u:p@host:1/2", "RedisStore('rediss://u:***@host:1/2')"),
        ("unix:///run/redis.sock?db=1", "RedisStore('unix:///run/redis.sock')"),
        ("sqlite:///games.db", "SqliteStore('games.db')"),
        ("sqlite:////var/lib/games.db", "SqliteStore('/var/lib/games.db')"),
        ("sqlite:///a b/%20.db", "SqliteStore('a b/%20.db')"),
        ("memory://", "MemoryStore(0 keys)"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    """Every documented form opens its store, without any input or output."""
    assert repr(open_store(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "", "redis", "localhost:6379", "http://u:s3cret@host", "sqlite://", "sqlite:///",
        "sqlite://games.db", "sqlite:///:memory:", "memory://x", "postgres://u:s3cret@[", "://",
    ],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    """Anything else is refused with what is possible, and no password is shown."""
    with pytest.raises(InvalidInputError, match="sqlite:///") as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("thing", [1, b"memory://", MemoryStore, object()])
def test_things_that_are_no_store(thing: object) -> None:
    """What is neither text nor a store is refused."""
    with pytest.raises(InvalidInputError, match="is no store"):
        open_store(thing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_store_objects_are_given_back() -> None:
    """A store is a store already."""
    for store in (MemoryStore(), SqliteStore("games.db"), RedisStore("redis://localhost")):
        assert open_store(store) is store


def test_environment() -> None:
    """Without a URL the environment decides."""
    store = open_store(None, {"GAMEGIRL_STORE": "sqlite:///games.db"})
    assert isinstance(store, SqliteStore)


@pytest.mark.parametrize("environ", [{}, {"GAMEGIRL_STORE": ""}])
def test_no_store_at_all(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a memory store, and a warning that it forgets, which leads to the host's line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert isinstance(open_store(None, environ), MemoryStore)
        monkeypatch.setattr("os.environ", environ)
        Supervisor()
    for warning in caught:
        assert "GAMEGIRL_STORE" in str(warning.message)
        assert warning.filename == __file__
    assert len(caught) == 2


def test_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own environment is the one that counts by default."""
    monkeypatch.setenv("GAMEGIRL_STORE", "memory://")
    assert isinstance(open_store(None), MemoryStore)
