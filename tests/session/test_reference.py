"""The reference: each operation is one message, and every argument is checked where it enters."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import weakref
from collections.abc import AsyncIterator, Sequence
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest
from tests.session import old_system as old
from tests.session.world import GAME, OTHER, World

from gamegirl.actors import (
    Fate,
    GameActiveError,
    GameGirlError,
    InvalidIdError,
    InvalidInputError,
    SessionRef,
    SessionRules,
    Stored,
    TurnToken,
    UnknownGameError,
)
from gamegirl.actors.session import _messages as m

pytestmark = pytest.mark.anyio


class FakeHost:
    """A host without a runtime: messages are handled at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[object] = []
        self.changed = 3

    async def ask(self, kind: str, actor_id: str, message: object) -> Any:
        assert kind == "session"
        self.asked.append(message)
        return self.world[actor_id].ask(message)

    def tell(self, kind: str, actor_id: str, message: object) -> None:
        raise NotImplementedError

    def peek(self, kind: str, actor_id: str) -> Any | None:
        assert kind == "session"
        return self.world[actor_id].state if actor_id != "not live" else None

    async def changes(self, kind: str, actor_id: str) -> AsyncIterator[None]:
        for number in range(self.changed):
            if number == 2:
                self.world[actor_id].join("zoe")
            yield

    async def read(self, keys: Sequence[str]) -> Sequence[Stored]:
        return [self.world.store.get(key) for key in keys]


@pytest.fixture
def host(world: World) -> FakeHost:
    return FakeHost(world)


@pytest.fixture
def session(world: World, host: FakeHost) -> SessionRef:
    return SessionRef("c", host, world.new_id, SessionRules())


@pytest.mark.parametrize("step", ["press", "close_window", "record", "active"])
async def test_what_gives_a_coroutine_passes_for_a_coroutine_function(
    session: SessionRef, step: str
) -> None:
    """Whoever asks is told so, as a mock made after a reference does, whose steps are awaited."""
    known = (
        inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    )
    assert known(getattr(session, step))
    assert isinstance(getattr(create_autospec(SessionRef, instance=True), step), AsyncMock)


async def test_what_is_refused_is_raised_when_it_is_awaited(session: SessionRef) -> None:
    """Not when it is called: `gather` then has all other results, as of any coroutine functions."""
    wrong: Any = 0.5
    refusals = [
        session.press("", "Ana", "run"),
        session.press("ana", "Ana", "run", turn=TurnToken("", 1)),
        session.close_window(empty=wrong),
        session.record(wrong, "The end."),
        session.record(1, wrong),
    ]
    for refusal in refusals:
        with pytest.raises((InvalidIdError, InvalidInputError)):
            await refusal


async def test_a_refused_call_leaves_nothing_behind(session: SessionRef) -> None:
    """Its error goes with whoever caught it, without the help of the garbage collector."""
    gone: weakref.ref[InvalidIdError] | None = None
    gc.disable()
    try:
        try:
            await session.press("", "Ana", "run")
        except InvalidIdError as error:
            gone = weakref.ref(error)
        assert gone is not None
        assert gone() is None
    finally:
        gc.enable()


async def test_a_whole_game(session: SessionRef) -> None:
    """Every operation gives what it promises."""
    assert repr(session) == "SessionRef('c')"
    booted = await session.boot("The Loop", title_screen_url="https://example.org", game_id=GAME)
    assert booted.game_id == GAME
    assert (await session.join("ana", "Ana")).user_id == "ana"
    pressed = await session.press("bo", "Bo", "run", press_id="x")
    assert (await session.press("bo", "Bo", "run", turn=pressed.token)).opened is False
    assert (await session.press("bo", "Bo", "run", turn=1)).turn == 1
    turn = await session.close_window()
    assert turn is not None
    assert await session.next_turn() == turn
    assert await session.next_turn(after=0) == turn
    assert (await session.record(turn, "and so")).turn == 1
    assert (await session.record(turn.token, "again")).narrative_summary == "and so"
    assert (await session.record(1, "again")).narrative_summary == "and so"
    assert await session.close_window() is None
    assert (await session.close_window(empty=True)).turn == 2  # type: ignore[union-attr]
    assert (await session.narrate("x" * 600)).narrative_summary == "x" * 500
    assert [record.turn for record in await session.history()] == [1, 2]
    assert await session.history(0) == ()
    assert [player.user_id for player, _ in await session.roster()] == ["ana", "bo"]
    assert list(await session.active_players()) == ["ana", "bo"]
    assert (await session.set_crown("ana")).name == "Ana"
    assert (await session.crown()).held_by("ana")
    assert (await session.set_crown("")).user_id is None
    assert (await session.set_crown(None)).user_id is None
    await session.set_title_screen("")
    await session.save()
    assert (await session.state()).turn_number == 2
    assert session.peek() == await session.state()
    swapped = await session.swap("Neon", title_screen_url="https://example.org")
    assert swapped.ejected is not None
    assert swapped.booted.game_id.isalnum()
    assert (await session.exit()).game_name == "Neon"
    assert (await session.load(GAME)).game_name == "The Loop"
    await session.wipe()
    assert (await session.state()).game_id == ""
    assert len((await session.boot("The Loop")).game_id) == 12


