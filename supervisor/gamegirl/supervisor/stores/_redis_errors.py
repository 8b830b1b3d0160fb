"""What goes wrong between us and Redis, translated once, at the border.

Classes alone don't say it: redis-py raises busy-loading and authentication errors as kinds of
ConnectionError, and MISCONF, NOREPLICAS or BUSY as bare ResponseErrors; inside a script older
servers wrap the reason into a longer text. So the code words decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redis import exceptions

from gamegirl.actors import Fate, StoreUnavailableError

_NOPERM = r"NOPERM|[Nn]o permissions|can't (run|execute) this command|can't access at least one"
_PASSWORD = "it refuses our user or password: check the store's URL and the server's users"
_REPLICA = r"READONLY|read only replica"
_CUT_OFF = r"MASTERDOWN|[Ll]ink with MASTER is down"
_MEANINGS = (
    (r"CERTIFICATE_VERIFY_FAILED",
     "its certificate isn't for this host, or not trusted: see the host, and ssl_ca_certs="),
    (r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure|wrong version number",
     "it doesn't speak TLS on that port: take its TLS port, or redis:// instead of rediss://"),
    (r"NOAUTH|WRONGPASS|invalid (username-)?password|without any password|Authentication required",
     _PASSWORD),
    (r"unauthenticated (multi)?bulk length", _PASSWORD),  # What a long command gets.
    (_NOPERM, "our user may not do that: give it the ACL rule of docs/operations.md"),
    (r"OOM|used memory > 'maxmemory'",
     "it is out of memory: raise maxmemory; all goes on as soon as there is room"),
    (_REPLICA,
     "it is a read-only replica: the URL must lead to the primary"),
    (r"MISCONF|unable to persist|not able to persist",
     "it can't save to its disk and refuses writes: look at its log and its disk"),
    (r"NOREPLICAS|good replicas|good slaves",
     "it has too few good replicas to accept writes (min-replicas-to-write)"),
    (r"LOADING|loading the dataset", "it is still loading its data set"),
    (_CUT_OFF, "it is a replica that has lost its primary"),
    (r"CLUSTERDOWN|MOVED|ASK|CROSSSLOT|TRYAGAIN",
     "it is a cluster: GameGirl needs a standalone Redis or Valkey"),
    (r"BUSY|busy running a script",
     "it is busy with somebody's long script: wait, or SCRIPT KILL it"),
    (r"max number of clients|Too many connections|EXECABORT",
     "it has no connection left for us: raise maxclients or close other clients"),
    (r"GGINDEX", "gg:due is not the due index: move that key aside"),
)  # fmt: skip


def _pattern(words: str) -> re.Pattern[str]:
    """What finds one of the words anywhere in a text."""
    return re.compile("|".join(rf"(?<!\w){word}(?!\w)" for word in words.split("|")))


_PATTERNS = tuple((_pattern(words), meaning) for words, meaning in _MEANINGS)
_ELSEWHERE = _pattern(f"{_REPLICA}|{_CUT_OFF}")


def unavailable(
    error: Exception, doing: str, fate: Fate, rights: Sequence[str] = ()
) -> StoreUnavailableError:
    """The error for callers, whatever redis-py raised when we tried to do it."""
    reason = lacking(rights) if rights else _reason(error)
    return StoreUnavailableError(f"Redis could not {doing}: {reason}", fate=fate)


def nonsense(error: Exception) -> StoreUnavailableError:
    """The error for callers when the server's answer makes no sense."""
    return StoreUnavailableError(
        f"Redis answered a script in a way that nobody understands ({error}): "
        "is it a Redis 6.2 to 8 or a Valkey?",
        fate=Fate.IN_DOUBT,
    )


def denied(error: Exception) -> bool:
    """Whether it was refused because our user has no right to it."""
    return re.search(_NOPERM, str(error)) is not None


def elsewhere(answer: object) -> bool:
    """Whether a server says so that another one is the primary now: its address is looked up anew.

    A script that was refused says it in the middle of a text of its own.
    """
    refused = isinstance(answer, exceptions.ResponseError)
    return refused and _ELSEWHERE.search(str(answer)) is not None


def lacking(rights: Sequence[str]) -> str:
    """That our user has no right to these."""
    return (
        f"our user may not do that, it lacks {' '.join(rights)}: give it the ACL rule of "
        "docs/operations.md"
    )


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, exceptions.RedisError):
        for pattern, meaning in _PATTERNS:
            if pattern.search(text):
                return meaning
    if isinstance(error, exceptions.AuthenticationError):
        return _PASSWORD
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "it did not answer in time: it is down, stuck or too far away"
    if isinstance(error, exceptions.ConnectionError | OSError | UnicodeError):
        return f"no connection ({text:.200}): start it, or check the store's URL"
    return f"it answered something unexpected ({type(error).__name__}: {text:.300})"
