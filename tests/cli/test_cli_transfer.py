"""`export` and `import`: between any two stores, whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from tests.cli.command import PATIENCE_SECONDS, Command, Player, answer

from gamegirl.actors import PutHash, PutText, WrongType
from gamegirl.cli import _meter
from gamegirl.cli._lines import line_of, place_of
from gamegirl.cli._meter import Meter
from gamegirl.supervisor import ActorRestored, SqliteStore, Supervisor
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit, Done, Entry, Process

LEGACY = Path(__file__).parents[1] / "legacy" / "redis.jsonl.gz"
TTL_SECONDS = 120

Keys = dict[str, dict[str, Any]]


def keys_in(text: str) -> Keys:
    """The keys of an export, by name."""
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["key"]: line for line in lines}


def same(one: Keys, other: Keys) -> bool:
    """Whether two exports hold the same, times to live being as close as can be."""
    return one.keys() == other.keys() and all(
        one[key]["type"] == other[key]["type"]
        and one[key]["value"] == other[key]["value"]
        and (one[key]["ttl"] == -1) == (other[key]["ttl"] == -1)
        and abs(one[key]["ttl"] - other[key]["ttl"]) < TTL_SECONDS
        for key in one
    )


def empty(redis_url: str) -> None:
    """Delete everything that is stored there."""
    with redis.Redis.from_url(redis_url) as client:  # pyright: ignore[reportUnknownMemberType]
        client.execute_command("FLUSHALL")  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    """All keys of the replaced system's 200 channels."""
    file = tmp_path / "redis.jsonl"
    file.write_bytes(gzip.decompress(LEGACY.read_bytes()))
    return file


@pytest.fixture
def played(gamegirl: Command, tmp_path: Path) -> str:
    """A store with two channels, a save, and a turn in an open window."""
    url = f"sqlite:///{tmp_path / 'played.db'}"
    script = "Ana: knock\n/close\n/swap Second\nBen: run\n/quit\n"
    gamegirl("play", "demo", "--window", "300", "--game", "First", "--store", url, typed=script)
    gamegirl("play", "a:b *{x}", "--store", url, typed="Cleo: sing\n")
    return url


@pytest.mark.parametrize("host", ["asyncio", "trio"])
def test_the_old_systems_data_travels_unharmed(
    gamegirl: Command, legacy: Path, tmp_path: Path, redis_url: str, host: str
) -> None:
    """File to Redis to SQLite to Redis: the same keys with the same content and times to live."""
    first = gamegirl("import", str(legacy), "--store", redis_url, "--backend", host, "--json")
    assert answer(first) == {"channels": 200, "games": 208, "keys": 547, "skipped": []}
    exported = gamegirl("export", "--store", redis_url)
    assert "Exported 200 channels and 208 games, 547 keys in all." in exported.stderr
    old = keys_in(legacy.read_text())
    assert same(keys_in(exported.stdout), old)
    sqlite = f"sqlite:///{tmp_path / 'copy.db'}"
    file = tmp_path / "copy.jsonl"
    file.write_text(exported.stdout)
    gamegirl("import", str(file), "--store", sqlite, "--backend", host)
    out = tmp_path / "again.jsonl"
    counts = answer(gamegirl("export", str(out), "--store", sqlite, "--json"))
    assert counts == {"channels": 200, "games": 208, "keys": 547}
    empty(redis_url)
    gamegirl("import", str(out), "--store", redis_url)
    assert same(keys_in(gamegirl("export", "-", "--store", redis_url).stdout), old)


def test_a_played_store_travels_whole(
    gamegirl: Command, played: str, redis_url: str, tmp_path: Path
) -> None:
    """Saves, histories and open windows come along; ownership stays behind; play goes on."""
    file = tmp_path / "games.jsonl"
    gamegirl("export", str(file), "--store", played)
    keys = keys_in(file.read_text())
    assert not any(key.startswith(("gg:fence", "gg:lease", "gg:epoch", "gg:due")) for key in keys)
    assert gamegirl("import", str(file), "--store", redis_url).exit_code == 0
    assert same(keys_in(gamegirl("export", "--store", redis_url).stdout), keys)
    games = answer(gamegirl("games", "--json", "--store", redis_url))
    assert games == answer(gamegirl("games", "--json", "--store", played))
    first = next(game["game_id"] for game in games if game["game_name"] == "First")
    again = gamegirl(
        "play", "demo", "--store", redis_url, typed=f"/load {first}\n/history\n/games\n"
    ).stdout
    assert "  Ben: run\n" in again
    assert "  Ana: knock\n" in again
    assert answer(gamegirl("show", "a:b *{x}", "--json", "--store", redis_url))["turn_number"] == 1


