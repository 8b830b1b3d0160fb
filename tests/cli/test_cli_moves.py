"""`export` while games move between channels, and `import` of what doesn't fit together."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from gamegirl.actors import GameActiveError, GameGirlError, UnknownGameError
from gamegirl.cli._export import ROUNDS, export
from gamegirl.cli._import import Imported, Importer
from gamegirl.cli._lines import INDEX, read_lines
from gamegirl.supervisor import MemoryStore, Store, Supervisor, open_store
from gamegirl.supervisor.stores import Entry

pytestmark = pytest.mark.anyio

Deed = Callable[[], Awaitable[object]]


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """A store that several processes share."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


class Busy:
    """A store that is played in while it is read.

    Args:
        store: Which.
        deed: What is done before keys are read; it is told which.
    """

    def __init__(self, store: Store, deed: Callable[[Sequence[str]], Awaitable[object]]) -> None:
        self._store = store
        self._deed = deed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def entries(self, keys: Sequence[str]) -> Sequence[Entry]:
        await self._deed(keys)
        return await self._store.entries(keys)

    async def scan(self, prefix: str) -> AsyncIterator[Sequence[str]]:
        await self._deed([prefix])
        async for keys in self._store.scan(prefix):
            yield keys


async def exported(
    url: str, deed: Callable[[Sequence[str]], Awaitable[object]], *channels: str
) -> bytes:
    """What `export` writes while this is done."""
    written: list[str] = []
    store = open_store(url)
    try:
        await export(cast(Store, Busy(store, deed)), channels, written.append)
    finally:
        await store.aclose()
    return "".join(written).encode()


async def exported_in_the_middle(url: str, deed: Deed, *channels: str) -> bytes:
    """What `export` writes if this happens once between the channels and the games' own keys."""
    left = [deed]

    async def once(keys: Sequence[str]) -> None:
        if INDEX in keys and left:
            await left.pop()()

    return await exported(url, once, *channels)


async def nothing(_: Sequence[str]) -> None:
    """Nobody plays."""


async def imported(text: bytes, store: Store, *, replace: bool = False) -> Imported:
    return await Importer(store, read_lines(text.splitlines()), replace=replace).run()


async def play(supervisor: Supervisor, channel_id: str, game_id: str) -> None:
    """Boot a game with a player and a record that are named as it is."""
    session = supervisor.session(channel_id)
    await session.boot(game_id, game_id=game_id)
    await session.press("1", f"{game_id}'s player", "knock")
    turn = await session.close_window()
    assert turn is not None
    await session.record(turn, f"{game_id}'s story")


async def whole(store: Store, channels: Sequence[str], games: Sequence[str]) -> list[str]:
    """Which of the games can be played on, with all that belongs to them."""
    found: list[str] = []
    async with Supervisor(store) as supervisor:
        for channel_id in channels:
            if await supervisor.restore(channel_id) is not None:
                await supervisor.session(channel_id).exit()
        session = supervisor.session("elsewhere")
        for game_id in games:
            try:
                await session.load(game_id)
            except GameGirlError:
                continue
            players = [player.user_name for player, _ in await session.roster()]
            told = [record.narrative_summary for record in await session.history()]
            if (players, told) == ([f"{game_id}'s player"], [f"{game_id}'s story"]):
                found.append(game_id)
    return found


@pytest.mark.parametrize("move", ["load a save", "to a new channel", "between channels"])
async def test_a_game_that_moves_during_an_export_is_in_the_file(url: str, move: str) -> None:
    """Wherever it goes once its old place was read, it can be played after an import."""
    async with Supervisor(url) as supervisor:
        a, b = supervisor.session("a"), supervisor.session("b")
        await play(supervisor, "a", "saved")
        await a.swap("Other")
        other = (await a.state()).game_id
        await play(supervisor, "b", "played")

        async def deed() -> None:
            if move == "load a save":
                await b.load("saved")
            elif move == "to a new channel":
                await supervisor.session("new").load("saved")
            else:
                await b.exit()
                await a.load("played")
                await b.load(other)

        text = await exported_in_the_middle(url, deed)
    store = MemoryStore()
    done = await imported(text, store)
    assert done.skipped == []
    assert await whole(store, ["a", "b", "new"], ["saved", "played"]) == ["saved", "played"]


@pytest.mark.parametrize("seed", [1, 2, 4, 5, 6])
async def test_no_game_is_lost_however_games_move(seed: int, tmp_path: Any) -> None:
    """An export between whose reads games are loaded, swapped and exited at random has them all."""
    url = f"sqlite:///{tmp_path / 'games.db'}"
    dice = random.Random(seed)
    channels, games = ["a", "b", "c"], ["g1", "g2", "g3", "g4", "g5"]
    moves = 12
    async with Supervisor(url) as supervisor:
        for number, game_id in enumerate(games):
            channel_id = channels[number % 3]
            if (await supervisor.session(channel_id).state()).active:
                await supervisor.session(channel_id).exit()
            await play(supervisor, channel_id, game_id)

        async def move(_: Sequence[str]) -> None:
            nonlocal moves
            moves -= 1
            if moves < 0 or dice.random() < 0.2:
                return
            session = supervisor.session(dice.choice(channels))
            deeds: list[Deed] = [
                session.exit,
                lambda: session.swap("Other"),
                *[lambda game_id=game_id: session.load(game_id) for game_id in games],
            ]
            try:
                await dice.choice(deeds)()
            except GameGirlError:
                return

        text = await exported(url, move)
    store = MemoryStore()
    assert (await imported(text, store)).skipped == []
    assert await whole(store, channels, games) == games


