"""The rule of docs/operations.md for a Redis user: it is enough, nothing of it is too much."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import redis
from redis.exceptions import NoPermissionError
from tests.supervisor.hosts import Adder
from typer.testing import CliRunner

from gamegirl.actors import (
    AppendList,
    Drop,
    Fate,
    OwnedElsewhereError,
    PatchHash,
    PutHash,
    PutList,
    PutText,
    Require,
    StoreUnavailableError,
    Write,
)
from gamegirl.actors.session import TurnClosed
from gamegirl.cli._app import app
from gamegirl.supervisor import ContentQuarantined, RedisStore, Settings, Supervisor, SweepFailed
from gamegirl.supervisor.stores import (
    KEEP_DUE,
    ActorKey,
    BadType,
    Claim,
    Claimed,
    Commit,
    Done,
    Process,
    _scripts,
)
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
DAMAGED = json.dumps(
    {"game_id": "a" * 12, "game_name": "G", "active": True, "players": {"1": "broken"}}
)
PATTERNS = ["~gg:*", "~game:index", "~game:session:*", "~sg:game_session:*"]
QUICK = Settings(
    sweep_seconds=0.05,
    window_seconds=60.0,
)


def rule() -> list[str]:
    """What follows the user's name and password in the document's `ACL SETUSER`."""
    text = DOCUMENT.read_text()
    found = re.search(r"^ACL SETUSER bot on >password ((?:.|\n)*?)^```", text, re.MULTILINE)
    assert found is not None, "docs/operations.md has no rule"
    return found[1].split()


COMMANDS = [right for right in rule() if right.startswith("+")]


@attrs.frozen
class Bot:
    """A user of the server, and the server's own administrator.

    Attributes:
        url: With the user's name and password.
        admin: May do everything.
    """

    url: str
    admin: Any

    def give(self, *rights: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "bot", "reset", "on", ">pass word", *rights)

    def refused(self) -> list[str]:
        """What the user was refused, but for redis-py's introducing itself, which it may not."""
        objects = [entry["object"] for entry in self.admin.acl_log()]
        return [name for name in objects if not name.startswith("client")]

    def take(self, right: str) -> None:
        # Redis 6.2 has no way to take a subcommand back but with its whole command.
        command = right.removeprefix("+").partition("|")[0]
        self.admin.execute_command("ACL", "SETUSER", "bot", f"-{command}")


@pytest.fixture
def bot(redis_url: str) -> Iterator[Bot]:
    """A user with exactly the rights of the document."""
    admin: Any = redis.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    bot = Bot(redis_url.replace("redis://", "redis://bot:pass%20word@"), admin)
    bot.give(*rule())
    admin.acl_log_reset()  # Other tests try wrong passwords at the same server.
    yield bot
    admin.execute_command("ACL", "DELUSER", "bot")
    admin.close()


@asynccontextmanager
async def hosted(store: Any, **settings: Any) -> AsyncGenerator[Supervisor]:
    async with Supervisor(store, settings=attrs.evolve(QUICK, **settings)) as supervisor:
        yield supervisor


class OutOfReach(Adder):
    """Keeps its state where the document's user may not read."""

    kind = "outofreach"

    def keys(self, actor_id: str) -> Any:
        return (f"elsewhere:{actor_id}",)


async def test_an_actor_whose_keys_the_user_may_not_read_keeps_no_session_from_living(
    bot: Bot,
) -> None:
    """Sessions that are claimed together with it answer in time; it names the rule for users."""
    told: list[StoreUnavailableError] = []

    async def ask(supervisor: Supervisor) -> None:
        with pytest.raises(StoreUnavailableError, match="ACL rule") as caught:
            await supervisor.actor(OutOfReach.kind, "1").ask(1)
        told.append(caught.value)

    async with (
        Supervisor(bot.url, settings=QUICK, behaviours=[OutOfReach()]) as supervisor,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ask, supervisor)
        for channel in range(20):
            tasks.start_soon(supervisor.session(f"c{channel}").boot, "Evening")
    assert [error.fate for error in told] == [Fate.NOT_EXECUTED]