def test_an_imported_window_closes_although_nobody_speaks(
    gamegirl: Command, played: str, tmp_path: Path
) -> None:
    """The import says what is due, so that whoever hosts the store takes it up at once."""
    file = tmp_path / "games.jsonl"
    url = f"sqlite:///{tmp_path / 'new.db'}"
    gamegirl("export", str(file), "--store", played)
    gamegirl("import", str(file), "--store", url)

    async def host() -> None:
        async with Supervisor(url) as supervisor:
            with anyio.fail_after(PATIENCE_SECONDS):
                async for event in supervisor.events():
                    if isinstance(event, ActorRestored) and event.actor_id == "demo":
                        return

    anyio.run(host)


def test_one_channel_travels_with_its_games(gamegirl: Command, played: str, tmp_path: Path) -> None:
    """--channel takes the channel, the games that were played there and their listing."""
    exported = gamegirl("export", "--channel", "demo", "--channel", "demo", "--store", played)
    keys = keys_in(exported.stdout)
    games = answer(gamegirl("games", "--json", "--store", played))
    ids = {game["game_id"] for game in games if game["channel_id"] == "demo"}
    assert {key.removeprefix("gg:game:") for key in keys if key.startswith("gg:game:")} == ids
    assert keys["game:index"]["value"].keys() == ids
    assert not any("a%3Ab" in key for key in keys)
    missed = gamegirl("export", "--channel", "nowhere", "--store", played)
    assert missed.exit_code == 1
    assert "nothing is stored of channel 'nowhere'" in missed.stderr
    assert gamegirl("export", "--channel", "", "--store", played).exit_code == 1
    file = tmp_path / "one.jsonl"
    failed = gamegirl("export", str(file), "--channel", "nowhere", "--store", played)
    assert failed.exit_code == 1
    assert list(tmp_path.glob("one*")) == []


def test_what_is_there_is_not_overwritten_unasked(
    gamegirl: Command, played: str, tmp_path: Path
) -> None:
    """An import refuses as a whole, naming the channels; --replace replaces them."""
    file = tmp_path / "games.jsonl"
    gamegirl("export", str(file), "--store", played)
    gamegirl("play", "demo", "--store", played, typed="/swap Third\nAna: on\n")
    before = gamegirl("export", "--store", played).stdout
    refused = gamegirl("import", str(file), "--store", played)
    assert refused.exit_code == 1
    assert "channel 'demo'" in refused.stderr
    assert "--replace" in refused.stderr
    assert same(keys_in(gamegirl("export", "--store", played).stdout), keys_in(before))
    done = gamegirl("import", str(file), "--replace", "--store", played)
    assert done.exit_code == 0, done.output
    assert same(keys_in(gamegirl("export", "--store", played).stdout), keys_in(file.read_text()))


