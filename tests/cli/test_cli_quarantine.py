"""`quarantine`: what was put aside is listed, shown, put back byte for byte, and dropped."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from tests.cli.command import PATIENCE_SECONDS, Command, Player, answer

from gamegirl.actors import (
    Drop,
    GameActiveError,
    InvalidInputError,
    OwnedElsewhereError,
    PatchHash,
    PutHash,
    PutList,
    PutText,
    Quarantined,
    SessionQuarantinedError,
    Stored,
    Write,
)
from gamegirl.actors.session import SessionBehaviour
from gamegirl.cli import _drop
from gamegirl.cli._copies import Copy, read_copies
from gamegirl.cli._drop import drop_copies
from gamegirl.cli._putback import put_back
from gamegirl.cli._target import default_path
from gamegirl.codec import GameGirlError
from gamegirl.supervisor import ActorRestored, MemoryStore, Store, Supervisor, open_store
from gamegirl.supervisor._quarantine import QUARANTINE_KEY, quarantine_writes
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Done, Process

HOSTS = pytest.mark.parametrize("host", ["asyncio", "trio"])
STORES = pytest.mark.parametrize("kind", ["sqlite", "redis"])

JSON, HASH = "game:session:demo", "sg:game_session:demo"
HISTORY, WINDOW = "game:session:demo:history", "gg:session:demo:window"
KEYS = SessionBehaviour().keys("demo")
SCRIPT = "Ana: Open the door\nBen: run\n/close\nBen: sing\n/quit\n"
DEMO = ActorKey("session", "demo")


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{kind}_url")
    return found


@pytest.fixture(params=["memory", "sqlite", "redis"])
def handle(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Makes handles on one store of each kind."""
    if request.param == "memory":
        memory = MemoryStore()
        return memory.sibling
    path = f"sqlite:///{tmp_path / 'games.db'}"
    place: str = request.getfixturevalue("redis_url") if request.param == "redis" else path
    return lambda: open_store(place)


@asynccontextmanager
async def opened(store: Store) -> AsyncGenerator[Store]:
    await store.open(Process(f"test-{id(store):x}"), 10.0)
    try:
        yield store
    finally:
        await store.aclose()


async def write(store: Store, *writes: Write) -> None:
    """Change keys of an open store behind everybody's back."""
    actor = ActorKey("vandal", "v")
    (claimed,) = await store.claim([Claim(actor, (), "n")])
    assert isinstance(claimed, Claimed)
    number = claimed.revision + 1
    commit = Commit(actor, claimed.owner, number, f"c{number}", writes, release=True)
    assert await store.commit([commit]) == [Done()]


def spoil(url: str, *writes: Write) -> None:
    async def work() -> None:
        async with opened(open_store(url)) as store:
            await write(store, *writes)

    anyio.run(work)


def held(url: str, *keys: str) -> dict[str, Stored]:
    """What the keys hold."""

    async def work() -> dict[str, Stored]:
        store = open_store(url)
        try:
            return dict(zip(keys, await store.read(keys), strict=True))
        finally:
            await store.aclose()

    return anyio.run(work)


def visited(url: str) -> None:
    """A bot looks at the channel, and puts aside what it can't read."""

    async def work() -> None:
        async with Supervisor(url) as supervisor:
            with suppress(SessionQuarantinedError):
                await supervisor.session("demo").state()

    anyio.run(work)


def put_aside(url: str, *items: Quarantined, actor: ActorKey = DEMO) -> list[str]:
    """Put copies aside as the runtime does; returns their names."""
    writes, names = quarantine_writes(actor, items, 1_700_000_000.0)
    spoil(url, *writes)
    return list(names)


