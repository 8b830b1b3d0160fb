"""A store that somebody else has been in: every damage is an error or an event, none spreads."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from gamegirl.actors import (
    Drop,
    Fate,
    GameActiveError,
    OwnershipLostError,
    PatchHash,
    PutHash,
    PutList,
    PutText,
    SessionQuarantinedError,
    StoreUnavailableError,
    UnknownGameError,
    Write,
)
from gamegirl.actors.session._messages import SetCrown
from gamegirl.supervisor import (
    CommitFailed,
    ContentQuarantined,
    MemoryStore,
    Settings,
    StoreRegressed,
    Supervisor,
)
from gamegirl.supervisor.stores import Broken, Claim, Claimed, Owned
from gamegirl.testing import FaultyStore, eventually

pytestmark = pytest.mark.anyio

Alter = Callable[..., Awaitable[None]]


@asynccontextmanager
async def hosted(store: Any, **settings: Any) -> AsyncGenerator[Supervisor]:
    async with Supervisor(store, settings=Settings(**settings)) as supervisor:
        yield supervisor


async def text(store: Any, key: str) -> Any:
    (value,) = await store.read([key])
    return value


async def events_of(supervisor: Supervisor, kind: type, act: Any) -> list[Any]:
    """The events of a kind that come while `act` runs."""
    stream = supervisor.events()
    await act()
    stream.close()
    return [event async for event in stream if isinstance(event, kind)]


async def test_a_key_of_another_type_refuses_the_write_and_changes_nothing(alter: Alter) -> None:
    """A commit that meets a wrong type happens not at all, and says which key it was."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await alter(store, Drop("gg:session:c:window"), PutList("gg:session:c:window", ["x"]))

        async def press() -> None:
            with pytest.raises(SessionQuarantinedError, match="gg:session:c:window holds a list"):
                await session.press("1", "Ana", "x")

        assert len(await events_of(supervisor, CommitFailed, press)) == 1
        with pytest.raises(SessionQuarantinedError, match="window"):
            await session.state()
        assert await text(store, "gg:session:c:window") == [b"x"]
        await supervisor.session("other").boot("H")