async def test_snapshots_can_be_copied(session: SessionRef) -> None:
    """Snapshots are read-only, equal dicts, and can be copied deeply and pickled."""
    await session.boot("The Loop")
    await session.press("ana", "Ana", "run")
    await session.close_window()
    await session.press("bo", "Bo", "run")
    snapshot = await session.state()
    assert copy.deepcopy(snapshot) == snapshot == pickle.loads(pickle.dumps(snapshot))
    choices: Any = snapshot.pending_choices
    assert choices == {"bo": "run"}
    expected = {"bo": "run"}
    assert expected == choices
    assert choices != {"bo": "hide"}
    assert "bo" in choices
    assert (choices["bo"], choices.get("ana"), len(choices)) == ("run", None, 1)
    assert (list(choices), list(choices.values())) == (["bo"], ["run"])
    assert repr(choices) == "{'bo': 'run'}"
    with pytest.raises(TypeError):
        choices["bo"] = "hide"
    with pytest.raises(TypeError):
        hash(choices)


async def test_one_message_each(session: SessionRef, host: FakeHost) -> None:
    """An operation is one message; ids that it needs come in it."""
    await session.boot("The Loop")
    await session.exit()
    assert [type(message) for message in host.asked] == [m.Boot, m.Exit]
    first, second = host.asked
    assert isinstance(first, m.Boot)
    assert isinstance(second, m.Exit)
    assert len({first.game_id, first.nonce, second.nonce}) == 3


async def test_peek_of_what_cannot_be_seen(session: SessionRef, world: World) -> None:
    """Not live, or in quarantine: None."""
    assert SessionRef("not live", FakeHost(world), world.new_id, SessionRules()).peek() is None
    world.store["game:session:c"] = b"{"
    assert session.peek() is None


async def test_watch(session: SessionRef) -> None:
    """One snapshot at once and one after each change that shows; also without a game."""
    await session.boot("The Loop")
    seen = [snapshot async for snapshot in session.watch()]
    assert [list(snapshot.players) for snapshot in seen] == [[], ["zoe"]]


async def test_load_reads_what_the_listing_names(
    session: SessionRef, host: FakeHost, world: World
) -> None:
    """A save is at its own key; an old game in the channel that the listing names."""
    old.write(world.store, old.new_game("d", OTHER))
    assert (await session.load(OTHER)).game_name == "Old"
    asked = host.asked[-1]
    assert isinstance(asked, m.Load)
    assert asked.channel_id == "d"
    await session.exit()
    await session.load(OTHER)
    asked = host.asked[-1]
    assert isinstance(asked, m.Load)
    assert asked.channel_id is None
    with pytest.raises(UnknownGameError):
        await session.load("unknown")


async def test_load_without_a_listing(session: SessionRef, world: World) -> None:
    """If the listing's key holds something else, no old game can be found."""
    world.store["game:index"] = b"a text"
    with pytest.raises(UnknownGameError):
        await session.load(GAME)


async def test_load_from_texts(session: SessionRef, world: World) -> None:
    """The listing is read also from a client that decodes its answers."""

    class Decoding(FakeHost):
        async def read(self, keys: Sequence[str]) -> Sequence[Any]:
            return [
                {k.decode(): v.decode() for k, v in value.items()}
                if isinstance(value, dict)
                else value
                for value in await super().read(keys)
            ]

    old.write(world.store, old.new_game("d", OTHER))
    reference = SessionRef("c", Decoding(world), world.new_id, SessionRules())
    assert (await reference.load(OTHER)).game_id == OTHER


async def test_wipe_where_the_game_has_moved(
    session: SessionRef, host: FakeHost, world: World
) -> None:
    """What was exited here and lives elsewhere is left alone, without an error."""
    await session.boot("The Loop", game_id=GAME)
    await session.exit()
    world["d"].load(GAME)
    await session.wipe()
    assert (await session.state()).game_id == ""
    assert world["d"].snapshot().active


async def test_wipe_while_another_game_is_booted(
    session: SessionRef, host: FakeHost, world: World
) -> None:
    """What comes between the two tries of a wipe goes with its key: its id is free again."""
    await session.boot("The Loop", game_id=GAME)
    await session.exit()
    world["d"].load(GAME)
    ask = host.ask

    async def boot_first(kind: str, actor_id: str, message: object) -> Any:
        if message == m.Wipe(GAME):
            world["c"].boot(OTHER)
        return await ask(kind, actor_id, message)

    host.ask = boot_first  # type: ignore[method-assign]
    await session.wipe()
    assert (await session.state()).game_id == ""
    assert (await session.boot("Neon", game_id=OTHER)).game_id == OTHER
    assert world["d"].snapshot().active