def listed(gamegirl: Command, url: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer(
        gamegirl("quarantine", "list", "--json", "--store", url, *options)
    )
    return found


@pytest.fixture
def played(gamegirl: Command, url: str) -> str:
    """A store with a game in `demo`: one turn in its history, an open window."""
    done = gamegirl("play", "demo", "--window", "300", "--store", url, typed=SCRIPT)
    assert done.exit_code == 0, done.output
    return url


@STORES
def test_an_empty_quarantine_says_so(gamegirl: Command, url: str) -> None:
    """Nothing there is no error, for a person and for a program; no database is made for it."""
    spoil(url)
    told = gamegirl("quarantine", "list", "--store", url)
    assert (told.exit_code, told.stdout) == (0, "Nothing is in quarantine.\n")
    assert listed(gamegirl, url) == []
    for given in (("--all",), ("--channel", "demo"), ("gone#0123",)):
        done = gamegirl("quarantine", "drop", *given, "--store", url)
        assert (done.exit_code, done.stdout) == (0, "Nothing to drop.\n")
    assert gamegirl("quarantine", "drop", "--all").exit_code == 0
    assert not default_path().exists()


@pytest.mark.parametrize("command", ["list", "show", "restore", "drop"])
def test_every_command_helps_with_examples(gamegirl: Command, command: str) -> None:
    """--help shows how the command is used."""
    helped = gamegirl("quarantine", command, "--help")
    assert helped.exit_code == 0
    assert f"• gamegirl quarantine {command}" in helped.stdout
    assert "--store" in helped.stdout


@STORES
@HOSTS
def test_what_the_runtime_puts_aside_is_listed(gamegirl: Command, played: str, host: str) -> None:
    """Entry, key, channel, time, reason and size of each copy, for people and for programs."""
    spoil(played, PutText(JSON, b'{"\x1b[2J'))
    visited(played)
    (copy,) = listed(gamegirl, played, "--backend", host)
    assert copy["entry"].startswith(JSON + "#")
    assert copy.pop("at") == pytest.approx(copy_time(played), abs=1)
    assert "JSON" in copy.pop("reason")
    assert copy == {
        "entry": copy["entry"],
        "key": JSON,
        "type": "string",
        "kind": "session",
        "actor_id": "demo",
        "channel_id": "demo",
        "size": 6,
    }
    told = gamegirl("quarantine", "list", "--store", played, "--channel", "demo").stdout
    for said in (copy["entry"], "demo", " UTC", "string"):
        assert said in told
    assert listed(gamegirl, played, "--channel", "other") == []
    assert gamegirl("quarantine", "list", "--store", played, "--channel", "").exit_code == 1


def copy_time(url: str) -> float:
    """When the first entry says that it was put aside."""
    entries = held(url, QUARANTINE_KEY)[QUARANTINE_KEY]
    assert isinstance(entries, dict)
    at: float = json.loads(next(iter(entries.values())))["at"]
    return at


@STORES
def test_a_copy_is_shown_safely_and_exactly(gamegirl: Command, url: str) -> None:
    """Control characters are escaped for people; programs and files get the very bytes."""
    content = b'\x1b[2J\x00\xff{"a":\r\n"\xe2\x80\xae' + "Zoë".encode()
    (name,) = put_aside(url, Quarantined.whole(JSON, content, "why\x07"))
    told = gamegirl("quarantine", "show", name, "--store", url).stdout
    assert r'\x1b[2J\x00\xff{"a":\r\n"\u202eZoë' in told
    assert r"why\x07" in told
    assert not set(told) & set("\x1b\x00\x07\r\u202e")
    for fact in (name, JSON, "demo", "2023-11-14 22:13:20 UTC", "string"):
        assert fact in told
    plain = answer(gamegirl("quarantine", "show", name, "--json", "--store", url))
    assert base64.b64decode(plain["value"]) == content
    digest = name.rpartition("#")[2]
    raw = gamegirl("quarantine", "show", digest, "--raw", "--store", url)
    assert raw.stdout_bytes == content
    both = gamegirl("quarantine", "show", name, "--raw", "--json", "--store", url)
    assert both.exit_code == 2
    missing = gamegirl("quarantine", "show", "nothing", "--store", url)
    assert missing.exit_code == 1
    assert "there is no 'nothing' in quarantine" in missing.stderr


@STORES
@HOSTS
def test_a_wiped_channel_comes_back_from_its_copies_byte_for_byte(
    gamegirl: Command, played: str, kind: str, host: str
) -> None:
    """Texts, hashes and lists return with their types, also with bytes that are no UTF-8."""
    spoil(
        played,
        PatchHash(HASH, {"odd": b"\xff\x00"}),
        Drop(JSON),
        PutList(JSON, [b"\xfe", b"\\xfe", "ü".encode()]),
    )
    visited(played)
    before = held(played, *KEYS)
    names = [copy["entry"] for copy in listed(gamegirl, played)]
    assert {copy["key"] for copy in listed(gamegirl, played)} == {
        key for key, value in before.items() if value is not None
    }
    gamegirl("wipe", "demo", "--yes", "--store", played)
    assert set(held(played, *KEYS).values()) == {None}
    back = gamegirl("quarantine", "restore", *names, "--backend", host, "--store", played)
    assert back.exit_code == 0, back.output
    assert f"Put {JSON} (demo) back" in back.stdout
    assert held(played, *KEYS) == before
    assert [copy["entry"] for copy in listed(gamegirl, played)] == names
    again = gamegirl("quarantine", "restore", *names, "--backend", host, "--store", played)
    assert again.exit_code == 0
    assert f"{JSON} (demo) holds just that already." in again.stdout
    if kind == "redis":
        with redis.Redis.from_url(played) as client:  # pyright: ignore[reportUnknownMemberType]
            assert 14_000 < client.ttl(HASH) <= 14_400
            assert client.ttl(HISTORY) == -1


@STORES
def test_a_game_that_is_put_back_goes_on_although_nobody_speaks(
    gamegirl: Command, played: str
) -> None:
    """Whoever hosts the store takes the channel up at once, with its open window."""
    spoil(played, Drop(JSON), PutList(JSON, ["in the way"]))
    visited(played)
    names = [copy["entry"] for copy in listed(gamegirl, played) if copy["key"] != JSON]
    gamegirl("wipe", "demo", "--yes", "--store", played)
    back = gamegirl("quarantine", "restore", *names, "--store", played)
    assert back.exit_code == 0, back.output

    async def host() -> Any:
        async with Supervisor(played) as supervisor:
            with anyio.fail_after(PATIENCE_SECONDS):
                async for event in supervisor.events():
                    if isinstance(event, ActorRestored) and event.actor_id == "demo":
                        break
            return await supervisor.session("demo").state()

    state = anyio.run(host)
    assert (state.active, state.turn_number) == (True, 1)
    assert state.window is not None
    assert dict(state.pending_choices) == {"ben": "sing"}


@STORES
def test_what_is_there_gives_way_only_when_asked_and_is_kept(
    gamegirl: Command, played: str
) -> None:
    """Without --force nothing changes; with it, what is there is a copy that can be put back."""
    (good,) = held(played, HASH).values()
    spoil(played, PutText(JSON, b"{"))
    visited(played)  # The hash has served, and the JSON form was written anew.
    (copy,) = listed(gamegirl, played)
    mended = held(played, *KEYS)
    assert mended[JSON] not in (None, b"{")
    refused = gamegirl("quarantine", "restore", copy["entry"], "--store", played)
    assert refused.exit_code == 1
    assert f"{JSON} of channel 'demo' holds something else now (a text of" in refused.stderr
    assert "--force" in refused.stderr
    assert held(played, *KEYS) == mended
    assert len(listed(gamegirl, played)) == 1
    forced = gamegirl("quarantine", "restore", copy["entry"], "--force", "--store", played)
    assert forced.exit_code == 0, forced.output
    assert held(played, JSON) == {JSON: b"{"}
    (replaced,) = [one for one in listed(gamegirl, played) if one["entry"] != copy["entry"]]
    assert f"What was there is now {replaced['entry']}." in forced.stdout
    assert replaced["reason"] == f"replaced by restoring {copy['entry']}"
    gamegirl("quarantine", "restore", replaced["entry"], "--force", "--store", played)
    assert held(played, *KEYS) == mended
    assert good is not None


@STORES
def test_a_copy_of_another_type_replaces_only_when_asked(gamegirl: Command, url: str) -> None:
    """A hash goes back where a text is now; where no copy can be made, never."""
    (name,) = put_aside(url, Quarantined.whole(HASH, {b"a": b"\xff"}, "why"))
    spoil(url, PutText(HASH, "text"))
    assert gamegirl("quarantine", "restore", name, "--store", url).exit_code == 1
    assert gamegirl("quarantine", "restore", name, "--force", "--store", url).exit_code == 0
    assert held(url, HASH) == {HASH: {b"a": b"\xff"}}


def test_a_set_is_never_replaced(gamegirl: Command, redis_url: str) -> None:
    """What no copy can be made of stays, --force or not, and the message says what to do."""
    (name,) = put_aside(redis_url, Quarantined.whole(HASH, {b"a": b"b"}, "why"))
    with redis.Redis.from_url(redis_url) as client:  # pyright: ignore[reportUnknownMemberType]
        client.sadd(HASH, "x")
        refused = gamegirl("quarantine", "restore", name, "--force", "--store", redis_url)
        assert refused.exit_code == 1
        assert "holds a set, of which no copy can be made: rename that key" in refused.stderr
        assert client.smembers(HASH) == {b"x"}


@STORES
def test_a_part_is_not_put_back_and_the_message_says_what_to_do(
    gamegirl: Command, played: str
) -> None:
    """A malformed player is no whole key: its roster would be overwritten with it."""
    (form,) = held(played, JSON).values()
    assert isinstance(form, bytes)
    plain = json.loads(form)
    plain["players"]["bad"] = 7
    spoil(played, PutText(JSON, json.dumps(plain)))
    visited(played)
    before = held(played, *KEYS)
    parts = [copy for copy in listed(gamegirl, played) if copy["type"] == "part"]
    assert [copy["key"] for copy in parts] == [JSON]
    name = parts[0]["entry"]
    refused = gamegirl("quarantine", "restore", name, "--force", "--store", played)
    assert refused.exit_code == 1
    assert f"it is a part of what {JSON} held, not all of it" in refused.stderr
    assert "--raw" in refused.stderr
    assert "gamegirl import" in refused.stderr
    assert held(played, *KEYS) == before
    raw = gamegirl("quarantine", "show", name, "--raw", "--store", played).stdout
    assert json.loads(raw) == {"bad": 7}


@STORES
def test_old_and_damaged_entries_are_read_and_dropped(gamegirl: Command, url: str) -> None:
    """Entries without a type are whole but for restoring; what is no entry is still shown."""
    old = {
        "key": JSON,
        "reason": "old",
        "kind": "session",
        "actor_id": "demo",
        "at": 1.0,
        "value": base64.b64encode(b"{").decode(),
    }
    strange: dict[str, Any] = {
        "old#1": json.dumps(old),
        "poll#2": json.dumps({**old, "kind": "poll", "actor_id": "p", "at": 10**400}),
        "no-base64#3": json.dumps({**old, "value": "?"}),
        "no-text#4": json.dumps({**old, "reason": 7}),
        "no-json\x1b#5": b"\xff\x00",
        "no-hash#6": json.dumps({**old, "type": "hash"}),
        "no-time#7": json.dumps({**old, "type": "zset", "at": True}),
    }
    spoil(url, PatchHash(QUARANTINE_KEY, strange))
    found = {copy["entry"]: copy for copy in listed(gamegirl, url)}
    assert found.keys() == strange.keys()
    assert found["old#1"]["type"] is None
    assert found["old#1"]["at"] == 1.0
    assert found["poll#2"]["at"] is found["poll#2"]["channel_id"] is None
    assert found["no-text#4"]["key"] is None
    table = gamegirl("quarantine", "list", "--store", url).stdout
    assert "poll p" in table
    assert "the entry itself can't be read" in table
    assert "\x1b" not in table
    assert gamegirl("quarantine", "show", "1", "--raw", "--store", url).stdout == "{"
    assert gamegirl("quarantine", "show", "5", "--raw", "--store", url).stdout_bytes == b"\xff\x00"
    for name, why in (
        ("old#1", "before entries noted whether"),
        ("no-text#4", "the entry itself can't be read"),
        ("no-hash#6", "it is no hash"),
        ("no-time#7", "held a zset, of which no copy can be made"),
    ):
        refused = gamegirl("quarantine", "restore", name, "--store", url)
        assert refused.exit_code == 1
        assert why in refused.stderr, name
    done = gamegirl("quarantine", "drop", "5", "old#1", "old#1", "--yes", "--store", url)
    assert (done.exit_code, done.stdout) == (0, "Dropped 2 entries.\n")
    assert listed(gamegirl, url, "--channel", "demo") != []
    done = gamegirl("quarantine", "drop", "--all", "--yes", "--store", url)
    assert (done.exit_code, done.stdout) == (0, "Dropped 5 entries.\n")


@STORES
def test_a_quarantine_of_another_type_is_named(gamegirl: Command, url: str) -> None:
    """A text where the hash should be is an error, not an empty quarantine."""
    spoil(url, PutText(QUARANTINE_KEY, "x"))
    refused = gamegirl("quarantine", "list", "--store", url)
    assert refused.exit_code == 1
    assert "gg:quarantine holds a text of 1 bytes, not a hash" in refused.stderr


@STORES
def test_a_channel_that_is_being_played_is_left_to_its_owner(
    gamegirl: Command, url: str, kind: str, playing: Callable[..., Player]
) -> None:
    """Restoring says who owns it and changes nothing; looking and dropping need no claim."""
    names = put_aside(
        url, Quarantined.whole(HISTORY, [b"{}"], "why"), Quarantined.whole(JSON, b"{", "why")
    )
    player = playing(url, "demo")
    player.wait_for("Awaiting input")
    before = held(url, *KEYS)
    refused = gamegirl("quarantine", "restore", names[0], "--force", "--store", url)
    assert refused.exit_code == 1
    assert "channel 'demo' is owned by " in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert held(url, *KEYS) == before
    assert len(listed(gamegirl, url)) == 2
    done = gamegirl("quarantine", "drop", names[1], "--yes", "--store", url)
    assert (done.exit_code, done.stdout) == (0, "Dropped 1 entry.\n")
    player.type("/quit")
    assert player.end() == 0
    assert gamegirl("quarantine", "restore", names[0], "--force", "--store", url).exit_code == 0
    assert held(url, HISTORY) == {HISTORY: [b"{}"]}


@STORES
def test_dropping_asks_first(gamegirl: Command, url: str) -> None:
    """No is no; yes drops what was named, and doing it again is no error."""
    many = [Quarantined.whole(JSON, b"%d" % number, "why") for number in range(12)]
    names = put_aside(url, *many)
    (other,) = put_aside(
        url, Quarantined.whole("game:session:b", b"x", ""), actor=ActorKey("session", "b")
    )
    refused = gamegirl("quarantine", "drop", "--all", "--store", url, typed="n\n")
    assert refused.exit_code == 1
    assert "Drop 13 entries, for good?" in refused.stderr
    assert "… and 3 more" in refused.stderr
    assert len(listed(gamegirl, url)) == 13
    done = gamegirl("quarantine", "drop", names[0], names[1], "--store", url, typed="y\n")
    assert (done.exit_code, done.stdout) == (0, " y\nDropped 2 entries.\n")
    again = gamegirl("quarantine", "drop", names[0], names[2], "-y", "--store", url)
    assert (again.exit_code, again.stdout) == (0, "Dropped 1 entry.\n")
    assert f"{names[0]} isn't in quarantine" in again.stderr
    done = gamegirl("quarantine", "drop", "--channel", "demo", "-y", "--store", url)
    assert (done.exit_code, done.stdout) == (0, "Dropped 9 entries.\n")
    assert [copy["entry"] for copy in listed(gamegirl, url)] == [other]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--all", "--channel", "demo"), ("x#1", "--all"), ("x#1", "--channel", "demo")],
)
def test_what_is_to_be_dropped_must_be_said_once(
    gamegirl: Command, sqlite_url: str, arguments: tuple[str, ...]
) -> None:
    """Entries, a channel or all: none or two of them is a wrong command line."""
    wrong = gamegirl("quarantine", "drop", *arguments, "--yes", "--store", sqlite_url)
    assert wrong.exit_code == 2
    assert "--all" in wrong.stderr