async def test_the_rule_is_enough_for_everything_a_supervisor_does(bot: Bot) -> None:
    """A whole evening with one process, another one after it, and damage on the way."""
    async with hosted(bot.url) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("Neon Catacombs")
        await session.narrate("It is dark.")
        await session.join("2", "Bo")
        await session.press("1", "Ana", "Open the door", press_id="p")
        turn = await session.close_window()
        assert turn is not None
        await session.record(turn, "It opens.")
        await session.set_crown("1")
        await session.set_title_screen("https://example.org/title.webp")
        await session.save()
        assert len(await session.history()) == 2
        assert len(await session.roster()) == 2
        swapped = await session.swap("Other")
        await session.press("1", "Ana", "x")
        await session.load(booted.game_id)
        await session.exit()
        assert [game.game_name for game in await supervisor.games()] == ["Neon Catacombs", "Other"]
        await supervisor.forget(swapped.booted.game_id)
        assert await supervisor.game(swapped.booted.game_id) is None
        await session.boot("Third")
        await supervisor.release("c")
        assert await supervisor.restore("c") is not None
        await session.wipe()
        assert await supervisor.restore("c") is None
    assert bot.refused() == []


async def test_the_rule_is_enough_for_takeovers_and_quarantine(bot: Bot) -> None:
    """Orphaned windows are swept up, a named instance takes over at once, damage is put aside."""
    bot.admin.set("game:session:damaged", DAMAGED)
    dying = FaultyStore(RedisStore(bot.url))
    dies_at_once = attrs.evolve(QUICK, lease_seconds=0.5, drain_seconds=0.01, window_seconds=0.5)
    first = Supervisor(dying, settings=dies_at_once)
    await first.start()
    await first.session("orphan").boot("G")
    await first.session("orphan").press("1", "Ana", "x")
    async with hosted(bot.url) as second:
        with pytest.raises(OwnedElsewhereError):
            await second.session("orphan").state()
        events = second.events()
        assert (await second.session("damaged").state()).players == {}
        dying.down = True
        await first.aclose()
        seen: list[type] = []
        with anyio.fail_after(10):
            async for event in events:
                seen.append(type(event))
                if {TurnClosed, ContentQuarantined} <= set(seen):
                    break
    async with hosted(bot.url, instance="one") as one, hosted(bot.url, instance="one") as two:
        await one.session("d").boot("G")
        assert (await two.session("d").state()).active
    assert bot.refused() == []


