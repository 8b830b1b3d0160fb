"""The replaced system's data in a real Redis: it restores, is played on, and stays readable."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import redis

from gamegirl.actors import UnknownGameError
from gamegirl.supervisor import ContentQuarantined, Supervisor

pytestmark = pytest.mark.anyio

LEGACY = Path(__file__).parent.parent / "legacy"


def unpack(name: str) -> str:
    return gzip.decompress((LEGACY / name).read_bytes()).decode()


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    cases: dict[str, Any] = json.loads(unpack("expected.json.gz"))
    assert len(cases) == 200
    return cases


@pytest.fixture
def client(redis_url: str) -> Any:
    """A client of a Redis that is full of the old system's data."""
    connection: Any = redis.Redis.from_url(redis_url)  # pyright: ignore[reportUnknownMemberType]
    with connection.pipeline(transaction=False) as pipe:
        for line in unpack("redis.jsonl.gz").splitlines():
            entry = json.loads(line)
            match entry["type"]:
                case "string":
                    pipe.set(entry["key"], entry["value"])
                case "list":
                    pipe.rpush(entry["key"], *entry["value"])
                case _:
                    pipe.hset(entry["key"], mapping=entry["value"])
            if entry["ttl"] > 0:
                pipe.expire(entry["key"], entry["ttl"])
        pipe.execute()
    yield connection
    connection.close()


def shown(session: Any) -> dict[str, Any]:
    """A snapshot in the words of expected.json."""
    return {
        "game_id": session.game_id,
        "game_name": session.game_name,
        "channel_id": session.channel_id,
        "active": session.active,
        "turn_number": session.turn_number,
        "title_screen_url": session.title_screen_url,
        "crown_holder": session.crown_holder,
        "players": {key: attrs.asdict(player) for key, player in session.players.items()},
        "pending_choices": dict(session.pending_choices),
    }


async def test_every_channel_restores_as_it_was(
    redis_url: str, client: Any, expected: dict[str, Any]
) -> None:
    """Session, roster in joining order, pending choices and history, in all 200 channels."""
    async with Supervisor(redis_url) as supervisor:
        for channel_id, case in expected.items():
            ref = await supervisor.restore(channel_id)
            session = supervisor.session(channel_id)
            if case["restored"] is None:
                assert ref is None, case["case"]
            else:
                assert ref is not None, case["case"]
                found = shown(await session.state())
                assert found == case["restored"], case["case"]
                assert list(found["players"]) == list(case["restored"]["players"])
            history = [attrs.asdict(record) for record in await session.history(50)]
            for record in history:
                record["choices"] = dict(record["choices"])
            assert history == case["history"], case["case"]


async def test_what_is_played_on_stays_complete_in_the_old_forms(
    redis_url: str, client: Any, expected: dict[str, Any]
) -> None:
    """After a turn JSON, hash, history and index agree, and unknown fields are still there."""
    async with Supervisor(redis_url) as supervisor:
        for channel_id, case in expected.items():
            if case["restored"] is None:
                continue
            session = supervisor.session(channel_id)
            before = await session.state()
            await session.press("new", "Newcomer", "Look around")
            turn = await session.close_window()
            assert turn is not None
            await session.record(turn, "And so it went.")
            text = json.loads(client.get(f"game:session:{channel_id}"))
            fields = {
                key.decode(): value.decode()
                for key, value in client.hgetall(f"sg:game_session:{channel_id}").items()
            }
            assert client.ttl(f"sg:game_session:{channel_id}") > 14_000
            assert text["turn_number"] == before.turn_number + 1 == int(fields["turn_number"])
            assert text["active"] is True
            assert fields["active"] == "1"
            assert text["crown_holder"] == before.crown_holder == (fields["crown_holder"] or None)
            assert list(text["players"]) == [*before.players, "new"]
            assert json.loads(fields["players"]) == text["players"]
            assert json.loads(fields["pending_choices"]) == {}
            assert float(fields["countdown_started"]) == 0.0
            newest = json.loads(client.lrange(f"game:session:{channel_id}:history", -1, -1)[0])
            assert newest["turn"] == before.turn_number + 1
            assert newest["choices"] == {**before.pending_choices, "new": "Look around"}
            assert newest["narrative_summary"] == "And so it went."
            entry = json.loads(client.hget("game:index", before.game_id))
            assert (entry["turn_number"], entry["active"]) == (before.turn_number + 1, True)
            if case["case"].startswith("unknown hash fields"):
                assert (fields["mood"], fields["x_extra"]) == ("ominous", "1")
            if case["case"].startswith("only JSON, with unknown"):
                assert text["later_field"] == {"a": [1, 2]}
                old = [player for user, player in text["players"].items() if user != "new"]
                assert all("badge" in player for player in old)


async def test_what_is_damaged_is_put_aside_and_reported(
    redis_url: str, client: Any, expected: dict[str, Any]
) -> None:
    """Malformed players, records and forms are copied to quarantine, once, and named."""
    damaged = {
        channel_id: case["case"]
        for channel_id, case in expected.items()
        if case["case"].startswith(("malformed", "corrupt"))
    }
    counts: list[int] = []
    for news in (set(damaged), set[str]()):
        async with Supervisor(redis_url) as supervisor:
            events = supervisor.events()
            for channel_id in damaged:
                assert await supervisor.restore(channel_id) is not None
            events.close()
            named = {
                event.actor_id async for event in events if isinstance(event, ContentQuarantined)
            }
            assert named == news
        counts.append(client.hlen("gg:quarantine"))
    assert counts[0] == counts[1] >= len(damaged)
    for name, copy in client.hgetall("gg:quarantine").items():
        entry = json.loads(copy)
        assert name.decode().startswith(entry["key"])
        assert entry["reason"]
        assert base64.b64decode(entry["value"])


async def test_overwritten_games_are_listed_refused_and_can_be_forgotten(
    redis_url: str, client: Any, expected: dict[str, Any]
) -> None:
    """A game whose form a later one overwrote is never mistaken for that later one."""
    overwritten = [game for case in expected.values() for game in case["overwritten"]]
    assert overwritten
    async with Supervisor(redis_url) as supervisor:
        assert set(overwritten) <= {game.game_id for game in await supervisor.games()}
        for game_id in overwritten:
            with pytest.raises(UnknownGameError, match="overwritten"):
                await supervisor.session("elsewhere").load(game_id)
            await supervisor.forget(game_id)
        assert not set(overwritten) & {game.game_id for game in await supervisor.games()}


async def test_a_flush_is_one_script_call_for_all_channels_that_changed(
    redis_url: str, client: Any, expected: dict[str, Any]
) -> None:
    """INFO commandstats: one call for a lone press, far fewer than one a press under load."""
    async with Supervisor(redis_url) as supervisor:
        for number in range(100):
            await supervisor.session(f"load{number}").boot("G")

        def calls() -> int:
            statistics: dict[str, Any] = client.info("commandstats")
            return sum(
                statistics.get(f"cmdstat_{name}", {}).get("calls", 0)
                for name in ("evalsha", "eval")
            )

        before = calls()
        await supervisor.session("load0").press("1", "Ana", "x")
        assert calls() - before <= 1 + 1  # The sweep that looks for due channels may fall in.
        before = calls()
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                session = supervisor.session(f"load{number}")
                for user in range(5):
                    tasks.start_soon(session.press, str(user), "Ana", "x")
        assert calls() - before <= 50