def test_an_ambiguous_digest_is_refused(gamegirl: Command, sqlite_url: str) -> None:
    """The part after the # will do only where it means one entry."""
    spoil(sqlite_url, PatchHash(QUARANTINE_KEY, {"a#1": "{}", "b#1": "{}"}))
    refused = gamegirl("quarantine", "show", "1", "--store", sqlite_url)
    assert refused.exit_code == 1
    assert "'1' are several entries: a#1, b#1" in refused.stderr


@STORES
def test_a_copy_that_is_found_again_while_it_is_dropped_is_kept(
    gamegirl: Command, url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and the answer a bot has put one there anew: that is told."""
    names = put_aside(url, *(Quarantined.whole(JSON, text, "why") for text in (b"1", b"2", b"3")))

    def meanwhile(*_: Any, **__: Any) -> bool:
        writes, _names = quarantine_writes(DEMO, [Quarantined.whole(JSON, b"2", "why")], 9.0)
        spoil(url, *writes, PatchHash(QUARANTINE_KEY, remove=[names[2]]))
        return True

    monkeypatch.setattr("typer.confirm", meanwhile)
    done = gamegirl("quarantine", "drop", "--all", "--store", url)
    assert (done.exit_code, done.stdout) == (1, "Dropped 1 entry.\n")
    assert f"{names[1]} was put there anew meanwhile: kept." in done.stderr
    assert f"{names[2]} was gone already." in done.stderr
    assert [copy["entry"] for copy in listed(gamegirl, url)] == [names[1]]


@pytest.mark.anyio
async def test_droppers_and_bots_at_once_lose_nothing(handle: Callable[[], Store]) -> None:
    """Each copy is dropped by one of two people, and whatever comes meanwhile stays."""
    old = [Quarantined.whole(JSON, b"old %d" % number, "") for number in range(250)]
    new = [Quarantined.whole(JSON, b"new %d" % number, "") for number in range(60)]
    async with opened(handle()) as bot:
        writes, _ = quarantine_writes(DEMO, old, 1.0)
        await write(bot, *writes)
        copies = await read_copies(bot)
        counts: list[int] = []

        async def drop() -> None:
            counts.append((await drop_copies(handle(), copies)).count)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drop)
            tasks.start_soon(drop)
            for item in new:
                writes, _ = quarantine_writes(DEMO, [item], 2.0)
                await write(bot, *writes)
        assert sum(counts) == len(old)
        left = {copy.value for copy in await read_copies(bot)}
        assert left == {item.value for item in new}


@pytest.mark.anyio
async def test_a_dropper_that_hangs_is_named_after_a_while(
    handle: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for another one who drops has an end."""
    monkeypatch.setattr(_drop, "WAIT_SECONDS", 0.1)
    async with opened(handle()) as other:
        (claimed,) = await other.claim([Claim(_drop.KEEPER, (), "n")])
        assert isinstance(claimed, Claimed)
        copy = Copy("a#1", b"{}")
        with pytest.raises(OwnedElsewhereError, match="nothing was dropped; try again"):
            await drop_copies(handle(), [copy])
    assert (await drop_copies(handle(), [copy])).gone == ["a#1"]


@pytest.mark.anyio
async def test_large_copies_are_dropped_a_few_at_a_time(
    handle: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large they are, all of them go."""
    monkeypatch.setattr(_drop, "BATCH_BYTES", 3000)
    async with opened(handle()) as bot:
        items = [Quarantined.whole(JSON, bytes([number]) * 1000, "") for number in range(7)]
        writes, _ = quarantine_writes(DEMO, items, 1.0)
        await write(bot, *writes)
        assert (await drop_copies(handle(), await read_copies(bot))).count == 7
        assert await read_copies(bot) == []


async def copies_of(store: Store, *items: Quarantined, actor: ActorKey = DEMO) -> list[Copy]:
    """Copies as they are read after they were put aside."""
    writes, names = quarantine_writes(actor, items, 1.0)
    await write(store, *writes)
    found = {copy.name: copy for copy in await read_copies(store)}
    return [found[name] for name in names]


@pytest.mark.anyio
async def test_a_game_is_never_put_back_over_one_that_is_active(
    handle: Callable[[], Store],
) -> None:
    """A save replaces only a save, and the word of a channel is no game."""
    game = "gg:game:abc"
    async with opened(handle()) as store:
        save, word = await copies_of(
            store,
            Quarantined.whole(game, {b"holder": b"save:1", b"session": b"{}"}, ""),
            Quarantined.whole(game, {b"holder": b"channel:demo"}, ""),
        )
        await put_back(handle(), [save], force=False)
        assert await store.read([game]) == [{b"holder": b"save:1", b"session": b"{}"}]
        await write(store, PutHash(game, {"holder": "save:2"}))
        with pytest.raises(GameGirlError, match="--force"):
            await put_back(handle(), [save], force=False)
        (done,) = await put_back(handle(), [save], force=True)
        assert done.replaced is not None
        await write(store, PutHash(game, {"holder": "channel:far"}))
        with pytest.raises(GameActiveError, match="its game is active in channel 'far': exit it"):
            await put_back(handle(), [save], force=True)
        await write(store, Drop(game))
        with pytest.raises(GameActiveError, match="it only says that its game was in channel"):
            await put_back(handle(), [word], force=True)
        assert await store.read([game]) == [None]
        await write(store, PutText(game, "x"))
        await put_back(handle(), [save], force=True)
        assert await store.read([game]) == [{b"holder": b"save:1", b"session": b"{}"}]


@pytest.mark.anyio
async def test_a_game_that_changes_hands_meanwhile_is_not_overwritten(
    handle: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the game is compared in the commit itself."""
    game = "gg:game:abc"
    async with opened(handle()) as store:
        (save,) = await copies_of(store, Quarantined.whole(game, {b"holder": b"save:1"}, ""))
        mine = handle()
        commit = mine.commit

        async def late(commits: Any) -> Any:
            if commits[0].writes:
                await write(store, PutHash(game, {"holder": "channel:far"}))
            return await commit(commits)

        monkeypatch.setattr(mine, "commit", late)
        with pytest.raises(GameActiveError, match="changed hands"):
            await put_back(mine, [save], force=True)
        assert await store.read([game]) == [{b"holder": b"channel:far"}]
        (claimed,) = await store.claim([Claim(DEMO, (), "n")])
        assert isinstance(claimed, Claimed)


@pytest.mark.anyio
async def test_a_channel_that_is_taken_over_meanwhile_is_not_written(
    handle: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence refuses the write of a command that has lost the channel."""
    async with opened(handle()) as store:
        (copy,) = await copies_of(store, Quarantined.whole(JSON, b"{", ""))
        mine = handle()
        commit = mine.commit

        async def late(commits: Any) -> Any:
            fence = {"owner": "9:n:other", "rev": "0", "cid": ""}
            await write(store, PutHash(DEMO.fence, fence))
            return await commit(commits)

        monkeypatch.setattr(mine, "commit", late)
        with pytest.raises(GameGirlError, match="was taken over by another process"):
            await put_back(mine, [copy], force=True)
        assert await store.read([JSON]) == [None]


@pytest.mark.anyio
async def test_only_an_actors_own_keys_are_written_for_it(handle: Callable[[], Store]) -> None:
    """An entry that names a fence, another channel or the listing is refused."""
    poll = ActorKey("poll", "p")
    async with opened(handle()) as store:
        for actor, key in (
            (DEMO, "gg:fence:session:demo"),
            (DEMO, "game:session:other"),
            (DEMO, "game:index"),
            (DEMO, "anything"),
            (poll, "gg:game:abc"),
            (poll, "gg:due"),
            (poll, "gg:actor:poll:q"),
        ):
            copies = await copies_of(store, Quarantined.whole(key, {b"a": b"b"}, ""), actor=actor)
            with pytest.raises(InvalidInputError, match="is no key of"):
                await put_back(handle(), copies, force=True)
        for key in ("gg:actor:poll:p", "polls"):
            copies = await copies_of(store, Quarantined.whole(key, [b"\xff"], ""), actor=poll)
            await put_back(handle(), copies, force=False)
            assert await store.read([key]) == [[b"\xff"]]
        both = await copies_of(
            store, Quarantined.whole(JSON, b"1", ""), Quarantined.whole(JSON, b"2", "")
        )
        with pytest.raises(InvalidInputError, match="of the same key"):
            await put_back(handle(), both, force=True)
        with pytest.raises(InvalidInputError, match="of several channels"):
            await put_back(handle(), [both[0], *copies], force=True)
