"""What must not be seen: passwords anywhere, forged lines in a log, code in what is stored."""

from __future__ import annotations

import ast
import json
import logging
import secrets
import socket
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import redis
from typer.testing import CliRunner

from gamegirl.actors import (
    ActorCrashedError,
    Behaviour,
    Decision,
    GameGirlError,
    InvalidInputError,
    PutText,
    StoreUnavailableError,
)
from gamegirl.actors.session import ClosedTurn, Session, TurnGivenUp
from gamegirl.actors.session._keys import json_key
from gamegirl.cli._app import app
from gamegirl.supervisor import MemoryStore, RedisStore, Settings, Supervisor, open_store
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Process

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

SECRET = secrets.token_hex(8)
"""Not written anywhere, so that no line of source in a traceback shows it."""

QUICK = Settings(commit_timeout_seconds=0.2, drain_seconds=0.2, lease_seconds=0.3)

FORMS = [
    "{scheme}://ana:{secret}@{address}",
    "{scheme}://:{secret}@{address}",
    "{scheme}://{address}?password={secret}",
    "{scheme}://{address}?username=ana&password={secret}",
    "{scheme}://ana:%40{secret}%2F%3A@{address}",
]
BAD = [
    "redis://ana:{secret}@host:port/0",
    "redis://ana:{secret}@[host/0",
    "redis://ana:{secret}@host:99999",
    "redis://ana:x/{secret}@host/0",
    "redis://ana:12/{secret}@host/0",
    "redis://ana:x?{secret}@host/0",
    "redis://ana:x#{secret}@host/0",
    "redis://host:{secret}/0",
    "redis://ana:{secret}@host/0?nonsense={secret}",
    "redis://ana:{secret}@host/0?db={secret}",
    "redis://ana:{secret}@host/0?socket_timeout={secret}",
    "rediss://ana:{secret}@host/0?ssl_cert_reqs={secret}",
    "rediss://ana:{secret}@host/0?ssl_min_version={secret}",
    "http://ana:{secret}@host",
    "ana:{secret}@host:6379",
    "redis:/ana:{secret}@host",
    "redis//:{secret}@host",
    "sqlite://ana:{secret}@host/games.db",
]


def shown_by(error: BaseException) -> str:
    """All that anybody could print of an error: its chain, also the suppressed part, its fields."""
    seen: list[str] = ["".join(traceback.format_exception(error))]
    left, known = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(seen)


def test_the_search_finds_what_is_suppressed() -> None:
    """The control: `from None` hides a cause from a traceback, not from whoever looks."""
    error = InvalidInputError("no")
    error.__context__, error.__suppress_context__ = ValueError(SECRET), True
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET in shown_by(error)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def urls(scheme: str, address: str) -> Iterator[str]:
    for form in FORMS:
        yield form.format(scheme=scheme, address=address, secret=SECRET)


async def start(store: RedisStore | str) -> str:
    """Everything that shows when a supervisor on this store can't start."""
    shown: list[str] = []
    try:
        supervisor = Supervisor(store, settings=QUICK)
        shown += [repr(supervisor), repr(supervisor.statistics())]
        with pytest.raises(GameGirlError) as caught:
            await supervisor.start()
        shown += [shown_by(caught.value), repr(supervisor)]
    except InvalidInputError as error:
        shown.append(shown_by(error))
    return "\n".join(shown)