def test_a_saved_game_in_the_way_is_named_too(
    gamegirl: Command, played: str, tmp_path: Path
) -> None:
    """A file with only a save does not overwrite that save, nor a game that is being played."""
    keys = keys_in(gamegirl("export", "--store", played).stdout)
    save = next(
        line
        for key, line in keys.items()
        if key.startswith("gg:game:") and line["value"]["holder"].startswith("save:")
    )
    file = tmp_path / "save.jsonl"
    file.write_text(json.dumps(save) + "\n")
    game_id = save["key"].removeprefix("gg:game:")
    assert f"game '{game_id}' would be" in gamegirl("import", str(file), "--store", played).stderr
    gamegirl("play", "demo", "--store", played, typed=f"/load {game_id}\n")
    refused = gamegirl("import", str(file), "--replace", "--store", played)
    assert refused.exit_code == 1
    assert "its game is active in channel 'demo' there" in refused.stderr
    other = f"sqlite:///{tmp_path / 'other.db'}"
    done = answer(gamegirl("import", str(file), "--store", other, "--json"))
    assert done == {"channels": 0, "games": 0, "keys": 1, "skipped": []}
    (game,) = answer(gamegirl("games", "--json", "--store", other))
    assert (game["game_name"], game["active"]) == ("First", False)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_channel_that_is_being_played_is_skipped_and_named(
    gamegirl: Command,
    played: str,
    tmp_path: Path,
    playing: Callable[..., Player],
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    """The other channels are imported; the exit status is 1."""
    url: str = request.getfixturevalue(f"{kind}_url")
    file = tmp_path / "games.jsonl"
    gamegirl("export", str(file), "--store", played)
    player = playing(url, "demo")
    player.wait_for("Awaiting input")
    done = gamegirl("import", str(file), "--replace", "--store", url)
    assert done.exit_code == 1
    assert "Skipped channel 'demo': it is owned by" in done.stderr
    plain = gamegirl("import", str(file), "--replace", "--json", "--store", url)
    assert [skip["what"] for skip in json.loads(plain.stdout)["skipped"]] == ["channel 'demo'"]
    assert answer(gamegirl("show", "a:b *{x}", "--json", "--store", url))["turn_number"] == 1
    assert answer(gamegirl("show", "demo", "--json", "--store", url))["pending_choices"] == {}


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "it is no JSON (Expecting property name"),
        ("[" * 200_000, "it is nested too deeply"),
        ("[]", "expected an object with"),
        ('{"key": "game:session:1"}', "expected an object with"),
        ('{"key": 1, "type": "string", "ttl": -1, "value": ""}', '"key" is no text'),
        ('{"key": "\\ud800", "type": "string", "ttl": -1, "value": ""}', '"key" has half'),
        ('{"key": "other", "type": "string", "ttl": -1, "value": ""}', "no key of a game"),
        ('{"key": "gg:game:a b", "type": "hash", "ttl": -1, "value": {}}', "no key of a game"),
        ('{"key": "gg:fence:session:1", "type": "hash", "ttl": -1, "value": {}}', "no key of"),
        ('{"key": "game:session:1", "type": "string", "ttl": 1.5, "value": ""}', '"ttl" is'),
        ('{"key": "game:session:1", "type": "string", "ttl": -2, "value": ""}', '"ttl" is'),
        ('{"key": "game:session:1", "type": "string", "ttl": true, "value": ""}', '"ttl" is'),
        ('{"key": "game:session:1", "type": "zset", "ttl": -1, "value": ""}', '"type" is neither'),
        ('{"key": "game:session:1", "type": "string", "ttl": -1, "value": 5}', '"value" is no'),
        ('{"key": "game:session:1", "type": "list", "ttl": -1, "value": {}}', '"value" is no li'),
        ('{"key": "game:session:1", "type": "list", "ttl": -1, "value": [5]}', '"value"[0] is no'),
        ('{"key": "game:session:1", "type": "hash", "ttl": -1, "value": []}', '"value" is no ob'),
        ('{"key": "game:session:1", "type": "hash", "ttl": -1, "value": {"a": 1}}', "value\".'a'"),
        ('{"key": "game:index", "type": "string", "ttl": -1, "value": ""}', "must be a hash"),
    ],
)
def test_a_malformed_line_is_named_before_anything_is_written(
    gamegirl: Command, sqlite_url: str, tmp_path: Path, line: str, wrong: str
) -> None:
    """The error has the line's number and what is wrong; the store stays as it was."""
    file = tmp_path / "bad.jsonl"
    good = '{"key": "game:session:2", "type": "string", "ttl": -1, "value": "{}"}'
    file.write_text(f"{good}\n\n{line}\n")
    refused = gamegirl("import", str(file), "--store", sqlite_url)
    assert refused.exit_code == 1
    assert "line 3 can't be imported: " in refused.stderr
    assert wrong in refused.stderr
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()


def test_a_key_twice_and_bytes_that_are_no_text_are_named(
    gamegirl: Command, sqlite_url: str
) -> None:
    """Both are refused with their line's number."""
    line = '{"key": "game:session:2", "type": "string", "ttl": -1, "value": "{}"}\n'
    twice = gamegirl("import", "-", "--store", sqlite_url, typed=line + line)
    assert "line 2 has the key 'game:session:2' of line 1 once more" in twice.stderr
    garbage = gamegirl("import", "-", "--store", sqlite_url, typed=b"\xff\n")
    assert "line 1 can't be imported: it is not UTF-8" in garbage.stderr


