"""What seldom happens in the commands, and all of the old system's channels through them."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from rich.console import Console
from tests.cli.command import Command, answer

from gamegirl.actors import GameActiveError, InvalidInputError, OwnershipLostError, Stored
from gamegirl.actors.session import ClosedTurn, Session
from gamegirl.cli._console import clean, reported
from gamegirl.cli._narrator import narrate
from gamegirl.cli._peek import Look, Reader
from gamegirl.cli._play import show_events
from gamegirl.cli._screen import PlainScreen
from gamegirl.cli._table import Table
from gamegirl.supervisor import (
    ActorLost,
    Settings,
    SqliteStore,
    Store,
    StoreBack,
    StoreLost,
    Supervisor,
    is_compiled,
    open_store,
)
from gamegirl.supervisor._events import EventHub
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Process

LEGACY = Path(__file__).parents[1] / "legacy"

HOSTS = pytest.mark.parametrize("host", ["asyncio", "trio"])


def unpacked(name: str) -> str:
    """One of the files about the replaced system's data."""
    return gzip.decompress((LEGACY / name).read_bytes()).decode()


def plain(session: Session) -> dict[str, Any]:
    """A snapshot in the words of expected.json."""
    fields = attrs.asdict(session)
    del fields["window"], fields["closed_turns"]
    fields["players"] = {key: attrs.asdict(player) for key, player in session.players.items()}
    fields["pending_choices"] = dict(session.pending_choices)
    return fields


@HOSTS
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_every_old_channel_restores_after_an_import(
    gamegirl: Command, request: pytest.FixtureRequest, kind: str, host: str
) -> None:
    """All 200 channels are seen by `show` and restored by a supervisor as they were."""
    url: str = request.getfixturevalue(f"{kind}_url")
    done = gamegirl("import", "-", "--store", url, typed=unpacked("redis.jsonl.gz"))
    assert done.exit_code == 0, done.output
    expected: dict[str, Any] = json.loads(unpacked("expected.json.gz"))

    async def compare() -> None:
        store = open_store(url)
        reader = Reader(store)
        async with Supervisor(url) as supervisor:
            for channel_id, case in expected.items():
                seen = (await reader.look(channel_id)).session
                records = await reader.session(channel_id).history(50)
                ref = await supervisor.restore(channel_id)
                if case["restored"] is None:
                    assert ref is None
                    assert not seen.active
                else:
                    assert ref is not None
                    assert plain(seen) == case["restored"], case["case"]
                    assert plain(await ref.state()) == case["restored"], case["case"]
                assert [
                    attrs.asdict(record) | {"choices": dict(record.choices)} for record in records
                ] == case["history"], case["case"]
        await store.aclose()

    anyio.run(compare, backend=host)


@HOSTS
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_hosts_window_is_not_cut_short(
    gamegirl: Command, request: pytest.FixtureRequest, kind: str, host: str
) -> None:
    """A turn that a host gave an hour is played to its end, and so are those after it."""
    url: str = request.getfixturevalue(f"{kind}_url")

    async def open_window() -> None:
        async with Supervisor(url, settings=Settings(window_seconds=3600.0)) as supervisor:
            session = supervisor.session("demo")
            await session.boot("The Loop")
            await session.press("1", "Ana", "knock")

    anyio.run(open_window)
    lines = "/close\nAna: ring\n/quit\n"
    played = gamegirl("play", "demo", "--store", url, "--backend", host, typed=lines)
    left = [float(text) for text in re.findall(r"open for (?:another )?([0-9.]+) s", played.stdout)]
    assert len(left) == 3
    assert min(left) > 3000


class BetweenReads:
    """A store in which something happens after each of the first reads."""

    def __init__(self, store: Store, happens: Callable[[], Awaitable[object]], reads: int) -> None:
        self._store = store
        self._happens = happens
        self._left = reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        found = await self._store.read(keys)
        if self._left:
            self._left -= 1
            await self._happens()
        return found