async def test_no_error_log_or_repr_shows_a_password(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong password, nobody there, no TLS, no such socket: no form of a URL is given away."""
    real = redis_url.removeprefix("redis://")
    tried = [
        *urls("redis", real),
        *urls("redis", f"127.0.0.1:{free_port()}/0"),
        *urls("redis", "no..host/0"),
        *urls("rediss", real),
        *urls("unix", f"{tmp_path}/no.sock"),
    ]
    with caplog.at_level(logging.DEBUG):
        for url in tried:
            shown = await start(RedisStore(url, timeout_seconds=0.2))
            assert "Redis could not open" in shown
            assert SECRET not in shown
    assert SECRET not in caplog.text


@pytest.mark.parametrize("form", BAD)
async def test_what_is_wrong_with_a_url_is_told_without_its_password(form: str) -> None:
    """Also where the password is what is wrong: not escaped, or in the port's place."""
    url = form.format(secret=SECRET)
    with pytest.raises(InvalidInputError) as caught:
        open_store(url)
    assert SECRET not in shown_by(caught.value)
    assert SECRET not in await start(url)


async def test_a_url_forges_no_line() -> None:
    """A URL with a line's end in it is told on one line."""
    for url in ("redis://host\n:forged", "nonsense\nforged\x1b[2J", "redis://h/\u2028?x=1"):
        with pytest.raises(InvalidInputError) as caught:
            open_store(url)
        assert str(caught.value).isprintable()
    assert repr(RedisStore("redis://host/\u2028\n")).isprintable()


async def test_a_password_that_is_changed_while_a_game_is_played_shows_nowhere(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is lost and says why, in errors, events and the log; then it comes back."""
    admin: Any = redis.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]

    def let_in(password: str) -> None:
        admin.execute_command("ACL", "SETUSER", "ana", "reset", "on", f">{password}", "~*", "+@all")
        admin.execute_command("CLIENT", "KILL", "USER", "ana")

    let_in(SECRET)
    url = redis_url.replace("redis://", f"redis://ana:{SECRET}@")
    seen: list[str] = []
    try:
        with caplog.at_level(logging.DEBUG):
            async with Supervisor(url, settings=QUICK) as supervisor:
                events = supervisor.events()
                session = supervisor.session("c")
                await session.boot("G")
                let_in("another")
                with pytest.raises(StoreUnavailableError, match="user or password") as caught:
                    await session.press("1", "Ana", "x", press_id="p")
                seen += [shown_by(caught.value), repr(supervisor), repr(supervisor.statistics())]
                let_in(SECRET)
                assert (await session.press("1", "Ana", "x", press_id="p")).opened
                events.close()
                seen += [repr(event) async for event in events]
    finally:
        admin.execute_command("ACL", "DELUSER", "ana")
        admin.close()
    assert "StoreLost" in caplog.text
    assert SECRET not in caplog.text + "".join(seen)


def test_no_command_shows_a_password(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is written nor what is told beside it, by option or by environment."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    runner = CliRunner()
    commands: list[Sequence[str]] = [
        ("games", "--json"),
        ("show", "c"),
        ("play", "c"),
        ("wipe", "c", "--yes"),
        ("forget", "a" * 12),
        ("export", "-"),
    ]
    wrong = redis_url.replace("redis://", f"redis://ana:{SECRET}@")
    for url in (wrong, f"unix://:{SECRET}@{tmp_path}/no.sock", *BAD):
        target = url.format(secret=SECRET)
        for command in commands if url is wrong else commands[:1]:
            by_option = runner.invoke(app, [*command, "--store", target], input="")
            by_environment = runner.invoke(app, command, input="", env={"GAMEGIRL_STORE": target})
            for result in (by_option, by_environment):
                assert result.exit_code == 1, result.output
                assert "Error: " in result.stderr
                assert SECRET not in result.output
                assert result.exception is None or SECRET not in shown_by(result.exception)


EVIL = "A\nERROR forged\r\x1b[2J\u2028\u2029\u202eb\x00\x85\ud800"


class Loud(Exception):
    """Says of itself what no line may hold."""

    def __repr__(self) -> str:
        return EVIL


class Mute(Exception):
    """Says nothing of itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


@attrs.define
class Nothing:
    actor_id: str


class Careless(Behaviour[Nothing]):
    """Raises what it is told to."""

    kind = "careless"

    def initial(self, actor_id: str) -> Nothing:
        return Nothing(actor_id)

    def handle(self, state: Nothing, message: Any, now: float) -> Decision:
        raise message


async def test_one_event_is_one_line_of_the_log_whatever_is_in_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Line ends, escape sequences, separators and turned-around text of any origin are escaped."""

    async def fail(turn: ClosedTurn, session: Session) -> str:
        raise ConnectionError(EVIL)

    store = MemoryStore()
    player = {"user_id": "1", "user_name": EVIL}
    form = {
        "game_id": "a" * 12,
        "game_name": EVIL,
        "active": True,
        "crown_holder": EVIL,
        "players": {"1": player, EVIL: 7},
    }
    await store.open(Process("vandal"), 1.0)
    (claim,) = await store.claim([Claim(ActorKey("vandal", "v"), (), "n")])
    assert isinstance(claim, Claimed)
    writes = [PutText(json_key("c\u202e"), json.dumps(form).replace("\\ud800", "?"))]
    await store.commit([Commit(ActorKey("vandal", "v"), claim.owner, 1, "c", writes)])
    with caplog.at_level(logging.INFO, "gamegirl"):
        async with Supervisor(
            store,
            settings=attrs.evolve(QUICK, turn_retries_max=0),
            on_turn=fail,
            behaviours=[Careless()],
        ) as supervisor:
            session = supervisor.session("c\u202e")
            events = supervisor.events()
            assert (await session.state()).active
            await session.press("2", "B\u202eo", EVIL.replace("\ud800", ""))
            await session.close_window()
            with anyio.fail_after(5):
                async for event in events:
                    if isinstance(event, TurnGivenUp):
                        break
            await session.set_crown("2")
            await session.exit()
            for error in (Loud(EVIL), Mute(), KeyError(EVIL)):
                with pytest.raises(ActorCrashedError) as caught:
                    await supervisor.actor("careless", "x\u202ey").ask(error)
                assert str(caught.value).isprintable()
    lines = [record.getMessage() for record in caplog.records if record.name == "gamegirl"]
    kinds = [line.partition("(")[0] for line in lines]
    assert kinds.count("ActorCrashed") == 3
    for kind in ("ActorRestored", "ContentQuarantined", "PlayerJoined", "CrownMoved", "GameExited"):
        assert kind in kinds
    assert {"TurnAttemptFailed", "TurnGivenUp"} & set(kinds)
    assert [line for line in lines if not line.isprintable()] == []
    assert "in handle" in next(line for line in lines if line.startswith("ActorCrashed"))


FORBIDDEN = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}


def executes(source: str) -> list[str]:
    """What of a module could make code out of data."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Name) and node.id in CALLS:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and node.attr in ("loads", "load"):
            names = [ast.unparse(node.value)]
        found += [name for name in names if FORBIDDEN & set(name.split("."))]
    return found


def test_nothing_that_is_stored_is_ever_run() -> None:
    """No pickle, marshal, shelve or yaml, no eval or exec, in any of our source."""
    roots = ("codec", "actors", "supervisor")
    modules = [path for root in roots for path in ROOT.glob(f"{root}/**/*.py")]
    assert len(modules) > 50
    found = {str(path): executes(path.read_text()) for path in modules}
    assert {path: names for path, names in found.items() if names} == {}
    for bad in ("import pickle", "from yaml import load", "eval('1')", "import shelve as s"):
        assert executes(bad)