def test_bytes_that_are_no_text_travel_too(
    gamegirl: Command, sqlite_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Values, fields and items come back byte by byte."""
    with redis.Redis.from_url(redis_url) as client:  # pyright: ignore[reportUnknownMemberType]
        client.hset("sg:game_session:odd", b"\xfffield", b"\x80\xed\xb2\x80")
        client.rpush("game:session:odd:history", b"\xc3(")
        client.set("game:session:odd", "\N{GRINNING FACE}".encode() + b"\x9f")
        client.zadd("gg:session:odd:window", {"a": 1})
        client.set("game:session:a b", "no id of ours")
    exported = gamegirl("export", "--store", redis_url)
    assert "'gg:session:odd:window' is a zset, which no file can hold: left out" in exported.stderr
    assert "'game:session:a b' is no key of a channel: left out" in exported.stderr
    assert exported.stdout.isascii()
    gamegirl("import", "-", "--store", sqlite_url, typed=exported.stdout)
    assert gamegirl("export", "--store", sqlite_url).stdout == exported.stdout
    empty(redis_url)
    gamegirl("import", "-", "--store", redis_url, typed=exported.stdout)
    with redis.Redis.from_url(redis_url) as client:  # pyright: ignore[reportUnknownMemberType]
        assert client.hgetall("sg:game_session:odd") == {b"\xfffield": b"\x80\xed\xb2\x80"}


def test_times_to_live_that_cannot_be_kept_are_told(gamegirl: Command, sqlite_url: str) -> None:
    """Only a hash keeps its time to live; what was rounded to nothing is given a second."""
    lines = (
        '{"key": "game:session:1", "type": "string", "ttl": 5, "value": "{}"}\n'
        '{"key": "sg:game_session:1", "type": "hash", "ttl": 0, "value": {"a": "b"}}\n'
    )
    done = gamegirl("import", "-", "--store", sqlite_url, typed=lines)
    assert done.exit_code == 0
    assert "1 texts or lists had a time to live" in done.stderr


def test_other_behaviours_actors_and_quarantine_travel(gamegirl: Command, sqlite_url: str) -> None:
    """All keys of ours come along; with --channel only what is the channel's."""
    lines = [
        {"key": "gg:actor:poll:a%3Ab", "type": "string", "ttl": -1, "value": "{}"},
        {"key": "gg:actor:odd:a b", "type": "string", "ttl": -1, "value": "{}"},
        {
            "key": "gg:quarantine",
            "type": "hash",
            "ttl": -1,
            "value": {"x": '{"actor_id": "1"}', "y": '{"actor_id": "2"}', "z": "["},
        },
        {"key": "game:index", "type": "hash", "ttl": -1, "value": {"g1": "{", "g2": "[]"}},
        {"key": "game:session:1", "type": "string", "ttl": -1, "value": '{"game_id": 5}'},
        {"key": "game:session:2", "type": "list", "ttl": -1, "value": ["[["]},
    ]
    wrong = gamegirl(
        "import", "-", "--store", sqlite_url, typed="".join(json.dumps(x) + "\n" for x in lines)
    )
    assert "line 2 can't be imported" in wrong.stderr
    del lines[1]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert gamegirl("import", "-", "--store", sqlite_url, typed=text).exit_code == 0
    assert same(keys_in(gamegirl("export", "--store", sqlite_url).stdout), keys_in(text))
    one = keys_in(gamegirl("export", "--channel", "1", "--store", sqlite_url).stdout)
    assert one.keys() == {"game:session:1", "gg:quarantine"}
    assert one["gg:quarantine"]["value"].keys() == {"x"}
    again = gamegirl("import", "-", "--replace", "--store", sqlite_url, typed=text)
    assert again.exit_code == 0, again.output
    assert "Imported 2 channels and 2 games, 5 keys" in again.stderr


def test_a_file_that_cannot_be_written_is_an_error(
    gamegirl: Command, played: str, tmp_path: Path
) -> None:
    """One sentence and the exit status 1."""
    failed = gamegirl("export", str(tmp_path / "no" / "such.jsonl"), "--store", played)
    assert failed.exit_code == 1
    assert "No such file" in failed.stderr


def test_a_pipe_gets_the_games(gamegirl: Command, played: str, tmp_path: Path) -> None:
    """A named pipe that is given as FILE stays one, and whoever reads it gets everything."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # What is in a pipe stays there as long as somebody has it open; the reader is never waited for.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = gamegirl("export", str(pipe), "--store", played)
        got = os.read(reader, 1 << 20).decode()
    finally:
        os.close(reader)
    assert done.exit_code == 0, done.output
    assert pipe.is_fifo()
    assert same(keys_in(got), keys_in(gamegirl("export", "--store", played).stdout))


def test_a_link_stays_and_leads_to_the_games(
    gamegirl: Command, played: str, tmp_path: Path
) -> None:
    """Where FILE is a symbolic link, what it leads to is replaced, whether it exists or not."""
    link, file = tmp_path / "latest.jsonl", tmp_path / "games.jsonl"
    link.symlink_to(file.name)
    for old in (None, "old"):
        if old is not None:
            file.write_text(old)
        gamegirl("export", str(link), "--store", played)
        assert link.is_symlink()
        assert "game:index" in keys_in(file.read_text())


def test_counts_do_not_mix_with_the_games(gamegirl: Command, played: str) -> None:
    """If the games go to the standard output, --json tells the counts on the standard error."""
    exported = gamegirl("export", "--json", "--store", played)
    assert keys_in(exported.stdout)
    assert json.loads(exported.stderr)["channels"] == 2


def test_a_reader_that_goes_away_is_no_traceback(played: str) -> None:
    """`gamegirl export | head -c 1` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gamegirl", "export", "--store", played],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert b"Traceback" not in said


class Interloper(SqliteStore):
    """A store in which another process acts between two steps of an import."""

    def __init__(self, path: str, steps: dict[str, Callable[[], Any]]) -> None:
        super().__init__(path)
        self.steps = steps

    async def claim(self, claims: Any) -> Any:
        if step := self.steps.pop("claim", None):
            await step()
        return await super().claim(claims)

    async def commit(self, commits: Any) -> Any:
        if step := self.steps.pop("commit", None):
            await step()
        return await super().commit(commits)


@pytest.mark.parametrize(
    ("step", "writes", "why"),
    [
        ("claim", PutText("game:session:1", "{}"), "somebody has written it in the meantime"),
        ("commit", PutHash("gg:game:g1", {"holder": "save:9"}), "changed hands in this moment"),
        ("commit", PutText("game:index", "x"), "the store refused it: BadType"),
    ],
)
def test_what_changes_during_an_import_is_skipped_and_named(
    gamegirl: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    writes: Any,
    why: str,
) -> None:
    """Nothing of another process's is overwritten, however late it comes."""
    path = str(tmp_path / "games.db")

    async def meanwhile() -> None:
        store, actor = SqliteStore(path), ActorKey("test", "x")
        await store.open(Process("other"), 10.0)
        (claimed,) = await store.claim([Claim(actor, (), "n")])
        assert isinstance(claimed, Claimed)
        (done,) = await store.commit([Commit(actor, claimed.owner, 1, "c", (writes,))])
        assert done == Done()
        await store.aclose()

    def opened(url: object) -> SqliteStore:
        return Interloper(path, {step: meanwhile})

    monkeypatch.setattr("gamegirl.cli._target.open_store", opened)
    lines = [
        {"key": "game:session:1", "type": "string", "ttl": -1, "value": '{"game_id": "g1"}'},
        {"key": "gg:game:g1", "type": "hash", "ttl": -1, "value": {"holder": "channel:1"}},
        {
            "key": "game:index",
            "type": "hash",
            "ttl": -1,
            "value": {"g1": '{"channel_id": "1"}', "g2": '{"channel_id": "2"}'},
        },
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = gamegirl("import", "-", "--store", f"sqlite:///{path}", typed=text)
    assert done.exit_code == 1
    assert "Skipped channel '1': " in done.stderr
    assert why in done.stderr


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_shown_after_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a line comes every two seconds; what is quick says nothing."""
    clock = Clock()
    with Meter("Moving", 3, clock) as meter:
        meter.advance()
        assert capsys.readouterr().err == ""
        clock.now = 2.0
        meter.advance()
        meter.advance()
    assert capsys.readouterr().err == "Moving: 2 of 3\n"


def test_progress_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the bar is drawn in place."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    clock = Clock()
    with Meter("Moving", 3, clock) as meter:
        clock.now = _meter.PATIENCE_SECONDS
        meter.advance()
        meter.advance(2)
    assert "3/3" in capsys.readouterr().err


def test_what_no_file_can_hold_has_no_line() -> None:
    """Absent keys and foreign types are no line; foreign keys have no place."""
    assert line_of(Entry("game:session:1", None, -1)) is None
    assert line_of(Entry("game:session:1", WrongType("zset"), -1)) is None
    assert place_of("gg:session:1") is None
    assert place_of("game:session:%zz") is None