async def test_an_export_that_cannot_keep_up_says_so(url: str) -> None:
    """It ends, names the game and the channel, and writes nothing that lacks a game."""
    async with Supervisor(url) as supervisor:
        await play(supervisor, "a", "one")
        await supervisor.session("a").exit()
        await play(supervisor, "a", "two")
        reads = 0

        async def swap(keys: Sequence[str]) -> None:
            nonlocal reads
            if any(key.startswith("gg:game:") for key in keys):
                reads += 1
                state = await supervisor.session("a").state()
                await supervisor.session("a").swap(f"{state.game_name} next")

        with pytest.raises(GameActiveError, match=r"channel 'a' faster than .* try again"):
            await exported(url, swap)
    assert reads <= ROUNDS + 10


async def test_a_game_that_has_left_is_not_exported_with_its_channel(url: str) -> None:
    """`--channel` leaves a game to the channel that holds it; that one can be imported later."""
    async with Supervisor(url) as supervisor:
        await play(supervisor, "a", "moved")
        await supervisor.session("a").exit()
        await supervisor.session("b").load("moved")
        left = await exported(url, nothing, "a")
        taken = await exported(url, nothing, "b")
    assert b"channel:b" not in left
    store = MemoryStore()
    assert (await imported(left, store)).skipped == []
    async with Supervisor(store) as supervisor:
        assert await supervisor.games() == ()
        with pytest.raises(UnknownGameError):
            await supervisor.session("a").load("moved")
        await supervisor.session("a").boot("Next")
    assert (await imported(taken, store)).skipped == []
    assert await whole(store, ["a", "b"], ["moved"]) == ["moved"]


@pytest.fixture
async def torn() -> bytes:
    """A file that lacks the channel's state in which it holds the game that it is said to hold."""
    form = {"game_id": "g3", "game_name": "Another", "channel_id": "b", "active": True}
    entry = {"game_name": "Lost", "channel_id": "b", "turn_number": 1, "active": True}
    lines: list[dict[str, Any]] = [
        {"key": "game:session:b", "type": "string", "value": json.dumps(form)},
        {"key": "game:index", "type": "hash", "value": {"g1": json.dumps(entry)}},
        {"key": "gg:game:g1", "type": "hash", "value": {"holder": "channel:b", "schema": "1"}},
    ]
    return "".join(json.dumps({"ttl": -1, **line}) + "\n" for line in lines).encode()


async def test_a_game_in_a_channel_that_does_not_have_it_is_not_imported(torn: bytes) -> None:
    """It is named, neither stored nor listed; the channel comes with the game that it has."""
    store = MemoryStore()
    done = await imported(torn, store)
    ((what, why),) = done.skipped
    assert what == "game 'g1'"
    assert "channel 'b'" in why
    async with Supervisor(store) as supervisor:
        assert await supervisor.game("g1") is None
        assert await supervisor.games() == ()
        assert (await supervisor.session("b").state()).game_id == "g3"


async def test_a_game_in_a_channel_that_is_not_there_is_not_imported(torn: bytes) -> None:
    """A file without the channel is no reason to take its game for active."""
    store = MemoryStore()
    alone = b"\n".join(torn.splitlines()[1:])
    ((what, _),) = (await imported(alone, store)).skipped
    assert what == "game 'g1'"
    async with Supervisor(store) as supervisor:
        await supervisor.session("a").boot("Free", game_id="g1")


async def test_the_holder_of_a_game_that_is_there_is_imported(url: str) -> None:
    """A game's own key can be brought in alone, where the channel already is."""
    source = MemoryStore()
    async with Supervisor(source) as supervisor:
        await play(supervisor, "a", "kept")
        await play(supervisor, "b", "other")
    written: list[str] = []
    await export(source, (), written.append)
    own = [line for line in written if '"gg:game:kept"' in line]
    others = [line for line in written if line not in own]
    for lines in (others, own):
        done = await imported("".join(lines).encode(), open_store(url))
        assert done.skipped == []
    assert await whole(open_store(url), ["a"], ["kept"]) == ["kept"]


async def test_an_import_leaves_the_listing_of_other_games_alone(url: str) -> None:
    """Without --replace a game that is listed already stays listed as it is."""
    async with Supervisor(url) as supervisor:
        await play(supervisor, "b", "same")
        listed = await supervisor.games()
    entry = {"game_name": "Old", "channel_id": "a", "turn_number": 9, "active": False}
    form = {"game_id": "same", "game_name": "Old", "channel_id": "a", "active": False}
    lines = [
        {"key": "game:session:a", "type": "string", "ttl": -1, "value": json.dumps(form)},
        {"key": "game:index", "type": "hash", "ttl": -1, "value": {"same": json.dumps(entry)}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert (await imported(text, open_store(url))).skipped == []
    async with Supervisor(url) as supervisor:
        assert await supervisor.games() == listed
