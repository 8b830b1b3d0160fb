"""The client of a Redis: from a URL, whose secrets are shown nowhere, or the host's own."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import urlsplit

import redis
import redis.connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from gamegirl.actors import InvalidInputError

_HOST = re.compile(r"(\[[^]]*]|[^:\[\]]*)(:[0-9]*)?")
_UNREADABLE = "its host, its port or an option can't be read"


def client_for(url: str, timeout_seconds: float) -> redis.Redis:
    """A client that isn't connected yet; the timeout is for connecting and for each answer.

    Raises:
        InvalidInputError: The URL can't be used; nothing of the error shows its password.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    problem = _cut_password(url)
    if not problem:
        try:
            options.update(cast(Any, redis.connection).parse_url(url))
            options.update(retry=Retry(NoBackoff(), 0), protocol=2, decode_responses=False)
            # Some options of redis.Redis mean nothing to a pool, so it is the pool that gets them.
            pool = redis.ConnectionPool(**options)
            cast(Any, pool).make_connection()  # Without input or output; it checks the options.
        except (ValueError, TypeError, redis.RedisError) as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            problem = f"it knows no option {unknown[1]!r}" if unknown else _UNREADABLE
        else:
            client = redis.Redis(connection_pool=pool)
            client.auto_close_connection_pool = True
            return client
    # Outside of the block: what was raised in there may show the password, and would be kept.
    raise InvalidInputError(
        f"{shown(url)} is no URL of a Redis ({problem}): write "
        "redis://user:password@host:6379/0, rediss://… or unix:///path/to.sock?db=0, with "
        "percent-encoded user and password"
    )


def _cut_password(url: str) -> str:
    """What is wrong with a URL that ends its host in the middle of a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    inside_path = parts.scheme != "unix" and "@" in parts.path
    inside_query = "@" in parts.query.partition("=")[0]
    if inside_path or inside_query or "@" in parts.fragment:
        return "there is an @ after its host: does the password hold a / ? or # as it is?"
    return ""


def checked_client(client: object) -> redis.Redis:
    """The host's own client, if it can be used.

    Raises:
        InvalidInputError: It can't.
    """
    if not isinstance(client, redis.Redis):
        raise InvalidInputError(
            "a RedisStore takes a URL or a synchronous redis.Redis client, not "
            f"{type(client).__module__}.{type(client).__qualname__}"
        )
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise InvalidInputError(
            "the client of a RedisStore must not decode responses: make it without "
            "decode_responses=True"
        )
    return client


def shown(url: str) -> str:
    """The URL without its secrets, for people; also one that isn't quite a URL, on one line.

    Example:
        >>> shown("redis://ana:s3cret@host:6379/0?password=s3cret")
        'redis://ana:***@host:6379/0'
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    address = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(address) :]
    path = re.split(r"[?#]", tail, maxsplit=1)[0]
    login, _, host = address.rpartition("@")
    user, colon, _ = login.partition(":")
    # What stands before an @, or where a port should be, may be a password that wasn't escaped.
    cut = "@" in path and bool(address)
    if cut or not _HOST.fullmatch(host) or ("@" in tail and not login and ":" in host):
        host, path = "…", ""
    text = f"{scheme}{separator}{user}{':***' if colon else ''}{'@' if login else ''}{host}{path}"
    return text if text.isprintable() else repr(text)[1:-1]