async def test_a_spoilt_fence_stops_its_channel_with_a_clear_error(alter: Alter) -> None:
    """A fence that holds what we never write is nobody's to overwrite."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        await alter(store, PatchHash("gg:fence:session:c", {"owner": "", "rev": "many", "cid": ""}))
        with pytest.raises(SessionQuarantinedError, match="gg:fence:session:c"):
            await supervisor.session("c").boot("G")
        live = supervisor.session("d")
        await live.boot("G")
        await alter(store, PatchHash("gg:fence:session:d", {"rev": "many"}))
        with pytest.raises(SessionQuarantinedError, match="gg:fence:session:d"):
            await live.press("1", "Ana", "x")


@pytest.mark.parametrize(
    "spoilt",
    [
        {"owner": b"9" * 14 + b":\xff:x"},
        {"owner": "9" * 5000 + ":n:p"},
        {"rev": "9" * 5000},
    ],
    ids=["no text", "a long epoch", "a long revision"],
)
async def test_a_fence_spoilt_under_a_live_channel_ends_it_alone(
    alter: Alter, spoilt: dict[str, str | bytes]
) -> None:
    """After a lost lease all fences are read again: a spoilt one is no matter of the others."""

    class Forgetful(FaultyStore):
        async def renew(self) -> bool:
            await super().renew()
            return False

    store = MemoryStore()
    async with hosted(Forgetful(store), lease_seconds=0.1) as supervisor:
        other = supervisor.session("other")
        await other.boot("G")
        await supervisor.session("c").boot("H")
        await alter(store, PatchHash("gg:fence:session:c", spoilt))
        await eventually(lambda: supervisor.get("c") is None)
        await other.press("1", "Ana", "x")


async def test_a_spoilt_fence_is_no_matter_of_the_look_for_orphans(alter: Alter) -> None:
    """An owner that is no text is nobody who lives: the channel is adopted like others."""
    store = MemoryStore()
    async with hosted(store, window_seconds=0.1) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await session.press("1", "Ana", "x")
        await supervisor.release("c")
        await alter(store, PatchHash("gg:fence:session:c", {"owner": b"1:\xff:x"}))
    async with hosted(store.sibling()) as supervisor:
        await eventually(lambda: supervisor.get("c") is not None)


async def test_unreadable_sessions_are_refused_until_wiped(alter: Alter) -> None:
    """Corrupt content stays byte for byte; a copy is in quarantine; wipe starts over."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        await alter(
            store, PutText("game:session:c", b"\xff{"), PutText("sg:game_session:c", "no hash")
        )

        async def ask() -> None:
            with pytest.raises(SessionQuarantinedError):
                await supervisor.session("c").state()

        found = await events_of(supervisor, ContentQuarantined, ask)
        assert {event.key for event in found} == {"game:session:c", "sg:game_session:c"}
        assert await text(store, "game:session:c") == b"\xff{"
        await supervisor.session("c").wipe()
        await supervisor.session("c").boot("G")


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "2"},
        {"holder": "chaxnel:c"},
        {"holder": ""},
        {"holder": b"\xff"},
    ],
)
async def test_a_game_whose_own_key_nobody_understands_is_left_alone(
    alter: Alter, damage: dict[str, Any]
) -> None:
    """Neither is it played on nor taken for a game that is elsewhere; quarantine lists the key."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        booted = await supervisor.session("c").boot("G")
        await supervisor.session("c").press("1", "Ana", "x")
        await supervisor.release("c")
        key = f"gg:game:{booted.game_id}"
        await alter(store, PatchHash(key, damage))
        before = await store.read([key, *FORMS_OF_C])
        with pytest.raises(SessionQuarantinedError, match=key):
            await supervisor.session("c").state()
        assert await store.read([key, *FORMS_OF_C]) == before
        assert key in await quarantined(store)


@pytest.mark.parametrize("damage", [PatchHash, PutText, Drop])
async def test_a_damaged_save_is_put_aside_when_somebody_loads_it(
    alter: Alter, damage: Any
) -> None:
    """The load is refused and the save stays as it is; the channel that asked plays on."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("G")
        await session.exit()
        key = f"gg:game:{booted.game_id}"
        if damage is PatchHash:
            await alter(store, PatchHash(key, {"session": b"{\xff"}))
        elif damage is PutText:
            await alter(store, Drop(key), PutText(key, "no hash"))
        else:
            await alter(store, PatchHash(key, remove=("holder",)))
        before = await text(store, key)

        async def load() -> None:
            with pytest.raises(SessionQuarantinedError, match=key):
                await supervisor.session("d").load(booted.game_id)

        assert [event.key for event in await events_of(supervisor, ContentQuarantined, load)] == [
            key
        ]
        assert await text(store, key) == before
        assert key in await quarantined(store)
        await supervisor.session("d").boot("H")


async def quarantined(store: Any) -> set[str]:
    """The keys of which quarantine has a copy."""
    fields: dict[bytes, bytes] = await text(store, "gg:quarantine") or {}
    return {json.loads(value)["key"] for value in fields.values()}


FORMS_OF_C = (
    "game:session:c",
    "sg:game_session:c",
    "gg:session:c:window",
    "gg:session:c:meta",
)


async def test_half_a_surrogate_pair_in_a_players_id_is_put_aside_like_other_damage(
    alter: Alter,
) -> None:
    """What can't even be encoded is told in ASCII; the rest of the channel restores."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        wrong = '"\\ud800":{"user_id":"\\ud800","user_name":"x"}'
        good = '"1":{"user_id":"1","user_name":"Ana"}'
        head = '"game_id":"aaaaaaaaaaaa","game_name":"G","channel_id":"c","active":true'
        form = f'{{{head},"turn_number":1,"players":{{{wrong},{good}}}}}'
        await alter(store, PutText("game:session:c", form))
        state = await supervisor.session("c").state()
        assert list(state.players) == ["1"]
        assert await text(store, "gg:quarantine")


async def test_a_revision_that_jumped_ahead_under_our_claim_is_reloaded(alter: Alter) -> None:
    """What nobody can explain is loaded anew; the caller is told that it doesn't know."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        await alter(store, PatchHash("gg:fence:session:c", {"rev": "90", "cid": "other"}))
        with pytest.raises(OwnershipLostError) as caught:
            await session.press("1", "Ana", "x")
        assert caught.value.fate is Fate.IN_DOUBT
        assert (await session.press("1", "Ana", "x")).opened