BAD_IDS: list[Any] = ["", "x" * 201, "a\nb", "\ud800", "\x7f", 7, None, b"x", True]
BAD_NAMES: list[Any] = ["", "x" * 201, "a\nb", "a\u2028b", "\ud800", 7, None, b"x"]
BAD_COUNTS: list[Any] = [-1, 1.0, "1", True, 10**15, 10**400, float("nan")]
BAD_TURNS: list[Any] = [*BAD_COUNTS, TurnToken(GAME, -1)]
BAD_TOKENS: list[Any] = [TurnToken(v, 1) for v in (7, None, "", b"x", ["a"])]  # type: ignore[arg-type]
BAD_GAME_IDS: list[Any] = ["", "x" * 25, "a b", "ä", 7, "a:b"]
BAD_TEXTS: list[Any] = ["x" * 2_001, None, 7, "\ud800"]


CASES: list[tuple[str, list[Any], dict[str, Any], type[GameGirlError]]] = [
    *(("join", [v, "Ana"], {}, InvalidIdError) for v in BAD_IDS),
    *(("press", [v, "Ana", "x"], {}, InvalidIdError) for v in BAD_IDS),
    *(
        ("press", ["a", "A", "x"], {"press_id": v}, InvalidIdError)
        for v in BAD_IDS
        if v is not None
    ),
    *(("set_crown", [v], {}, InvalidIdError) for v in BAD_IDS if v not in (None, "")),
    *(("load", [v], {}, InvalidIdError) for v in BAD_IDS),
    *(("join", ["ana", v], {}, InvalidInputError) for v in BAD_NAMES),
    *(("press", ["ana", v, "x"], {}, InvalidInputError) for v in BAD_NAMES),
    *(("boot", [v], {}, InvalidInputError) for v in BAD_NAMES),
    *(("swap", [v], {}, InvalidInputError) for v in BAD_NAMES),
    *(("boot", ["x"], {"game_id": v}, InvalidIdError) for v in BAD_GAME_IDS),
    *(("press", ["ana", "Ana", v], {}, InvalidInputError) for v in BAD_TEXTS),
    *(("press", ["a", "A", "x"], {"turn": v}, InvalidInputError) for v in BAD_TURNS),
    *(("next_turn", [v], {}, InvalidInputError) for v in BAD_COUNTS),
    *(("history", [v], {}, InvalidInputError) for v in [*BAD_COUNTS, None]),
    *(("record", [v, "x"], {}, InvalidInputError) for v in [*BAD_COUNTS, None, "a:1"]),
    *(("record", [1, v], {}, InvalidInputError) for v in [None, 7, "\ud800"]),
    *(("narrate", [v], {}, InvalidInputError) for v in [None, 7, "\ud800"]),
    *(("close_window", [], {"empty": v}, InvalidInputError) for v in [1, None, "no"]),
    *(("set_title_screen", [v], {}, InvalidInputError) for v in [*BAD_TEXTS, "a\nb", "\0"]),
    *(("press", ["a", "Ana", "x"], {"turn": v}, InvalidIdError) for v in BAD_TOKENS),
    *(("record", [v, "x"], {}, InvalidIdError) for v in BAD_TOKENS),
    *(("boot", ["x"], {"title_screen_url": v}, InvalidInputError) for v in BAD_TEXTS),
]


@pytest.mark.parametrize(("method", "args", "options", "kind"), CASES)
async def test_bad_arguments(
    session: SessionRef,
    host: FakeHost,
    method: str,
    args: list[Any],
    options: dict[str, Any],
    kind: type[GameGirlError],
) -> None:
    """Refused before anything is sent; the error names the channel, and repeating is safe."""
    with pytest.raises(kind, match=r"channel 'c'") as refusal:
        await getattr(session, method)(*args, **options)
    assert refusal.value.fate is Fate.NOT_DELIVERED
    assert len(str(refusal.value)) < 300
    assert not host.asked


@pytest.mark.parametrize("name", ["A", " ", "x" * 200, "李雷", "🕷️ spider", "<b>", "{0}", "q\"'\\"])
async def test_any_name_will_do(session: SessionRef, name: str) -> None:
    """Names are anything that can be printed on a line."""
    await session.boot(name)
    assert (await session.join("ana", name)).user_name == name
    assert name in (await session.exit()).banner()


@pytest.mark.parametrize("choice", ["", "x" * 2_000, "a\nb\0c", "🎮"])
async def test_any_choice_will_do(session: SessionRef, choice: str) -> None:
    """Choices are any text up to their length."""
    await session.boot("The Loop")
    await session.press("ana", "Ana", choice)
    assert (await session.state()).pending_choices == {"ana": choice}


async def test_refusals_come_through(session: SessionRef) -> None:
    """What a rule refuses is raised by the call, with the channel's name."""
    await session.boot("The Loop")
    with pytest.raises(GameActiveError, match="'c'"):
        await session.boot("Neon")