def test_the_rule_is_enough_for_the_commands(bot: Bot, tmp_path: Path) -> None:
    """Playing, looking, exporting, importing, forgetting, wiping."""
    file = str(tmp_path / "games.jsonl")
    runner = CliRunner()

    def call(*arguments: str, typed: str | None = None) -> Any:
        result = runner.invoke(
            app, [*arguments, "--store", bot.url], input=typed, catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return result

    call("play", "demo", "--window", "0.3", typed="Ana: Open the door\n/wait\n")
    game_id = json.loads(call("games", "--json").stdout)[0]["game_id"]
    call("show", "demo")
    call("history", "demo")
    call("export", file)
    call("wipe", "demo", "--yes")
    call("import", file)
    assert json.loads(call("games", "--json").stdout)[0]["game_id"] == game_id
    call("import", file, "--replace")
    call("play", "demo", typed="/exit\n")
    call("forget", game_id)
    bot.admin.set("game:session:damaged", "{no json")
    refused = runner.invoke(app, ["play", "damaged", "--store", bot.url], input="")
    assert refused.exit_code == 1
    (entry,) = [copy["entry"] for copy in json.loads(call("quarantine", "list", "--json").stdout)]
    call("quarantine", "show", entry)
    call("quarantine", "restore", "--force", entry)
    call("quarantine", "drop", "--yes", entry)
    assert bot.refused() == []


async def test_with_the_rule_nothing_else_can_be_read_or_done(bot: Bot) -> None:
    """Keys outside of the patterns, other commands and administration are closed to it."""
    others = ["secret", "game:", "game:sessions", "sg:other", "game:indexes", "ggg:x"]
    for key in others:
        bot.admin.set(key, "x")
    store = RedisStore(bot.url)
    await store.open(Process("p"), 5.0)
    (claim,) = await store.claim([Claim(ActorKey("session", "c"), (), "n")])
    assert isinstance(claim, Claimed)
    for key in others:
        with pytest.raises(StoreUnavailableError, match="may not do that"):
            await store.read([key])
        commit = Commit(ActorKey("session", "c"), claim.owner, 1, "c", [PutText(key, "y")])
        with pytest.raises(StoreUnavailableError, match="may not do that"):
            await store.commit([commit])
        assert bot.admin.get(key) == b"x"
    client: Any = redis.Redis.from_url(bot.url)  # pyright: ignore[reportUnknownMemberType]
    with client:
        for command in (
            ("GET", "secret"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"),
            ("ACL", "LIST"), ("EVAL", "return 1", "0"), ("SCRIPT", "FLUSH"), ("PUBLISH", "a", "b"),
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)
    await store.aclose()


PATIENT: dict[str, Any] = {"lease_seconds": 30.0, "sweep_seconds": 0.2}
Act = Callable[[Supervisor, Bot], Awaitable[object]]


async def press(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.session("c").press("9", "Zoe", "x", press_id="p")


async def press_after_a_restart(supervisor: Supervisor, bot: Bot) -> None:
    bot.admin.script_flush()
    await press(supervisor, bot)


async def save(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.session("c").save()


async def record(supervisor: Supervisor, bot: Bot) -> None:
    turn = await supervisor.session("c").next_turn()
    await supervisor.session("c").record(turn, "told")


async def wipe(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.session("c").wipe()


async def look_elsewhere(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.session("elsewhere").state()


async def restore(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.session("stored").state()


async def boot(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.session("empty").boot("New")


async def list_games(supervisor: Supervisor, bot: Bot) -> None:
    await supervisor.games()


async def forget(supervisor: Supervisor, bot: Bot) -> None:
    (saved,) = [game for game in await supervisor.games() if game.channel_id == "saved"]
    await supervisor.forget(saved.game_id)


async def sweep(supervisor: Supervisor, bot: Bot) -> None:
    async with supervisor.events() as events:
        with anyio.fail_after(5):
            async for event in events:
                if isinstance(event, SweepFailed):
                    raise StoreUnavailableError(event.reason)


NEEDED_BY: dict[str, Act] = {
    "+evalsha": press,
    "+script|load": press_after_a_restart,
    "+scan": list_games,
    "+get": restore,
    "+set": save,
    "+del": wipe,
    "+ttl": restore,
    "+pttl": look_elsewhere,
    "+type": boot,
    "+expire": save,
    "+incrby": boot,
    "+multi": restore,
    "+exec": restore,
    "+hget": boot,
    "+hgetall": restore,
    "+hmget": press,
    "+hset": press,
    "+hdel": forget,
    "+lrange": restore,
    "+rpush": record,
    "+ltrim": record,
    "+zadd": press,
    "+zrem": record,
    "+zrangebyscore": sweep,
}


OPTIONAL = {"+info", "+hlen"}


def settled(supervisor: Supervisor) -> bool:
    engine = supervisor._engine  # pyright: ignore[reportPrivateUsage]
    return supervisor.statistics().unsettled == 0 and not engine.commits.trouble


async def test_each_command_of_the_rule_is_needed(bot: Bot) -> None:
    """Without it an operation fails and says what is missing; with it again, all goes on."""
    assert set(NEEDED_BY) | OPTIONAL == set(COMMANDS)
    assert [right for right in rule() if right not in COMMANDS] == PATTERNS
    async with hosted(bot.url) as before:
        for channel in ("stored", "saved"):
            await before.session(channel).boot("G")
            await before.session(channel).narrate("told")
        await before.session("saved").exit()
    for right, act in NEEDED_BY.items():
        bot.give(*rule())
        # Who had no right to let go of a channel hasn't; and nobody is to take it by himself.
        bot.admin.delete("gg:due", *bot.admin.scan_iter("gg:fence:*"))
        async with (
            hosted(bot.url, **PATIENT, commit_timeout_seconds=0.3) as supervisor,
            hosted(bot.url, **PATIENT) as other,
        ):
            session = supervisor.session("c")
            await session.boot("G")
            await session.press("1", "Ana", "x")
            await session.close_window()
            await other.session("elsewhere").state()
            bot.take(right)
            with pytest.raises(StoreUnavailableError) as caught:
                await act(supervisor, bot)
            assert f"lacks {right}:" in str(caught.value), f"{right}: {caught.value}"
            bot.give(*rule())
            await eventually(partial(settled, supervisor))
            if act in (save, press, press_after_a_restart, list_games, restore, wipe, forget):
                await act(supervisor, bot)
            if act is record:
                assert [entry.turn for entry in await session.history()] == [1]
            await session.wipe()
            await supervisor.session("empty").wipe()
            if act is forget:
                await supervisor.session("saved").boot("G")
                await supervisor.session("saved").exit()


async def test_a_channel_is_restored_without_the_rights_that_may_be_left_out(bot: Bot) -> None:
    """What can't be read along is asked for."""
    bot.give(*(right for right in rule() if right not in OPTIONAL))
    async with hosted(bot.url) as supervisor:
        session = supervisor.session("c")
        await session.boot("Neon Catacombs")
        await session.press("1", "Ana", "left")
        await supervisor.release("c")
        assert (await session.state()).pending_choices == {"1": "left"}


async def test_a_store_opens_only_with_all_rights_and_names_those_it_lacks(bot: Bot) -> None:
    """Whoever may do only a part of it is told at once, not when a window stays open."""
    for missing in [*COMMANDS, *PATTERNS]:
        bot.give(*(right for right in rule() if right != missing))
        bot.admin.script_flush()
        store = RedisStore(bot.url)
        if missing in OPTIONAL:
            await store.open(Process("p"), 5.0)
        else:
            with pytest.raises(StoreUnavailableError, match="could not open") as caught:
                await store.open(Process("p"), 5.0)
            assert f"lacks {missing}:" in str(caught.value), str(caught.value)
            assert caught.value.fate is Fate.NOT_EXECUTED
        await store.aclose()
        bot.admin.execute_command("ACL", "SETUSER", "bot", "off")
    names = [key for key in bot.admin.scan_iter() if not key.startswith(b"gg:lease:")]
    assert names == []
    bot.give(*(right for right in rule() if right not in ("+zadd", "+hdel", "~game:index")))
    with pytest.raises(StoreUnavailableError, match=r"lacks \+hdel \+zadd ~game:index: give"):
        await RedisStore(bot.url).open(Process("p"), 5.0)


WRITES: list[Write] = [
    AppendList("game:session:c:history", ["new"], keep=2),
    PutText("game:session:c", "new"),
    PutHash("sg:game_session:c", {"a": "new"}, ttl_seconds=100),
    PatchHash("gg:session:c:window", {"a": "new"}, remove=("gone",)),
    PutList("gg:other", ["new"]),
    Drop("gg:session:c:turns"),
    AppendList("gg:more", ["new"], keep=50),
]
WRITING = ("hset", "hdel", "set", "del", "expire", "rpush", "ltrim", "zadd", "zrem", "type", "hget")


async def denied_commits(bot: Bot) -> list[str]:
    """The commands without which a commit leaves something behind, or happens twice at last."""
    wrong: list[str] = []
    keys = [write.key for write in WRITES]
    for command in WRITING:
        bot.give(*rule())
        bot.admin.flushall()
        bot.admin.rpush("game:session:c:history", "older", "old")
        bot.admin.hset("gg:session:c:window", mapping={"gone": "x", "stays": "x"})
        bot.admin.set("game:session:c", "old")
        bot.admin.hset("gg:session:c:turns", "1", "x")
        bot.admin.zadd("gg:due", {"session:c": 1})
        store = RedisStore(bot.url)
        await store.open(Process("p"), 60.0)
        (claim,) = await store.claim([Claim(ActorKey("session", "c"), (), "n")])
        assert isinstance(claim, Claimed)
        before = await store.entries([*keys, "gg:fence:session:c"])
        names = set(bot.admin.scan_iter())
        commit = Commit(
            ActorKey("session", "c"),
            claim.owner,
            1,
            "c1",
            WRITES,
            [Require("gg:game:x", "holder", None, StoreUnavailableError("taken"))],
            due=None if command == "zrem" else 5.0,
        )
        bot.take(f"+{command}")
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match=f"lacks \\+{command}:"):
                await store.commit([commit])
        bot.give(*rule())
        if await store.entries([*keys, "gg:fence:session:c"]) != before:
            wrong.append(command)
        elif set(bot.admin.scan_iter()) != names:
            wrong.append(f"{command} leaves a key")
        assert list(await store.commit([commit])) == [Done()]
        if bot.admin.lrange("game:session:c:history", 0, -1) != [b"old", b"new"]:
            wrong.append(f"{command} doubles")
        await store.aclose()
    return wrong


async def test_a_right_that_is_taken_away_leaves_no_half_of_a_commit(bot: Bot) -> None:
    """Nothing of it is written, however often it is sent; once the right is back, it happens."""
    assert await denied_commits(bot) == []


@pytest.mark.parametrize("command", ["hset", "type"])
async def test_a_right_that_is_taken_away_leaves_no_press(bot: Bot, command: str) -> None:
    """A lone patch isn't rehearsed: it is the first write, and fails before anything is written."""
    bot.give(*rule())
    bot.admin.set("gg:text", "x")
    store = RedisStore(bot.url)
    await store.open(Process("p"), 60.0)
    (claim,) = await store.claim([Claim(ActorKey("session", "c"), (), "n")])
    assert isinstance(claim, Claimed)
    keys = ("gg:session:c:window", "gg:text", "gg:fence:session:c", "gg:due")
    before = await store.entries(keys)
    patches = [PatchHash("gg:session:c:window", {"a": "1"}), PatchHash("gg:text", {"a": "1"})]
    commit = Commit(ActorKey("session", "c"), claim.owner, 1, "c1", patches[:1], due=KEEP_DUE)
    bot.take(f"+{command}")
    with pytest.raises(StoreUnavailableError, match=f"lacks \\+{command}:"):
        await store.commit([commit])
    bot.give(*rule())
    assert await store.entries(keys) == before
    outcomes = [
        (await store.commit([Commit(ActorKey("session", "c"), claim.owner, 1, "c1", [patch])]))[0]
        for patch in reversed(patches)
    ]
    assert outcomes == [BadType("gg:text", "string"), Done()]
    await store.aclose()


async def test_without_the_rehearsal_half_a_commit_would_stay(
    bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a script that just writes leaves halves, and what a list has got twice."""
    text = _scripts.COMMIT.text.decode().replace("rehearse(head, keys[k], rev)", "local _ = rev")
    monkeypatch.setattr(_scripts, "COMMIT", _scripts.Script.of(text))
    wrong = await denied_commits(bot)
    assert {"ltrim", "ltrim doubles", "expire doubles", "set doubles"} <= set(wrong)