async def test_a_game_survives_a_store_that_went_back(alter: Alter) -> None:
    """Everything that was acknowledged is written anew: forms, window, unrecorded turns, save."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        booted = await session.boot("G")
        await session.press("1", "Ana", "x")
        await session.close_window()
        await session.narrate("Meanwhile…")
        await session.press("2", "Bo", "y")
        before, history = await session.state(), await session.history()
        async for keys in store.scan(""):
            for key in keys:
                if not key.startswith(("gg:epoch", "gg:due")):
                    await alter(store, Drop(key))

        async def press() -> None:
            await session.press("3", "Cy", "z")

        (regressed,) = await events_of(supervisor, StoreRegressed, press)
        assert regressed.found is None
    async with hosted(store.sibling()) as supervisor:
        session = supervisor.session("c")
        after = await session.state()
        assert list(after.players) == [*before.players, "3"]
        assert after.pending_choices == {"2": "y", "3": "z"}
        assert [turn.turn for turn in after.closed_turns] == [1]
        assert after.window is not None
        assert await session.history() == history
        assert (await supervisor.game(booted.game_id)) is not None
        with pytest.raises(GameActiveError):
            await supervisor.session("d").load(booted.game_id)


async def test_a_game_that_moved_is_not_live_twice_after_the_store_went_back(alter: Alter) -> None:
    """Forms that say it still runs in the channel it left are overruled by the game's own key."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        left, now = supervisor.session("left"), supervisor.session("now")
        booted = await left.boot("G")
        await left.press("1", "Ana", "x")
        await left.close_window()
        entries = await store.entries([f"{prefix}left{suffix}" for prefix, suffix in CHANNEL_FORMS])
        await left.exit()
        await supervisor.release("left")
        await now.load(booted.game_id)
        back: list[Write] = []
        for entry in entries:
            if isinstance(entry.value, bytes):
                back.append(PutText(entry.key, entry.value))
            elif isinstance(entry.value, dict):
                fields = {name.decode(): value for name, value in entry.value.items()}
                back.append(PutHash(entry.key, fields))
        await alter(store, *back)
        there = await left.state()
        assert (there.active, there.window, there.closed_turns) == (False, None, ())
        assert await text(store, "gg:quarantine")
        await now.press("2", "Bo", "y")
        await left.boot("Next")
        assert (await now.state()).pending_choices == {"2": "y"}


CHANNEL_FORMS = (
    ("game:session:", ""),
    ("sg:game_session:", ""),
    ("gg:session:", ":window"),
    ("gg:session:", ":turns"),
    ("gg:session:", ":meta"),
)


UNHASHABLE: Any = SetCrown([])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
"""No reference sends this: the handler crashes on it."""


async def test_a_store_that_goes_back_while_an_actor_restarts_is_loaded_from_what_it_has(
    alter: Alter,
) -> None:
    """Without memory there is nothing to write from: it is reported, and play goes on."""
    inner = MemoryStore()
    store = FaultyStore(inner)
    async with hosted(store) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        store.hold()
        errors: list[OwnershipLostError] = []

        async def press() -> None:
            try:
                await session.press("1", "Ana", "x")
            except OwnershipLostError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(press)
            await eventually(lambda: supervisor.statistics().unsettled == 1)
            supervisor.actor("session", "c").tell(UNHASHABLE)
            store.drop_requests = 1
            await alter(inner, Drop("gg:fence:session:c"))
            store.let_go()
        assert [error.fate for error in errors] == [Fate.IN_DOUBT]
        assert [crash.message for crash in supervisor.crashes()] == [UNHASHABLE]
        assert (await session.state()).game_name == "G"