async def look_while(url: str, act: str, reads: int) -> Look:
    """What is seen of a channel whose host changes games while it is looked at."""
    store = open_store(url)
    async with Supervisor(url) as supervisor:
        session = supervisor.session("demo")
        await session.boot("The Loop")

        async def happens() -> None:
            await (session.swap("Neon Catacombs") if act == "swap" else session.exit())

        seen: Any = BetweenReads(store, happens, reads)
        try:
            return await Reader(seen).look("demo")
        finally:
            await store.aclose()


@HOSTS
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
@pytest.mark.parametrize(
    ("act", "name", "active"), [("swap", "Neon Catacombs", True), ("exit", "The Loop", False)]
)
def test_a_game_that_goes_while_it_is_looked_at_is_no_damage(
    request: pytest.FixtureRequest, kind: str, act: str, name: str, *, active: bool, host: str
) -> None:
    """`show` sees the channel as it was at one moment, before or after."""
    url: str = request.getfixturevalue(f"{kind}_url")
    look = anyio.run(look_while, url, act, 1, backend=host)
    assert (look.session.game_name, look.session.active) == (name, active)
    assert look.damaged == []


def test_a_channel_that_never_rests_is_not_looked_at_for_ever(sqlite_url: str) -> None:
    """Whoever looks is told to try again, not what never was."""
    with pytest.raises(GameActiveError, match="channel 'demo' changes games all the time"):
        anyio.run(look_while, sqlite_url, "swap", 100)


def test_a_turn_that_waits_is_shown_and_told(gamegirl: Command, sqlite_url: str) -> None:
    """A closed turn that nobody has narrated is seen, and told by the next one to play."""

    async def leave_a_turn() -> None:
        async with Supervisor(sqlite_url) as supervisor:
            session = supervisor.session("demo")
            await session.boot("The Loop")
            await session.press("1", "Ana", "knock")
            await session.close_window()

    anyio.run(leave_a_turn)
    seen = gamegirl("show", "demo", "--store", sqlite_url).stdout
    assert "Turn 1 is closed and waits for its narrative." in seen
    (turn,) = answer(gamegirl("show", "demo", "--json", "--store", sqlite_url))["closed_turns"]
    assert (turn["turn"], turn["choices"]) == (1, {"1": "knock"})
    told = gamegirl("play", "demo", "--store", sqlite_url, typed="").stdout
    assert "Turn 1 is closed and waits for its story." in told
    assert "── Turn 1 ─" in told


