"""What a key of Redis holds, and what becomes of it when somebody damages it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import attrs


@attrs.frozen
class Other:
    """What a key of a type that the runtime never writes there holds, in some readable form."""

    type: str
    content: object


Held: TypeAlias = "bytes | dict[bytes, bytes] | list[bytes] | Other | None"

_DEEP = 20_000
_LONG = 200_000
_WRONG: tuple[Any, ...] = ([], {}, "", "x", None, True, 0, [[1]], {"a": {"b": []}}, "\ud800", 1.5)
_NUMBERS: tuple[Any, ...] = (
    10**400,
    -1,
    10**15,
    2**63,
    -(2**63),
    1e308,
    float("inf"),
    float("nan"),
    -0.0,
    1e-320,
)
_SCHEMAS = (b"2", b"999999999999999999999", b"", b"-1", b"1.0", b"one", b"\xff", b"[1]")
_JUNK = (b"\0", b"}", b" x", b",", b"\xff\xfe", b"\n{}", b"\xed\xa0\x80")


def read_keys(client: Any, keys: Sequence[str]) -> dict[str, Held]:
    """What the keys hold, whatever type they are of."""
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    types = [found.decode() for found in pipe.execute()]
    for key, found in zip(keys, types, strict=True):
        _READS.get(found, _READS["none"])(pipe, key)
    return {
        key: _held(found, value)
        for key, found, value in zip(keys, types, pipe.execute(), strict=True)
    }


_READS: dict[str, Callable[[Any, str], Any]] = {
    "none": lambda pipe, key: pipe.type(key),
    "string": lambda pipe, key: pipe.get(key),
    "hash": lambda pipe, key: pipe.hgetall(key),
    "list": lambda pipe, key: pipe.lrange(key, 0, -1),
    "set": lambda pipe, key: pipe.smembers(key),
    "zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    "stream": lambda pipe, key: pipe.xrange(key),
}


def _held(found: str, value: Any) -> Held:
    if found == "none":
        return None
    if found in ("string", "hash", "list"):
        return cast("Held", value)
    return Other(found, sorted(value) if found == "set" else value)


def write_key(pipe: Any, key: str, held: Held) -> None:
    """Have the key hold this and nothing else, without a time to live."""
    pipe.delete(key)
    if isinstance(held, bytes):
        pipe.set(key, held)
    elif isinstance(held, dict):
        if held:
            pipe.hset(key, mapping=held)
    elif isinstance(held, list):
        if held:
            pipe.rpush(key, *held)
    elif isinstance(held, Other):
        _OTHERS[held.type](pipe, key)


_OTHERS: dict[str, Callable[[Any, str], Any]] = {
    "set": lambda pipe, key: pipe.sadd(key, b"a", b"b\xff"),
    "zset": lambda pipe, key: pipe.zadd(key, {b"a": 1.5, b"b\xff": -2.0}),
    "stream": lambda pipe, key: pipe.xadd(key, {b"a": b"b\xff"}, id="1-1"),
}


def damage(held: Held, chance: random.Random) -> tuple[str, Held]:
    """Something else for a key to hold, and what sort of damage it is."""
    if chance.random() < 0.12 or not isinstance(held, (bytes, dict, list)):
        return "wrong type", other_type(held, chance)
    if isinstance(held, bytes):
        return damage_bytes(held, chance)
    if isinstance(held, dict):
        return _damage_hash(held, chance)
    items = list(held)
    if items and chance.random() < 0.8:
        position = chance.randrange(len(items))
        kind, items[position] = damage_bytes(items[position], chance)
        return kind, items
    items.insert(chance.randint(0, len(items)), chance.randbytes(20))
    return "a strange item", items


def other_type(held: Held, chance: random.Random) -> Held:
    """Something of another type than this."""
    choices: list[Held] = [Other(name, None) for name in _OTHERS]
    choices += [
        value
        for value in (b"a text", {b"a": b"field\xff"}, [b"an item", b"\xff"])
        if not isinstance(held, type(value))
    ]
    return chance.choice(choices)


def _damage_hash(fields: dict[bytes, bytes], chance: random.Random) -> tuple[str, Held]:
    found = dict(fields)
    name = chance.choice(list(found))
    way = chance.random()
    if b"schema" in found and way < 0.2:
        found[b"schema"] = chance.choice(_SCHEMAS)
        return "another schema", found
    if way < 0.3:
        del found[name]
        return "a field is gone", found
    if way < 0.4:
        found[chance.randbytes(chance.randint(0, 12))] = chance.randbytes(9)
        return "a strange field", found
    kind, found[name] = damage_bytes(found[name], chance)
    return kind, found


def damage_bytes(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Other bytes, and what sort of damage it is."""
    return chance.choice(_WAYS)(value, chance)


def _noise(_: bytes, chance: random.Random) -> tuple[str, bytes]:
    return "random bytes", chance.randbytes(chance.randint(0, 200))


def _flips(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    changed = bytearray(value or b"\0")
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return "flipped bits", bytes(changed)


def _cut(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    return "cut short", value[: chance.randrange(len(value) + 1)]


def _longer(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    return "something behind it", value + chance.choice(_JUNK)


def _deep(_: bytes, chance: random.Random) -> tuple[str, bytes]:
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    whole = chance.random() < 0.5
    return "deep JSON", opening * _DEEP + (b"1" + closing * _DEEP if whole else b"")


def _long(_: bytes, chance: random.Random) -> tuple[str, bytes]:
    return "long JSON", json.dumps(
        "\u00e4" * _LONG if chance.random() < 0.5 else [0] * 999
    ).encode()


def _spelling(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    before, after = chance.choice(((b'"', b"'"), (b":", b"="), (b"}", b",}"), (b"{", b"{{")))
    return "broken JSON", value.replace(before, after, 1) + (b"" if before in value else b"'")


def _nesting(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    return "wrong nesting", _replaced(value, chance, _WRONG)


def _numbers(value: bytes, chance: random.Random) -> tuple[str, bytes]:
    return "huge numbers", _replaced(value, chance, _NUMBERS)


_WAYS = (_noise, _flips, _cut, _longer, _deep, _long, _spelling, _nesting, _nesting, _numbers)


def _replaced(value: bytes, chance: random.Random, others: Sequence[Any]) -> bytes:
    """The JSON with something in it replaced; of what is no JSON nothing is left."""
    other = chance.choice(others)
    plain: Any = loaded(value)
    places = list(_places(plain))
    if places and chance.random() < 0.9:
        container, at = chance.choice(places)
        container[at] = other
    else:
        plain = other
    return json.dumps(plain).encode()


def _places(plain: Any) -> Iterable[tuple[Any, Any]]:
    given: object = plain
    pairs: list[tuple[Any, Any]] = []
    if isinstance(given, dict):
        pairs = list(plain.items())
    elif isinstance(given, list):
        pairs = [(at, plain[at]) for at in range(len(plain))]
    for at, inner in pairs:
        yield plain, at
        yield from _places(inner)


NOTHING: Any = object()
"""What is no JSON at all says this."""


def loaded(value: bytes) -> Any:
    """The JSON, by the most forgiving reader there is; NOTHING if even that can't read it."""
    try:
        return json.loads(value.decode())
    except (ValueError, RecursionError):
        return NOTHING