class SilentClaims(FaultyStore):
    """A store that answers no claim until it is heard again."""

    heard: anyio.Event | None = None

    async def claim(self, claims: Sequence[Claim]) -> Sequence[Claimed | Owned | Broken]:
        if self.heard is not None:
            await self.heard.wait()
        return await super().claim(claims)


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_message_that_came_before_the_claim_does_not_wait_for_it_twice(
    refuses: bool,
) -> None:
    """The store that is needed for a restart gets the commit timeout once, whatever it does."""
    store = SilentClaims(MemoryStore())
    heard, timeout = anyio.Event(), 0.6
    async with hosted(
        store, commit_timeout_seconds=timeout, restart_backoff_seconds=0.2
    ) as supervisor:
        session = supervisor.session("c")
        await session.boot("G")
        supervisor.actor("session", "c").tell(UNHASHABLE)
        await session.state()
        supervisor.actor("session", "c").tell(UNHASHABLE)  # The second restart has a backoff.
        if refuses:
            store.claims_down = True
        else:
            store.heard = heard
        began = anyio.current_time()
        with pytest.raises(StoreUnavailableError) as caught:
            await session.press("1", "Ana", "x")
        assert caught.value.fate is Fate.NOT_EXECUTED
        assert timeout <= anyio.current_time() - began < 1.7 * timeout
        store.claims_down = False
        heard.set()
        assert (await session.state()).pending_choices == {}


async def test_the_listing_is_mended_from_the_games_themselves(alter: Alter) -> None:
    """A damaged or missing index entry hides no game."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        played = await supervisor.session("a").boot("Played")
        await supervisor.session("a").press("1", "Ana", "Open the door")
        await supervisor.session("a").close_window()  # Only the turn and the notes know of it.
        saved = await supervisor.session("b").boot("Saved")
        await supervisor.session("b").exit()
        lost = await supervisor.session("d").boot("Lost")
        whole = await supervisor.games()
        assert len(whole) == 3
        await alter(
            store,
            PatchHash(
                "game:index", {played.game_id: "{broken"}, remove=(saved.game_id, lost.game_id)
            ),
            Drop("game:session:d"),
            PutText("gg:game:stray", "not a hash"),
            PutText("gg:game:%zz", "not an id"),
        )
        assert await supervisor.games() == whole
        for game in whole:
            assert await supervisor.game(game.game_id) == game
        assert await supervisor.game("unknown") is None
        with pytest.raises(GameActiveError, match="'a'"):
            await supervisor.forget(played.game_id)
        await supervisor.forget(saved.game_id)
        with pytest.raises(UnknownGameError):
            await supervisor.forget(saved.game_id)


async def test_old_games_can_be_forgotten_only_when_nobody_plays_them(alter: Alter) -> None:
    """The old listing knows no holder: the channel's form says whether the game is active."""
    store = MemoryStore()
    async with hosted(store) as supervisor:
        form: dict[str, Any] = {
            "game_id": "aaaaaaaaaaaa",
            "game_name": "Old",
            "channel_id": "c",
            "active": True,
            "turn_number": 3,
            "title_screen_url": "",
            "crown_holder": None,
            "players": {},
        }
        entry: dict[str, Any] = {
            key: form[key] for key in ("game_name", "channel_id", "turn_number", "active")
        }
        index = {"aaaaaaaaaaaa": json.dumps(entry), "bbbbbbbbbbbb": "{broken"}
        await alter(
            store, PutText("game:session:c", json.dumps(form)), PatchHash("game:index", index)
        )
        with pytest.raises(GameActiveError):
            await supervisor.forget("aaaaaaaaaaaa")
        await supervisor.forget("bbbbbbbbbbbb")
        await alter(store, PutText("game:session:c", json.dumps(form | {"active": False})))
        await supervisor.forget("aaaaaaaaaaaa")
        assert await supervisor.games() == ()