@pytest.fixture(params=["sqlite", "redis"])
def long_told(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """A store with a host's game in `demo`: more is kept of it than by default, and all of that."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    told = [f"chapter {number}" for number in range(60)]

    async def tell() -> None:
        async with Supervisor(url, settings=Settings(history_max=200)) as supervisor:
            session = supervisor.session("demo")
            await session.boot("The Loop", game_id="loop")
            for text in told:
                await session.narrate(text)

    anyio.run(tell)
    return url, told


def narratives(gamegirl: Command, url: str) -> list[str]:
    """All that `history` shows."""
    records = answer(gamegirl("history", "demo", "-n", "500", "--json", "--store", url))
    return [record["narrative_summary"] for record in records]


def test_the_whole_history_of_a_host_is_shown(
    gamegirl: Command, long_told: tuple[str, list[str]]
) -> None:
    """How much is kept is the host's setting: `history` shows all that was asked for."""
    url, told = long_told
    assert narratives(gamegirl, url) == told


@pytest.mark.parametrize("first", ["", "/exit\n/load loop\n"], ids=["goes-on", "loaded"])
def test_playing_along_deletes_nothing_of_a_hosts_history(
    gamegirl: Command, long_told: tuple[str, list[str]], first: str
) -> None:
    """A turn that is told in a terminal, or a save that is loaded there, comes after all others."""
    url, told = long_told
    gamegirl("play", "demo", "--store", url, typed=f"{first}Ana: knock\n/close\n")
    assert narratives(gamegirl, url)[:-1] == told


def test_two_imports_do_not_write_the_listing_at_once(gamegirl: Command, sqlite_url: str) -> None:
    """The second one says that its listing was left out."""
    line = {"key": "game:index", "type": "hash", "ttl": -1, "value": {"g": "{}"}}

    async def hold_the_listing() -> None:
        store = SqliteStore(sqlite_url.removeprefix("sqlite:///"))
        await store.open(Process("other"), 10.0)
        (claimed,) = await store.claim([Claim(ActorKey("import", "index"), (), "n")])
        assert isinstance(claimed, Claimed)
        text = json.dumps(line) + "\n"
        done = await anyio.to_thread.run_sync(
            lambda: gamegirl("import", "-", "--store", sqlite_url, typed=text)
        )
        assert done.exit_code == 1
        assert "Skipped the listing of games: another import writes it" in done.stderr
        await store.aclose()

    anyio.run(hold_the_listing)


def test_without_trio_its_backend_is_refused(
    gamegirl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a question of usage, and the answer says what to install."""

    def nothing(name: str) -> None:
        """As where trio isn't installed."""

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    refused = gamegirl("play", "demo", "--backend", "trio")
    assert refused.exit_code == 2
    assert "pip install trio" in refused.stderr


@HOSTS
def test_players_are_told_of_a_lost_store_and_a_lost_channel(host: str) -> None:
    """The loss of the store is said and play waits; the loss of the channel ends it."""
    stream = io.StringIO()
    screen = PlainScreen(Console(file=stream))

    async def watch() -> None:
        hub = EventHub(10, lambda event: None)
        events = hub.stream()
        for event in (
            StoreLost("no route"),
            StoreBack(),
            "something else",
            ActorLost("session", "demo", ""),
        ):
            hub.publish(event)
        await show_events(events, Table(Supervisor("memory://"), "demo", screen), screen)

    with pytest.raises(OwnershipLostError, match="owned by nobody"):
        anyio.run(watch, backend=host)
    assert stream.getvalue() == (
        "The store is gone, play waits for it: no route\nThe store is back.\n"
    )


def test_only_our_own_errors_are_made_one_sentence() -> None:
    """Anything else is a bug, and keeps its traceback."""
    for error in (
        KeyError("x"),
        BrokenPipeError(),
        ExceptionGroup("", [KeyError("x")]),
        ExceptionGroup("", [KeyError("x"), InvalidInputError("y")]),
    ):
        with pytest.raises(type(error)), reported():
            raise error


def test_the_narrator_goes_on_alone() -> None:
    """A turn without choices has a story too, and always the same one."""
    turn = ClosedTurn("demo", "g", 1, {}, {}, None, 1.0, 2.0)
    session = Session("g", "", "demo", True, 1, "", None, {}, {}, None, (turn,))

    async def tell() -> str:
        return await narrate(turn, session)

    assert "Nobody says a word" in anyio.run(tell)
    assert anyio.run(tell) == anyio.run(tell)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain 李雷", "plain 李雷"), ("a\tb\nc\u3000d", "a b c d"), ("\x9b\x00\ud800", "\ufffd" * 3)],
)
def test_texts_are_made_harmless(text: str, shown: str) -> None:
    """Spaces of all kinds are spaces; what could steer a terminal is replaced."""
    assert clean(text) == shown


def test_the_version_is_told(gamegirl: Command) -> None:
    """As whoever reports a fault is asked for it."""
    result = gamegirl("--version")
    assert result.exit_code == 0
    built = ", compiled" if is_compiled() else ""
    told = rf"gamegirl \d+\.\d+\.\d+(\.dev\d+)?{built} \(Python 3\.\d+\.\d+\)\n"
    assert re.fullmatch(told, result.output)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("import", "-"), "name a file"), (("wipe", "demo"), "give --yes")],
    ids=["import", "wipe"],
)
def test_a_closed_standard_input_is_told_in_a_sentence(
    arguments: Sequence[str], told: str, sqlite_url: str
) -> None:
    """A service or a cron job may have none at all."""
    command = shlex.join([sys.executable, "-m", "gamegirl", *arguments, "--store", sqlite_url])
    done = subprocess.run(
        ["sh", "-c", f"{command} <&-"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "the standard input is closed" in " ".join(done.stderr.replace("│", " ").split())
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
